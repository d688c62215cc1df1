"""The arithmetic world: word problems of 13 families on 5 levels with exact answers and a worked chain for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from data.errors import UserError
from data.keyed import keyed_seed
from data.records import Problem
from generators.worlds.arithmetic.chain import chain_is_right
from generators.worlds.arithmetic.concepts import shape_concepts
from generators.worlds.arithmetic.draw import Draw
from generators.worlds.arithmetic.families import FAMILIES
from generators.worlds.arithmetic.reading import Reading, read, stories
from generators.worlds.arithmetic.shape import Family, Numbers, Shape
from generators.worlds.arithmetic.splits import split_of
from generators.worlds.arithmetic.steps import decimal, operands, work_out, work_out_as_far
from generators.worlds.arithmetic.variants import KINDS, Kind, spoiled, variants
from generators.worlds.base import Split, world_problem

LEVELS = (1, 2, 3, 4, 5)
NO_ANSWER = "#### none"
_ATTEMPTS = 10_000


class ArithmeticWorld:
    """`generators.worlds.base.World`; stateless, every problem a pure function of (seed, split, family, level, index)."""

    name = "arithmetic"

    def families(self) -> tuple[str, ...]:
        return tuple(FAMILIES)

    def levels(self) -> tuple[int, ...]:
        return LEVELS

    def concepts(self, family: str) -> tuple[str, ...]:
        return _family(family).concepts

    def make(self, family: str, level: int, index: int, *, seed: int, split: Split) -> Problem:
        """Numbers are drawn again, keyed by attempt, until their own hash puts them into `split`."""
        kind = _family(family)
        shapes = kind.at(level)
        if not shapes:
            raise UserError(f"the arithmetic world has no level {level}; its levels are {LEVELS[0]} to {LEVELS[-1]}")
        if split not in ("train", "heldout"):
            raise UserError(f"no split named {split!r}; there are: train, heldout")
        for attempt in range(_ATTEMPTS):
            draw = Draw(keyed_seed(seed, "arithmetic", split, family, level, index, attempt))
            shape = draw.pick(shapes)
            numbers = shape.draw_numbers(draw)
            if split_of(family, numbers) == split:
                return _problem(kind, shape, numbers, draw, split, {"seed": seed, "index": index})
        raise AssertionError(f"no {split} problem of {family} on level {level} in {_ATTEMPTS} draws")

    def demonstration(self, problem: Problem) -> str:
        """' 12*3=36, 36+4=40 #### 40': what the compact dialect answers."""
        shape, numbers = _recall(problem)
        equations, result = work_out(shape.steps, numbers)
        return f" {', '.join(equations)} #### {decimal(result)}"

    def equations(self, problem: Problem) -> list[str]:
        """The chain alone: ['12*3=36', '36+4=40']."""
        shape, numbers = _recall(problem)
        return work_out(shape.steps, numbers)[0]

    def attempt(self, text: str) -> str | None:
        """What `demonstration` says about any text: its chain and answer, or `#### none` where its question has none.

        None for a held-out problem and for one whose chain needs a number that its story does not tell.
        """
        reading = read(text)
        if reading is None:
            told = stories(text)
            if len(told) != 1:
                return f" {NO_ANSWER}" if not told else None
            _, shape, numbers = told[0]
        else:
            shape, numbers = _family(reading.family).shapes[reading.shape], reading.numbers
            if reading.split == "heldout":
                return None
        if not operands(shape.steps) <= numbers.keys():
            return None
        equations, result = work_out_as_far(shape.steps, numbers)
        if reading is None:
            return f" {', '.join(equations)} {NO_ANSWER}" if equations else f" {NO_ANSWER}"
        return f" {', '.join(equations)} #### {reading.answer}" if result is not None and decimal(result) == reading.answer else None

    def paraphrase(self, problem: Problem, key: int) -> Problem | None:
        """The same numbers and answer in another story: other names, things, sentences. None for a problem from elsewhere.

        The numbers decide the split, so a paraphrase stays on its side.
        """
        if world_problem(self.name, problem) is None:
            return None
        shape, numbers = _recall(problem)
        draw = Draw(keyed_seed(key, "arithmetic", "paraphrase", problem.id))
        for _ in range(_ATTEMPTS):
            made = {"paraphrase_of": problem.id, "key": key}
            other = _problem(_family(problem.domain), shape, numbers, draw, split_of(problem.domain, numbers), made)
            if other.prompt != problem.prompt:
                return other
        raise AssertionError(f"shape {shape.name} of {problem.domain} has one surface only")

    def variant(self, problem: Problem, key: int, kind: Kind | None = None) -> Problem | None:
        """A question of this world with the same answer on the same side of the split, its structure changed as `kind` says.

        `kind`: order, story, tail or answer (`variants.py`), any of them where None. None where the problem has no such variant
        or is from elsewhere.
        """
        if world_problem(self.name, problem) is None:
            return None
        shape, numbers = _recall(problem)
        draw, side = Draw(keyed_seed(key, "arithmetic", "variant", problem.id)), split_of(problem.domain, numbers)
        for way in [kind] if kind else draw.pick_distinct(KINDS, len(KINDS)):
            tales = list(variants(_family(problem.domain), shape, numbers, way, side))
            for tale in draw.pick_distinct(tales, min(len(tales), 8)):
                text = tale.tell(draw)
                reading = read(text)
                if reading is not None and reading.answer == problem.reference and reading.split == side and text != problem.prompt:
                    return _read_problem(text, reading, {"variant_of": problem.id, "kind": way, "key": key})
        return None

    def spoil(self, problem: Problem, key: int) -> Problem | None:
        """A planted wrong variant: its text asks for another answer than the reference it inherits (`meta["truth"]` has the right one)."""
        if world_problem(self.name, problem) is None:
            return None
        shape, numbers = _recall(problem)
        draw, side = Draw(keyed_seed(key, "arithmetic", "spoil", problem.id)), split_of(problem.domain, numbers)
        found = spoiled(_family(problem.domain), shape, numbers, draw, side)
        if found is None:
            return None
        text, reading = found
        made = _read_problem(text, reading, {"spoiled": problem.id, "truth": reading.answer, "key": key})
        return replace(made, reference=problem.reference)

    def read(self, text: str) -> Problem | None:
        """What any text asks, with its true answer as reference; None where it is unparseable or has no single answer."""
        reading = read(text)
        return None if reading is None else _read_problem(text.strip(), reading, {})

    def fine_concepts(self, problem: Problem) -> tuple[str, ...]:
        """What this problem is about, finer than its family; () for a problem from elsewhere."""
        if world_problem(self.name, problem) is None:
            return ()
        return shape_concepts(_family(problem.domain), _recall(problem)[0])

    def check_chain(self, problem: Problem, response: str) -> bool | None:
        """Every equation holds, starts from what the problem told, and the last one gives the stated answer."""
        if world_problem(self.name, problem) is None:
            return None
        shape, numbers = _recall(problem)
        return chain_is_right(response, numbers.values(), shape.steps)


def _family(name: str) -> Family:
    if name not in FAMILIES:
        raise UserError(f"the arithmetic world has no family {name!r}; there are: {', '.join(FAMILIES)}")
    return FAMILIES[name]


def _recall(problem: Problem) -> tuple[Shape, Numbers]:
    made = world_problem("arithmetic", problem)
    if made is None:
        raise UserError(f"problem {problem.id} was not made by the arithmetic world")
    return _family(problem.domain).shapes[made["shape"]], dict(made["numbers"])


def _problem(kind: Family, shape: Shape, numbers: Numbers, draw: Draw, split: Split, made: Mapping[str, Any]) -> Problem:
    prompt, _ = shape.tell(numbers, draw)
    _, result = work_out(shape.steps, numbers)
    return Problem(
        prompt=prompt,
        reference=decimal(result),
        verifier="math",
        domain=kind.name,
        level=shape.level,
        concepts=kind.concepts,
        source="world",
        split=split,
        meta={"world": "arithmetic", "shape": shape.name, "numbers": numbers, **made},
    )


def _read_problem(text: str, reading: Reading, made: Mapping[str, Any]) -> Problem:
    """The problem that a text is; hidden numbers are not in its `meta`, so it has no worked chain."""
    return Problem(
        prompt=text,
        reference=reading.answer,
        verifier="math",
        domain=reading.family,
        level=reading.level,
        concepts=FAMILIES[reading.family].concepts,
        source="world",
        split=reading.split,
        meta={"world": "arithmetic", "shape": reading.shape, "numbers": reading.numbers, **made},
    )
