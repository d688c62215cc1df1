"""The rows that rollouts leave in the lake, the same from every stage that samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from data.records import PolicyVersion, RolloutSpec, Trajectory, Verdict
from data.tables import rollout_row, trajectory_row
from filters.tables import verdict_row
from pipelines.rollout import Rollouts
from pipelines.run import Run

PRIORITY = {"train": 2, "evaluate": 1, "probe": 1, "estimate": 1}
"""Whose requests go first where one engine serves several at once: a training step waits for its rollouts; synthesis (0) waits for nobody."""


def rollouts_of(run: Run, round: int, stage: str, policy: PolicyVersion | None = None) -> Rollouts:
    """How this stage samples with `policy`, which the engine holds; None = the newest."""
    policy = policy or run.policy()
    return Rollouts(
        engine=run.engine(),
        policy_id=policy.id,
        model=run.model,
        render=run.render,
        dialect=run.recipe.policy.dialect,
        seed=run.recipe.seed,
        key=(round, stage),
        purpose=stage,
        priority=PRIORITY.get(stage, 0),
    )


def sampled_tables(
    run: Run,
    round: int,
    stage: str,
    shard: int,
    specs: Sequence[RolloutSpec],
    rollouts: Mapping[str, Sequence[Trajectory]],
    verdicts: Sequence[Verdict] = (),
    trained: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Rows of rollouts, trajectories, requests and (where judged already) verdicts, for one shard's transaction.

    `trained`: rewards by rollout id where training used others than the verifiers'.
    """
    flat = [(spec, rollout) for spec in specs for rollout in rollouts.get(spec.group_id, ())]
    keys = sorted({key for _, rollout in flat for key in rollout.request_keys})
    where: dict[str, Any] = {"round": round, "stage": stage, "shard": shard}
    rewards = {v.rollout_id: v.reward for v in verdicts if v.outcome != "unknown"} | dict(trained or {})
    outcomes = {v.rollout_id: v.outcome for v in verdicts}
    policy_of = {rollout.id: rollout.policy_id for _, rollout in flat}
    tables: dict[str, Any] = {
        "rollouts": [
            rollout_row(r, round, stage, spec.stream, reward=rewards.get(r.id), outcome=outcomes.get(r.id, ""), group_id=spec.group_id)
            for spec, r in flat
        ],
        "trajectories": [trajectory_row(r, round, stage) for _, r in flat],
        "requests": run.ledger.rows(keys, **where),
    }
    if verdicts:
        tables["verdicts"] = [verdict_row(v, policy_of[v.rollout_id], **where) for v in verdicts]
    return tables


def shards_of(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[i : i + size] for i in range(0, len(items), size)]
