"""A solution of a countdown puzzle by search: what the audit of the `logic` verifier needs, and what a world may build on."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction


def solve(numbers: Sequence[int], target: int, *, use_all: bool = True) -> str | None:
    """An expression over `numbers` with value `target`, or None where there is none. Exponential: for at most six numbers."""
    if len(numbers) > 6:
        return None
    seen: set[tuple[Fraction, ...]] = set()

    def search(items: tuple[tuple[Fraction, str], ...]) -> str | None:
        if len(items) == 1 or not use_all:
            hit = next((text for value, text in items if value == target), None)
            if hit is not None or len(items) == 1:
                return hit
        state = tuple(sorted(value for value, _ in items))
        if state in seen:
            return None
        seen.add(state)
        for i in range(len(items)):
            for j in range(len(items)):
                if i == j:
                    continue
                (a, x), (b, y) = items[i], items[j]
                rest = tuple(item for k, item in enumerate(items) if k not in (i, j))
                made = [(a - b, f"({x} - {y})")] + ([(a / b, f"({x} / {y})")] if b else [])
                if i < j:
                    made += [(a + b, f"({x} + {y})"), (a * b, f"({x} * {y})")]
                for one in made:
                    found = search((*rest, one))
                    if found is not None:
                        return found
        return None

    return search(tuple((Fraction(n), str(n)) for n in numbers))
