"""An engine for tests that streams, answers sums, holds an answer back for as long as the test says, and can cancel."""

from __future__ import annotations

import hashlib
import queue
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from data.records import Completion, Request


def adds_up(request: Request) -> str:
    """Adds all numbers, in two answers of three."""
    numbers = [int(n) for n in re.findall(r"\d+", request.prompt or "")]
    right = int(hashlib.sha256(str(request.seed).encode()).hexdigest(), 16) % 3
    return f" they add up\n#### {sum(numbers) if right else 0}"


class Answering:
    """`hold(request)` may take its time; where it says False, the request waits until it is cancelled. Up to 512 at once."""

    capabilities = frozenset({"tokens", "logprobs"})

    def __init__(self, hold: Callable[[Request], Any] = lambda request: True, answer: Callable[[Request], str] = adds_up) -> None:
        self.hold, self.answer = hold, answer
        self.asked: list[Request] = []
        self.unwanted: set[str] = set()
        self.told = threading.Event()  # that something is not wanted any more
        self._cancelled = threading.Condition()

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        done: queue.SimpleQueue[Completion | BaseException | None] = queue.SimpleQueue()

        def one(request: Request) -> None:
            try:
                done.put(self._completed(request))
            except BaseException as error:  # noqa: BLE001
                done.put(error)

        def feed() -> None:
            with ThreadPoolExecutor(512) as pool:
                for request in requests:
                    self.asked.append(request)
                    pool.submit(one, request)
            done.put(None)

        threading.Thread(target=feed, daemon=True).start()
        while (got := done.get()) is not None:
            if isinstance(got, BaseException):
                raise got
            yield got

    def _completed(self, request: Request) -> Completion:
        text = self.answer(request)
        prompt, tokens = (np.frombuffer(t.encode(), np.uint8).astype(np.int32) for t in (request.prompt or "?", text))
        made = Completion(request.key, text, tokens, np.full(len(tokens), -0.5, np.float32), prompt, "stop", request.policy_id)
        if self.hold(request) is False:
            with self._cancelled:
                assert self._cancelled.wait_for(lambda: request.key in self.unwanted, 30), "it was never cancelled"
        return replace(made, text="", finish="cancelled", tokens=tokens[:0], logp=made.logp[:0]) if request.key in self.unwanted else made

    def cancel(self, keys: Iterable[str]) -> None:
        with self._cancelled:
            self.unwanted |= set(keys)
            self._cancelled.notify_all()
        self.told.set()

    def close(self) -> None:
        pass


class NeverCancels(Answering):
    """So nothing is asked ahead of it."""

    cancel = None  # type: ignore[assignment]
