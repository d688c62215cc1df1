"""The lake: every table of a run in DuckLake, written shard by shard, readable by anybody at any time.

The unit of commit is a shard `(round, stage, shard)`: its rows and its line in `shards` land in one transaction, which
starts by checking that the line is absent. DuckLake has no primary keys; this check is what makes a resumed run append
nothing twice. One writer at a time (`flock`), any number of readers, who never wait for it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import polars as pl
import pyarrow as pa

from data.catalog import LAKE, SQLITE_FILE, Catalog
from data.digest import Digest, TableDigest, combine, digest_columns, digest_table
from data.disk import storage_error
from data.errors import SynthError, UserError
from data.lock import WriterLock
from data.rows import Rows, to_arrow, to_frame
from data.schema import Table, tables
from data.session import Session, first_line
from data.tables import SHARDS, STAGES
from data.text import storable_json, without_nan

T = TypeVar("T")
Place = tuple[int, str, int]

MERGE_EVERY = 500  # commits after which the writer merges by itself, so that a long stage stays flat
FINISHED = -1  # the `shard` of a stage's own line


class Lake:
    """Use `Lake.open`. Safe to share between threads; writes of one process queue up."""

    def __init__(self, run_dir: Path, catalog: Catalog, lock: WriterLock | None) -> None:
        self.run_dir = run_dir
        self.catalog = catalog
        self.data_path = run_dir.resolve() / "lake"
        self._lock = lock
        self._unmerged = 0
        self._lines: dict[str, set[Place]] = {}  # of shards and stages, as they were at catalog snapshot `_as_of`
        self._as_of = -1
        self._session = Session(run_dir, catalog, self.data_path, write=lock is not None)
        if self.writable:
            self._make_tables()
            self.sweep()

    @property
    def writable(self) -> bool:
        return self._session.write

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
            wanted = Catalog.parse(catalog).resume(known, run_dir) if catalog else known or Catalog("sqlite", str((run_dir / SQLITE_FILE).resolve()))
            if lock is not None and known is None:
                wanted.remember(run_dir)
            lake = cls(run_dir, wanted, lock)
        except BaseException as error:
            if lock is not None:
                lock.release()
            if isinstance(error, (duckdb.Error, OSError)):
                raise storage_error(error, run_dir) or SynthError(f"the lake in {run_dir} cannot be opened: {first_line(error)}") from error
            raise
        return lake

    def __enter__(self) -> Lake:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Releases the lock; harmless twice."""
        self._session.close()
        if self._lock is not None:
            self._lock.release()

    # Writing

    def commit(self, round: int, stage: str, shard: int, tables: Mapping[str, Rows], info: Mapping[str, Any] | None = None) -> bool:
        """Appends the rows of one shard and its line, all or nothing; False (and nothing written) if the line is there.

        `round`, `stage`, `shard` are filled in where the rows lack them. Durable when it returns.
        """
        place = {"round": round, "stage": stage, "shard": shard}
        batches = {name: to_arrow(self._table(name), rows, place) for name, rows in tables.items()}
        counts = {name: batch.num_rows for name, batch in sorted(batches.items()) if batch.num_rows}
        line = {"rows": storable_json(counts), "info": storable_json(without_nan(info or {})), "committed_at": datetime.now(UTC)}
        batches[SHARDS.name] = to_arrow(SHARDS, [line], place)
        return self._append(SHARDS, place, batches)

    def finish_stage(self, round: int, stage: str, info: Mapping[str, Any], seconds: float) -> bool:
        """Writes the line that follows the last shard; False if it is there."""
        place = {"round": round, "stage": stage, "shard": FINISHED}
        line = {"info": storable_json(without_nan(info)), "seconds": seconds, "finished_at": datetime.now(UTC)}
        return self._append(STAGES, place, {STAGES.name: to_arrow(STAGES, [line], place)})

    def merge(self) -> None:
        """Small files into big ones, old snapshots away, files that nobody can be reading any more deleted.

        Called at the end of each round. Readers are not hurt: a file goes only once no open transaction can need it.
        """
        self._session.transaction(lambda: self._call("merge_adjacent_files"), self._session.table_names())
        self._session.retried(lambda: self._call("expire_snapshots", "older_than => now()"))
        if self._session.retried(self.catalog.nobody_reads_the_past):
            self._session.retried(lambda: self._call("cleanup_old_files", "cleanup_all => true"))
        self._unmerged = 0

    def sweep(self) -> int:
        """Deletes data files that no catalog row names (a crash left them); number of files."""
        return self._session.retried(lambda: self._call("delete_orphaned_files", "cleanup_all => true"))

    # Reading

    def has_shard(self, round: int, stage: str, shard: int) -> bool:
        sql = "SELECT count(*) FROM shards WHERE round = ? AND stage = ? AND shard = ?"
        return bool(self.query(sql, [round, stage, shard]).item())

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
            with self._session.cursor(at_round) as cursor:
                return to_frame(cursor, sql, params)

        return self._session.read(ask)

    def relation(self, sql: str) -> duckdb.DuckDBPyRelation:
        """A DuckDB relation on a cursor of its own: nothing is read before it is asked for rows. `sql` is a query or a table's name."""

        def ask() -> duckdb.DuckDBPyRelation:
            cursor = self._session.con.cursor()
            cursor.execute(f"USE {LAKE}")
            return cursor.table(sql) if sql.isidentifier() else cursor.sql(sql)

        return self._session.read(ask)

    def known_ids(self, table: str, ids: Iterable[str]) -> set[str]:
        """Those of `ids` that are in the id column (the last of the key) of `table`."""
        column, wanted = self._table(table).key[-1], sorted(set(ids))
        if not wanted:
            return set()

        def ask() -> set[str]:
            with self._session.cursor() as cursor:
                cursor.register("wanted_ids", pa.table({"id": pa.array(wanted, pa.string())}))
                sql = f'SELECT id FROM wanted_ids SEMI JOIN {LAKE}.main."{table}" AS t ON id = t."{column}"'
                return {row[0] for row in cursor.execute(sql).fetchall()}

        return self._session.read(ask)

    def digest(self, at_round: int | None = None) -> Digest:
        """Order-independent digest of the digest columns of every table, over one consistent state."""

        def ask() -> Digest:
            with self._session.cursor(at_round) as cursor, _snapshot(cursor):
                return combine(dict(self._digests(cursor)))

        return self._session.read(ask)

    def duplicate_keys(self) -> dict[str, int]:
        """Rows too many under a table's key, for the tables that have any; {} is how it should be."""
        found = {}
        for name in self._session.table_names():
            key = ", ".join(f'"{column}"' for column in self._table(name).key)
            extra = self.query(f'SELECT coalesce(sum(n - 1), 0)::BIGINT FROM (SELECT count(*) AS n FROM "{name}" GROUP BY {key})').item()
            if extra:
                found[name] = int(extra)
        return found

    # Inside

    def _call(self, function: str, *arguments: str) -> int:
        """One of DuckLake's maintenance functions; number of files (or snapshots) it tells of."""
        return len(self._session.execute(f"CALL ducklake_{function}({', '.join([_quoted(LAKE), *arguments])})").fetchall())

    def _digests(self, cursor: duckdb.DuckDBPyConnection) -> Iterator[tuple[str, TableDigest]]:
        for name in self._session.table_names():
            one = self._table(name)
            columns = ", ".join(f'"{column}"' for column in digest_columns(one))
            yield name, digest_table(one, cursor.execute(f'SELECT {columns} FROM "{name}"').to_arrow_reader(16_384))

    def _table(self, name: str) -> Table:
        known = tables()
        if name not in known:
            raise SynthError(f"no table {name!r} is registered; there are {', '.join(known)}")
        return known[name]

    def _make_tables(self) -> None:
        here = {
            row[0]: set(row[1])
            for row in self._session.execute(
                "SELECT table_name, list(column_name) FROM duckdb_columns() WHERE database_name = ? GROUP BY 1", [LAKE]
            ).fetchall()
        }

        def make() -> None:
            for name, one in tables().items():
                if name not in here:
                    columns = ", ".join(f'"{c.name}" {c.type}' for c in one.columns)
                    self._session.execute(f'CREATE TABLE {LAKE}.main."{name}" ({columns})')
                    self._session.execute(f'COMMENT ON TABLE {LAKE}.main."{name}" IS {_quoted(one.doc)}')
                for column in one.columns:
                    if name in here and column.name not in here[name]:
                        self._session.execute(f'ALTER TABLE {LAKE}.main."{name}" ADD COLUMN "{column.name}" {column.type}')
                    if name not in here or column.name not in here[name]:
                        self._session.execute(f'COMMENT ON COLUMN {LAKE}.main."{name}"."{column.name}" IS {_quoted(column.doc)}')

        if any(name not in here or not set(one.names) <= here[name] for name, one in tables().items()):
            self._session.transaction(make, [])

    def _append(self, line_table: Table, place: Mapping[str, Any], batches: Mapping[str, pa.Table]) -> bool:
        where = (place["round"], place["stage"], place["shard"])

        def append() -> bool:
            if where in self._known_lines()[line_table.name]:
                return False
            for name, batch in batches.items():
                if batch.num_rows:
                    columns = ", ".join(f'"{column}"' for column in batch.column_names)
                    self._session.con.register("incoming", batch)
                    self._session.execute(f'INSERT INTO {LAKE}.main."{name}" ({columns}) SELECT {columns} FROM incoming')
                    self._session.con.unregister("incoming")
            return True

        with self._session.mutex:
            if not (written := self._session.transaction(append, list(batches))):
                return False
            self._lines[line_table.name].add(where)
            self._as_of += 1  # our commit's own snapshot, unless somebody's came between: then it is not the newest next time
            self._unmerged += 1
            if self._unmerged >= MERGE_EVERY:
                self.merge()
        return written

    def _known_lines(self) -> dict[str, set[Place]]:
        """The lines of `shards` and `stages` that this transaction sees.

        Reading them takes longer with every file, so they are kept, and read again only where the catalog's newest snapshot
        is not the one that our own last commit made (somebody else wrote, or a merge did).
        """
        row = self._session.execute(f"SELECT id FROM ducklake_current_snapshot('{LAKE}')").fetchone()
        newest = int(row[0]) if row else -1
        if newest != self._as_of:
            for name in (SHARDS.name, STAGES.name):
                self._lines[name] = set(self._session.execute(f'SELECT round, stage, shard FROM {LAKE}.main."{name}"').fetchall())
            self._as_of = newest
        return self._lines


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
