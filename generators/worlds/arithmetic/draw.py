"""A small keyed stream of integers: splitmix64 in plain integers, so that no library update moves a problem."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

_MASK = 0xFFFFFFFFFFFFFFFF
_GAMMA = 0x9E3779B97F4A7C15


class Draw:
    """Draws from one 63-bit seed (`data.keyed.keyed_seed`). Numpy's generators promise no stable stream across versions; this one is ours.

    Source: Steele, Lea & Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """

    __slots__ = ("_state",)

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def _next(self) -> int:
        self._state = (self._state + _GAMMA) & _MASK
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return z ^ (z >> 31)

    def __call__(self, low: int, high: int) -> int:
        """An integer in [low, high], both ends included."""
        return low + self._next() % (high - low + 1)

    def pick(self, options: Sequence[T]) -> T:
        return options[self._next() % len(options)]

    def pick_distinct(self, options: Sequence[T], n: int) -> list[T]:
        """`n` different options, in drawn order."""
        left = list(options)
        return [left.pop(self._next() % len(left)) for _ in range(n)]
