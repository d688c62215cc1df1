"""estimate: verdicts become a pass count k of n per problem, a posterior, and a decision: in the band, out, or still open.

With `probe.most` above `probe.n` sampling is adaptive: problems whose decision is open get more answers, a wave at a time, until it
stands or they have `probe.most` of them; everybody else costs nothing more. A wave's shards (rollouts, verdicts) are committed before the
next wave is planned, so a run killed in between goes on where it was.
"""

from __future__ import annotations

from contextlib import ExitStack

import polars as pl

from filters.adaptive import decide
from filters.difficulty import PRESETS, Band, estimate, priors_of
from pipelines.run import Run
from pipelines.stages.base import Summary
from pipelines.stages.waves import Wave, Waves


def estimate_stage(run: Run, round: int) -> Summary:
    wave, asked, shard = 1, run.recipe.probe.n, 0  # the table itself is shard 0, the waves' rollouts follow
    rows = with_decisions(run, estimated(run, round, upto=shard))
    with ExitStack() as opened:
        while (still_open := open_problems(rows, asked, run.recipe.probe.most)) and not run.lake.has_shard(round, "estimate", 0):
            if wave == 1:
                waves = opened.enter_context(Waves(run, round, band(run)))
            shard = waves.sample(Wave(wave, asked), still_open, rows, shard)
            asked, wave = asked + Wave(wave, asked).more(run), wave + 1
            rows = with_decisions(run, estimated(run, round, upto=shard))
    if run.lake.has_shard(round, "estimate", 0):
        rows = run.lake.query("SELECT * FROM difficulty WHERE round = ? AND stage = 'estimate'", (round,))
    else:
        run.lake.commit(round, "estimate", 0, {"difficulty": rows})
    judged = int(rows["n"].sum())
    return {
        "problems": rows.height,
        "solved": rows.filter(pl.col("passes") > 0).height,
        "in_band": rows.filter(band(run).expr()).height,
        "open": rows.filter(pl.col("decision") == "open").height,
        "pass_rate": int(rows["passes"].sum()) / judged if judged else 0.0,
        "rollouts": int((rows["n"] + rows["unknowns"]).sum()),
    }


def band(run: Run) -> Band:
    """The recipe's band of pass rates worth training on."""
    part = run.recipe.difficulty
    return PRESETS[part.band] if part.band else Band.of(part.low, part.high)


def estimated(run: Run, round: int, upto: int) -> pl.DataFrame:
    """The difficulty table over the probe's verdicts and those of this stage's shards 1..upto: what the next wave is planned from."""
    verdicts = run.lake.query(
        """
        SELECT problem_id, policy_id, outcome FROM verdicts
        WHERE round = ? AND (stage = 'verify' OR (stage = 'estimate' AND shard <= ?))
        """,
        (round, upto),
    )
    return estimate(verdicts, run.lake.query("SELECT problem_id, domain, level, concepts FROM problems"))


def with_decisions(run: Run, rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` with the column `decision`; the question is what `probe.most` answers would say, or the ones there are without it."""
    inside, certainty, most = band(run), run.recipe.difficulty.certainty, run.recipe.probe.most
    priors = priors_of(rows)
    pairs = rows.select("policy_id", "passes", "n").unique()
    said = [decide(k, n, inside, max(most, n), priors[policy], certainty) for policy, k, n in pairs.iter_rows()]
    return rows.join(pairs.with_columns(pl.Series("decision", said, pl.String)), on=["policy_id", "passes", "n"], how="left", maintain_order="left")


def open_problems(rows: pl.DataFrame, asked: int, most: int) -> list[str]:
    """Problems that every wave so far has sampled and whose decision is open, in id order; none once `most` answers were asked for."""
    if asked >= most:
        return []
    answers = pl.col("n") + pl.col("unknowns")
    return rows.filter(pl.col("decision") == "open", answers >= asked)["problem_id"].sort().to_list()
