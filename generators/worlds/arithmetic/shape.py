"""A shape: numbers, the story that states them and the chain that solves it. A family is a set of shapes per level."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from string import Formatter

from generators.worlds.arithmetic.draw import Draw
from generators.worlds.arithmetic.steps import Step, parse_steps
from generators.worlds.arithmetic.words import Words, draw_words

Numbers = dict[str, int]
Text = tuple[tuple[str, ...], ...]
"""Segments of a story, each with its alternatives; the surfaces are all combinations."""


@dataclass(frozen=True)
class Shape:
    """`draw_numbers` gives the numbers by name; those that begin with `_` follow from the others and are not told.

    A told number may be a word in the text ("twice"): it counts as told all the same, because the answer depends on it.
    """

    name: str
    level: int
    draw_numbers: Callable[[Draw], Numbers]
    steps: tuple[Step, ...]
    text: Text

    @cached_property
    def slots(self) -> tuple[str, ...]:
        fields = {name for segment in self.text for option in segment for _, name, _, _ in Formatter().parse(option) if name}
        return tuple(sorted(fields))

    @property
    def surfaces(self) -> int:
        return prod(len(segment) for segment in self.text)

    def tell(self, numbers: Numbers, draw: Draw) -> tuple[str, Words]:
        """The story of these numbers, and the words it was told with."""
        told = " ".join([draw.pick(segment) for segment in self.text])
        words = draw_words(draw, self.slots)
        return told.format(**numbers, **words), words


@dataclass
class Family:
    """Problems of one kind. `shape` registers a function Draw -> Numbers together with its chain and its text."""

    name: str
    concepts: tuple[str, ...]
    shapes: dict[str, Shape] = field(default_factory=dict)

    def shape(self, level: int, chain: str, *text: str) -> Callable[[Callable[[Draw], Numbers]], Callable[[Draw], Numbers]]:
        """Each item of `text` is a segment, its alternatives separated by ' | '."""

        def register(draw_numbers: Callable[[Draw], Numbers]) -> Callable[[Draw], Numbers]:
            name = f"{level}.{draw_numbers.__name__}"
            if name in self.shapes:
                raise ValueError(f"family {self.name} has two shapes named {name}")
            segments = tuple(tuple(segment.split(" | ")) for segment in text)
            self.shapes[name] = Shape(name, level, draw_numbers, parse_steps(chain), segments)
            return draw_numbers

        return register

    def at(self, level: int) -> list[Shape]:
        return [shape for shape in self.shapes.values() if shape.level == level]
