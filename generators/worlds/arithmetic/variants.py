"""Other questions with the same answer, and planted ones with another: numbers, story and structure change, the reference stays.

Four ways to keep an answer: `order` (the told numbers change places, where the answer does not mind), `story` (the same chain told by a
shape of any family: 12 * 3 as a price, a distance, a ratio), `tail` (only the last steps, their operands told outright), `answer`
(other numbers altogether that come to the same). All are verified by reading the text back (`reading.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from typing import Literal

from data.keyed import keyed_seed
from generators.worlds.arithmetic.draw import Draw
from generators.worlds.arithmetic.families import FAMILIES
from generators.worlds.arithmetic.reading import Reading, read
from generators.worlds.arithmetic.shape import Family, Numbers, Shape
from generators.worlds.arithmetic.solving import Ill, solve
from generators.worlds.arithmetic.splits import split_of
from generators.worlds.arithmetic.steps import Number, Step, decimal, results_of, work_out
from generators.worlds.base import Split

Kind = Literal["order", "story", "tail", "answer"]
KINDS: tuple[Kind, ...] = ("order", "story", "tail", "answer")
_POOL_EACH = 200  # problems per family and level among which equal answers are looked for


@dataclass(frozen=True)
class Tale:
    """A family's shape with numbers: all that a story needs but its words."""

    family: Family
    shape: Shape
    numbers: Numbers

    @property
    def split(self) -> Split:
        return split_of(self.family.name, self.numbers)

    def tell(self, draw: Draw) -> str:
        return self.shape.tell(self.numbers, draw)[0]


def variants(family: Family, shape: Shape, numbers: Numbers, kind: Kind, split: Split) -> Iterator[Tale]:
    """Tales of that kind on that side of the split, in a fixed order; those whose text cannot be read back are the caller's to skip."""
    found = {"order": _reordered, "story": _retold, "tail": _tails, "answer": _same_answer}[kind]
    for tale in found(family, shape, numbers):
        if tale.split == split:
            yield tale


def _reordered(family: Family, shape: Shape, numbers: Numbers) -> Iterator[Tale]:
    told = [name for name in numbers if name[0] != "_"]
    answer = _answer(family, shape, numbers)
    for values in sorted(set(permutations(numbers[name] for name in told))):
        moved = {**numbers, **dict(zip(told, values, strict=True))}
        if moved != numbers and _answer(family, shape, moved) == answer:
            yield Tale(family, shape, {name: moved[name] for name in told})


def _retold(family: Family, shape: Shape, numbers: Numbers) -> Iterator[Tale]:
    yield from (tale for tale in _told_as(shape.steps, numbers) if tale.shape is not shape)


def _tails(family: Family, shape: Shape, numbers: Numbers) -> Iterator[Tale]:
    """The last n - 1, n - 2, … 1 steps; results of those left out are told as numbers."""
    results = {f"e{place}": result for place, result in enumerate(results_of(shape.steps, numbers), 1)}
    for first in range(1, len(shape.steps)):
        yield from _told_as(_shifted(shape.steps[first:], first), {**numbers, **results})


def _shifted(steps: Sequence[Step], first: int) -> tuple[Step, ...]:
    """Results inside the tail are counted from its own first step; earlier ones are operands like any other (`r2` -> `e2`)."""

    def name(operand: str) -> str:
        if not _is_result(operand):
            return operand
        place = int(operand[1:])
        return f"r{place - first}" if place > first else f"e{place}"

    return tuple((name(left), op, name(right)) for left, op, right in steps)


def _told_as(steps: Sequence[Step], values: Mapping[str, Number]) -> Iterator[Tale]:
    """All shapes with this chain, told with these operands; none where an operand is no whole number above one."""
    pattern, order = _pattern(steps)
    if any(not isinstance(values[name], int) or values[name] < 2 for name in order):
        return
    for family, shape, theirs in _by_pattern().get(pattern, ()):
        yield Tale(family, shape, {mine: int(values[name]) for name, mine in zip(order, theirs, strict=True)})


def _is_result(operand: str) -> bool:
    return operand[0] == "r" and operand[1:].isdigit()


def _pattern(steps: Sequence[Step]) -> tuple[str, list[str]]:
    """The chain with its operands numbered in order of appearance, and their names in that order."""
    order: list[str] = []
    words = []
    for left, op, right in steps:
        for operand in (left, right):
            if not operand.isdigit() and not _is_result(operand) and operand not in order:
                order.append(operand)
        words.append(" ".join(o if o.isdigit() or _is_result(o) or o == op else f"n{order.index(o)}" for o in (left, op, right)))
    return "; ".join(words), order


@cache
def _by_pattern() -> dict[str, list[tuple[Family, Shape, list[str]]]]:
    """Shapes that tell every number of their chain, by its pattern."""
    table: dict[str, list[tuple[Family, Shape, list[str]]]] = {}
    for family in FAMILIES.values():
        for shape in family.shapes.values():
            pattern, order = _pattern(shape.steps)
            if set(order) == set(shape.slots) & set(order) and all(name[0] != "_" for name in order):
                table.setdefault(pattern, []).append((family, shape, order))
    return table


def _same_answer(family: Family, shape: Shape, numbers: Numbers) -> Iterator[Tale]:
    answer = _answer(family, shape, numbers)
    for tale in _pool().get(answer or "", ()):
        if tale.shape is not shape:
            yield tale


@cache
def _pool() -> dict[str, tuple[Tale, ...]]:
    """Tales of all cells by their answer."""
    found: dict[str, list[Tale]] = {}
    for family in FAMILIES.values():
        for shape in family.shapes.values():
            draw = Draw(keyed_seed(0, "arithmetic", "pool", family.name, shape.name))
            for _ in range(_POOL_EACH):
                numbers = shape.draw_numbers(draw)
                found.setdefault(decimal(work_out(shape.steps, numbers)[1]), []).append(Tale(family, shape, numbers))
    return {answer: tuple(tales) for answer, tales in found.items()}


def _answer(family: Family, shape: Shape, numbers: Numbers) -> str | None:
    try:
        return decimal(solve(f"{family.name}/{shape.name}", {name: value for name, value in numbers.items() if name[0] != "_"}))
    except (Ill, ValueError):
        return None


def spoiled(family: Family, shape: Shape, numbers: Numbers, draw: Draw, split: Split) -> tuple[str, Reading] | None:
    """A question in this world's language, of this shape, that has an answer, and not that one: one or two told numbers are others.

    None where forty tries find none on that side of the split.
    """
    told = [name for name in numbers if name[0] != "_" and f"{{{name}}}" in " ".join(text for segment in shape.text for text in segment)]
    answer = _answer(family, shape, numbers)
    for _ in range(40):
        other = dict(numbers)
        for name in draw.pick_distinct(told, draw(1, min(2, len(told)))):
            other[name] = max(1, other[name] + draw.pick((-10, -3, -2, -1, 1, 2, 3, 10)))
        text = Tale(family, shape, other).tell(draw)
        reading = read(text)
        if reading is not None and reading.answer != answer and reading.split == split:
            return text, reading
    return None
