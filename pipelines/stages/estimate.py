"""estimate: verdicts become a pass count k of n per problem, with an interval."""

from __future__ import annotations

import polars as pl

from filters.difficulty import estimate
from pipelines.run import Run
from pipelines.stages.base import Summary


def estimate_stage(run: Run, round: int) -> Summary:
    verdicts = run.lake.query("SELECT rollout_id, problem_id, policy_id, outcome FROM verdicts WHERE round = ? AND stage = 'verify'", (round,))
    problems = run.lake.query("SELECT problem_id, domain, level, concepts FROM problems")
    rows = (
        estimate(verdicts)
        .join(problems, on="problem_id", how="left")
        .with_columns(round=pl.lit(round, pl.Int32), stage=pl.lit("estimate"), shard=pl.lit(0, pl.Int32))
        .sort("problem_id")
    )
    run.lake.commit(round, "estimate", 0, {"difficulty": rows})
    part = run.recipe.difficulty
    n = rows["n"].sum()
    inside = rows.filter((pl.col("passes") >= part.low * pl.col("n")) & (pl.col("passes") <= part.high * pl.col("n")) & (pl.col("n") > 0)).height
    return {
        "problems": rows.height,
        "solved": rows.filter(pl.col("passes") > 0).height,
        "in_band": inside,
        "pass_rate": rows["passes"].sum() / n if n else 0.0,
    }
