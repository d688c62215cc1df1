"""select: what this round trains on. Every problem considered gets a decision row, kept or refused."""

from __future__ import annotations

from filters.difficulty import Band
from filters.selection import select
from filters.tables import decision_row
from pipelines.run import Run
from pipelines.stages.base import Summary


def select_stage(run: Run, round: int) -> Summary:
    part = run.recipe.difficulty
    probed = run.lake.query("SELECT problem_id, domain, passes, n FROM difficulty WHERE round = ? ORDER BY problem_id", (round,))
    audited = run.lake.query(
        """
        SELECT d.candidate_id, d.problem_id, d.strategy, d.parents, p.domain FROM decisions d JOIN problems p USING (problem_id)
        WHERE d.round = ? AND d.stage = 'audit' AND d.kept ORDER BY d.candidate_id
        """,
        (round,),
    )
    chosen = select(
        probed=probed,
        candidates=audited,
        band=Band(part.low, part.high),
        limit=run.recipe.select.problems,
        seed=run.recipe.seed,
        key=(round, "select"),
    )
    run.lake.commit(round, "select", 0, {"decisions": [decision_row(**row, round=round, stage="select", shard=0) for row in chosen]})
    kept = [row for row in chosen if row["kept"]]
    return {"considered": len(chosen), "kept": len(kept), "new": sum(row["strategy"] != "probe" for row in kept)}


def selected_ids(run: Run, round: int) -> list[str]:
    """Problems that this round trains on, in id order."""
    rows = run.lake.query("SELECT DISTINCT problem_id FROM decisions WHERE round = ? AND stage = 'select' AND kept ORDER BY problem_id", (round,))
    return [i for (i,) in rows.iter_rows()]
