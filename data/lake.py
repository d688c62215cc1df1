"""The lake: every table of a run in DuckLake, written shard by shard, readable by anybody at any time.

The unit of commit is a shard `(round, stage, shard)`: its rows and its line in `shards` land in one transaction, which
starts by checking that the line is absent. DuckLake has no primary keys; this check is what makes a resumed run append
nothing twice. One writer at a time (`flock`), any number of readers, who never wait for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar

import duckdb
import polars as pl
import pyarrow as pa

from data.catalog import LAKE, SQLITE_FILE, Catalog, connect
from data.digest import Digest, TableDigest, combine, digest_columns, digest_table
from data.disk import storage_error, sync_files
from data.errors import SynthError, UserError
from data.lock import WriterLock
from data.rows import Rows, to_arrow
from data.schema import Table, tables
from data.tables import SHARDS, STAGES
from data.text import storable_json, without_nan

T = TypeVar("T")

MERGE_EVERY = 500  # commits after which the writer merges by itself, so that a long stage stays flat
PATIENCE_S = 60.0  # how long a transaction is begun anew because the catalog was locked
FINISHED = -1  # the `shard` of a stage's own line
_LOCKED = ("database is locked", "database table is locked", "could not serialize", "deadlock detected", "conflict")
_VANISHED = ("no such file", "no files found", "cannot open file", "could not open file")


class Lake:
    """Use `Lake.open`. Safe to share between threads; writes of one process queue up."""

    def __init__(self, run_dir: Path, catalog: Catalog, lock: WriterLock | None) -> None:
        self.run_dir = run_dir
        self.catalog = catalog
        self.data_path = run_dir / "lake"
        self.writable = lock is not None
        self._lock = lock
        self._mutex = RLock()
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        self._unmerged = 0
        self._seen: dict[str, set[str]] = {}
        self._con = connect()
        self._attach()

    @classmethod
    def open(cls, run_dir: Path | str, *, catalog: str | None = None, write: bool = False, create: bool = False) -> Lake:
        """Opens the lake of a run folder.

        `catalog`: `sqlite:PATH` or `postgres:CONNECTION` for a new lake; an old one remembers its own. `write` takes the
        writer's lock, makes missing tables and sweeps what a crash left behind; `create` makes the folder too.
        Raises UserError for a folder that is not a run, a second writer, a full disk, a read-only folder.
        """
        run_dir = Path(run_dir)
        if create:
            try:
                (run_dir / "lake").mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise storage_error(error, run_dir) or UserError(f"{run_dir} cannot be made a run folder: {error}") from error
        elif Catalog.of(run_dir) is None:
            raise UserError(f"{run_dir} is not a run folder: it holds no {SQLITE_FILE}; give the folder that `synth run --out` made")
        lock = WriterLock(run_dir) if write or create else None
        try:
            known = Catalog.of(run_dir)
            wanted = Catalog.parse(catalog, run_dir) if catalog else known or Catalog("sqlite", str(run_dir / SQLITE_FILE))
            if lock is not None and known is None:
                wanted.remember(run_dir)
            lake = cls(run_dir, known or wanted, lock)
        except BaseException as error:
            if lock is not None:
                lock.release()
            if isinstance(error, (duckdb.Error, OSError)):
                raise storage_error(error, run_dir) or SynthError(f"the lake in {run_dir} cannot be opened: {_first_line(error)}") from error
            raise
        return lake

    def __enter__(self) -> Lake:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Releases the lock; harmless twice."""
        with self._mutex:
            with contextlib.suppress(duckdb.Error):
                self._con.close()
            if self._lock is not None:
                self._lock.release()
            if self._copy is not None:
                self._copy.cleanup()
            self.writable = False

    # Writing

    def commit(self, round: int, stage: str, shard: int, tables: Mapping[str, Rows], info: Mapping[str, Any] | None = None) -> bool:
        """Appends the rows of one shard and its line, all or nothing; False (and nothing written) if the line is there.

        `round`, `stage`, `shard` are filled in where the rows lack them. Durable when it returns.
        """
        place = {"round": round, "stage": stage, "shard": shard}
        batches = {name: to_arrow(self._table(name), rows, place) for name, rows in tables.items()}
        counts = {name: batch.num_rows for name, batch in sorted(batches.items()) if batch.num_rows}
        line = {"rows": storable_json(counts), "info": storable_json(without_nan(info or {})), "at": datetime.now(UTC)}
        batches[SHARDS.name] = to_arrow(SHARDS, [line], place)
        return self._append(SHARDS, place, batches)

    def finish_stage(self, round: int, stage: str, info: Mapping[str, Any], seconds: float) -> bool:
        """Writes the line that follows the last shard; False if it is there."""
        place = {"round": round, "stage": stage, "shard": FINISHED}
        line = {"info": storable_json(without_nan(info)), "seconds": seconds, "at": datetime.now(UTC)}
        return self._append(STAGES, place, {STAGES.name: to_arrow(STAGES, [line], place)})

    def merge(self) -> None:
        """Small files into big ones, old snapshots away, files that nobody can be reading any more deleted.

        Called at the end of each round. Readers are not hurt: a file goes only once no open transaction can need it.
        """
        self._transaction(lambda: self._execute(f"CALL ducklake_merge_adjacent_files('{LAKE}')"), self._tables_here())
        self._retried(lambda: self._execute(f"CALL ducklake_expire_snapshots('{LAKE}', older_than => now())"))
        if self._retried(lambda: self.catalog.nobody_reads_the_past(self._con)):
            self._retried(lambda: self._execute(f"CALL ducklake_cleanup_old_files('{LAKE}', cleanup_all => true)"))
        self._unmerged = 0

    def sweep(self) -> int:
        """Deletes data files that no catalog row names (a crash left them); number of files."""
        return self._retried(lambda: len(self._execute(f"CALL ducklake_delete_orphaned_files('{LAKE}', cleanup_all => true)").fetchall()))

    # Reading

    def has_shard(self, round: int, stage: str, shard: int) -> bool:
        return self._has_line(self._con.cursor(), SHARDS.name, {"round": round, "stage": stage, "shard": shard})

    def shard_lines(self, round: int, stage: str) -> list[dict[str, Any]]:
        """Lines of a stage's committed shards in shard order; `rows` and `info` parsed."""
        lines = self.query("SELECT * FROM shards WHERE round = ? AND stage = ? ORDER BY shard", [round, stage]).to_dicts()
        return [line | {"rows": json.loads(line["rows"]), "info": json.loads(line["info"])} for line in lines]

    def stage_info(self, round: int, stage: str) -> dict[str, Any] | None:
        """What the stage's line says (its info, plus `seconds`), None where the stage has not finished."""
        lines = self.query("SELECT info, seconds FROM stages WHERE round = ? AND stage = ?", [round, stage]).to_dicts()
        return {"seconds": lines[0]["seconds"], **json.loads(lines[0]["info"])} if lines else None

    def query(self, sql: str, params: Sequence[Any] | Mapping[str, Any] = (), *, at_round: int | None = None) -> pl.DataFrame:
        """Rows of one SQL statement over one consistent state; `at_round` shows every table as it was after that round."""

        def ask() -> pl.DataFrame:
            with contextlib.closing(self._cursor(at_round)) as cursor:
                result = cursor.execute(sql, params or None)
                return result.pl() if result.description else pl.DataFrame()

        return self._read(ask)

    def known_ids(self, table: str, ids: Iterable[str]) -> set[str]:
        """Those of `ids` that are in the id column (the last of the key) of `table`."""
        column, wanted = self._table(table).key[-1], sorted(set(ids))
        if not wanted:
            return set()

        def ask() -> set[str]:
            with contextlib.closing(self._cursor(None)) as cursor:
                cursor.register("wanted_ids", pa.table({"id": pa.array(wanted, pa.string())}))
                sql = f'SELECT id FROM wanted_ids SEMI JOIN {LAKE}.main."{table}" AS t ON id = t."{column}"'
                return {row[0] for row in cursor.execute(sql).fetchall()}

        return self._read(ask)

    def digest(self, at_round: int | None = None) -> Digest:
        """Order-independent digest of the digest columns of every table, over one consistent state."""

        def ask() -> Digest:
            with contextlib.closing(self._cursor(at_round)) as cursor, _snapshot(cursor):
                return combine(dict(self._digests(cursor)))

        return self._read(ask)

    def duplicate_keys(self) -> dict[str, int]:
        """Rows too many under a table's key, for the tables that have any; {} is how it should be."""
        found = {}
        for name in self._tables_here():
            key = ", ".join(f'"{column}"' for column in self._table(name).key)
            extra = self.query(f'SELECT coalesce(sum(n - 1), 0)::BIGINT FROM (SELECT count(*) AS n FROM "{name}" GROUP BY {key})').item()
            if extra:
                found[name] = int(extra)
        return found

    # Inside

    def _digests(self, cursor: duckdb.DuckDBPyConnection) -> Iterator[tuple[str, TableDigest]]:
        for name in self._tables_here():
            one = self._table(name)
            columns = ", ".join(f'"{column}"' for column in digest_columns(one))
            yield name, digest_table(one, cursor.execute(f'SELECT {columns} FROM "{name}"').to_arrow_reader(16_384))

    def _table(self, name: str) -> Table:
        known = tables()
        if name not in known:
            raise SynthError(f"no table {name!r} is registered; there are {', '.join(known)}")
        return known[name]

    def _tables_here(self) -> list[str]:
        rows = self._con.cursor().execute("SELECT table_name FROM duckdb_tables() WHERE database_name = ? ORDER BY 1", [LAKE]).fetchall()
        return [row[0] for row in rows]

    def _cursor(self, at_round: int | None) -> duckdb.DuckDBPyConnection:
        cursor = self._con.cursor()
        cursor.execute(f"USE {LAKE}")
        if at_round is not None:
            for name in self._tables_here():
                cursor.execute(f'CREATE OR REPLACE TEMP VIEW "{name}" AS SELECT * FROM {LAKE}.main."{name}" WHERE round <= {int(at_round)}')
        return cursor

    def _attach(self) -> None:
        try:
            self._retried(lambda: self.catalog.attach(self._con, self.data_path.resolve(), write=self.writable))
        except (duckdb.Error, SynthError) as error:
            if self.writable or self.catalog.kind != "sqlite" or storage_error(error, self.run_dir) is None:
                raise
            self._attach_copy()
        if self.writable:
            self._make_tables()
            self._seen.clear()
            self.sweep()

    def _attach_copy(self) -> None:
        """A WAL database cannot be opened in a folder where its index cannot be written; a copy of it can."""
        self._copy = tempfile.TemporaryDirectory(prefix="synth-lake-")
        source = Path(self.catalog.target)
        for suffix in ("", "-wal"):
            if (part := source.with_name(source.name + suffix)).is_file():
                shutil.copyfile(part, Path(self._copy.name) / part.name)
        self._con.close()
        self._con = connect()
        Catalog("sqlite", str(Path(self._copy.name) / source.name)).attach(self._con, self.data_path.resolve(), write=False)

    def _make_tables(self) -> None:
        here = {
            row[0]: set(row[1])
            for row in self._execute(
                "SELECT table_name, list(column_name) FROM duckdb_columns() WHERE database_name = ? GROUP BY 1", [LAKE]
            ).fetchall()
        }

        def make() -> None:
            for name, one in tables().items():
                if name not in here:
                    columns = ", ".join(f'"{c.name}" {c.type}' for c in one.columns)
                    self._execute(f'CREATE TABLE {LAKE}.main."{name}" ({columns})')
                    self._execute(f'COMMENT ON TABLE {LAKE}.main."{name}" IS {_quoted(one.doc)}')
                for column in one.columns:
                    if name in here and column.name not in here[name]:
                        self._execute(f'ALTER TABLE {LAKE}.main."{name}" ADD COLUMN "{column.name}" {column.type}')
                    if name not in here or column.name not in here[name]:
                        self._execute(f'COMMENT ON COLUMN {LAKE}.main."{name}"."{column.name}" IS {_quoted(column.doc)}')

        if any(name not in here or not set(one.names) <= here[name] for name, one in tables().items()):
            self._transaction(make, [])

    def _append(self, line_table: Table, place: Mapping[str, Any], batches: Mapping[str, pa.Table]) -> bool:
        def append() -> bool:
            if self._has_line(self._con, line_table.name, place):
                return False
            for name, batch in batches.items():
                if batch.num_rows:
                    columns = ", ".join(f'"{column}"' for column in batch.column_names)
                    self._con.register("incoming", batch)
                    self._execute(f'INSERT INTO {LAKE}.main."{name}" ({columns}) SELECT {columns} FROM incoming')
                    self._con.unregister("incoming")
            return True

        with self._mutex:
            written = self._transaction(append, list(batches))
            self._unmerged += written
            if self._unmerged >= MERGE_EVERY:
                self.merge()
        return written

    def _has_line(self, con: duckdb.DuckDBPyConnection, name: str, place: Mapping[str, Any]) -> bool:
        sql = f'SELECT 1 FROM {LAKE}.main."{name}" WHERE round = ? AND stage = ? AND shard = ? LIMIT 1'
        return con.execute(sql, [place["round"], place["stage"], place["shard"]]).fetchone() is not None

    def _execute(self, sql: str, params: Sequence[Any] | None = None) -> duckdb.DuckDBPyConnection:
        return self._con.execute(sql, params)

    def _transaction(self, work: Callable[[], T], written: Iterable[str]) -> T:
        """`work` in a transaction whose files (in the folders of the tables `written`) are on disk before it commits."""
        folders = [self.data_path / "main" / name for name in written]

        def attempt() -> T:
            self._execute("BEGIN")
            try:
                result = work()
                sync_files(self._new_files(folders))
                self._execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise
            return result

        return self._retried(attempt)

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
            self._execute("ROLLBACK")
        except duckdb.Error:
            # Nothing to roll back, or a connection that no longer works: a new one always does.
            with contextlib.suppress(duckdb.Error):
                self._con.close()
            self._con = connect()
            with contextlib.suppress(duckdb.Error):
                self.catalog.attach(self._con, self.data_path.resolve(), write=self.writable)

    def _retried(self, attempt: Callable[[], T]) -> T:
        """`attempt` from its beginning for as long as the catalog is locked; other errors in the user's words."""
        until, pause = time.monotonic() + PATIENCE_S, 0.02
        while True:
            try:
                with self._mutex:
                    return attempt()
            except (duckdb.Error, OSError) as error:
                if any(word in str(error).lower() for word in _LOCKED) and time.monotonic() < until:
                    time.sleep(pause)
                    pause = min(1.0, pause * 1.6)
                    continue
                raise storage_error(error, self.run_dir) or SynthError(f"the lake in {self.run_dir} failed: {_first_line(error)}") from error

    def _read(self, ask: Callable[[], T]) -> T:
        """`ask` again where the catalog was locked or a file went between planning and reading; else the user's SQL is at fault."""
        until, pause = time.monotonic() + PATIENCE_S, 0.01
        while True:
            try:
                return ask()
            except duckdb.Error as error:
                if any(word in str(error).lower() for word in _LOCKED + _VANISHED) and time.monotonic() < until:
                    time.sleep(pause)
                    pause = min(1.0, pause * 1.6)
                    continue
                raise UserError(f"the query failed: {str(error).strip()}") from error


@contextlib.contextmanager
def _snapshot(cursor: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Everything read inside sees one state."""
    cursor.execute("BEGIN")
    try:
        yield
    finally:
        cursor.execute("ROLLBACK")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
