"""probe: the current policy answers a sample of the training problems, n times each."""

from __future__ import annotations

from data.keyed import keyed_order
from data.records import Problem, RolloutSpec
from pipelines.problems import problems_by_id
from pipelines.run import Run
from pipelines.stages.base import Summary
from pipelines.stages.rows import rollouts_of, sampled_tables, shards_of


def probe_stage(run: Run, round: int) -> Summary:
    problems = choose(run, round)
    rollouts = rollouts_of(run, round, "probe")
    part = run.recipe.probe
    shards = shards_of(problems, part.shard)
    for shard, chunk in enumerate(shards):
        if not run.lake.has_shard(round, "probe", shard):
            specs = [RolloutSpec(p, part.n, run.recipe.sampling.sampling(), stream="probe") for p in chunk]
            run.lake.commit(round, "probe", shard, sampled_tables(run, round, "probe", shard, specs, rollouts.sample(specs)))
        run.emit("progress", round=round, stage="probe", done=(shard + 1), total=len(shards))
    return {"problems": len(problems), "rollouts": len(problems) * part.n, "shards": len(shards)}


def choose(run: Run, round: int) -> list[Problem]:
    """Up to half known problems (their difficulty moves with the policy), the rest never probed before; keyed order."""
    known = run.lake.query(
        """
        SELECT DISTINCT p.problem_id, d.problem_id IS NOT NULL AS probed
        FROM problems p LEFT JOIN (SELECT DISTINCT problem_id FROM difficulty WHERE round < ?) d USING (problem_id)
        WHERE p.round < ?
          AND (p.split = 'train' OR (p.split = 'online'
               AND p.problem_id IN (SELECT problem_id FROM decisions WHERE stage = 'audit' AND kept AND round < ?)))
          AND p.problem_id NOT IN (SELECT problem_id FROM decisions WHERE stage = 'audit' AND NOT kept AND round < ?)
        """,
        (round, round, round, round),
    )
    fresh = [i for i, probed in known.rows() if not probed]
    old = [i for i, probed in known.rows() if probed]
    size = run.recipe.probe.problems
    take_old = keyed_order(run.recipe.seed, old, round, "probe")[: max(size // 2, size - len(fresh))]
    take_new = keyed_order(run.recipe.seed, fresh, round, "probe")[: size - len(take_old)]
    return problems_by_id(run, [*take_new, *take_old])
