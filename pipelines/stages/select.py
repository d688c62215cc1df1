"""select: what this round trains on. Every problem considered gets a decision row, kept or refused.

Probed problems are judged by their pass rate; candidates that passed the audit were never answered yet and fill what room
is left, in keyed order (training drops the groups that turn out to be without variance).
"""

from __future__ import annotations

from typing import Any

import polars as pl

from data.keyed import keyed_order
from filters.selection import select
from pipelines.run import Run
from pipelines.stages.base import Summary
from pipelines.stages.estimate import band


def select_stage(run: Run, round: int) -> Summary:
    limit, seed = run.recipe.select.problems, run.recipe.seed
    probed = run.lake.query(
        """
        SELECT problem_id AS candidate_id, problem_id, p.source AS strategy, []::VARCHAR[] AS parents, p.domain, p.level, d.passes, d.n
        FROM difficulty d JOIN problems p USING (problem_id) WHERE d.round = ? ORDER BY problem_id
        """,
        (round,),
    )
    chosen = select(probed, band(run), run_seed=seed, key=(round, "select"), limit=limit)
    new = run.lake.query(
        """
        SELECT candidate_id, problem_id, strategy, parents, domain, level FROM decisions
        WHERE round = ? AND stage = 'audit' AND kept ORDER BY candidate_id
        """,
        (round,),
    )
    fresh = choose_new(new, limit - int(chosen["kept"].sum()), seed, (round, "select-new"))
    columns = [*new.columns, "rule", "kept", "reason"]
    decisions = pl.concat([chosen.select(columns), fresh.select(columns)], how="vertical_relaxed")
    run.lake.commit(round, "select", 0, {"decisions": decisions})
    return {"considered": decisions.height, "kept": int(decisions["kept"].sum()), "new": int(fresh["kept"].sum())}


def choose_new(candidates: pl.DataFrame, limit: int, seed: int, key: tuple[Any, ...]) -> pl.DataFrame:
    """The first `limit` candidates in keyed order are kept; every row says so."""
    kept = set(keyed_order(seed, candidates["candidate_id"].to_list(), *key)[: max(0, limit)])
    is_kept = pl.col("candidate_id").is_in(list(kept))
    return candidates.with_columns(
        kept=is_kept,
        rule=pl.when(is_kept).then(pl.lit("selected")).otherwise(pl.lit("budget")),
        reason=pl.when(is_kept).then(pl.lit("new in this round, passed the audit")).otherwise(pl.lit("beyond the problems of this round")),
    )


def selected_ids(run: Run, round: int) -> list[str]:
    """Problems that this round trains on, in id order."""
    rows = run.lake.query("SELECT DISTINCT problem_id FROM decisions WHERE round = ? AND stage = 'select' AND kept ORDER BY problem_id", (round,))
    return [i for (i,) in rows.iter_rows()]
