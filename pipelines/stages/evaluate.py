"""evaluate: the current policy answers the held-out problems, which no round trains on, and the recipe's benchmarks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import polars as pl

from data.keyed import keyed_order
from data.records import Problem, RolloutSpec, Trajectory, Verdict
from filters.self_consistency import answer_key, majority_passes
from pipelines.chains import ChainJudge
from pipelines.evaluate import scores
from pipelines.intervals import paired_difference
from pipelines.judging import Judge
from pipelines.problems import HELDOUT, heldout_sets
from pipelines.rollout_shards import Shard, judged_shards
from pipelines.run import Run
from pipelines.stages.base import Summary
from pipelines.stages.rows import rollouts_of, sampled_tables, shards_of


def evaluate_stage(run: Run, round: int) -> Summary:
    part = run.recipe.evaluate
    policy = run.policy()
    # Every policy draws with the same random numbers, so that a paired comparison sees less noise.
    rollouts = replace(rollouts_of(run, round, "evaluate", policy), key=("evaluate",))
    planned = list(plan(run))
    known = evaluated(run, policy.id)
    askers: dict[int, Judge] = {}
    shards, asked = [], set(known)
    for number, (_, chunk) in enumerate(planned):
        if not run.lake.has_shard(round, "evaluate", number):
            askers[number] = Judge(run, policy)
            specs = [RolloutSpec(p, part.n, run.recipe.sampling.sampling(), stream="evaluate") for p in chunk if p.id not in asked]
            asked |= {p.id for p in chunk}
            shards.append(Shard(number, specs, askers[number].tools))
    with closing(judged_shards(rollouts, shards)) as judged:
        for shard in judged:
            benchmark, chunk = planned[shard.number]
            asker = askers[shard.number]
            chains = ChainJudge(part.chain, run.world, asker.tools, part.chain_votes, part.chain_rule)
            where = {"round": round, "stage": "evaluate", "shard": shard.number, "policy_id": policy.id, "benchmark": benchmark}
            by_rollout = {v.rollout_id: v for v in shard.verdicts}
            known |= {s.problem.id: eval_row(chains, s.problem, shard.rollouts[s.group_id], by_rollout) for s in shard.specs}
            tables = sampled_tables(run, round, "evaluate", shard.number, shard.specs, shard.rollouts, shard.verdicts)
            tables["evals"] = [where | known[p.id] for p in chunk]
            tables["requests"] += asker.requests(round, "evaluate", shard.number)
            run.lake.commit(round, "evaluate", shard.number, tables)
            run.emit("progress", round=round, stage="evaluate", done=shard.number + 1, total=len(planned))
    return summary(run, round, policy.id)


def evaluated(run: Run, policy_id: str) -> dict[str, dict[str, Any]]:
    """Counts by problem that this very policy has already: of another benchmark, or of a round after which nothing was trained. They stand."""
    columns = "problem_id, domain, level, n, passes, unknowns, majority, chain_passes"
    rows = run.lake.query(f"SELECT DISTINCT {columns} FROM evals WHERE policy_id = ?", (policy_id,))
    return {row["problem_id"]: row for row in rows.iter_rows(named=True)}


def plan(run: Run) -> Iterator[tuple[str, Sequence[Problem]]]:
    """(benchmark, problems) per shard: the same in every round, and for every run seed."""
    part = run.recipe.evaluate
    for benchmark, problems in heldout_sets(run).items():
        by_id = {p.id: p for p in problems}
        order = keyed_order(0, sorted(by_id), "heldout")
        if benchmark == HELDOUT:
            order = order[: part.problems]
        for chunk in shards_of([by_id[i] for i in order], part.shard):
            yield benchmark, chunk


def eval_row(chains: ChainJudge, problem: Problem, rollouts: Sequence[Trajectory], verdicts: dict[str, Verdict]) -> dict[str, Any]:
    """One problem's counts; `majority` and `chain_passes` are null where nothing can tell them."""
    outcomes = [verdicts[r.id].outcome for r in rollouts]
    passed = [o == "pass" for o in outcomes]
    keys = [answer_key(problem, r.text) for r in rollouts]
    known = [k for k in keys if k is not None]
    return {
        "problem_id": problem.id,
        "domain": problem.domain,
        "level": problem.level,
        "n": len(outcomes),
        "passes": sum(passed),
        "unknowns": outcomes.count("unknown"),
        "majority": majority_passes(known, passed) if len(known) == len(keys) else None,
        "chain_passes": chains.passes(problem, [r.text for r in rollouts], passed),
    }


def summary(run: Run, round: int, policy_id: str) -> Summary:
    """Every score of the held-out problems with its interval, the paired gain over the policy before training, and the benchmarks' scores."""
    columns = "problem_id, round, benchmark, n, passes, majority, chain_passes"
    evals = run.lake.query(f"SELECT {columns} FROM evals WHERE round IN (0, ?) AND n > 0 ORDER BY problem_id", (round,))
    found: Summary = {"policy_id": policy_id, "problems": 0, "benchmarks": {}}
    for benchmark in evals["benchmark"].unique().sort():
        table = evals.filter(pl.col("benchmark") == benchmark)
        now = table.filter(pl.col("round") == round)
        rates = (now["passes"] / now["n"]).to_numpy()
        one: Summary = {"problems": len(rates)}
        for metric, value, low, high in scores(now).select("metric", "value", "low", "high").iter_rows():
            one |= _named(metric.replace("@", "_at_").replace("-", "_"), (value, low, high))
        if round > 0:
            first = table.filter(pl.col("round") == 0)
            one |= _named("gain", paired_difference((first["passes"] / first["n"]).to_numpy(), rates, key=("gain", round)))
        if benchmark == HELDOUT:
            found |= one
        else:
            found["benchmarks"][benchmark] = one
    return found


def _named(name: str, estimate: tuple[float, float, float]) -> dict[str, float]:
    value, low, high = estimate
    return {name: value, f"{name}_low": low, f"{name}_high": high}
