"""The `sql` verifier: a query is run beside the reference query on several small databases; the results must be the same on each.

Databases live in memory and can only be read: an authorizer allows SELECT and harmless functions, a step budget ends what does not end,
limits keep values small. Rows are compared as a bag, in order where the reference orders its result; columns may stand in another order
(as in test-suite-sql-eval). Beside the problem's own databases (`databases`) stand instances drawn at random from the schema, which
tell a right query from one that only happens to agree. Nothing outside SQLite's own virtual machine is executed.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import lru_cache
from itertools import permutations
from typing import Annotated, Any

from pydantic import Field

from data.records import Problem
from filters.verifiers.base import register_verifier
from filters.verifiers.extraction import strong_marks
from filters.verifiers.spec import Judgement, Spec, TypedVerifier, passed
from filters.verifiers.sql_guard import BUILDING, READING, SECONDS, guard
from filters.verifiers.sql_instances import random_instance

MAX_QUERY = 10_000  # characters
MAX_ROWS = 5_000
_FENCED = re.compile(r"```(?:sql|sqlite)?[ \t]*\n(.*?)```", re.I | re.S)
Row = tuple[Any, ...]


class SqlSpec(Spec):
    tables: Annotated[str, Field(min_length=1)]
    """CREATE TABLE statements."""
    databases: tuple[str, ...] = ()
    """INSERT statements, one text per database."""
    instances: Annotated[int, Field(ge=0, le=50)] = 5
    """Databases drawn at random from the schema beside those."""
    ordered: bool | None = None
    """Whether the order of rows counts; by default exactly where the reference query orders its result."""
    steps: Annotated[int, Field(ge=1_000)] = 5_000_000
    """Virtual-machine steps a query may take on one database."""


class SqlVerifier(TypedVerifier[SqlSpec]):
    """Queries by their results."""

    name = "sql"
    Spec = SqlSpec

    def refuse(self, problem: Problem, spec: SqlSpec) -> str:
        if not problem.reference.strip():
            return "the problem has no reference query"
        return _reference_results(spec.tables, spec.databases, spec.instances, problem.reference, spec.steps)[1]

    def judge(self, problem: Problem, spec: SqlSpec, response: str) -> Judgement:
        query, why = find_query(response)
        if query is None:
            return "fail", 0.0, why
        wanted, _ = _reference_results(spec.tables, spec.databases, spec.instances, problem.reference, spec.steps)
        ordered = orders_result(problem.reference) if spec.ordered is None else spec.ordered
        empty = 0
        for number, (database, want) in enumerate(zip(_databases(spec.tables, spec.databases, spec.instances, problem.reference), wanted)):
            got = run_query(database, query, spec.steps)
            if isinstance(got, str):
                return ("unknown", 0.0, got) if got.startswith("the query takes") else ("fail", 0.0, got)
            if not same_result(want, got, ordered=ordered):
                place = f"database {number}" if number < len(spec.databases) else f"random instance {number - len(spec.databases)}"
                return "fail", 0.0, f"another result on {place}: {len(got)} rows, the reference has {len(want)}"
            empty += not want
        return passed(True, f"the same result on {len(wanted)} databases" + (f" ({empty} of them empty)" if empty else ""))

    def oracle(self, problem: Problem) -> str:
        return f"```sql\n{problem.reference}\n```"


def find_query(response: str) -> tuple[str | None, str]:
    """The last fenced block or marked answer, or a response that is a query and nothing else."""
    marked = [m.strip() for m in _FENCED.findall(response[-50_000:])] or [m for m in strong_marks(response[-50_000:]) if m]
    query = marked[-1] if marked else response.strip()
    query = query.strip().removeprefix("```sql").removesuffix("```").strip().rstrip(";").strip()
    if not re.match(r"(?:select|with|values)\b|\(\s*select\b", query, re.I):
        return None, "no query that begins with SELECT or WITH"
    return (query, "") if len(query) <= MAX_QUERY else (None, f"the query is longer than {MAX_QUERY} characters")


def orders_result(query: str) -> bool:
    """Whether ORDER BY stands at the outermost level, texts and comments left aside."""
    plain = re.sub(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/", "''", query, flags=re.S)
    depth = 0
    for match in re.finditer(r"[()]|\border\s+by\b", plain, re.I):
        depth += {"(": 1, ")": -1}.get(match.group(), 0)
        if depth == 0 and len(match.group()) > 1:
            return True
    return False


@lru_cache(maxsize=256)
def _database(tables: str, rows: str) -> bytes | str:
    """A database image built from the problem's own statements, or why they fail."""
    with closing(sqlite3.connect(":memory:")) as connection:
        guard(connection, BUILDING, 20_000_000)
        try:
            connection.executescript(f"{tables};\n{rows}")
            connection.commit()
        except (sqlite3.Error, sqlite3.Warning, MemoryError, ValueError) as error:
            return f"the database cannot be built: {error}"
        connection.set_authorizer(None)
        return connection.serialize()


def _databases(tables: str, databases: Sequence[str], instances: int, reference: str) -> Iterator[bytes]:
    schema = _database(tables, "")
    drawn = [] if isinstance(schema, str) else [random_instance(schema, reference, seed) for seed in range(instances)]
    for rows in (*databases, *drawn):
        image = _database(tables, rows)
        if isinstance(image, bytes):
            yield image


@lru_cache(maxsize=1_024)
def _reference_results(tables: str, databases: tuple[str, ...], instances: int, query: str, steps: int) -> tuple[tuple[tuple[Row, ...], ...], str]:
    """(the reference's rows on each database, '' or why this problem cannot be judged)."""
    for number, rows in enumerate(databases or ("",)):
        if isinstance(image := _database(tables, rows), str):
            return (), f"databases[{number}]: {image}" if databases else image
    found: list[tuple[Row, ...]] = []
    for image in _databases(tables, databases, instances, query):
        rows_or_why = run_query(image, query.strip().rstrip(";"), steps)
        if isinstance(rows_or_why, str):
            return (), f"the reference query does not run: {rows_or_why}"
        found.append(tuple(rows_or_why))
    if not any(found):
        return (), "the reference query returns nothing on every database, so that any empty query would pass"
    return tuple(found), ""


def run_query(image: bytes, query: str, steps: int) -> list[Row] | str:
    """Rows of one statement on a copy of the database, or why there are none; "the query takes …" where the budget ended it."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.deserialize(image)
        connection.execute("PRAGMA query_only = ON")
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        guard(connection, READING, steps)
        try:
            rows = connection.execute(query).fetchmany(MAX_ROWS + 1)
        except (sqlite3.Error, sqlite3.Warning, MemoryError, ValueError, OverflowError) as error:
            if "interrupted" in str(error):
                return f"the query takes more than {steps:,} steps or {SECONDS:g} s"
            return f"the query does not run: {error}"[:200]
    return rows if len(rows) <= MAX_ROWS else f"the query takes more than {MAX_ROWS:,} rows"


def _plain(value: Any) -> Any:
    """1 and 1.0 are one value; floats compare to nine significant digits; texts and blobs are never numbers."""
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 1e15 else float(f"{value:.9g}")
    return value


def same_result(want: Sequence[Row], got: Sequence[Row], *, ordered: bool) -> bool:
    """Equal rows, as a list or as a bag, under some order of the columns."""
    if len(want) != len(got) or (want and len(want[0]) != len(got[0])):
        return False
    if not want:
        return True
    one, other = [tuple(map(_plain, r)) for r in want], [tuple(map(_plain, r)) for r in got]
    width = len(one[0])
    columns = [Counter(map(_key, (r[k] for r in other))) for k in range(width)]
    fits = [[k for k in range(width) if columns[k] == Counter(map(_key, (r[j] for r in one)))] for j in range(width)]
    return any(_equal(one, [tuple(r[k] for k in order) for r in other], ordered) for order in _orders(fits))


def _orders(fits: list[list[int]]) -> Iterator[tuple[int, ...]]:
    """Orders of columns that put each where its values fit; at most 720 are tried."""
    if len(fits) > 6:
        identity = tuple(range(len(fits)))
        yield from [identity] if all(k in fits[k] for k in identity) else []
        return
    yield from (order for order in permutations(range(len(fits))) if all(k in fits[j] for j, k in enumerate(order)))


def _equal(one: list[Row], other: list[Row], ordered: bool) -> bool:
    left, right = [tuple(map(_key, r)) for r in one], [tuple(map(_key, r)) for r in other]
    return left == right if ordered else Counter(left) == Counter(right)


def _key(value: Any) -> tuple[str, Any]:
    return ("number" if isinstance(value, (int, float)) else type(value).__name__, value)


register_verifier("sql", SqlVerifier)
