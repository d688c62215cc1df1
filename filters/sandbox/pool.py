"""N zygotes fed from one queue: results in the order of the jobs, few jobs in flight, a lost zygote replaced and its jobs run again once."""

from __future__ import annotations

import atexit
import os
import select
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator

from data.errors import SynthError
from filters.sandbox.deadline import longest
from filters.sandbox.jobs import Job, Result
from filters.sandbox.supervisor import Layers, Zygote, ZygoteLost

DEPTH = 2  # requests that wait at a zygote, so that it never idles for us
WINDOW = 256  # results that may wait for an earlier one
SLACK = 15.0  # seconds beyond a job's own wall deadline before its zygote is presumed stuck
TRIES = 2


class Sandbox:
    """Runs jobs behind the given walls. One user at a time (a lock keeps it so); belongs to the process that made it.

    Raises `SynthError` where no zygote comes up.
    """

    def __init__(self, layers: Layers, isolation: str = "", workers: int = 0) -> None:
        self.layers, self.isolation = layers, isolation
        cores = sorted(os.sched_getaffinity(0))
        self.workers = workers or len(cores)
        # A worker per core stays on its core: what a fork copies from is in that core's cache, and no other has to be told of it. With fewer workers
        # than cores, a process is forked on one core while a job runs on the next, and two sandboxes would choose the same ones.
        self._cores: list[int | None] = [*cores] if self.workers == len(cores) > 1 else [None]
        self._zygotes: list[Zygote] = []
        self._lock = threading.RLock()
        self._owner = os.getpid()
        self._failures = 0
        atexit.register(self.close)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends every zygote; nothing that ran in them is left."""
        if os.getpid() == self._owner:
            with self._lock:
                for zygote in self._zygotes:
                    zygote.close()
                self._zygotes.clear()

    def run(self, jobs: Iterable[Job]) -> list[Result]:
        return list(self.stream(jobs))

    def stream(self, jobs: Iterable[Job]) -> Iterator[Result]:
        """Results in order, while later jobs run; takes from `jobs` only as fast as they finish."""
        if os.getpid() != self._owner:
            raise SynthError("a sandbox cannot be used from a forked process; make one there")
        with self._lock:
            run = _Run(self, iter(jobs))
            try:
                yield from run
            finally:
                run.abandon()

    def zygotes(self, wanted: int) -> list[Zygote]:
        while len(self._zygotes) < min(wanted, self.workers):
            self._zygotes.append(self._zygote(len(self._zygotes)))
        return self._zygotes

    def _zygote(self, at: int) -> Zygote:
        return Zygote(self.layers, at, self._cores[at % len(self._cores)])

    def replace(self, zygote: Zygote, why: str) -> None:
        self._failures = self._failures + 1 if not zygote.ready else 0
        at = self._zygotes.index(zygote)
        zygote.waiting.clear()
        zygote.close()
        if self._failures > 2:
            self._zygotes.remove(zygote)
            raise SynthError(f"the sandbox does not start at {self.isolation or 'this level'}: {why}")
        self._zygotes[at] = self._zygote(at)


class _Run:
    """One pass over a stream of jobs."""

    def __init__(self, sandbox: Sandbox, jobs: Iterator[Job]) -> None:
        self.sandbox, self.jobs = sandbox, jobs
        self.exhausted = False
        self.again: deque[tuple[int, Job, int]] = deque()
        self.done: dict[int, Result] = {}
        self.given = self.taken = 0
        self.since: dict[Zygote, float] = {}

    def __iter__(self) -> Iterator[Result]:
        while True:
            self.feed()
            while self.given in self.done:
                yield self.done.pop(self.given)
                self.given += 1
            if self.exhausted and not self.again and self.given == self.taken:
                return
            if self.given not in self.done:
                self.wait()

    def next_job(self) -> tuple[int, Job, int] | None:
        if self.again:
            return self.again.popleft()
        if self.exhausted or self.taken - self.given >= WINDOW:
            return None
        try:
            job = next(self.jobs)
        except StopIteration:
            self.exhausted = True
            return None
        self.taken += 1
        return self.taken - 1, job, 1

    def feed(self) -> None:
        while True:
            zygotes = self.sandbox.zygotes(self.sandbox.workers if self.taken > 4 else max(1, min(2, self.taken + 1)))
            zygote = min(zygotes, key=lambda z: len(z.waiting))
            if len(zygote.waiting) >= DEPTH or (item := self.next_job()) is None:
                return
            if not zygote.waiting:
                self.since[zygote] = time.monotonic()
            try:
                zygote.send(item[1], item)
            except ZygoteLost as lost:
                self.lose(zygote, str(lost))

    def wait(self) -> None:
        poll = select.poll()
        busy = {z.socket.fileno(): z for z in self.sandbox._zygotes if z.waiting}
        for fd, zygote in busy.items():
            poll.register(fd, select.POLLIN | (select.POLLOUT if zygote.pending else 0))
        events = poll.poll(1000)
        for fd, event in events:
            zygote = busy[fd]
            try:
                if event & select.POLLOUT:
                    zygote.flush()
                if event & ~select.POLLOUT:
                    for (index, _, _), result in zygote.receive():
                        self.done[index] = result
                        self.since[zygote] = time.monotonic()
            except ZygoteLost as lost:
                self.lose(zygote, str(lost))
        for zygote in busy.values():
            if zygote in self.sandbox._zygotes and zygote.waiting:
                allowed = longest(zygote.waiting[0][1].limits.total) + SLACK
                if time.monotonic() - self.since.get(zygote, time.monotonic()) > allowed:
                    self.lose(zygote, "it did not answer in time")

    def lose(self, zygote: Zygote, why: str) -> None:
        """The job that was running is tried once more, those behind it had not begun."""
        held = list(zygote.waiting)
        for place, (index, job, tries) in enumerate(held):
            if place == 0 and zygote.ready and tries >= TRIES:
                self.done[index] = Result("broken")
            else:
                self.again.append((index, job, tries + (place == 0 and zygote.ready)))
        self.sandbox.replace(zygote, why)

    def abandon(self) -> None:
        """A consumer that stops early leaves nothing running for it."""
        for zygote in list(self.sandbox._zygotes):
            if zygote.waiting:
                zygote.waiting.clear()
                zygote.kill()
                zygote.close()
                self.sandbox._zygotes.remove(zygote)
