"""CSV and its kin: the separator is found out, quotes may hold line breaks, a ragged row is refused by its line."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from data.errors import UserError
from data.problems.mapping import FIELDS
from data.problems.text_file import MAX_LINE, decode, read_lines

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
SNIFFED = 20  # rows from which the separator is told


def read_delimited(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, row) of every row below the header, all values texts, empty ones null; `where` is the line that the row begins on."""
    beginning = [decode(line, f"{file}, line {number}") for number, line in islice(read_lines(file), 200)]
    if not "".join(beginning).strip():
        return
    separator = find_separator(beginning, "\t" if ".tsv" in file.suffixes else "")
    records = _records(file, separator)
    header: list[str] | None = None
    for line, cells in records:
        where = f"{file}, line {line}"
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            header = _header(cells, where)
        elif len(cells) != len(header):
            few = "few" if len(cells) < len(header) else "many"
            raise UserError(
                f"{where}: has {len(cells)} fields where the header has {len(header)}, too {few}; "
                f"put quotes around a text that holds a {SEPARATORS[separator]} or a line break"
            )
        else:
            yield where, {name: cell if cell.strip() else None for name, cell in zip(header, cells, strict=True)}


def find_separator(lines: Sequence[str], usual: str = "") -> str:
    """The separator under which the header names known fields and the rows are as wide as the header."""

    def score(separator: str) -> tuple[float, ...]:
        try:
            rows = [r for r in islice(csv.reader(lines, delimiter=separator), SNIFFED) if r]
        except csv.Error:
            rows = []
        if not rows:
            return (0,)
        known = {n for names in FIELDS.values() for n in names}
        even = sum(len(r) == len(rows[0]) for r in rows) / len(rows)
        return (sum(cell.strip() in known for cell in rows[0]), len(rows[0]) > 1, even, separator == usual, len(rows[0]))

    return max(SEPARATORS, key=score)


def _header(cells: list[str], where: str) -> list[str]:
    names = [cell.strip() for cell in cells]
    for place, name in enumerate(names):
        if name and name in names[:place]:
            raise UserError(f"{where}: the header names the column {name!r} twice; give every column a name of its own")
    return [name or f"column {place + 1}" for place, name in enumerate(names)]


def _records(file: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """(line it begins on, cells) of every record."""
    numbers = read_lines(file)
    reader = csv.reader((decode(line, f"{file}, line {number}") for number, line in numbers), delimiter=separator, strict=True)
    before = csv.field_size_limit(MAX_LINE)
    line = 1
    try:
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            if any("\x00" in cell for cell in cells):
                raise UserError(f"{file}, line {line}: holds a NUL character, which no table can store; leave it out")
            yield line, cells
    except csv.Error as error:
        raise UserError(f"{file}, line {line}: {_sentence(str(error), separator)}") from error
    finally:
        csv.field_size_limit(before)


def _sentence(said: str, separator: str) -> str:
    if "unexpected end of data" in said or "field larger than" in said:
        return 'a quote (") opened here is never closed; close it, and write a quote inside a text twice ("")'
    if "expected after" in said:
        return f'a quoted text goes on after its closing quote; write a quote inside a text twice ("") or put a {SEPARATORS[separator]} behind it'
    if "new-line character" in said:
        return "line breaks are lone carriage returns; save the file with \\n or \\r\\n"
    return f"not readable as CSV: {said}"
