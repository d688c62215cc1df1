"""What a ledger says about its requests as a whole: counts by purpose and state, tokens, seconds, and the rows worth a look."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from data.errors import UserError
from data.ledger import Ledger

COLUMNS = (
    *("key", "purpose", "state", "policy", "model", "problem", "tokens_in", "tokens_out", "seconds"),
    *("attempts", "repeats", "errors", "finish", "error", "text", "request", "sent_at", "done_at"),
)
"""Columns of a request, for conditions of the reader's own."""

FAILED = "state = 'failed' OR errors > 0"
REPEATED = "attempts > 1 OR repeats > 0"


def _view(ledger: Ledger) -> str:
    """A CTE `asked` with `COLUMNS`. Tokens are those an endpoint bills, else those recorded."""
    there = {row["name"] for row in ledger.select("SELECT name FROM pragma_table_info('requests')")}
    bills = {name: f"nullif({name}, 0)" if name in there else "NULL" for name in ("usage_in", "usage_out")}
    return f"""
        WITH asked AS (
            SELECT key, purpose, state, policy_id AS policy, model, problem_id AS problem,
                coalesce({bills["usage_in"]}, length(prompt_tokens) / 4, 0) AS tokens_in,
                coalesce({bills["usage_out"]}, length(tokens) / 4, 0) AS tokens_out,
                ms / 1000.0 AS seconds, attempts, repeats, errors, finish, error, text, request, sent_at, done_at
            FROM requests
        )
    """


def by_purpose(ledger: Ledger) -> list[dict[str, Any]]:
    """A row per purpose: requests, by state, attempts, again (sent again after a first time), repeats, errors, tokens_in, tokens_out, seconds.

    `seconds` passed from the first request to the last answer, for each policy on its own, so that other stages in between do not count.
    """
    rows = ledger.select(
        _view(ledger)
        + """
        , spans AS (SELECT purpose, policy, max(done_at) - min(sent_at) AS span FROM asked GROUP BY purpose, policy)
        SELECT purpose, count(*) AS requests, sum(state = 'done') AS done, sum(state = 'failed') AS failed, sum(state = 'sent') AS sent,
            sum(state = 'cancelled') AS cancelled, sum(attempts) AS attempts, sum(max(attempts - 1, 0)) AS again, sum(repeats) AS repeats,
            sum(errors) AS errors, sum(tokens_in) AS tokens_in, sum(tokens_out) AS tokens_out,
            (SELECT total(span) FROM spans WHERE spans.purpose = asked.purpose) AS seconds
        FROM asked GROUP BY purpose ORDER BY min(sent_at), purpose
        """
    )
    return rows


def rows_where(ledger: Ledger, condition: str, *, order: str = "sent_at, key", most: int = 20) -> tuple[int, list[dict[str, Any]]]:
    """(how many there are, the first `most` of them). UserError for a condition that is no SQL over `COLUMNS`."""
    try:
        total = ledger.select(f"{_view(ledger)} SELECT count(*) AS n FROM asked WHERE ({condition})")[0]["n"]
        return int(total), ledger.select(f"{_view(ledger)} SELECT * FROM asked WHERE ({condition}) ORDER BY {order} LIMIT {int(most)}")
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise UserError(f"--where {condition!r}: {error}; it takes an SQL condition over {', '.join(COLUMNS)}, e.g. \"purpose = 'train'\"") from None


def slowest(ledger: Ledger, most: int) -> list[dict[str, Any]]:
    return rows_where(ledger, "state = 'done'", order="seconds DESC, key", most=most)[1]


def beginning_with(ledger: Ledger, beginning: str) -> dict[str, Any]:
    """The one request whose key begins so; UserError where there is none or there are several."""
    if not beginning or not beginning.isalnum():
        raise UserError(f"{beginning!r} is no key; a request's key is hexadecimal, e.g. one that `synth requests DIR --failed` lists")
    low = beginning.lower()
    found = ledger.select(f"{_view(ledger)} SELECT * FROM asked WHERE key >= ? AND key < ? ORDER BY key LIMIT 6", (low, low + "g"))
    if not found:
        raise UserError(f"this ledger holds no request whose key begins with {beginning!r}")
    if len(found) > 1:
        raise UserError(f"{beginning!r} begins several keys ({', '.join(row['key'][:12] for row in found[:5])}, …); give more of it")
    return found[0]


def money(rows: Sequence[dict[str, Any]], price: dict[str, float]) -> list[float] | None:
    """What each row's tokens cost at `price` per million (input, output); None where no price is known."""
    if not any(price.values()):
        return None
    return [(row["tokens_in"] * price.get("input", 0.0) + row["tokens_out"] * price.get("output", 0.0)) / 1e6 for row in rows]
