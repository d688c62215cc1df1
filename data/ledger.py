"""The ledger: every model request with its answer, durable before anybody uses it.

SQLite in WAL mode with `synchronous=FULL`: what `commit` returned from survives a kill and a power cut. Callers in several
threads share one transaction (group commit): while one writes, what the others bring gathers for the next. Reading has a
connection of its own and sees what is durable; it waits for no commit.

Rows are appended in the order asked, beside an index of the keys: keys are random, and a table sorted by them would touch a page of its
own for every row (measured: 4 x the CPU and 3.4 x the size).
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from data.disk import storage_error
from data.errors import SynthError, UserError
from data.ledger_rows import ANSWER, answered_row, asked_row, completions_of, float32s, int32s
from data.records import Completion, Request
from data.tables import REQUESTS

T = TypeVar("T")

GROUP = 256  # requests or completions of one caller in one transaction at most
AT_ONCE = 512  # keys looked up in one statement: rows become completions before the next are fetched
PATIENCE_S = 60.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS requests (
    key TEXT NOT NULL UNIQUE,
    -- sent: asked, no durable answer | done: answered | failed: the last answer was an error | cancelled: given up before it was answered
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    repeats INTEGER NOT NULL DEFAULT 0, -- answers after the first success, ignored
    errors INTEGER NOT NULL DEFAULT 0,
    model TEXT NOT NULL DEFAULT '',
    policy_id TEXT NOT NULL DEFAULT '',
    purpose TEXT NOT NULL DEFAULT '',
    problem_id TEXT NOT NULL DEFAULT '',
    request TEXT NOT NULL DEFAULT '{}', -- JSON: prompt, messages or tokens, sampling, seed, index
    text TEXT,
    finish TEXT,
    error TEXT NOT NULL DEFAULT '',
    tokens BLOB,                      -- little-endian int32
    logp BLOB,                        -- little-endian float32
    prompt_tokens BLOB,               -- little-endian int32
    answered_by TEXT NOT NULL DEFAULT '', -- policy id that the answer names
    ms REAL NOT NULL DEFAULT 0,
    sent_at REAL,
    done_at REAL,
    usage_in INTEGER NOT NULL DEFAULT 0, -- tokens as an endpoint bills them, 0 where it does not say
    usage_out INTEGER NOT NULL DEFAULT 0
)
"""
_INTEND = """
INSERT INTO requests (key, state, attempts, model, policy_id, purpose, problem_id, request, sent_at) VALUES (?, 'sent', 1, ?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET attempts = attempts + 1, sent_at = excluded.sent_at, state = CASE state WHEN 'done' THEN 'done' ELSE 'sent' END,
    model = excluded.model, policy_id = excluded.policy_id, purpose = CASE state WHEN 'done' THEN purpose ELSE excluded.purpose END,
    problem_id = CASE state WHEN 'done' THEN problem_id ELSE excluded.problem_id END, request = excluded.request
"""
_RECORD = """
INSERT INTO requests (key, state, text, finish, error, tokens, logp, prompt_tokens, answered_by, ms, usage_in, usage_out, done_at, errors)
VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)
ON CONFLICT (key) DO UPDATE SET state = excluded.state, text = excluded.text, finish = excluded.finish, error = excluded.error,
    tokens = excluded.tokens, logp = excluded.logp, prompt_tokens = excluded.prompt_tokens, answered_by = excluded.answered_by,
    ms = excluded.ms, usage_in = excluded.usage_in, usage_out = excluded.usage_out, done_at = excluded.done_at,
    errors = errors + excluded.errors
"""


class _Batch:
    """What goes into one transaction, and how it ended."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.given_up: list[str] = []
        self.answers: list[Completion] = []
        self.done = False
        self.error: BaseException | None = None


class Ledger:
    """Use `Ledger.open`. Safe to share between threads."""

    def __init__(self, path: Path, con: sqlite3.Connection, reader: sqlite3.Connection | None = None) -> None:
        self.path = path
        self._con, self._reader = con, reader or con
        self._writing = Lock()
        self._looking = Lock() if reader else self._writing
        self._gathering = Lock()
        self._batch = _Batch()

    @classmethod
    def open(cls, path: Path | str, *, write: bool = True) -> Ledger:
        """Makes the file where it is new (`write`); UserError where there is none to read, or it cannot be written."""
        path = Path(path)
        if not write and not path.is_file():
            raise UserError(f"{path} does not exist: a run that generated something has a ledger.sqlite in its folder")
        try:
            if not write:
                return cls(path, _connect_to_read(path))
            con = _connect_to_write(path)
            return cls(path, con, _connect_to_read(path))
        except sqlite3.Error as error:
            raise storage_error(error, path.parent) or SynthError(f"the ledger {path} cannot be opened: {error}") from error

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Harmless twice."""
        with self._writing:
            self._con.close()
        with self._looking:
            self._reader.close()

    # Writing

    def intend(self, requests: Sequence[Request]) -> None:
        """Durably says that these are about to be sent; one more attempt each."""
        self.commit(asked=requests)

    def record(self, completions: Sequence[Completion]) -> None:
        """Returns once they are durable.

        The first success of a key stands: a later answer is ignored and counted (`repeats`). A failure is kept until a success replaces it.
        """
        self.commit(answers=completions)

    def commit(self, asked: Sequence[Request] = (), answers: Sequence[Completion] = (), given_up: Sequence[str] = ()) -> None:
        """`intend(asked)` and `record(answers)` in one transaction, which the other threads that wait here share.

        `given_up`: keys that were cancelled. They are neither failures nor in flight any more.
        """
        now = time.time()
        rows = [asked_row(r, now) for r in asked]
        for start in range(0, max(len(rows), len(answers), len(given_up)), GROUP):
            self._commit(rows[start : start + GROUP], answers[start : start + GROUP], given_up[start : start + GROUP])

    def let_go(self) -> int:
        """Nobody waits for what was sent and not answered: whoever sent it has ended, or is done. Asked for again, it is in flight again.

        Returns how many requests these were."""
        with self._writing:
            before = self._con.total_changes
            self._transaction(lambda: self._con.execute("UPDATE requests SET state = 'cancelled' WHERE state = 'sent'"))
            return self._con.total_changes - before

    def _commit(self, asked: Sequence[tuple[Any, ...]], answers: Sequence[Completion], given_up: Sequence[str]) -> None:
        with self._gathering:
            batch = self._batch
            batch.asked.extend(asked)
            batch.given_up.extend(given_up)
            batch.answers.extend(answers)
        with self._writing:
            if not batch.done:
                with self._gathering:
                    self._batch = _Batch()
                batch.done = True
                try:
                    self._transaction(lambda: self._insert(batch))
                except BaseException as error:  # noqa: BLE001 - every thread of the batch is told, then it is raised
                    batch.error = error
        if batch.error is not None:
            raise batch.error

    def _insert(self, batch: _Batch) -> None:
        answers = batch.answers
        if batch.asked:
            self._con.executemany(_INTEND, batch.asked)
        if batch.given_up:
            self._con.executemany("UPDATE requests SET state = 'cancelled' WHERE key = ? AND state = 'sent'", [(key,) for key in batch.given_up])
        if not answers:
            return
        done, now = self._states([c.key for c in answers]), time.time()
        rows, repeats = [], []
        for c in answers:
            if c.key in done:
                repeats.append((c.key,))
                continue
            if c.finish != "error":
                done.add(c.key)
            rows.append(answered_row(c, now))
        self._con.executemany(_RECORD, rows)
        if repeats:
            self._con.executemany("UPDATE requests SET repeats = repeats + 1 WHERE key = ?", repeats)

    def _states(self, keys: Sequence[str]) -> set[str]:
        sql = "SELECT key FROM requests WHERE state = 'done' AND key IN (SELECT value FROM json_each(?))"
        return {row[0] for row in self._con.execute(sql, [json.dumps(list(keys))])}

    def _transaction(self, work: Callable[[], Any]) -> None:
        try:
            self._con.execute("BEGIN IMMEDIATE")
            work()
            self._con.execute("COMMIT")
        except BaseException as error:
            if self._con.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    self._con.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise storage_error(error, self.path.parent) or SynthError(f"the ledger {self.path} failed: {error}") from error
            raise

    # Reading

    def lookup(self, keys: Iterable[str], *, failed: bool = False) -> dict[str, Completion]:
        """Durable answers to those of `keys` that have one, in the order of `keys`; successes only, unless `failed`."""
        wanted = list(dict.fromkeys(keys))
        states = ("done", "failed") if failed else ("done", "done")
        found: dict[str, Completion] = {}
        for start in range(0, len(wanted), AT_ONCE):
            some = wanted[start : start + AT_ONCE]
            rows = {row[0]: row for row in self._select(ANSWER, "AND state IN (?, ?)", some, states)}
            found.update((c.key, c) for c in completions_of([rows[key] for key in some if key in rows]))
        return found

    def rows(self, keys: Sequence[str], *, round: int, stage: str, shard: int) -> list[dict[str, Any]]:
        """Rows of the lake's `requests` table, in the order of `keys`; UserError where the ledger never saw one."""
        wanted = list(dict.fromkeys(keys))
        names = ("key", "model", "policy_id", "purpose", "problem_id", "request", "text", "finish", "error", "attempts", "repeats", "ms")
        found = {}
        for row in self._select(", ".join((*names, "tokens", "logp", "prompt_tokens")), "", wanted, ()):
            arrays = {"tokens": int32s(row[-3]), "logp": float32s(row[-2]), "prompt_tokens": int32s(row[-1])}
            found[row[0]] = {"round": round, "stage": stage, "shard": shard, **dict(zip(names, row)), **arrays}
        if missing := [key for key in wanted if key not in found]:
            raise SynthError(f"the ledger {self.path} knows nothing of {len(missing)} requests, e.g. {missing[0]}; they were never sent through it")
        return [{name: found[key][name] for name in REQUESTS.names} for key in wanted]

    def counts(self) -> dict[str, int]:
        """Requests by state (sent, done, failed, cancelled), and in all: requests, attempts, repeats, errors."""
        with self._reading():
            states = dict(self._reader.execute("SELECT state, count(*) FROM requests GROUP BY state").fetchall())
            sums = self._reader.execute("SELECT count(*), total(attempts), total(repeats), total(errors) FROM requests").fetchone()
        return {state: states.get(state, 0) for state in ("sent", "done", "failed", "cancelled")} | dict(
            zip(("requests", "attempts", "repeats", "errors"), map(int, sums))
        )

    def repeated(self) -> list[dict[str, Any]]:
        """Requests sent more than once or answered again: key, state, attempts, repeats, errors, purpose."""
        names = ("key", "state", "attempts", "repeats", "errors", "purpose")
        with self._reading():
            rows = self._reader.execute(f"SELECT {', '.join(names)} FROM requests WHERE attempts > 1 OR repeats > 0 ORDER BY key").fetchall()
        return [dict(zip(names, row)) for row in rows]

    def errors(self, most: int = 5) -> list[tuple[str, int]]:
        """The commonest errors of requests whose last answer was one, with their counts."""
        with self._reading():
            sql = "SELECT error, count(*) AS times FROM requests WHERE state = 'failed' GROUP BY error ORDER BY times DESC, error LIMIT ?"
            return self._reader.execute(sql, (most,)).fetchall()

    def select(self, sql: str, params: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Rows of any query, as the file stands now; it writes nothing. sqlite3.Error where the SQL is wrong."""
        with self._looking:
            cursor = self._reader.execute(sql, params)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row)) for row in cursor]

    def _select(self, columns: str, condition: str, keys: Sequence[str], params: Sequence[Any]) -> list[tuple[Any, ...]]:
        with self._reading():
            # In the order of `keys`: what was asked together lies together.
            wanted = "(SELECT value FROM json_each(?)) AS wanted CROSS JOIN requests ON requests.key = wanted.value"
            sql = f"SELECT {columns} FROM {wanted} WHERE true {condition}"
            return self._reader.execute(sql, [json.dumps(list(keys)), *params]).fetchall()

    @contextlib.contextmanager
    def _reading(self) -> Any:
        with self._looking:
            try:
                yield
            except sqlite3.Error as error:
                raise SynthError(f"the ledger {self.path} cannot be read: {error}") from error


def _connect_to_write(path: Path) -> sqlite3.Connection:
    con = sqlite3.connect(path, timeout=PATIENCE_S, check_same_thread=False, isolation_level=None)
    con.execute("PRAGMA page_size = 8192")  # of a new file: a request with its answer is one to three kB
    con.execute("PRAGMA journal_mode = WAL")
    con.execute("PRAGMA synchronous = FULL")
    con.execute(_SCHEMA)
    for column in ("usage_in", "usage_out"):  # which ledgers of earlier versions have not
        with contextlib.suppress(sqlite3.OperationalError):
            con.execute(f"ALTER TABLE requests ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0")
    return con


def _connect_to_read(path: Path) -> sqlite3.Connection:
    """Read-only; where the index of the WAL cannot be made (read-only folder, full disk), an in-memory copy of file and WAL."""
    try:
        con = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=PATIENCE_S, check_same_thread=False, isolation_level=None)
        con.execute("SELECT 1 FROM requests LIMIT 1")
        con.execute("PRAGMA cache_size = -16384")  # KiB: the index of a few 100,000 keys
        return con
    except sqlite3.OperationalError as error:
        if not any(word in str(error) for word in ("unable to open", "disk I/O error", "readonly")):
            raise
    with tempfile.TemporaryDirectory(prefix="synth-ledger-") as folder:
        for part in (path, path.with_name(path.name + "-wal")):
            if part.is_file():
                shutil.copyfile(part, Path(folder) / part.name)
        memory = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        with contextlib.closing(sqlite3.connect(Path(folder) / path.name)) as copy:
            copy.backup(memory)
        memory.execute("PRAGMA query_only = ON")
        return memory
