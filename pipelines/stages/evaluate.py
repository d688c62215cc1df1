"""evaluate: the current policy answers the held-out problems, which no round trains on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from data.keyed import keyed_order
from data.records import Problem, RolloutSpec, Trajectory, Verdict
from pipelines.evaluate import Estimate, mean_with_interval, paired_difference
from pipelines.problems import heldout_problems
from pipelines.rollout import make_groups
from pipelines.run import Run
from pipelines.stages.base import Summary
from pipelines.stages.rows import rollouts_of, sampled_tables, shards_of


def evaluate_stage(run: Run, round: int) -> Summary:
    problems = chosen(run)
    part = run.recipe.evaluate
    policy = run.policy()
    # Every policy draws with the same random numbers, so that a paired comparison sees less noise.
    rollouts = replace(rollouts_of(run, round, "evaluate"), key=("evaluate",))
    shards = shards_of(problems, part.shard)
    for shard, chunk in enumerate(shards):
        if not run.lake.has_shard(round, "evaluate", shard):
            specs = [RolloutSpec(p, part.n, run.recipe.sampling.sampling(), stream="evaluate") for p in chunk]
            made = rollouts.sample(specs)
            _, verdicts = make_groups(specs, made)
            tables = sampled_tables(run, round, "evaluate", shard, specs, made, verdicts)
            tables["evals"] = [
                eval_row(spec.problem, made[spec.group_id], {v.rollout_id: v for v in verdicts}, policy.id, round, shard) for spec in specs
            ]
            run.lake.commit(round, "evaluate", shard, tables)
        run.emit("progress", round=round, stage="evaluate", done=shard + 1, total=len(shards))
    return summary(run, round, policy.id)


def chosen(run: Run) -> list[Problem]:
    """The same held-out problems in every round, and for every run seed."""
    problems = {p.id: p for p in heldout_problems(run)}
    order = keyed_order(0, sorted(problems), "heldout")[: run.recipe.evaluate.problems]
    return [problems[i] for i in order]


def eval_row(problem: Problem, rollouts: list[Trajectory], verdicts: dict[str, Verdict], policy_id: str, round: int, shard: int) -> dict[str, Any]:
    outcomes = [verdicts[r.id].outcome for r in rollouts]
    return {
        "round": round,
        "stage": "evaluate",
        "shard": shard,
        "policy_id": policy_id,
        "benchmark": "heldout",
        "problem_id": problem.id,
        "domain": problem.domain,
        "level": problem.level,
        "n": len(outcomes),
        "passes": outcomes.count("pass"),
        "unknowns": outcomes.count("unknown"),
    }


def summary(run: Run, round: int, policy_id: str) -> Summary:
    """pass@1 with a bootstrap interval over problems, and the paired gain over the policy before training."""
    rates = run.lake.query("SELECT problem_id, round, passes / n AS rate FROM evals WHERE round IN (0, ?) AND n > 0 ORDER BY problem_id", (round,))
    now = rates.filter(rates["round"] == round)["rate"].to_numpy()
    estimate = mean_with_interval(now, key=("evaluate", round))
    found: Summary = {"policy_id": policy_id, "problems": len(now), **_named("pass_at_1", estimate)}
    if round > 0:
        first = rates.filter(rates["round"] == 0)["rate"].to_numpy()
        found |= _named("gain", paired_difference(first, now, key=("gain", round)))
    return found


def _named(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
