"""An engine behind the ledger: nothing recorded is generated again, nothing is handed on before it is durable."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import islice

from data.records import Completion, Request
from generators.engines.around import Around
from generators.engines.base import Batched, Capabilities, Engine
from generators.engines.stream import Counts, LedgeredStream, RequestLedger, Seen, as_recorded

AT_ONCE = 256  # requests pulled from a source and looked up at a time
FIRST = 64  # the same while the engine has nothing yet


class LedgeredEngine(Around):
    """`engine` with every request looked up first and every answer recorded before it is yielded. A key asked twice is answered once.

    A `Batched` engine is asked for the plan of all requests of the call, recorded or not, and a batch is regenerated whole unless
    every answer in it is recorded; what was recorded is never replaced. Answers come in the plan's order, resumed or not.
    Any other engine streams (`LedgeredStream`), at most `window` requests ahead; it has to answer while its input is still open.
    A recorded failure is asked again; a cancelled request is no failure. Streams of several threads may be open at once.
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

    def open_stream(self) -> LedgeredStream:
        """For consumers that ask while they take. Not for a `Batched` engine, which has to know what is asked before it begins."""
        return LedgeredStream(self.engine, self.ledger, self.window, self.counts, self._report)

    @property
    def streams(self) -> bool:
        """Whether answers come one by one (`open_stream`) or batch by batch."""
        return not isinstance(self.engine, Batched)

    def _streaming(self, requests: Iterable[Request]) -> Iterator[Completion]:
        source, exhausted = iter(requests), False
        with closing(Seen()) as seen, self.open_stream() as stream:
            while True:
                while not exhausted and stream.outstanding < self.window and not stream.waiting():
                    # A first few, so that the engine has something to do while the rest are looked up.
                    chunk = list(islice(source, min(AT_ONCE, max(FIRST, stream.outstanding), self.window - stream.outstanding)))
                    exhausted = not chunk
                    if exhausted:
                        stream.end()
                    else:
                        stream.ask(seen.fresh(chunk))
                arrived = stream.take()
                if not arrived:
                    return
                yield from arrived

    def _record(self, completions: list[Completion]) -> None:
        kept = [c for c in completions if c.finish != "cancelled"]
        if kept:
            self.ledger.record(kept)
        self.counts.generated += len(completions)
        self.counts.tokens += sum(len(c.tokens) for c in completions)

    def _report(self, done: int, total: int, tokens: int) -> None:
        if self.on_progress is not None:
            self.on_progress(done, total, tokens)

    def close(self) -> None:
        """Closes the engine; the ledger belongs to whoever opened it."""
        self.engine.close()
