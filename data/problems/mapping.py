"""Which column of the user's holds which field of a problem.

Known names need no word; else `--map field=column`, where `column` may lie inside another (`extra.answer`, `answers.0`) and several may be
joined (`Body+Question`).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from data.errors import UserError

FIELDS: dict[str, tuple[str, ...]] = {
    "prompt": ("prompt", "question", "problem"),
    "answer": ("answer", "reference"),
    "domain": ("domain", "subject"),
    "level": ("level",),
    "concepts": ("concepts",),
    "verifier": ("verifier",),
    "spec": ("spec",),
    "choices": ("choices", "options"),
    "tests": ("tests",),
    "instructions": ("instruction_id_list",),
    "kwargs": ("kwargs",),
    "solution": ("solution",),
    "id": ("id",),
    "source": ("source",),
    "licence": ("licence", "license"),
}
"""A problem's fields and the columns they are looked for in, first found first taken."""

MISSING = object()


def parse_map(items: Sequence[str]) -> dict[str, str]:
    """`--map prompt=question,answer=extra.answer`, which may be given again; `--map level=` leaves the column `level` unread."""
    fields: dict[str, str] = {}
    for item in items:
        for pair in item.split(","):
            name, sign, column = pair.partition("=")
            if not sign or not name.strip():
                raise UserError(f"--map {item}: write field=column, e.g. --map prompt=question,answer=final")
            fields[name.strip()] = column.strip()
    return check_map(fields)


def check_map(fields: Mapping[str, str]) -> dict[str, str]:
    """`fields`, once every key is a field that problems have."""
    for name, column in fields.items():
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, n=1)
            swapped = f"; did you mean {column}={name}?" if column in FIELDS else ""
            hint = swapped or (f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(FIELDS)}")
            raise UserError(f"map {name}={column}: problems have no field {name!r}{hint}")
        if not column and name == "prompt":
            raise UserError("map prompt=: a problem needs its prompt; name the column that holds it")
    return dict(fields)


def field(row: Mapping[str, Any], name: str, fields: Mapping[str, str], where: str) -> tuple[str, Any]:
    """(column, value) of a field of one row; the value is None where the row has nothing there, or the column may be absent.

    A column that the user named must be there. UserError names the nearest.
    """
    if name in fields:
        column = fields[name]
        value = look_up(row, column) if column else None
        if value is MISSING and "+" in column:
            return column, _joined(row, column, name, where)
        if value is MISSING:
            raise UserError(f"{where}: no field {column!r} (mapped to {name}){_nearest([column], row)}")
        return column, value
    for column in FIELDS[name]:
        if row.get(column) is not None:
            return column, row[column]
    return FIELDS[name][0], None


def _joined(row: Mapping[str, Any], columns: str, name: str, where: str) -> str:
    """`--map prompt=Body+Question`: the texts of several columns, a blank between them."""
    parts = []
    for column in columns.split("+"):
        value = look_up(row, column)
        if value is MISSING:
            raise UserError(f"{where}: no field {column!r} (mapped to {name}){_nearest([column], row)}")
        if not isinstance(value, str):
            raise UserError(f"{where}: field {column!r} (part of {name}) must be a text, got {type(value).__name__}")
        parts.append(value.strip())
    return " ".join(parts)


def required(row: Mapping[str, Any], name: str, fields: Mapping[str, str], where: str) -> tuple[str, Any]:
    """The same, but the row must have it."""
    column, value = field(row, name, fields, where)
    if value is not None:
        return column, value
    if name in fields:
        raise UserError(f"{where}: field {column!r} (mapped to {name}) is null; every row needs one")
    names = FIELDS[name]
    if present := [n for n in names if n in row]:
        raise UserError(f"{where}: field {present[0]!r} is null; every row needs one")
    raise UserError(f"{where}: no field {' or '.join(repr(n) for n in names)}{_nearest(names, row, name)}")


def look_up(row: Any, path: str) -> Any:
    """`extra.answer` is row["extra.answer"] where there is such a column, else row["extra"]["answer"]; numbers index lists.

    MISSING where the first column is not there, None where something further down is null or absent.
    """
    if isinstance(row, Mapping) and path in row:
        return row[path]
    first, _, rest = path.partition(".")
    if not rest or not isinstance(row, Mapping) or first not in row:
        return MISSING
    value = row[first]
    for part in rest.split("."):
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, (list, tuple)) and part.isascii() and part.isdigit():
            value = value[int(part)] if int(part) < len(value) else None
        else:
            return None
    return value


def columns_read(fields: Mapping[str, str]) -> set[str]:
    """Top-level columns that a row may be asked for: what a columnar reader needs to decode."""
    names = {n for name, names in FIELDS.items() if name not in fields for n in names}
    mapped = {part for column in fields.values() if column for part in (column, *column.split("+"))}
    return names | mapped | {column.partition(".")[0] for column in mapped}


def _nearest(wanted: Iterable[str], row: Mapping[str, Any], name: str = "") -> str:
    columns = [str(c) for c in row]
    folded = {c.casefold(): c for c in reversed(columns)}
    for column in wanted:
        near = difflib.get_close_matches(column.casefold(), folded, n=1, cutoff=0.6)
        if near:
            found = folded[near[0]]
            return f"; the nearest is {_short(found)!r}" + (f": try --map {name}={_short(found)}" if name else "")
    listed = ", ".join(_short(c) for c in sorted(columns)[:8])
    return f"; the row has {listed or 'no fields'}" + (f": say which with --map {name}=COLUMN" if name and listed else "")


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 30 else text[:29] + "…"
