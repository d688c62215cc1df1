"""What a seed policy is taught besides solving: demonstrations of every task of the compact dialect, made by the world itself.

A task is a prompt template and the answers it should get: `solve` (problem -> chain and answer), `rewrite` (a chain alone -> another
question with its answer), `paraphrase` (problem -> the same in other words), `sws_write` (category, concepts, level -> problem),
`sws_judge` (such a problem -> perfect, acceptable or bad), `sws_concepts` (problem -> what it is about). Every problem, also one
that is only a target, is of the train split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from data.keyed import keyed_order, keyed_seed
from data.records import Problem
from data.render import Renderer
from generators.worlds.arithmetic import ArithmeticWorld
from generators.worlds.arithmetic.concepts import assignment, covered
from generators.worlds.arithmetic.draw import Draw
from generators.worlds.arithmetic.garbled import garbled
from generators.worlds.arithmetic.variants import Kind

EASY: tuple[Kind, ...] = ("story", "tail")
"""Ways to keep an answer whose numbers are in the chain already."""


@dataclass(frozen=True)
class Lesson:
    """One demonstration: the template's variables are rendered already."""

    task: str
    prompt: str
    answer: str
    problem: Problem


def lessons(world: ArithmeticWorld, tasks: Mapping[str, float], families: Sequence[str], renderer: Renderer, seed: int) -> Iterator[Lesson]:
    """Lessons without end: one of each family and level, shuffled, then the next of each; tasks drawn by weight, keyed.

    A problem for which a task has no demonstration (nothing else has its answer) is a lesson in solving instead.
    """
    names, total = sorted(tasks), sum(tasks.values())
    cells = {f"{family}.{level}": (family, level) for family in families for level in world.levels()}
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
            yield _LESSONS[task](world, problem, families, renderer, draw) or _solve(world, problem, families, renderer, draw)
        index += 1


Teach = Callable[[ArithmeticWorld, Problem, Sequence[str], Renderer, Draw], "Lesson | None"]


def _solve(world: ArithmeticWorld, problem: Problem, families: Sequence[str], renderer: Renderer, draw: Draw) -> Lesson:
    return Lesson("solve", renderer.render("solve", problem=problem), world.demonstration(problem), problem)


def _rewrite(world: ArithmeticWorld, problem: Problem, families: Sequence[str], renderer: Renderer, draw: Draw) -> Lesson | None:
    """Mostly from numbers of the chain, which is easy to learn; a quarter from other numbers, which is not."""
    kinds: Sequence[Kind] = draw.pick_distinct(EASY, 2) if draw(0, 3) else ("answer",)
    for kind in kinds:
        other = world.variant(problem, draw(0, 1 << 40), kind)
        if other is not None and other.domain in families:
            return Lesson("rewrite", renderer.render("rewrite", response=world.demonstration(problem)), f" {other.prompt}", other)
    return None


def _paraphrase(world: ArithmeticWorld, problem: Problem, families: Sequence[str], renderer: Renderer, draw: Draw) -> Lesson | None:
    other = world.paraphrase(problem, draw(0, 1 << 40))
    return None if other is None else Lesson("paraphrase", renderer.render("paraphrase", problem=problem), f" {other.prompt}", other)


def _assigned(problem: Problem, draw: Draw) -> list[str]:
    return assignment(problem.domain, problem.meta["shape"], draw)


def _write(world: ArithmeticWorld, problem: Problem, families: Sequence[str], renderer: Renderer, draw: Draw) -> Lesson:
    prompt = renderer.render("sws_write", category=problem.domain, concepts=_assigned(problem, draw), level=problem.level)
    return Lesson("sws_write", prompt, f" {problem.prompt}", problem)


def _judge(world: ArithmeticWorld, problem: Problem, families: Sequence[str], renderer: Renderer, draw: Draw) -> Lesson | None:
    """perfect: asked for and sound; acceptable: sound, of another level or other concepts than asked for; bad: no question with an answer."""
    verdict = draw.pick(("perfect", "perfect", "perfect", "acceptable", "bad", "bad"))
    category, concepts, level, text = problem.domain, _assigned(problem, draw), problem.level, problem.prompt
    other = world.make(draw.pick(families), draw.pick(world.levels()), draw(0, 1 << 20), seed=draw(0, 1 << 40), split="train")
    if verdict == "acceptable":
        if draw(0, 1) and other.domain != category:
            category, concepts = other.domain, _assigned(other, draw)
        elif (level := draw.pick(world.levels())) == problem.level or covered(category, problem.meta["shape"], concepts) == 0:
            return None
    elif verdict == "bad":
        broken = garbled(text, other.prompt, draw)
        if broken is None:
            return None
        text = broken
    prompt = renderer.render("sws_judge", category=category, concepts=concepts, level=level, question=text)
    return Lesson("sws_judge", prompt, f" {verdict}", problem)


def _concepts(world: ArithmeticWorld, problem: Problem, families: Sequence[str], renderer: Renderer, draw: Draw) -> Lesson:
    return Lesson("sws_concepts", renderer.render("sws_concepts", question=problem.prompt), f" {', '.join(world.fine_concepts(problem))}", problem)


_LESSONS: dict[str, Teach] = {
    "solve": _solve,
    "rewrite": _rewrite,
    "paraphrase": _paraphrase,
    "sws_write": _write,
    "sws_judge": _judge,
    "sws_concepts": _concepts,
}
TASKS = tuple(_LESSONS)
