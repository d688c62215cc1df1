"""estimate: verdicts become a pass count k of n per problem, with an interval."""

from __future__ import annotations

import polars as pl

from filters.difficulty import Band, estimate
from pipelines.run import Run
from pipelines.stages.base import Summary


def estimate_stage(run: Run, round: int) -> Summary:
    verdicts = run.lake.query("SELECT problem_id, policy_id, outcome FROM verdicts WHERE round = ? AND stage = 'verify'", (round,))
    problems = run.lake.query("SELECT problem_id, domain, level, concepts FROM problems")
    rows = estimate(verdicts, problems)
    run.lake.commit(round, "estimate", 0, {"difficulty": rows})
    judged = int(rows["n"].sum())
    return {
        "problems": rows.height,
        "solved": rows.filter(pl.col("passes") > 0).height,
        "in_band": rows.filter(band(run).expr()).height,
        "pass_rate": int(rows["passes"].sum()) / judged if judged else 0.0,
    }


def band(run: Run) -> Band:
    """The recipe's band of pass rates worth training on."""
    part = run.recipe.difficulty
    return Band.of(part.low, part.high)
