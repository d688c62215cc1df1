"""Problems of a run: the files that its recipe names, and what the lake holds of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from data.problems.readers import iter_problems
from data.records import Problem, with_problem
from data.tables import problem_from_row
from filters.decontaminate import HeldoutIndex, HeldoutSet
from filters.verifier_choice import choose_verifier
from generators.worlds.base import World
from generators.worlds.registry import get_world
from pipelines.recipe import Recipe
from pipelines.run import Run, is_run, read_lake

HELDOUT = "heldout"
"""The benchmark of the world's and the user's own held-out problems."""


def problems_by_id(run: Run, ids: Sequence[str]) -> list[Problem]:
    """The problems with these ids, in the order asked; an id the lake lacks is a defect, not user input."""
    if not ids:
        return []
    rows = run.lake.query("SELECT * FROM problems WHERE problem_id IN (SELECT unnest(?))", (list(ids),))
    found = {row["problem_id"]: problem_from_row(row) for row in rows.iter_rows(named=True)}
    return [found[i] for i in ids]


def heldout_problems(run: Run) -> list[Problem]:
    """The run's own held-out problems, in id order; those of declared benchmarks are `benchmark_problems`."""
    return [p for p in _all_heldout(run) if HELDOUT in benchmarks_of(p)]


def benchmark_problems(run: Run) -> dict[str, list[Problem]]:
    """The problems of every declared benchmark that can be judged, by name, in id order; {} where the recipe declares none."""
    return _benchmarks(run, judgeable=True)


def _benchmarks(run: Run, *, judgeable: bool) -> dict[str, list[Problem]]:
    """`judgeable=False` gives those too that no verifier can judge: they are stored, so that nothing like them is trained on."""
    found: dict[str, list[Problem]] = {name: [] for name in sorted(run.recipe.evaluate.benchmarks)}
    for problem in _all_heldout(run) if found else ():
        if not (judgeable and "unjudgeable" in problem.meta):
            for name in set(benchmarks_of(problem)) & found.keys():
                found[name].append(problem)
    return found


def heldout_sets(run: Run) -> dict[str, list[Problem]]:
    """Everything that is evaluated and never trained on, by benchmark: the run's own held-out problems first."""
    return {HELDOUT: heldout_problems(run)} | benchmark_problems(run)


def count_problems(recipe: Recipe) -> tuple[int, int]:
    """(problems to learn from, problems evaluated) that the recipe's world and files give, before duplicates and leaks fall out."""
    part, most = recipe.problems, recipe.evaluate.problems
    train = heldout = 0
    if part.world:
        world = get_world(part.world)
        train += len(part.families or world.families()) * len(part.levels or world.levels()) * part.per_cell
        heldout += most
    listed = {p.id: p.split == "heldout" for _, p in user_problems(recipe)}
    apart = sum(listed.values())
    share = 0 if apart else min(int(part.heldout_share * len(listed) + 0.5), most)
    benchmarks = sum(len(problems) for problems in read_benchmarks(recipe).values())
    return train + len(listed) - apart - share, heldout + apart + share + benchmarks


def benchmarks_of(problem: Problem) -> Sequence[str]:
    """The held-out sets that a held-out problem belongs to."""
    return problem.meta.get("benchmarks", (HELDOUT,)) if problem.split == "heldout" else ()


def heldout_index(run: Run) -> HeldoutIndex:
    """What no training problem may give away, as the lake holds it: asked about every candidate of every round."""
    world = run.world
    return index_of(heldout_problems(run), _benchmarks(run, judgeable=False), None if world is None else lambda text: side_of(world, text))


def side_of(world: World, text: str) -> str:
    """Why this text of the world's language belongs to its held-out side, "" where it does not or is not of that language."""
    read = world.read(text)
    return "" if read is None or read.split == "train" else f"the numbers it tells in {read.domain} belong to the held-out side"


def index_of(own: Sequence[Problem], benchmarks: dict[str, list[Problem]], side: Callable[[str], str] | None = None) -> HeldoutIndex:
    """The world's own held-out problems by the text rule, everything from files by the 13-gram rule too.

    Why not grams for a world: its templates are shared by construction. Of 5,005 training problems of the arithmetic world 152 (3 %) share
    13 words, numbers included, with one of its 512 held-out problems and are none of them; of GSM8K's 7,473 four do with its test set.
    """
    world = [p for p in own if p.source == "world"]
    files = [p for p in own if p.source != "world"]
    sets = [HeldoutSet(name, problems) for name, problems in sorted(benchmarks.items())]
    return HeldoutIndex([*sets, HeldoutSet(HELDOUT, files), HeldoutSet(HELDOUT, world, grams=False)], side)


def user_problems(recipe: Recipe) -> Iterator[tuple[str, Problem]]:
    """(where, problem) of the recipe's files, streamed, in file order, duplicates included. What a run held out stays held out."""
    for part in recipe.problems.files:
        if is_run(part.source.file):
            yield from ((part.path, problem) for problem in problems_of_run(part.source.file))
        else:
            yield from ((where, with_settings(recipe, problem)) for where, problem in iter_problems(part.source, choose=choose_verifier))


def with_settings(recipe: Recipe, problem: Problem) -> Problem:
    """The problem with the recipe's settings of its verifier; its row's own settings win."""
    settings = recipe.verifiers.get(problem.verifier)
    return with_problem(problem, spec={**settings, **problem.spec}) if settings else problem


def problems_of_run(folder: Path) -> list[Problem]:
    """All problems of a run's lake, held-out ones included, in id order; equal ones once."""
    with read_lake(folder) as lake:
        rows = lake.query("SELECT * FROM problems QUALIFY row_number() OVER (PARTITION BY problem_id ORDER BY round) = 1 ORDER BY problem_id")
    return [problem_from_row(row) for row in rows.iter_rows(named=True)]


def read_benchmarks(recipe: Recipe) -> dict[str, list[Problem]]:
    """The problems of every declared benchmark, one of each id; they know the sets they belong to (`meta["benchmarks"]`)."""
    found: dict[str, dict[str, Problem]] = {}
    for name, part in sorted(recipe.evaluate.benchmarks.items()):
        read = iter_problems(replace(part.source, usual="test"), split="heldout", choose=choose_verifier)
        found[name] = {p.id: p for p in (with_settings(recipe, p) for _, p in read)}
    names: dict[str, list[str]] = {}
    for name, problems in found.items():
        for problem_id in problems:
            names.setdefault(problem_id, []).append(name)
    return {name: [replace(p, meta={**p.meta, "benchmarks": names[p.id]}) for p in problems.values()] for name, problems in found.items()}


def _all_heldout(run: Run) -> list[Problem]:
    rows = run.lake.query("SELECT * FROM problems WHERE split = 'heldout' ORDER BY problem_id")
    return [problem_from_row(row) for row in rows.iter_rows(named=True)]
