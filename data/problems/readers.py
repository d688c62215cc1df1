"""Rows of any source, by what its name says it is; each comes with its place, so that every refusal can name it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from data.errors import UserError
from data.problems.columnar import read_parquet
from data.problems.delimited import read_delimited
from data.problems.json_rows import read_json, read_jsonl
from data.problems.mapping import columns_read
from data.problems.rows import Choose, problem_from_row
from data.problems.source import Source, check_exists
from data.records import Problem

Placed = tuple[str, dict[str, Any]]
"""where (file and line, row or item), row"""

KINDS = {".jsonl": read_jsonl, ".ndjson": read_jsonl, ".json": read_json, ".csv": read_delimited, ".tsv": read_delimited}
GIVE = "give .jsonl, .json, .csv, .tsv (each also .gz), .parquet, a folder saved by datasets, or hf:NAME"


def read_rows(source: Source, *, all_columns: bool = False) -> Iterator[Placed]:
    """(where, row) of every row, streamed. Columnar files decode only what problems may be asked for, unless `all_columns`."""
    columns = None if all_columns else columns_read(source.map)
    if source.on_hub:
        from data.problems.datasets_in import read_dataset

        return read_dataset(source, columns)
    check_exists(source)
    file = source.file
    if is_folder(file):
        from data.problems.datasets_in import is_saved, read_dataset

        if not is_saved(source):
            raise UserError(f"{file}: is a folder, and not one that datasets' save_to_disk wrote{_inside(file)}; {GIVE}")
        return read_dataset(source, columns)
    ending = kind_of(file)
    return read_parquet(file, columns) if ending == ".parquet" else KINDS[ending](file)


def is_folder(file: Path) -> bool:
    try:
        return file.is_dir()
    except PermissionError:
        raise UserError(f"{file}: no permission to look into the folder that it lies in") from None


def kind_of(file: Path) -> str:
    """`.jsonl`, `.csv`, …: the ending that says how to read the file, without .gz."""
    name = file.name.lower()
    ending = Path(name.removesuffix(".gz")).suffix
    if ending in KINDS or (ending == ".parquet" and not name.endswith(".gz")):
        return ending
    if ending == ".parquet":
        raise UserError(f"{file}: a gzipped Parquet file cannot be read in parts; unpack it (gunzip)")
    raise UserError(f"{file}: not a kind of file that problems are read from{f' ({ending})' if ending else ''}; {GIVE}")


def iter_problems(source: Source, *, split: str = "train", choose: Choose | None = None) -> Iterator[tuple[str, Problem]]:
    """(where, problem) of every row in order, duplicates included; UserError at the first row that is wrong, or where there is none."""
    found = False
    for where, row in read_rows(source):
        found = True
        yield where, problem_from_row(row, where, split=split, source=source, choose=choose)
    if not found:
        raise UserError(f'{source}: no problems in it; each row should be like {{"prompt": "…", "answer": "42"}}')


def read_problems(path: str | Path | Source, *, split: str = "train", choose: Choose | None = None) -> list[Problem]:
    """All problems of one source, in order, duplicates included. Fields and their other names: `data.problems.mapping.FIELDS`.

    An answer with GSM8K's `#### 42` becomes "42", its worked solution goes to meta["solution"]; other columns are not read.
    """
    source = path if isinstance(path, Source) else Source(str(path))
    return [problem for _, problem in iter_problems(source, split=split, choose=choose)]


def read_all(sources: Iterable[Source], *, split: str = "train", choose: Choose | None = None) -> Iterator[tuple[str, Problem]]:
    """The problems of several sources, one after the other."""
    for source in sources:
        yield from iter_problems(source, split=split, choose=choose)


def _inside(folder: Path) -> str:
    """A file in the folder that could be meant."""
    try:
        files = sorted(p.name for p in folder.iterdir() if Path(p.name.removesuffix(".gz")).suffix in (*KINDS, ".parquet"))
    except OSError:
        return ""
    return f" (it holds {files[0]}{' and others' if len(files) > 1 else ''})" if files else ""
