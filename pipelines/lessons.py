"""What a seed policy is taught besides solving: demonstrations of every task of the compact dialect, made by the world itself.

A task is a prompt template and the answers it should get: `solve` (problem -> chain and answer), `doubt` (the same of a question that may
have no answer, which is what it then says), `rewrite` (a chain alone -> another
question with its answer), `paraphrase` (problem -> the same in other words), `sws_write` (category, concepts, level -> problem),
`sws_judge` (such a problem -> perfect, acceptable or bad), `sws_concepts` (problem -> what it is about). Every problem, also one
that is only a target, is of the train split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from data.keyed import keyed_order, keyed_seed
from data.records import Problem
from data.render import Renderer
from filters.written import AFTER_PLAN
from generators.worlds.arithmetic import ArithmeticWorld
from generators.worlds.arithmetic.concepts import assignment, covered
from generators.worlds.arithmetic.draw import Draw
from generators.worlds.arithmetic.garbled import garbled, renumbered
from generators.worlds.arithmetic.variants import Kind

EASY: tuple[Kind, ...] = ("story", "tail")
"""Ways to keep an answer whose numbers are in the chain already."""

Retold = Literal[Kind, "paraphrase"]
"""A way of `variants.py`, or the same numbers in other words, which every problem has."""


@dataclass(frozen=True)
class Lesson:
    """One demonstration: the template's variables are rendered already."""

    task: str
    prompt: str
    answer: str
    problem: Problem


@dataclass(frozen=True)
class Own:
    """A text that the policy itself wrote to an order, and what it asks: None where it cannot be read."""

    category: str
    concepts: tuple[str, ...]
    level: int
    text: str
    read: Problem | None


@dataclass(frozen=True)
class Syllabus:
    """What lessons are about. `levels`: those of every problem, also of one that is only a target."""

    families: Sequence[str]
    levels: Sequence[int]
    hard_rewrites: float = 0.25
    """Share, in quarters, of rewriting lessons whose numbers are not in the chain; a small policy learns from them to change the answer."""
    subtle: float = 0.0
    """Share of bad questions that one word spoils, as a policy's own slips do; the others have up to three faults of any kind."""
    retold: tuple[Retold, ...] = ()
    """Rewriting lessons that tell the chain again in one of these ways, tried in random order; () takes `EASY` ones."""
    planned: bool = False
    """A problem is written after its chain: numbers that are planned come out even."""
    own: Sequence[Own] = ()
    """Half of the questions that are judged or doubted are among these, where there are any."""

    def spoil(self, text: str, other: str, draw: Draw) -> str | None:
        return garbled(text, other, draw, subtle=self.subtle > 0 and draw(0, 999) < 1000 * self.subtle)

    def pick_own(self, draw: Draw, sound: bool) -> Own | None:
        pool = [one for one in self.own if (one.read is not None) is sound] if self.own and draw(0, 1) else []
        return draw.pick(pool) if pool else None


def lessons(world: ArithmeticWorld, tasks: Mapping[str, float], syllabus: Syllabus, renderer: Renderer, seed: int) -> Iterator[Lesson]:
    """Lessons without end: one of each family and level, shuffled, then the next of each; tasks drawn by weight, keyed.

    A problem for which a task has no demonstration (nothing else has its answer) is a lesson in solving instead.
    """
    names, total = sorted(tasks), sum(tasks.values())
    cells = {f"{family}.{level}": (family, level) for family in syllabus.families for level in syllabus.levels}
    index = 0
    while True:
        for cell in keyed_order(seed, list(cells), "lessons", index):
            draw = Draw(keyed_seed(seed, "lesson", cell, index))
            problem = world.make(*cells[cell], index, seed=keyed_seed(seed, "pretrain", "world"), split="train")
            point, task = draw(0, 999_999) * total / 1_000_000, names[-1]
            for name in names:
                if point < tasks[name]:
                    task = name
                    break
                point -= tasks[name]
            yield _LESSONS[task](world, problem, syllabus, renderer, draw) or _solve(world, problem, syllabus, renderer, draw)
        index += 1


Teach = Callable[[ArithmeticWorld, Problem, Syllabus, Renderer, Draw], "Lesson | None"]


def _solve(world: ArithmeticWorld, problem: Problem, syllabus: Syllabus, renderer: Renderer, draw: Draw) -> Lesson:
    return Lesson("solve", renderer.render("solve", problem=problem), world.demonstration(problem), problem)


def _doubt(world: ArithmeticWorld, problem: Problem, syllabus: Syllabus, renderer: Renderer, draw: Draw) -> Lesson | None:
    """A question with other numbers than it was made with, or, one in three, one that makes no sense."""
    own = syllabus.pick_own(draw, sound=False)
    if own is not None:
        text: str | None = own.text
    elif draw(0, 2):
        text = renumbered(problem.prompt, draw)
    else:
        other = world.make(draw.pick(syllabus.families), draw.pick(syllabus.levels), draw(0, 1 << 20), seed=draw(0, 1 << 40), split="train")
        text = syllabus.spoil(problem.prompt, other.prompt, draw)
    answer = world.attempt(text) if text else None
    if text is None or answer is None:
        return None
    return Lesson("doubt", renderer.render("solve", problem=replace(problem, prompt=text)), answer, problem)


def _rewrite(world: ArithmeticWorld, problem: Problem, syllabus: Syllabus, renderer: Renderer, draw: Draw) -> Lesson | None:
    """From numbers of the chain, which is easy to learn; `hard_rewrites` of them from other numbers, which is not."""
    kinds: Sequence[Retold] = draw.pick_distinct(EASY, 2) if draw(0, 3) >= 4 * syllabus.hard_rewrites else ("answer",)
    if syllabus.retold and kinds != ("answer",):
        kinds = draw.pick_distinct(syllabus.retold, len(syllabus.retold))
    for kind in kinds:
        key = draw(0, 1 << 40)
        other = world.paraphrase(problem, key) if kind == "paraphrase" else world.variant(problem, key, kind)
        if other is not None and other.domain in syllabus.families and other.level in syllabus.levels:
            return Lesson("rewrite", renderer.render("rewrite", response=world.demonstration(problem)), f" {other.prompt}", other)
    return None


def _paraphrase(world: ArithmeticWorld, problem: Problem, syllabus: Syllabus, renderer: Renderer, draw: Draw) -> Lesson | None:
    other = world.paraphrase(problem, draw(0, 1 << 40))
    return None if other is None else Lesson("paraphrase", renderer.render("paraphrase", problem=problem), f" {other.prompt}", other)


def _assigned(problem: Problem, draw: Draw) -> list[str]:
    return assignment(problem.domain, problem.meta["shape"], draw)


def _write(world: ArithmeticWorld, problem: Problem, syllabus: Syllabus, renderer: Renderer, draw: Draw) -> Lesson:
    prompt = renderer.render("sws_write", category=problem.domain, concepts=_assigned(problem, draw), level=problem.level)
    plan = f" {', '.join(world.equations(problem))} {AFTER_PLAN}" if syllabus.planned else ""
    return Lesson("sws_write", prompt, f"{plan} {problem.prompt}", problem)


def _judge(world: ArithmeticWorld, problem: Problem, syllabus: Syllabus, renderer: Renderer, draw: Draw) -> Lesson | None:
    """perfect: asked for and sound; acceptable: sound, of another level or other concepts than asked for; bad: no question with an answer."""
    verdict = draw.pick(("perfect", "perfect", "perfect", "acceptable", "bad", "bad"))
    own = syllabus.pick_own(draw, sound=verdict != "bad")
    if own is not None:
        fits = own.read is not None and (own.read.domain, own.read.level) == (own.category, own.level)
        verdict = "bad" if own.read is None else "perfect" if fits else "acceptable"
        prompt = renderer.render("sws_judge", category=own.category, concepts=list(own.concepts), level=own.level, question=own.text)
        return Lesson("sws_judge", prompt, f" {verdict}", own.read or problem)
    category, concepts, level, text = problem.domain, _assigned(problem, draw), problem.level, problem.prompt
    other = world.make(draw.pick(syllabus.families), draw.pick(syllabus.levels), draw(0, 1 << 20), seed=draw(0, 1 << 40), split="train")
    if verdict == "acceptable":
        if draw(0, 1) and other.domain != category:
            category, concepts = other.domain, _assigned(other, draw)
        elif (level := draw.pick(syllabus.levels)) == problem.level or covered(category, problem.meta["shape"], concepts) == 0:
            return None
    elif verdict == "bad":
        broken = syllabus.spoil(text, other.prompt, draw)
        if broken is None:
            return None
        text = broken
    prompt = renderer.render("sws_judge", category=category, concepts=concepts, level=level, question=text)
    return Lesson("sws_judge", prompt, f" {verdict}", problem)


def _concepts(world: ArithmeticWorld, problem: Problem, syllabus: Syllabus, renderer: Renderer, draw: Draw) -> Lesson:
    return Lesson("sws_concepts", renderer.render("sws_concepts", question=problem.prompt), f" {', '.join(world.fine_concepts(problem))}", problem)


_LESSONS: dict[str, Teach] = {
    "solve": _solve,
    "doubt": _doubt,
    "rewrite": _rewrite,
    "paraphrase": _paraphrase,
    "sws_write": _write,
    "sws_judge": _judge,
    "sws_concepts": _concepts,
}
TASKS = tuple(_LESSONS)
