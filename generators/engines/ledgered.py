"""An engine behind the ledger: nothing recorded is generated again, nothing is handed on before it is durable."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Protocol

from data.errors import SynthError
from data.records import Completion, Float32, LogProbs, PolicyVersion, Request
from data.text import storable
from generators.engines.base import Batched, Capabilities, Engine


class RequestLedger(Protocol):
    """What this room needs of `data.ledger.Ledger`: `lookup` gives successes (failures too where asked), `record` returns once they are durable."""

    def lookup(self, keys: Iterable[str], *, failed: bool = False) -> Mapping[str, Completion]: ...
    def intend(self, requests: Sequence[Request]) -> object: ...
    def record(self, completions: Sequence[Completion]) -> object: ...


@dataclass
class Counts:
    """For the progress display: completions made now and taken from the ledger, tokens sampled now, seconds spent sampling."""

    generated: int = 0
    replayed: int = 0
    tokens: int = 0
    seconds: float = 0.0


class _Stream:
    """An engine's `generate` on a thread of its own, fed and read through queues."""

    def __init__(self, engine: Engine) -> None:
        self._asked: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Completion | BaseException] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(engine,), daemon=True)
        self._thread.start()

    def _run(self, engine: Engine) -> None:
        try:
            answers = engine.generate(iter(self._asked.get, None))
            for answer in answers:
                if self._stopped.is_set():
                    break
                self._answers.put(answer)
            if isinstance(answers, Generator):
                answers.close()
            self._answers.put(SynthError("the engine ended before it had answered every request"))
        except BaseException as error:  # noqa: BLE001  carried to the consumer's thread and raised there
            self._answers.put(error)

    def send(self, requests: Iterable[Request]) -> None:
        for r in requests:
            self._asked.put(r)

    def end(self) -> None:
        self._asked.put(None)

    def stop(self) -> None:
        self._stopped.set()
        self.end()

    def waiting(self) -> bool:
        """Whether an answer lies ready."""
        return not self._answers.empty()

    def receive(self, most: int) -> tuple[list[Completion], BaseException | None]:
        """Waits for one answer, then takes what else is there, up to `most`; the error, if the engine broke after them."""
        got: list[Completion] = []
        while len(got) < most:
            try:
                answer = self._answers.get(block=not got)
            except queue.Empty:
                break
            if isinstance(answer, BaseException):
                return got, answer
            got.append(answer)
        return got, None


def as_recorded(completion: Completion) -> Completion:
    """The completion as the ledger will give it back: a NUL must not be judged one way now and another way after a resume."""
    text, error = storable(completion.text), storable(completion.error)
    return completion if (text, error) == (completion.text, completion.error) else replace(completion, text=text, error=error)


def _unique(requests: Iterable[Request]) -> Iterator[Request]:
    seen: set[str] = set()
    for r in requests:
        if r.key not in seen:
            seen.add(r.key)
            yield r


class LedgeredEngine:
    """`engine` with every request looked up first and every answer recorded before it is yielded. A key asked twice is answered once.

    A `Batched` engine is asked for the plan of all requests of the call, recorded or not, and a batch is regenerated whole unless
    every answer in it is recorded; what was recorded is never replaced. Answers come in the plan's order, resumed or not.
    Any other engine streams, at most `window` requests ahead; it has to answer while its input is still open.
    A recorded failure is asked again; a cancelled request is not recorded at all. All ledger calls are made on the consumer's thread.
    """

    def __init__(self, engine: Engine, ledger: RequestLedger, *, window: int = 1024) -> None:
        self.engine, self.ledger, self.window = engine, ledger, window
        self.counts = Counts()
        self.on_progress: Callable[[int, int, int], None] | None = None  # (rows done, rows in all, tokens sampled now) of a call
        self.capabilities: Capabilities = engine.capabilities - {"batches"}  # the plan is used here, not passed on

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        if isinstance(self.engine, Batched):
            return self._in_batches(self.engine, list(requests))
        return self._streaming(requests)

    def _in_batches(self, engine: Batched, requests: list[Request]) -> Iterator[Completion]:
        plan = engine.batches(requests)
        known = dict(self.ledger.lookup([r.key for batch in plan for r in batch]))
        total, done, before = sum(map(len, plan)), 0, self.counts.tokens
        for batch in plan:
            missing = [r for r in batch if r.key not in known]
            if missing:
                self.ledger.intend(missing)
                wanted = {r.key for r in missing}
                made = self._generated(engine, batch, done, total, self.counts.tokens - before)
                fresh = [as_recorded(c) for c in made if c.key in wanted]
                self._record(fresh)
                known.update((c.key, c) for c in fresh)
            self.counts.replayed += len(batch) - len(missing)
            done += len(batch)
            self._report(done, total, self.counts.tokens - before)
            yield from (known.pop(r.key) for r in batch)

    def _generated(self, engine: Batched, batch: list[Request], done: int, total: int, before: int) -> list[Completion]:
        """One batch, its progress passed on as progress of the whole call."""
        began, report = time.perf_counter(), self.on_progress
        outer = getattr(engine, "on_progress", None)
        if report is not None and hasattr(engine, "on_progress"):
            # The batch's last row counts once it is durable.
            engine.on_progress = lambda rows, _, sampled: report(done + min(rows, len(batch) - 1), total, before + sampled)
        try:
            return engine.generate_batch(batch)
        finally:
            self.counts.seconds += time.perf_counter() - began
            if hasattr(engine, "on_progress"):
                engine.on_progress = outer

    def _streaming(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """The engine runs on a thread of its own; whatever has arrived when we look is recorded in one commit."""
        stream, source = _Stream(self.engine), _unique(requests)
        pending: set[str] = set()
        exhausted = False
        try:
            while pending or not exhausted:
                if not exhausted and len(pending) < self.window:
                    chunk = list(islice(source, min(64, self.window - len(pending))))
                    known = self.ledger.lookup([r.key for r in chunk]) if chunk else {}
                    missing = [r for r in chunk if r.key not in known]
                    if missing:
                        self.ledger.intend(missing)
                        pending.update(r.key for r in missing)
                        stream.send(missing)
                    if not chunk:
                        exhausted = True
                        stream.end()
                    self.counts.replayed += len(known)
                    yield from known.values()
                    if not exhausted and len(pending) < self.window and not stream.waiting():
                        continue
                if pending:
                    began = time.perf_counter()
                    arrived, broken = stream.receive(len(pending))
                    self.counts.seconds += time.perf_counter() - began
                    fresh = [as_recorded(c) for c in arrived if c.key in pending]
                    pending.difference_update(c.key for c in fresh)
                    self._record(fresh)
                    yield from fresh
                    if broken is not None:
                        raise broken
        finally:
            stream.stop()

    def _record(self, completions: list[Completion]) -> None:
        kept = [c for c in completions if c.finish != "cancelled"]
        if kept:
            self.ledger.record(kept)
        self.counts.generated += len(completions)
        self.counts.tokens += sum(len(c.tokens) for c in completions)

    def _report(self, done: int, total: int, tokens: int) -> None:
        if self.on_progress is not None:
            self.on_progress(done, total, tokens)

    def score(self, sequences: Iterable[tuple[str, Sequence[int]]]) -> Iterator[LogProbs]:
        return self.engine.score(sequences)

    def embed(self, texts: Sequence[str]) -> Float32:
        return self.engine.embed(texts)

    def update(self, policy: PolicyVersion) -> None:
        self.engine.update(policy)

    def encode(self, text: str) -> list[int]:
        return self.engine.encode(text)

    def decode(self, tokens: Sequence[int]) -> str:
        return self.engine.decode(tokens)

    def render_chat(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        return self.engine.render_chat(messages)

    def close(self) -> None:
        """Closes the engine; the ledger belongs to whoever opened it."""
        self.engine.close()
