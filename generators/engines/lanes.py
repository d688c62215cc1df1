"""What waits to be sent, and what goes next: higher priority first, then streams in proportion to their weights, then first come."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")

_LEAST = 1e-6  # a weight of 0 would never be served


class Lanes(Generic[T]):
    """Stride scheduling: a stream of weight w moves its clock by 1/w when served, and the stream whose clock is furthest behind is next.

    A stream that comes back after it had nothing to send starts at the others' time: it is owed nothing for having slept.
    Source: Waldspurger and Weihl, "Stride scheduling: deterministic proportional-share resource management", MIT 1995.
    """

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self._weights = dict(weights or {})
        self._levels: dict[int, _Level[T]] = {}
        self._order: list[int] = []  # priorities present, as a heap of their negatives
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, item: T, *, priority: int = 0, stream: str = "", front: bool = False) -> None:
        """`front` puts it before everything else of its stream: a retry has waited already."""
        level = self._levels.get(priority)
        if level is None:
            level = self._levels[priority] = _Level(self._weights)
            heapq.heappush(self._order, -priority)
        level.push(item, stream, front)
        self._count += 1

    def pop(self) -> T:
        """The next to send; IndexError where nothing waits."""
        priority = -self._order[0]
        level = self._levels[priority]
        item = level.pop()
        self._count -= 1
        if not level.clocks:
            heapq.heappop(self._order)
            del self._levels[priority]
        return item

    def siblings(self, like: Callable[[T], bool], most: int, *, priority: int, stream: str) -> list[T]:
        """Up to `most` items that stand next in this very stream and are `like` the one just popped; they count as served."""
        level = self._levels.get(priority)
        taken = level.siblings(like, most, stream) if level is not None else []
        self._count -= len(taken)
        if level is not None and not level.clocks:
            self._order.remove(-priority)
            heapq.heapify(self._order)
            del self._levels[priority]
        return taken

    def drop(self, unwanted: Callable[[T], bool]) -> list[T]:
        """Takes out, in no particular order, what `unwanted` says so of."""
        dropped = [item for level in self._levels.values() for item in level.drop(unwanted)]
        self._count -= len(dropped)
        self._levels = {p: level for p, level in self._levels.items() if level.clocks}
        self._order = [-p for p in self._levels]
        heapq.heapify(self._order)
        return dropped


class _Level(Generic[T]):
    """The streams of one priority. `clocks` holds (time, order of arrival, name) of those with something to send, as a heap."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = weights
        self._queues: dict[str, deque[T]] = {}
        self.clocks: list[tuple[float, int, str]] = []
        self._now = 0.0
        self._arrivals = 0

    def push(self, item: T, stream: str, front: bool) -> None:
        queue = self._queues.get(stream)
        if queue is None:
            queue = self._queues[stream] = deque()
            heapq.heappush(self.clocks, (self._now + self._stride(stream), self._arrivals, stream))
            self._arrivals += 1
        if front:
            queue.appendleft(item)
        else:
            queue.append(item)

    def pop(self) -> T:
        self._now, arrival, stream = self.clocks[0]
        queue = self._queues[stream]
        item = queue.popleft()
        if queue:
            heapq.heapreplace(self.clocks, (self._now + self._stride(stream), arrival, stream))
        else:
            heapq.heappop(self.clocks)
            del self._queues[stream]
        return item

    def siblings(self, like: Callable[[T], bool], most: int, stream: str) -> list[T]:
        queue = self._queues.get(stream)
        taken: list[T] = []
        while queue and len(taken) < most and like(queue[0]):
            taken.append(queue.popleft())
        if taken:
            self.clocks = [
                (time + len(taken) * self._stride(name) if name == stream else time, arrival, name)
                for time, arrival, name in self.clocks
                if name != stream or queue
            ]
            heapq.heapify(self.clocks)
            if not queue:
                del self._queues[stream]
        return taken

    def drop(self, unwanted: Callable[[T], bool]) -> list[T]:
        dropped: list[T] = []
        for queue in self._queues.values():
            gone = [item for item in queue if unwanted(item)]
            if gone:
                kept = [item for item in queue if not unwanted(item)]
                queue.clear()
                queue.extend(kept)
                dropped.extend(gone)
        self._queues = {name: queue for name, queue in self._queues.items() if queue}
        self.clocks = [clock for clock in self.clocks if clock[2] in self._queues]
        heapq.heapify(self.clocks)
        return dropped

    def _stride(self, stream: str) -> float:
        return 1.0 / max(self._weights.get(stream, 1.0), _LEAST)
