"""How requests to an endpoint are sent and how a try can end: what a scheduler and those who send for it agree on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from data.records import Completion, Finish, Request

Send = Callable[[Request], Awaitable[Completion]]
"""Asks once. Raises `Busy` where asking again may help and `Failed` where it can't; anything else ends the run and reaches its consumer."""


@dataclass(frozen=True)
class Together:
    """Requests of one run that may share a call: those next to each other with the same `alike` (None = alone), up to `most`.

    `send` answers each of them, in their order; what it leaves out at the end is asked again. A call takes one slot, however many share it.
    """

    alike: Callable[[Request], Hashable | None]
    send: Callable[[Sequence[Request]], Awaitable[Sequence[Completion]]]
    most: int = 16


class Busy(Exception):
    """This try gave no answer, another may.

    `load`: the endpoint has too much to do (429, 503): fewer are sent. `counts` = False for what says nothing about the request
    (load, nobody listening): it uses up no try, only the deadline ends it.
    """

    def __init__(self, reason: str, *, retry_after: float | None = None, load: bool = False, counts: bool = True) -> None:
        super().__init__(reason)
        self.reason, self.retry_after, self.load, self.counts = reason, retry_after, load, counts


class Failed(Exception):
    """This request can't be answered, however often it is asked."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Scheduling:
    """How requests are sent. Times in seconds."""

    concurrency: int = 64  # most in flight; fewer while the endpoint refuses or slows down
    window: int = 1024  # most pulled from the input of a run and not yet handed on: what a run holds in memory
    tries: int = 6  # wrong answers (garbage, resets, 5xx, timeouts) after which a request is an error
    timeout_s: float = 600.0  # one try
    deadline_s: float = 3600.0  # from a request's first try to its answer, waits between tries included
    backoff_s: float = 0.5  # the longest wait before the second try; doubles with every try, up to `backoff_most_s`
    backoff_most_s: float = 30.0
    slow: float = 4.0  # an answer that took this many times the usual says "too much", like a refusal; 0 = latency is not looked at
    hedge: float = 0.0  # a second copy of what has taken this many times the 95th percentile, once nothing waits; 0 = never
    dead_after_s: float = 120.0  # nobody listens and nothing was answered for so long: the run stops instead of failing every request
    weights: Mapping[str, float] = field(default_factory=dict)  # share of each purpose (strategy), 1 where not named

    def __post_init__(self) -> None:
        if self.window < self.concurrency:
            object.__setattr__(self, "window", self.concurrency)


@dataclass
class Traffic:
    """What the scheduler has done so far."""

    sent: int = 0
    answered: int = 0
    failed: int = 0
    cancelled: int = 0
    retried: int = 0
    refused: int = 0  # 429 and 503
    hedged: int = 0
    most_in_flight: int = 0


def unanswered(request: Request, finish: Finish, reason: str) -> Completion:
    """The completion of a request that got none: finish "error" with the reason, or "cancelled"."""
    none = np.empty(0, np.int32)
    return Completion(request.key, "", none, np.empty(0, np.float32), none, finish, request.policy_id, error=reason)
