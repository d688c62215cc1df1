"""seeds: the world's problems and the user's own, training and held-out, into the lake (round 0)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from data.errors import UserError
from data.ids import canonical_json, content_hash
from data.keyed import keyed_order, keyed_seed
from data.records import Problem, with_problem
from data.tables import problem_row
from filters.dedup import normalise_texts
from filters.tables import decision_row
from filters.verifiers.base import get_verifier
from pipelines.problems import problems_at
from pipelines.run import Run, run_file
from pipelines.stages.base import Summary


def seeds_stage(run: Run, round: int) -> Summary:
    """Every seed gets a decision row: kept, or refused as a duplicate or as one that its verifier cannot judge."""
    heldout, train = split_seeds(run)
    unique = {p.id: p for p in [*heldout, *reversed(train)]}  # equal problems are one
    unique |= {p.id: p for p in heldout}  # and a held-out one stays held out
    listed = sorted(unique.values(), key=lambda p: p.split != "heldout")
    counts = {"train": 0, "heldout": 0, "duplicates": len(heldout) + len(train) - len(listed), "unjudgeable": 0}
    seen: set[str] = set()
    problems: list[dict[str, Any]] = []
    decisions: list[dict[str, Any]] = []
    for problem, text in zip(listed, normalise_texts([p.prompt for p in listed]), strict=True):
        if text in seen:
            rule, why = "duplicate", "the same text as an earlier seed or held-out problem"
        else:
            rule, why = "unjudgeable", get_verifier(problem.verifier).check_problem(problem)
        seen.add(text)
        decisions.append(decision_row(problem, rule, not why, why or f"{problem.split} seed", round=round, stage="seeds", shard=0))
        if why:
            counts["duplicates" if rule == "duplicate" else "unjudgeable"] += 1
        else:
            problems.append(problem_row(problem, round, "seeds"))
            counts[problem.split] += 1
    if counts["train"] == 0:
        raise UserError(
            f"no problem to learn from: of {len(listed)} seeds {counts['duplicates']} are duplicates and {counts['unjudgeable']} cannot be judged"
        )
    run.lake.commit(round, "seeds", 0, {"problems": problems, "decisions": decisions, "runs": [run_row(run)]})
    return counts


def run_row(run: Run) -> dict[str, Any]:
    """The run's own line: what it was begun with, and on what."""
    begun = run_file(run.dir)
    return {
        "run_id": content_hash("run", run.recipe_hash, run.recipe.seed),
        "attempt": 0,
        "recipe_hash": run.recipe_hash,
        "seed": run.recipe.seed,
        "versions": canonical_json({**begun["versions"], "python": begun["python"]}),
        "host": canonical_json({"machine": begun["machine"], "cores": begun["cores"], "threads": run.threads}),
        "started_at": datetime.now(UTC),
    }


def split_seeds(run: Run) -> tuple[list[Problem], list[Problem]]:
    """Held-out and training problems of the recipe: the world's by construction, the user's by content hash."""
    recipe = run.recipe
    heldout, train = list(_world(run, "heldout")), list(_world(run, "train"))
    if recipe.problems.files:
        listed = [p for file in recipe.problems.files for p in problems_at(Path(file))]
        apart = [p for p in listed if p.split == "heldout"]  # a run's own held-out problems stay so
        heldout += apart
        mine = {p.id: p for p in listed if p.split != "heldout"}
        order = keyed_order(0, list(mine), "heldout")  # the same for every run seed
        count = min(int(recipe.problems.heldout_share * len(mine) + 0.5), recipe.evaluate.problems)
        if apart:
            count = 0
        elif recipe.problems.heldout_share > 0 and len(mine) > 1:
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
