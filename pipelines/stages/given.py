"""given: every training problem of the recipe is trained on. Takes the place of select where GRPO runs alone."""

from __future__ import annotations

from data.tables import problem_from_row
from filters.tables import decision_row
from pipelines.run import Run
from pipelines.stages.base import Summary


def given_stage(run: Run, round: int) -> Summary:
    """A decision row for each: kept, because it was given."""
    rows = run.lake.query("SELECT * FROM problems WHERE split = 'train' ORDER BY problem_id")
    problems = [problem_from_row(row) for row in rows.iter_rows(named=True)]
    kept = [decision_row(p, "given", True, "given to train on", round=round, stage="select", shard=0) for p in problems]
    run.lake.commit(round, "select", 0, {"decisions": kept})
    return {"considered": len(kept), "kept": len(kept), "new": 0}
