"""Where a lake's catalog is and how DuckDB attaches it: SQLite in the run folder, or PostgreSQL by URL.

SQLite is put in WAL mode, without which a reader's open transaction makes the writer's commit fail. Never open
the catalog with Python's own `sqlite3` in a process that has the lake open: two copies of SQLite in one process
do not see each other's POSIX locks, and closing one's file drops the other's.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import tempfile
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import duckdb

from data.disk import sync_file, sync_folder
from data.errors import SynthError, UserError

LAKE = "lake"  # the name that the catalog is attached under
META = f"__ducklake_metadata_{LAKE}"  # DuckLake's own name for the database behind it
SQLITE_FILE = "catalog.sqlite"
ELSEWHERE_FILE = "catalog.json"  # written only where the catalog is not the default one
BUSY_MS = 10_000


@dataclass(frozen=True)
class Catalog:
    """`target`: a path for sqlite, a libpq connection string or URL for postgres; `schema`: postgres only."""

    kind: Literal["sqlite", "postgres"]
    target: str
    schema: str = ""

    @classmethod
    def parse(cls, url: str) -> Catalog:
        kind, _, rest = url.partition(":")
        if kind == "sqlite" and rest:
            return cls("sqlite", str(Path(rest).resolve()))
        if kind in ("postgres", "postgresql") and rest:
            # One database serves many runs: each has a schema of its own, named at random because a folder may be made anew.
            return cls("postgres", url if rest.startswith("//") else rest, "synth_" + uuid.uuid4().hex[:16])
        raise UserError(f"catalog {url!r} is neither sqlite:PATH nor postgres:CONNECTION nor postgresql://USER@HOST/DATABASE")

    @classmethod
    def of(cls, run_dir: Path) -> Catalog | None:
        """The catalog that a run folder names, None where it is not a run."""
        elsewhere = run_dir / ELSEWHERE_FILE
        if elsewhere.is_file():
            return cls(**json.loads(elsewhere.read_text()))
        path = run_dir / SQLITE_FILE
        return cls("sqlite", str(path.resolve())) if path.is_file() else None

    @property
    def shown(self) -> str:
        """The target without its password, which is written nowhere (PGPASSWORD or ~/.pgpass give it to later commands)."""
        if self.kind == "sqlite":
            return self.target
        return re.sub(r"(://[^:/@]*):[^@]*@", r"\1@", re.sub(r"\s*password=('[^']*'|\S+)", "", self.target))

    def resume(self, known: Catalog | None, run_dir: Path) -> Catalog:
        """This catalog, as a user gave it, for a run that may have one already; UserError where that is another."""
        if known is None:
            return self
        if (known.kind, known.shown) != (self.kind, self.shown):
            raise UserError(
                f"{run_dir} has its catalog at {known.kind}:{known.shown}, not at {self.kind}:{self.shown}; a run keeps the one it began with"
            )
        return replace(self, schema=known.schema)

    def remember(self, run_dir: Path) -> None:
        """Writes `catalog.json` where the catalog is not the default one; a password stays out of it."""
        if self.kind == "sqlite" and Path(self.target).resolve() == (run_dir / SQLITE_FILE).resolve():
            return
        path = run_dir / ELSEWHERE_FILE
        path.write_text(json.dumps({"kind": self.kind, "target": self.shown, "schema": self.schema}) + "\n")
        sync_file(path)
        sync_folder(run_dir)

    def attach(self, con: duckdb.DuckDBPyConnection, data_path: Path, *, write: bool) -> None:
        """Attaches it as `lake`; writable attachment creates the catalog where it is new."""
        load_extension(con, "sqlite_scanner" if self.kind == "sqlite" else "postgres_scanner")
        load_extension(con, "ducklake")
        # Small inserts would otherwise be kept as text inside the catalog, where a float32 list loses its exact bits.
        con.execute("SET GLOBAL ducklake_default_data_inlining_row_limit = 0")
        options: dict[str, Any] = {"DATA_PATH": f"{data_path}/", "OVERRIDE_DATA_PATH": True}
        if self.kind == "sqlite":
            # Scans by several threads open connections of their own, outside the transaction: they would see newer states.
            con.execute("SET GLOBAL sqlite_disable_multithreaded_scans = true")
            options["META_BUSY_TIMEOUT"] = BUSY_MS
            if write:
                options["META_JOURNAL_MODE"] = "WAL"
        else:
            options["META_SCHEMA"] = self.schema
            if write:
                con.execute(f"ATTACH IF NOT EXISTS {_literal(self.target)} AS catalog_maker (TYPE postgres)")
                con.execute(f'CREATE SCHEMA IF NOT EXISTS catalog_maker."{self.schema}"')
                con.execute("DETACH catalog_maker")
        if not write:
            options["READ_ONLY"] = True
        given = ", ".join(f"{name} {_literal(value)}" for name, value in options.items())
        con.execute(f"ATTACH {_literal(f'ducklake:{self.kind}:{self.target}')} AS {LAKE} ({given})")
        con.execute(f"USE {LAKE}")

    def nobody_reads_the_past(self) -> bool:
        """Whether no open transaction needs a state older than the newest: then files that the newest does not name may go.

        SQLite: a checkpoint moves the whole WAL into the database only if no reader still needs an older frame.
        PostgreSQL: no session of this database is inside a transaction (or is one that we may not look at).
        Asked over a connection of its own, because the lake's would count as a reader.
        """
        with contextlib.closing(connect()) as con:
            if self.kind == "sqlite":
                load_extension(con, "sqlite_scanner")
                con.execute(f"ATTACH {_literal(self.target)} AS asked (TYPE sqlite, BUSY_TIMEOUT 0)")
                row = con.execute("SELECT * FROM sqlite_query('asked', 'PRAGMA wal_checkpoint(TRUNCATE)')").fetchone()
                return row is not None and 0 <= int(row[1]) == int(row[2])
            load_extension(con, "postgres_scanner")
            con.execute(f"ATTACH {_literal(self.target)} AS asked (TYPE postgres)")
            busy = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
                "AND backend_type = 'client backend' AND (xact_start IS NOT NULL OR state IS NULL)"
            )
            row = con.execute(f"SELECT * FROM postgres_query('asked', {_literal(busy)})").fetchone()
            return row is not None and int(row[0]) == 0


def connect(threads: int = 4) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB that downloads nothing by itself and keeps time in UTC.

    A commit is dozens of tiny statements, which one thread does in half the time of two: writers take one.
    """
    config: dict[str, Any] = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "threads": min(threads, os.cpu_count() or 1),
        "temp_directory": str(Path(tempfile.gettempdir()) / f"synth-duckdb-{os.getuid()}"),
    }
    con = duckdb.connect(config=config)
    con.execute("SET GLOBAL TimeZone = 'UTC'")
    return con


def load_extension(con: duckdb.DuckDBPyConnection, name: str) -> None:
    """From DuckDB's own folder, else from the `duckdb-extension-*` package, else from the network.

    DuckDB checks the binary's signature as it loads it.
    """
    reasons = []
    for statement in (f"LOAD {name}", _packaged(name), f"INSTALL {name}; LOAD {name}"):
        if not statement:
            continue
        try:
            con.execute(statement)
            return
        except duckdb.Error as error:
            reasons.append(str(error).splitlines()[0])
    package = f"duckdb-extension-{name.replace('_', '-')}=={duckdb.__version__}"
    raise SynthError(f"DuckDB's extension {name} cannot be loaded; install the package {package} (tried: {'; '.join(reasons)})")


def _packaged(name: str) -> str:
    spec = importlib.util.find_spec(f"duckdb_extension_{name}")
    if spec is None or spec.origin is None:
        return ""
    path = Path(spec.origin).parent / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
    return f"LOAD {_literal(str(path))}" if path.is_file() else ""


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return "'" + str(value).replace("'", "''") + "'"
