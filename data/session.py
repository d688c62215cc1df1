"""A DuckDB connection to a lake: attached, transactional, patient.

Writes begin anew as a whole when the catalog was locked, and their files are on disk before the row that names them
commits. Reads never wait for a writer; each has a cursor of its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar

import duckdb

from data.catalog import LAKE, Catalog, connect
from data.disk import storage_error, sync_files
from data.errors import SynthError, UserError

T = TypeVar("T")

PATIENCE_S = 60.0  # how long a transaction is begun anew because the catalog was locked
_LOCKED = ("database is locked", "database table is locked")
_CONFLICT = ("could not serialize", "deadlock detected", "transaction conflict", "conflict")
_VANISHED = ("no such file", "no files found", "cannot open file", "could not open file")


class Session:
    """Owned by one `Lake`; safe to share between threads (writes queue up behind `mutex`)."""

    def __init__(self, run_dir: Path, catalog: Catalog, data_path: Path, *, write: bool) -> None:
        self.run_dir = run_dir
        self.catalog = catalog
        self.data_path = data_path
        self.write = write
        self.mutex = RLock()
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        self._seen: dict[str, set[str]] = {}
        self.con = self._connect()
        self._attach()

    def close(self) -> None:
        """Harmless twice."""
        with self.mutex:
            with contextlib.suppress(duckdb.Error):
                self.con.close()
            if self._copy is not None:
                self._copy.cleanup()
            self.write = False

    def execute(self, sql: str, params: Sequence[Any] | None = None) -> duckdb.DuckDBPyConnection:
        """On the writing connection: inside `transaction`, or by itself inside `retried`."""
        return self.con.execute(sql, params)

    def transaction(self, work: Callable[[], T], written: Iterable[str]) -> T:
        """`work` in a transaction whose files (in the folders of the tables `written`) are on disk before it commits."""
        folders = [self.data_path / "main" / name for name in written]

        def attempt() -> T:
            self.execute("BEGIN")
            try:
                result = work()
                sync_files(self._new_files(folders))
                self.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise
            return result

        return self.retried(attempt)

    def retried(self, attempt: Callable[[], T]) -> T:
        """`attempt` from its beginning for as long as the catalog is locked; other errors in the user's words."""
        if not self.write:
            raise SynthError(f"the lake in {self.run_dir} is open for reading only; open it with write=True")
        return self._patiently(attempt)

    def read(self, ask: Callable[[], T]) -> T:
        """`ask` again where the catalog was locked or a file went between planning and reading; else the SQL is at fault."""
        until, pause = time.monotonic() + PATIENCE_S, 0.01
        while True:
            try:
                return ask()
            except duckdb.Error as error:
                text = str(error).lower()
                gone = str(self.data_path).lower() in text and any(word in text for word in _VANISHED)
                if (gone or any(word in text for word in _LOCKED)) and time.monotonic() < until:
                    time.sleep(pause)
                    pause = min(1.0, pause * 1.6)
                    continue
                raise UserError(f"the query failed: {str(error).strip()}") from error

    @contextlib.contextmanager
    def cursor(self, at_round: int | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection of its own, in the lake's schema; `at_round` hides later rounds behind views."""
        cursor = self.con.cursor()
        try:
            cursor.execute(f"USE {LAKE}")
            if at_round is not None:
                for name in self.table_names():
                    cursor.execute(f'CREATE OR REPLACE TEMP VIEW "{name}" AS SELECT * FROM {LAKE}.main."{name}" WHERE round <= {int(at_round)}')
            yield cursor
        finally:
            cursor.close()

    def table_names(self) -> list[str]:
        """Tables that the lake has, whether this program registers them or not."""
        with contextlib.closing(self.con.cursor()) as cursor:
            rows = cursor.execute("SELECT table_name FROM duckdb_tables() WHERE database_name = ? ORDER BY 1", [LAKE]).fetchall()
        return [row[0] for row in rows]

    def _connect(self) -> duckdb.DuckDBPyConnection:
        return connect(threads=1) if self.write else connect()

    def _attach(self) -> None:
        try:
            self._patiently(lambda: self.catalog.attach(self.con, self.data_path, write=self.write))
        except UserError:
            if self.write or self.catalog.kind != "sqlite":
                raise
            self._attach_copy()

    def _attach_copy(self) -> None:
        """A WAL database cannot be opened where its index cannot be written (read-only folder, full disk); a copy of it can."""
        self._copy = tempfile.TemporaryDirectory(prefix="synth-lake-")
        source = Path(self.catalog.target)
        for suffix in ("", "-wal"):
            if (part := source.with_name(source.name + suffix)).is_file():
                shutil.copyfile(part, Path(self._copy.name) / part.name)
        self.con.close()
        self.con = self._connect()
        Catalog("sqlite", str(Path(self._copy.name) / source.name)).attach(self.con, self.data_path, write=False)

    def _new_files(self, folders: Iterable[Path]) -> list[str]:
        """Files that appeared in `folders` since we looked last; the first look counts all as new."""
        fresh = []
        for folder in folders:
            now = {entry.path for entry in os.scandir(folder)} if folder.is_dir() else set()
            fresh += sorted(now - self._seen.get(str(folder), set()))
            self._seen[str(folder)] = now
        return fresh

    def _roll_back(self) -> None:
        try:
            self.execute("ROLLBACK")
        except duckdb.Error:
            # Nothing to roll back, or a connection that no longer works: a new one always does.
            with contextlib.suppress(duckdb.Error):
                self.con.close()
            self.con = self._connect()
            with contextlib.suppress(duckdb.Error):
                self.catalog.attach(self.con, self.data_path, write=self.write)

    def _patiently(self, attempt: Callable[[], T]) -> T:
        until, pause = time.monotonic() + PATIENCE_S, 0.02
        while True:
            try:
                with self.mutex:
                    return attempt()
            except (duckdb.Error, OSError) as error:
                if any(word in str(error).lower() for word in _LOCKED + _CONFLICT) and time.monotonic() < until:
                    time.sleep(pause)
                    pause = min(1.0, pause * 1.6)
                    continue
                raise storage_error(error, self.run_dir) or SynthError(f"the lake in {self.run_dir} failed: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
