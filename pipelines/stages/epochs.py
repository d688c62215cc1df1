"""In which order problems are trained on: keyed epochs without end, and no problem twice in one optimizer step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

from data.keyed import keyed_order
from data.records import Problem


def draws(problems: Sequence[Problem], seed: int, round: int, cursor: int, apart: int = 1) -> Iterator[tuple[Problem, int]]:
    """(problem, position after it) from position `cursor` on. Every problem once before any comes again, and never two of the same among `apart`
    draws in a row (or among as many as there are problems). A draw depends on its position, not on where one began."""
    by_id = {p.id: p for p in problems}
    epoch, offset = divmod(cursor, len(by_id))
    for order in _epochs(sorted(by_id), seed, round, min(apart, len(by_id)), epoch):
        for problem_id in order[offset:]:
            cursor += 1
            yield by_id[problem_id], cursor
        offset = 0


def _epochs(ids: list[str], seed: int, round: int, apart: int, first: int) -> Iterator[list[str]]:
    # What an epoch's head gives way to is the tail of the one before. Where epochs are long, that tail is as it was shuffled; where they are short,
    # it may have given way itself, and so on back to the first.
    start = max(0, first - 1) if len(ids) >= 3 * apart else 0
    before: list[str] = []
    for epoch in count(start):
        order = keyed_order(seed, ids, round, "train", epoch)
        before = kept_apart(before, order, apart) if before else order
        if epoch >= first:
            yield before


def kept_apart(before: Sequence[str], order: Sequence[str], apart: int) -> list[str]:
    """`order`, changed as little as it takes that each of its items comes at least `apart` places after its place in `before`, which `order` follows.

    Of the same items; apart ≤ their number.
    """
    place = {item: at for at, item in enumerate(before)}
    rest, head = list(order), []
    for at in range(apart - 1):
        free = len(order) - (apart - 1 - at)  # whoever stood here or later in `before` comes too soon
        head.append(rest.pop(next(i for i, item in enumerate(rest) if place[item] < free)))
    return head + rest
