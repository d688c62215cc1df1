"""Problems read back from the lake."""

from __future__ import annotations

from collections.abc import Sequence

from data.records import Problem
from data.tables import problem_from_row
from pipelines.run import Run


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
