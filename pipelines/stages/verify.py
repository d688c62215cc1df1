"""verify: programs judge what the probe sampled, shard by shard, as far as they did not while it sampled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from data.records import Trajectory, Verdict
from data.tables import trajectory_from_row
from filters.tables import verdict_row
from pipelines.judging import Judge
from pipelines.problems import problems_by_id
from pipelines.rollout import judge
from pipelines.run import Run
from pipelines.stages.base import Summary


def verify_stage(run: Run, round: int) -> Summary:
    shards = [line["shard"] for line in run.lake.shard_lines(round, "probe")]
    for done, shard in enumerate(sorted(shards), 1):
        if not run.lake.has_shard(round, "verify", shard):
            rows = run.lake.query("SELECT * FROM trajectories WHERE round = ? AND stage = 'probe' AND shard = ? ORDER BY rollout_id", (round, shard))
            rollouts = [trajectory_from_row(row) for row in rows.iter_rows(named=True)]
            problems = {p.id: p for p in problems_by_id(run, sorted({r.problem_id for r in rollouts}))}
            asker = Judge(run)
            verdicts = judge([(problems[r.problem_id], r) for r in rollouts], asker.tools)
            commit_verdicts(run, round, shard, {"": rollouts}, verdicts, asker)
        run.emit("progress", round=round, stage="verify", done=done, total=len(shards))
    counts = run.lake.query("SELECT outcome, count(*) FROM verdicts WHERE round = ? AND stage = 'verify' GROUP BY ALL", (round,)).rows()
    mix = dict(counts)
    return {outcome: int(mix.get(outcome, 0)) for outcome in ("pass", "fail", "unknown")}


def commit_verdicts(
    run: Run, round: int, shard: int, rollouts: Mapping[str, Sequence[Trajectory]], verdicts: Sequence[Verdict], asker: Judge
) -> None:
    """The shard's verdicts, and the requests that `asker` made for them."""
    policy_of = {r.id: r.policy_id for group in rollouts.values() for r in group}
    table = [verdict_row(v, policy_of[v.rollout_id], round=round, stage="verify", shard=shard) for v in verdicts]
    run.lake.commit(round, "verify", shard, {"verdicts": table, "requests": asker.requests(round, "verify", shard)})
