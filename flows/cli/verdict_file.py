"""The output of `synth verify`: whole lines in the input's order, so that what a killed run left says where to go on."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from data.errors import UserError
from data.problems_io import read_lines
from filters.verifiers.rows import numbered, read_row

FLUSH_SECONDS = 0.5


class VerdictFile:
    """Verdicts that are there already (`rows`, `counts`), the input's rows that are left (`items`), and `write` for the next one."""

    def __init__(self, path: Path, source: Path, verifier: str) -> None:
        self.path, self.source, self.verifier = path, source, verifier
        self.counts: Counter[str] = Counter({"pass": 0, "fail": 0, "unknown": 0})
        self.after = 0  # the last input line that has its verdict
        self.resumed = 0
        self._stream: BinaryIO | None = None
        self._flushed = 0.0

    @classmethod
    def open(cls, path: Path, source: Path, verifier: str, *, resume: bool, overwrite: bool, skip_bad: bool) -> VerdictFile:
        """Checks both files before anything is written. UserError where the output is there already, or is of another input."""
        if path.suffix != ".jsonl":
            raise UserError(f"--output {path}: give a .jsonl file")
        if not path.absolute().parent.is_dir():
            raise UserError(f"--output {path}: no such folder: {path.parent}")
        if path.exists() and source.exists() and path.samefile(source):
            raise UserError(f"--output {path} is the input; give another file")
        next(read_lines(source), None)  # a wrong input is said first
        file = cls(path, source, verifier)
        if path.exists() and path.stat().st_size and not overwrite:
            if not resume:
                raise UserError(f"--output {path} is there already; --resume goes on with it, --overwrite begins anew")
            file._read_back(skip_bad)
        return file

    def __enter__(self) -> VerdictFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._stream is not None:
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._stream.close()

    @property
    def rows(self) -> int:
        return sum(self.counts.values())

    def items(self) -> Iterator[bytes]:
        """The input's lines that have no verdict yet, as items for a worker."""
        return (numbered(number, line) for number, line in read_lines(self.source) if number > self.after)

    def write(self, line: bytes) -> int:
        """One verdict; 1, or 0 where `line` is empty (a row left out). The file is begun with the first."""
        if not line:
            return 0
        if self._stream is None:
            self._stream = open(self.path, "r+b" if self.resumed else "wb")  # noqa: SIM115 - closed by __exit__
            self._stream.seek(0, os.SEEK_END)
        self._stream.write(line + b"\n")
        self.counts[_outcome(line)] += 1
        now = time.monotonic()
        if now - self._flushed > FLUSH_SECONDS:
            self._stream.flush()
            self._flushed = now
        return 1

    def _read_back(self, skip_bad: bool) -> None:
        """Walks output and input side by side; a line that was being written when the run was killed is cut off."""
        lines, whole = read_lines(self.source), 0
        with open(self.path, "rb") as stream:
            for place, line in enumerate(stream, start=1):
                if not line.endswith(b"\n"):
                    break
                verdict = self._verdict(line, place)
                given = self._next_id(lines, place, skip_bad)
                if verdict["id"] != given:
                    raise UserError(
                        f"{self.path}, line {place}: id {verdict['id']!r}, but the row of {self.source} that is due there has {given!r}; "
                        "this output belongs to another input (--overwrite begins anew)"
                    )
                self.counts[verdict["verdict"]] += 1
                whole += len(line)
        os.truncate(self.path, whole)
        self.resumed = self.rows

    def _verdict(self, line: bytes, place: int) -> dict[str, Any]:
        try:
            verdict = json.loads(line)
        except ValueError:
            verdict = None
        if not isinstance(verdict, dict) or verdict.get("verdict") not in self.counts or "id" not in verdict:
            raise UserError(f"{self.path}, line {place}: not a line of verdicts; --overwrite begins anew")
        return verdict

    def _next_id(self, lines: Iterator[tuple[int, bytes]], place: int, skip_bad: bool) -> Any:
        for number, line in lines:
            self.after = number
            try:
                row = read_row(line, self.verifier, f"{self.source}, line {number}")
            except UserError:
                if not skip_bad:
                    raise
                continue
            if row is not None:
                return row[0]
        raise UserError(f"{self.path}, line {place}: {self.source} has no row for it; this output belongs to another input (--overwrite begins anew)")


def _outcome(line: bytes) -> str:
    """The verdict of a line that `filters.verifiers.rows.verdict_line` wrote: the first after the id."""
    at = line.rindex(b'"reward": ')
    return line[line.rindex(b'"verdict": "', 0, at) + 12 : line.rindex(b'"', 0, at)].decode()
