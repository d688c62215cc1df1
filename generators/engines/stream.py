"""Requests in while answers come out, every one of them durable before and after: what stands between a consumer and a streaming engine.

Three threads share the work. The consumer's asks and takes. The engine's runs `generate` over an input that stays open. The recorder's alone
writes: what has come in since its last commit (requests to be sent, answers to be kept) goes into the ledger in one transaction, then on its
way. So an engine is never kept waiting by a consumer that thinks, nor a consumer by a disk that syncs for one answer at a time.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from data.errors import SynthError
from data.records import Completion, Request
from data.text import storable
from generators.engines.base import Engine

PACE_S = 0.05
"""Least seconds between two commits while nobody waits for one: see `_urgent`."""
SETTLE_S = 0.002
"""What comes within this of the first is taken along, after a pause too."""
GROUP = 256
SHARE = 8
"""A consumer is not kept waiting for the answers to more than one in so many of the requests that the engine has."""
SUPPLY = 4
"""An engine with less than one in so many of the window's requests gets new ones at once: it may be about to run dry."""
LEAVE_S = 5.0
"""A consumer that leaves waits so long for the last commit."""


class RequestLedger(Protocol):
    """What this room needs of `data.ledger.Ledger`: `lookup` gives successes (failures too where asked), the others return once it is durable."""

    def lookup(self, keys: Iterable[str], *, failed: bool = False) -> Mapping[str, Completion]: ...
    def intend(self, requests: Sequence[Request]) -> object: ...
    def record(self, completions: Sequence[Completion]) -> object: ...
    def commit(self, asked: Sequence[Request] = (), answers: Sequence[Completion] = (), given_up: Sequence[str] = ()) -> object: ...


@dataclass
class Counts:
    """For the progress display: completions made now and taken from the ledger, tokens sampled now, seconds spent sampling."""

    generated: int = 0
    replayed: int = 0
    tokens: int = 0
    seconds: float = 0.0


def as_recorded(completion: Completion) -> Completion:
    """The completion as the ledger will give it back: a NUL must not be judged one way now and another way after a resume."""
    text, error = storable(completion.text), storable(completion.error)
    return completion if (text, error) == (completion.text, completion.error) else replace(completion, text=text, error=error)


_END = object()
Report = Callable[[int, int, int], object]
"""(answers taken, requests asked, tokens sampled now)"""


def _unreported(done: int, asked: int, tokens: int) -> None:
    pass


class LedgeredStream:
    """One open call of `engine.generate`. For one consumer's thread; close it (or use `with`).

    At most `window` requests are with the engine: what was asked beyond them waits here, in the order asked, and was not sent as far as the ledger
    knows. That bounds what a crash sends again. An engine with `check(requests)` sees all that is asked before anything is written.
    """

    def __init__(self, engine: Engine, ledger: RequestLedger, window: int, counts: Counts, report: Report = _unreported) -> None:
        self.engine, self.ledger, self.window, self.counts = engine, ledger, window, counts
        self.outstanding = 0  # asked and not yet taken
        self._report, self._total, self._tokens = report, 0, 0
        self._ready: list[Completion] = []
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()  # to the recorder
        self._asked: queue.SimpleQueue[Request | None] = queue.SimpleQueue()  # to the engine
        self._out: queue.SimpleQueue[list[Completion] | BaseException] = queue.SimpleQueue()  # to the consumer
        self._unwanted: set[str] = set()  # cancelled while the engine had them; the recorder's
        self._left = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> LedgeredStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the consumer's thread ---------------------------------------------------------------------------------------

    def ask(self, requests: Sequence[Request]) -> None:
        """Never waits for the engine. A key that is asked for twice at once is answered once; what the ledger knows is ready right away."""
        wanted = {r.key: r for r in requests}
        known = self.ledger.lookup(wanted)
        missing = [r for key, r in wanted.items() if key not in known]
        if missing:
            check: Callable[[Sequence[Request]], object] | None = getattr(self.engine, "check", None)
            if check is not None:
                check(missing)
            self._start()
            self._inbox.put(missing)
        self._ready += known.values()
        self.counts.replayed += len(known)
        self.outstanding += len(wanted)
        self._total += len(wanted)

    def end(self) -> None:
        """Nothing more will be asked: engines that hold answers back for company let them go."""
        self._inbox.put(_END)

    def waiting(self) -> bool:
        """Whether an answer lies ready."""
        return bool(self._ready) or not self._out.empty()

    def take(self, *, block: bool = True) -> list[Completion]:
        """Waits for one answer and takes what else is there; none where nothing is outstanding (or, without `block`, where none lies ready)."""
        got, self._ready = self._ready, []
        began = time.perf_counter()
        while self.outstanding > len(got):
            try:
                arrived = self._out.get(block=block and not got)
            except queue.Empty:
                break
            if isinstance(arrived, BaseException):
                self._ready = got
                raise arrived
            if not arrived:
                break  # woken
            got += arrived
            tokens = sum(len(c.tokens) for c in arrived)
            self.counts.generated += len(arrived)
            self.counts.tokens += tokens
            self._tokens += tokens
        self.counts.seconds += time.perf_counter() - began
        self.outstanding -= len(got)
        if got:
            self._report(self._total - self.outstanding, self._total, self._tokens)
        return got

    def wake(self) -> None:
        """From any thread: whoever waits in `take` returns, with what there is."""
        self._out.put([])

    def cancel(self, keys: Iterable[str]) -> None:
        """These are answered as cancelled, if they are not answered by then. The ledger notes that they were given up: no failure, no repeat."""
        self._inbox.put(frozenset(keys))

    def close(self) -> None:
        """Answers that have arrived are kept, the rest is given up. Harmless twice."""
        self._left.set()
        self._asked.put(None)
        self._inbox.put(None)
        if self._threads:
            self._threads[0].join(LEAVE_S)

    def _start(self) -> None:
        if not self._threads:
            targets = {"synth-recorder": self._record, "synth-engine": self._generate}
            self._threads = [threading.Thread(target=target, name=name, daemon=True) for name, target in targets.items()]
            for thread in self._threads:
                thread.start()

    # -- the engine's thread -----------------------------------------------------------------------------------------

    def _generate(self) -> None:
        try:
            answers = self.engine.generate(iter(self._asked.get, None))
            for answer in answers:
                if self._left.is_set():
                    break
                self._inbox.put(answer)
            if isinstance(answers, Generator):
                answers.close()
            self._inbox.put(SynthError("the engine ended before it had answered every request"))
        except BaseException as error:  # noqa: BLE001  carried to the consumer's thread and raised there
            self._inbox.put(error)

    # -- the recorder's thread ---------------------------------------------------------------------------------------

    def _record(self) -> None:
        backlog: deque[Request] = deque()
        with_engine: set[str] = set()
        ended = False
        try:
            for arrived in self._arrivals(with_engine):
                answers, broken, left = self._sorted(arrived, backlog, with_engine)
                sent = [] if left or broken else [backlog.popleft() for _ in range(min(len(backlog), self.window - len(with_engine)))]
                with_engine.update(r.key for r in sent)
                kept = [c for c in answers if c.finish != "cancelled"]
                given_up = [c.key for c in answers if c.finish == "cancelled"]
                if left:
                    given_up += self._unwanted & with_engine  # nobody will hear that they were given up
                self.ledger.commit(sent, kept, given_up)
                for r in sent:
                    self._asked.put(r)
                ended = ended or _END in arrived
                if ended and not backlog:
                    self._asked.put(None)
                if answers:
                    self._out.put(answers)
                if broken is not None:
                    raise broken
                if left:
                    return
        except BaseException as error:  # noqa: BLE001  carried to the consumer's thread and raised there
            self._asked.put(None)
            self._out.put(error)

    def _arrivals(self, with_engine: Collection[str]) -> Iterator[list[Any]]:
        """What came in since the last time."""
        last = 0.0
        while True:
            got = [self._inbox.get()]
            if got[0] is not None and self._inbox.qsize() < GROUP:
                self._left.wait(SETTLE_S)
                self._drain(got)
                if not self._urgent(got, len(with_engine)):
                    self._left.wait(max(0.0, last + PACE_S - time.monotonic()))
            self._drain(got)
            yield got
            last = time.monotonic()

    def _urgent(self, got: Sequence[Any], with_engine: int) -> bool:
        """Whether waiting for more to share the commit might leave the engine or the consumer idle: at both ends of a stream, and in conversations,
        where each question follows an answer. In between a commit costs as much as keeping ten answers, and is worth a pause."""
        answers = sum(isinstance(item, Completion) for item in got)
        asked = answers < len(got)
        return answers >= min(GROUP, with_engine / SHARE) or (asked and with_engine < self.window / SUPPLY)

    def _drain(self, got: list[Any]) -> None:
        while not self._inbox.empty() and len(got) < 8 * GROUP:
            got.append(self._inbox.get())

    def _sorted(
        self, arrived: list[Any], backlog: deque[Request], with_engine: set[str]
    ) -> tuple[list[Completion], BaseException | None, bool]:
        """New requests join `backlog`; the answers to what the engine has, the error it broke with, and whether the consumer has left."""
        answers: list[Completion] = []
        broken, left = None, False
        for item in arrived:
            if isinstance(item, Completion):
                if item.key in with_engine:  # and no answer to what nobody asked
                    with_engine.discard(item.key)
                    answers.append(as_recorded(item))
            elif isinstance(item, list):
                backlog += item
            elif isinstance(item, frozenset):
                unsent = [r for r in backlog if r.key in item]
                for r in unsent:
                    backlog.remove(r)
                answers += [cancelled(r) for r in unsent]
                self._unwanted |= item & with_engine
                self._cancel(item & with_engine)
            elif isinstance(item, BaseException):
                broken = broken or item
            elif item is None:
                left = True
                self._cancel(with_engine)
        return answers, broken, left

    def _cancel(self, keys: Iterable[str]) -> None:
        """Where the engine can; elsewhere they are answered as they would be."""
        stop: Callable[[Iterable[str]], object] | None = getattr(self.engine, "cancel", None)
        if stop is not None and (wanted := list(keys)):
            stop(wanted)


def cancelled(request: Request) -> Completion:
    none = np.empty(0, np.int32)
    return Completion(request.key, "", none, np.empty(0, np.float32), none, "cancelled", request.policy_id)


class Seen:
    """A set of keys (32 hex digits) whose memory does not grow: beyond the newest `most` they lie in a temporary file, which SQLite deletes."""

    def __init__(self, most: int = 4096) -> None:
        self._most = most
        self._new: set[bytes] = set()
        self._old: sqlite3.Connection | None = None

    def fresh(self, requests: Sequence[Request]) -> list[Request]:
        """The requests whose key was not there, which it is from now on."""
        keys = [bytes.fromhex(r.key) for r in requests]
        old = self._among_old(keys)
        found = []
        for r, key in zip(requests, keys, strict=True):
            if key not in old and key not in self._new:
                self._new.add(key)
                found.append(r)
        if len(self._new) >= self._most:
            self._put_away()
        return found

    def close(self) -> None:
        """Harmless twice."""
        if self._old is not None:
            self._old.close()
            self._old = None

    def _put_away(self) -> None:
        if self._old is None:
            self._old = sqlite3.connect("", isolation_level=None, check_same_thread=False)  # a consumer may go on in another thread
            for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -1024"):  # KiB; nobody needs it after a crash
                self._old.execute(f"PRAGMA {pragma}")
            self._old.execute("CREATE TABLE seen (key BLOB PRIMARY KEY) WITHOUT ROWID")
        self._old.execute("BEGIN")
        self._old.executemany("INSERT INTO seen VALUES (?)", ((key,) for key in sorted(self._new)))  # sorted: neighbours share a page
        self._old.execute("COMMIT")
        self._new = set()

    def _among_old(self, keys: Sequence[bytes]) -> set[bytes]:
        found: set[bytes] = set()
        if self._old is not None:
            for start in range(0, len(keys), GROUP):
                some = sorted(keys[start : start + GROUP])
                found.update(key for (key,) in self._old.execute(f"SELECT key FROM seen WHERE key IN ({','.join('?' * len(some))})", some))
        return found
