"""seeds: the world's problems and the user's own, training and held-out, into the lake (round 0)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data.keyed import keyed_order, keyed_seed
from data.problems_io import read_problems
from data.records import Problem, with_problem
from data.tables import problem_row
from filters.dedup import normalise_texts
from filters.tables import decision_row
from pipelines.run import Run
from pipelines.stages.base import Summary


def seeds_stage(run: Run, round: int) -> Summary:
    heldout, train = split_seeds(run)
    seen: set[str] = set()
    problems: list[dict[str, Any]] = []
    decisions: list[dict[str, Any]] = []
    counts = {"train": 0, "heldout": 0, "duplicates": 0}
    listed = list({p.id: p for p in [*train, *heldout]}.values())  # equal problems are one; held out wins over training
    listed.sort(key=lambda p: p.split != "heldout")
    for problem, text in zip(listed, normalise_texts([p.prompt for p in listed]), strict=True):
        kept = text not in seen
        seen.add(text)
        decisions.append(
            decision_row(
                problem,
                "duplicate",
                kept,
                f"{problem.split} seed" if kept else "the same text as an earlier seed or held-out problem",
                round=round,
                stage="seeds",
                shard=0,
            )
        )
        if kept:
            problems.append(problem_row(problem, round, "seeds"))
            counts[problem.split] += 1
        else:
            counts["duplicates"] += 1
    run.lake.commit(round, "seeds", 0, {"problems": problems, "decisions": decisions})
    return counts


def split_seeds(run: Run) -> tuple[list[Problem], list[Problem]]:
    """Held-out and training problems of the recipe: the world's by construction, the user's by content hash."""
    recipe = run.recipe
    heldout, train = list(_world(run, "heldout")), list(_world(run, "train"))
    if recipe.problems.files:
        mine = {p.id: p for file in recipe.problems.files for p in read_problems(Path(file))}
        order = keyed_order(recipe.seed, list(mine), "heldout")
        count = min(int(recipe.problems.heldout_share * len(mine) + 0.5), recipe.evaluate.problems)
        if recipe.problems.heldout_share > 0 and len(mine) > 1:
            count = max(count, 1)
        heldout += [with_problem(mine[i], split="heldout") for i in sorted(order[:count])]
        train += [mine[i] for i in sorted(order[count:])]
    return heldout, train


def _world(run: Run, split: str) -> Iterator[Problem]:
    """Evenly over the recipe's families and levels."""
    world, part = run.world, run.recipe.problems
    if world is None:
        return
    families = part.families or world.families()
    levels = part.levels or world.levels()
    cells = [(f, lv) for f in families for lv in levels]
    per_cell = part.per_cell if split == "train" else -(-run.recipe.evaluate.problems // len(cells))
    left = run.recipe.evaluate.problems if split == "heldout" else len(cells) * per_cell
    # The held-out set is the same for every run seed, so that runs can be compared on it.
    seed = keyed_seed(run.recipe.seed, "seeds") if split == "train" else keyed_seed(0, "heldout")
    for index in range(per_cell):
        for family, level in cells:
            if left <= 0:
                return
            left -= 1
            yield world.make(family, level, index, seed=seed, split=split)  # type: ignore[arg-type]
