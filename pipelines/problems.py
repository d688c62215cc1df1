"""Problems read back from the lake."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data.problems_io import read_problems
from data.records import Problem
from data.tables import problem_from_row
from generators.worlds.registry import get_world
from pipelines.recipe import Recipe
from pipelines.run import Run, read_lake


def problems_by_id(run: Run, ids: Sequence[str]) -> list[Problem]:
    """The problems with these ids, in the order asked; an id the lake lacks is a defect, not user input."""
    if not ids:
        return []
    rows = run.lake.query("SELECT * FROM problems WHERE problem_id IN (SELECT unnest(?))", (list(ids),))
    found = {row["problem_id"]: problem_from_row(row) for row in rows.iter_rows(named=True)}
    return [found[i] for i in ids]


def heldout_problems(run: Run) -> list[Problem]:
    """All held-out problems, in id order."""
    rows = run.lake.query("SELECT * FROM problems WHERE split = 'heldout' ORDER BY problem_id")
    return [problem_from_row(row) for row in rows.iter_rows(named=True)]


HELDOUT = "heldout"
"""The benchmark of the world's and the user's own held-out problems."""


def heldout_sets(run: Run) -> dict[str, list[Problem]]:
    """Everything that is evaluated and never trained on, by benchmark: the held-out problems first."""
    return {HELDOUT: heldout_problems(run)}


def count_problems(recipe: Recipe) -> tuple[int, int]:
    """(problems to learn from, problems held out) that the recipe's world and files give, before duplicates fall out."""
    part, most = recipe.problems, recipe.evaluate.problems
    train = heldout = 0
    if part.world:
        world = get_world(part.world)
        train += len(part.families or world.families()) * len(part.levels or world.levels()) * part.per_cell
        heldout += most
    listed = {p.id: p for file in part.files for p in problems_at(Path(file))}
    apart = sum(p.split == "heldout" for p in listed.values())
    rows = len(listed) - apart
    share = 0 if apart else min(int(part.heldout_share * rows + 0.5), most)
    return train + rows - share, heldout + apart + share


def problems_at(path: Path) -> list[Problem]:
    """The problems of a JSONL file, or of a run folder's lake."""
    return problems_of_run(path) if path.is_dir() else read_problems(path)


def problems_of_run(folder: Path) -> list[Problem]:
    """All problems of a run's lake, held-out ones included, in id order; equal ones once."""
    with read_lake(folder) as lake:
        rows = lake.query("SELECT * FROM problems QUALIFY row_number() OVER (PARTITION BY problem_id ORDER BY round) = 1 ORDER BY problem_id")
    return [problem_from_row(row) for row in rows.iter_rows(named=True)]
