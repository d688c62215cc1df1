"""estimate: verdicts become a pass count k of n per problem, a posterior, and a decision: in the band, out, or still open.

With `probe.most` above `probe.n` sampling is adaptive: problems whose decision is open get more answers, a wave at a time, until it
stands or they have `probe.most` of them; everybody else costs nothing more. A wave's shards (rollouts, verdicts) are committed before the
next wave is planned, so a run killed in between goes on where it was.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from data.records import RolloutSpec
from filters.adaptive import decide
from filters.difficulty import PRESETS, Band, estimate, priors_of
from pipelines.judging import Judge
from pipelines.problems import problems_by_id
from pipelines.rollout_stream import sample_and_judge
from pipelines.run import Run
from pipelines.stages.base import Summary
from pipelines.stages.rows import rollouts_of, sampled_tables, shards_of


def estimate_stage(run: Run, round: int) -> Summary:
    wave, asked, shard = 1, run.recipe.probe.n, 0  # the table itself is shard 0, the waves' rollouts follow
    rows = with_decisions(run, estimated(run, round, upto=shard))
    while (still_open := open_problems(rows, asked, run.recipe.probe.most)) and not run.lake.has_shard(round, "estimate", 0):
        more = min(run.recipe.probe.n, run.recipe.probe.most - asked)
        shard = _sample_wave(run, round, wave, still_open, more, shard)
        asked, wave = asked + more, wave + 1
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


def _sample_wave(run: Run, round: int, wave: int, ids: Sequence[str], n: int, last: int) -> int:
    """Samples and judges `n` more answers to each problem; returns the wave's last shard."""
    rollouts, asker = rollouts_of(run, round, "estimate"), Judge(run)
    chunks = shards_of(ids, run.recipe.probe.shard)
    for done, chunk in enumerate(chunks, 1):
        if not run.lake.has_shard(round, "estimate", last + done):
            specs = [
                RolloutSpec(p, n, run.recipe.sampling.sampling(), stream="probe", key=("adaptive", wave)) for p in problems_by_id(run, list(chunk))
            ]
            made, _, verdicts = sample_and_judge(rollouts, specs, asker.tools)
            tables = sampled_tables(run, round, "estimate", last + done, specs, made, verdicts)
            tables["requests"] += asker.requests(round, "estimate", last + done)
            run.lake.commit(round, "estimate", last + done, tables)
        run.emit("progress", round=round, stage="estimate", done=done, total=len(chunks), note=f"{len(ids)} problems need more answers, wave {wave}")
    return last + len(chunks)
