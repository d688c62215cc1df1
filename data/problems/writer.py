"""Rows out again, as JSON Lines: written beside the target and renamed, so that what lies under the name is always whole."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data.errors import UserError

Write = Callable[[Mapping[str, Any], str], None]
"""(row, where it came from) -> written"""


@contextmanager
def jsonl_writer(file: Path, *, reading: Path | None = None) -> Iterator[Write]:
    """A function that writes one row; the file appears when the block ends without an error. `reading` is refused as a target."""
    if not file.name.endswith((".jsonl", ".jsonl.gz")):
        raise UserError(f"--output {file}: is written as JSON Lines; name it .jsonl or .jsonl.gz")
    if reading is not None and file.exists() and reading.exists() and file.samefile(reading):
        raise UserError(f"--output {file}: is the file that is being read; name another one")
    half = file.with_name(f".{file.name}.{os.getpid()}")
    opener: Callable[..., Any] = gzip.open if file.name.endswith(".gz") else open
    try:
        with opener(half, "wt", encoding="utf-8") as stream:

            def write(row: Mapping[str, Any], where: str) -> None:
                try:
                    stream.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
                except (TypeError, ValueError) as error:
                    raise UserError(f"{where}: cannot be written as JSON: {error}; drop that column first") from error

            yield write
        half.replace(file)
    except OSError as error:
        raise UserError(f"--output {file}: cannot be written: {error.strerror or error}") from error
    finally:
        half.unlink(missing_ok=True)
