"""A map over lines in worker processes that can be killed: order kept, memory bounded, every item answered whatever it does.

No thread and no signal can stop a big-integer power or a runaway regular expression, so the work sits in processes, and the deadline is
the parent's: a chunk that misses it costs its worker's life, is sent again item by item, and the item that hangs (or kills its worker)
is answered by `rescue`. Items and answers are bytes without a newline; nothing that comes back is unpickled.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any

from data.errors import SynthError

Work = Callable[[list[bytes]], list[bytes]]
"""What a worker does: as many answers as items, in their order."""

CHUNK_SECONDS = 0.2  # what a chunk should take: short enough to be repeated, long enough to hide the pipe
MAX_CHUNK = 512  # items
MAX_CHUNK_BYTES = 4_000_000
AHEAD = 4  # chunks per worker that may be finished before the first of them: what bounds memory
START_SECONDS = 300.0  # to import what a worker needs, on a busy machine
MEMORY = 2 << 30  # bytes of private memory a worker may have


@dataclass
class _Chunk:
    index: int
    items: list[bytes]
    answers: list[bytes | None] = field(default_factory=list)
    alone: bool = False  # sent item by item, because all together did not come back


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    ready: bool = False
    chunk: _Chunk | None = None
    sent: int = 0  # items of the chunk that are out
    since: float = 0.0


class KillablePool:
    """`target` is "module:function"; called with `options` in each worker, the function gives the worker its `Work`.

    deadline: seconds for a chunk, or for an item that is sent alone. `scaled`: for a chunk of n, n times as long (a batch method has
    a deadline of its own per item). Raises SynthError where a worker cannot even start.
    """

    def __init__(
        self,
        target: str,
        options: Mapping[str, Any],
        rescue: Callable[[bytes, str], bytes],
        *,
        workers: int,
        deadline: float,
        scaled: bool = False,
        memory: int = MEMORY,
    ) -> None:
        self.target, self.options, self.rescue = target, dict(options), rescue
        self.deadline, self.scaled, self.memory = deadline, scaled, memory
        self.killed = 0
        self._context = get_context("forkserver")
        self._context.set_forkserver_preload([__name__, target.partition(":")[0]])
        self._workers: list[_Worker] = []
        self._size = 8
        for _ in range(workers):
            self._workers.append(self._start())

    def __enter__(self) -> KillablePool:
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self._workers:
            _kill(worker)
        self._workers = []

    def pids(self) -> list[int]:
        return [w.process.pid for w in self._workers]

    def run(self, items: Iterable[bytes]) -> Iterator[bytes]:
        """Answers in the order of `items`, which is read only as far as the workers need."""
        source, again = self._chunks(iter(items)), deque[_Chunk]()
        waiting: dict[int, _Chunk] = {}  # finished, but an earlier one is not
        given, out, exhausted = 0, 0, False
        while True:
            for slot, worker in enumerate(self._workers):
                if worker.chunk is not None or not worker.ready:
                    continue
                if not again and not exhausted and given - out < AHEAD * len(self._workers):
                    new = next(source, None)
                    exhausted = new is None
                    if new is not None:
                        given += 1
                        again.append(new)
                if again and not self._send(worker, again[0]):
                    self._workers[slot] = self._replace(worker)
                elif again and worker.chunk is not None:
                    again.popleft()
            if out == given and exhausted:
                return
            self._receive(waiting, again)
            while out in waiting:
                chunk = waiting.pop(out)
                out += 1
                yield from (answer for answer in chunk.answers if answer is not None)

    def _chunks(self, items: Iterator[bytes]) -> Iterator[_Chunk]:
        index = 0
        while True:
            taken: list[bytes] = []
            size = 0
            for item in items:
                taken.append(item)
                size += len(item)
                if len(taken) >= self._size or size >= MAX_CHUNK_BYTES:
                    break
            if not taken:
                return
            yield _Chunk(index, taken)
            index += 1

    def _send(self, worker: _Worker, chunk: _Chunk) -> bool:
        part = chunk.items[len(chunk.answers) :]
        part = part[:1] if chunk.alone else part
        try:
            worker.pipe.send_bytes(b"\n".join(part))
        except OSError:
            return False
        worker.chunk, worker.sent, worker.since = chunk, len(part), time.monotonic()
        return True

    def _receive(self, waiting: dict[int, _Chunk], again: deque[_Chunk]) -> None:
        """Waits until a worker answers, starts, dies or runs late, and settles what it had."""
        now = time.monotonic()
        left = min((w.since + self._limit(w) - now for w in self._workers if w.chunk is not None or not w.ready), default=0.0)
        heard = set(wait([w.pipe for w in self._workers], timeout=max(0.0, left)))
        for slot, worker in enumerate(self._workers):
            late = time.monotonic() - worker.since > self._limit(worker)
            if worker.pipe in heard:
                try:
                    said = worker.pipe.recv_bytes()
                except (EOFError, OSError):
                    self._lost(slot, "the process that judged it died", waiting, again)
                    continue
                if not worker.ready:
                    worker.ready = True
                else:
                    self._settle(worker, said.split(b"\n"), waiting, again)
            elif late and (worker.chunk is not None or not worker.ready):
                self._lost(slot, f"judging took more than {self.deadline:g} s", waiting, again)

    def _limit(self, worker: _Worker) -> float:
        if not worker.ready:
            return START_SECONDS
        return self.deadline * (max(1, worker.sent) if self.scaled else 1)

    def _settle(self, worker: _Worker, answers: list[bytes], waiting: dict[int, _Chunk], again: deque[_Chunk]) -> None:
        chunk, worker.chunk = worker.chunk, None
        if chunk is None or len(answers) != worker.sent:
            raise SynthError(f"a verification worker gave {len(answers)} answers to {worker.sent} rows")
        chunk.answers.extend(answers)
        took = max(1e-6, time.monotonic() - worker.since) / worker.sent
        self._size = max(1, min(MAX_CHUNK, 2 * self._size, int(CHUNK_SECONDS / took) or 1))
        self._finish(chunk, waiting, again)

    def _lost(self, slot: int, why: str, waiting: dict[int, _Chunk], again: deque[_Chunk]) -> None:
        """A worker is gone or must go: one item alone is answered by `rescue`, several are tried again one by one."""
        worker = self._workers[slot]
        if not worker.ready:
            raise SynthError(f"a verification worker could not start (exit status {_exit_status(worker)}); run again with --debug and --workers 1")
        self._workers[slot] = self._replace(worker)
        chunk = worker.chunk
        if chunk is None:
            return
        if worker.sent == 1:
            chunk.answers.append(self.rescue(chunk.items[len(chunk.answers)], why))
        chunk.alone = True
        self._size = max(1, self._size // 2)
        self._finish(chunk, waiting, again)

    def _finish(self, chunk: _Chunk, waiting: dict[int, _Chunk], again: deque[_Chunk]) -> None:
        if len(chunk.answers) == len(chunk.items):
            waiting[chunk.index] = chunk
        else:
            again.appendleft(chunk)

    def _replace(self, worker: _Worker) -> _Worker:
        self.killed += 1
        _kill(worker)
        return self._start()

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self.target, self.options, self.memory))
        process.start()
        theirs.close()
        return _Worker(process, ours, since=time.monotonic())


def _kill(worker: _Worker) -> None:
    """The worker and its process group (a verifier may have children of its own)."""
    with suppress(OSError):
        worker.pipe.close()
    with suppress(OSError):
        os.killpg(worker.process.pid, signal.SIGKILL)
    worker.process.kill()
    worker.process.join()


def _exit_status(worker: _Worker) -> int | None:
    worker.process.join(1.0)
    status: int | None = worker.process.exitcode
    return status


def _serve(pipe: Connection, target: str, options: Mapping[str, Any], memory: int) -> None:
    """The worker's life: prepare, say so, answer chunks until the pipe closes or the parent dies."""
    with suppress(OSError):
        os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no worker outlives the fork server, nor that the parent
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (memory if hard == resource.RLIM_INFINITY else min(memory, hard), hard))
    module, _, name = target.partition(":")
    work: Work = getattr(import_module(module), name)(**options)
    with suppress(EOFError, OSError):  # the parent is gone
        pipe.send_bytes(b"ready")
        while True:
            answers = work(pipe.recv_bytes().split(b"\n"))
            pipe.send_bytes(b"\n".join(answers))
