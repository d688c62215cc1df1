"""probe: the current policy answers a sample of the training problems, n times each, and what it answered is judged beside it."""

from __future__ import annotations

from contextlib import closing

from data.keyed import keyed_order
from data.records import Problem, RolloutSpec
from pipelines.judging import Judge
from pipelines.problems import problems_by_id
from pipelines.rollout_shards import Shard, judged_shards
from pipelines.run import Run
from pipelines.stages.base import Summary
from pipelines.stages.rows import rollouts_of, sampled_tables, shards_of
from pipelines.stages.verify import commit_verdicts


def probe_stage(run: Run, round: int) -> Summary:
    """A shard's verdicts are committed as shard of the stage `verify` as soon as they are there; that stage judges what is left then."""
    problems = choose(run, round)
    part = run.recipe.probe
    chunks = shards_of(problems, part.shard)
    policy, askers = run.policy(), dict[int, Judge]()
    shards = []
    for number, chunk in enumerate(chunks):
        if not run.lake.has_shard(round, "probe", number):
            askers[number] = Judge(run, policy)
            specs = [RolloutSpec(p, part.n, run.recipe.sampling.sampling(), stream="probe") for p in chunk]
            shards.append(Shard(number, specs, askers[number].tools))
    done = len(chunks) - len(shards)

    def commit(shard: Shard) -> None:
        nonlocal done
        run.lake.commit(round, "probe", shard.number, sampled_tables(run, round, "probe", shard.number, shard.specs, shard.rollouts))
        done += 1
        run.emit("progress", round=round, stage="probe", done=done, total=len(chunks))

    with closing(judged_shards(rollouts_of(run, round, "probe", policy), shards, on_sampled=commit, last=False)) as judged:
        for shard in judged:
            commit_verdicts(run, round, shard.number, shard.rollouts, shard.verdicts, askers[shard.number])
    return {"problems": len(problems), "rollouts": len(problems) * part.n, "shards": len(chunks)}


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
