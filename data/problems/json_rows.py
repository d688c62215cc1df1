"""JSON Lines and JSON lists: one object a row, nothing that JSON does not have, no key twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data.errors import UserError
from data.problems.text_file import MAX_LINE, decode, read_lines, read_whole

Row = dict[str, Any]
LIKE = '{"prompt": "…", "answer": "…"}'


def read_jsonl(file: Path) -> Iterator[tuple[str, Row]]:
    """(where, object) of every line that is not blank."""
    for number, line in read_lines(file):
        where = f"{file}, line {number}"
        row = parse_line(line, where)
        if row is not None:
            yield where, row


def read_json(file: Path) -> Iterator[tuple[str, Row]]:
    """(where, object) of every item of a JSON list; JSON Lines under this name are read as such."""
    body = read_whole(file)
    if _are_lines(body.strip()):
        yield from read_jsonl(file)
        return
    text = decode(body, str(file)).strip()
    if not text:
        return
    rows = parse_json(text, str(file), "the file must be a JSON list of objects")
    if not isinstance(rows, list):
        keys = [k for k, v in rows.items() if isinstance(v, list)] if isinstance(rows, dict) else []
        hint = f" (its list under {keys[0]!r}, for instance)" if keys else ""
        raise UserError(f"{file}: a JSON {json_type(rows)}, not a list of rows; give the list itself{hint}, or JSON Lines")
    for number, row in enumerate(rows, start=1):
        where = f"{file}, item {number}"
        if not isinstance(row, dict):
            raise UserError(f"{where}: a JSON {json_type(row)}, not an object; write {LIKE}")
        yield where, row


def parse_line(line: bytes, where: str, like: str = LIKE) -> Row | None:
    """The JSON object of a line, None where it is blank; `where` (file and line) and `like` (a right row) go into the error."""
    if len(line) > MAX_LINE:
        raise UserError(f"{where}: longer than {MAX_LINE:,} bytes; a problem must be on a line of its own")
    text = decode(line, where).strip()
    if not text:
        return None
    row = parse_json(text, where, "each line must be one JSON object")
    if not isinstance(row, dict):
        raise UserError(f"{where}: a JSON {json_type(row)}, not an object; write {like}")
    return row


def parse_json(text: str, where: str, wanted: str) -> Any:
    try:
        value = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_no_key_twice)
        if "\\u" in text:  # an escape may name half a pair, which no table can store
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{where}: holds half of a surrogate pair (\\ud8xx), which is no character; write the character itself") from error
    except _KeyTwice as error:
        raise UserError(f"{where}: the key {_short(error.args[0])!r} appears twice in one object; keep one of them") from None
    except (ValueError, RecursionError) as error:  # not JSON, NaN, or a number of thousands of digits
        raise UserError(f"{where}: not JSON{_place(error)}{_torn(text, error)}; {wanted}") from error
    if "\\u0000" in text and _holds_nul(value):
        raise UserError(f"{where}: holds a NUL character (\\u0000), which no table can store; leave it out")
    return value


class _KeyTwice(Exception):
    pass


def _no_key_twice(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) != len(pairs):
        seen: set[str] = set()
        raise _KeyTwice(next(key for key, _ in pairs if key in seen or seen.add(key)))  # type: ignore[func-returns-value]
    return row


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any(_holds_nul(v) for item in value.items() for v in item)
    return isinstance(value, list) and any(_holds_nul(v) for v in value)


def _place(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f" at line {error.lineno}, column {error.colno}" if error.lineno > 1 else f" at column {error.colno}"
    if isinstance(error, RecursionError):
        return " (nested too deeply)"
    if "digits" in str(error):
        return " (a number with too many digits; write it as a text)"
    return f" ({error}; use null)" if str(error).endswith("is not JSON") else ""


def _torn(text: str, error: Exception) -> str:
    return " (it seems to be cut off)" if isinstance(error, json.JSONDecodeError) and text[-1] not in "}]" else ""


def _are_lines(body: bytes) -> bool:
    """Whether this is JSON Lines under the name .json: its first line is an object of its own, and not one that holds the rows."""
    line, _, rest = body.partition(b"\n")
    try:
        first = json.loads(line) if line.startswith(b"{") else None
    except (ValueError, RecursionError):
        return False
    holds_rows = isinstance(first, dict) and any(isinstance(v, list) and v and isinstance(v[0], dict) for v in first.values())
    return isinstance(first, dict) and (bool(rest) or not holds_rows)


def json_type(value: Any) -> str:
    """What a value is, as a JSON user says it."""
    kinds = {list: "list", str: "text", int: "number", float: "number", bool: "boolean", dict: "object", type(None): "null"}
    return kinds.get(type(value), type(value).__name__)


def show(value: Any) -> str:
    """A value for an error: its type and its beginning."""
    if value is None:
        return "null"
    text = " ".join(json.dumps(value, ensure_ascii=False, default=str).split())
    return f"{json_type(value)} {text if len(text) <= 40 else text[:37] + '…'}"


def _short(text: str) -> str:
    return text if len(text) <= 30 else text[:29] + "…"
