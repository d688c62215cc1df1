"""The plan of a step: from judged groups to rows with their advantages and weights, everything global and fixed before the first forward.

numpy only. All ranks make the same plan from the same groups; what they share out afterwards are micro-batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from data.keyed import keyed_order
from data.records import Group
from pipelines.grpo.advantage import Float64, group_advantages
from pipelines.grpo.aggregation import row_weights
from pipelines.grpo.objective import Objective
from pipelines.grpo.packing import Row, make_row
from pipelines.grpo.recompose import StepInfo
from pipelines.grpo.transform import StepTokens


@dataclass(frozen=True)
class Plan:
    """Shaped groups of a step, which of their rows take part, and those rows (of groups with a coefficient other than 0), in order."""

    groups: list[Group]
    valid: list[NDArray[np.bool_]]
    rows: list[Row]
    place: list[tuple[int, int]]  # (group, rollout) of each row


def plan_step(groups: Sequence[Group], objective: Objective, info: StepInfo, temperature: float, behavior_base: bool) -> Plan:
    """Composed, shaped and laid out as rows; advantages and weights come later (they may need what a forward pass says).

    `temperature` 0 = each rollout's own; `behavior_base`: the ratio of every row is against the sampler's log-probs.
    """
    shaped = objective.shape(objective.compose(groups, info))
    needs_behavior = "behavior_logp" in objective.needs or behavior_base
    valid = [valid_rows(g, needs_behavior or g.id in info.stale) for g in shaped]
    rows: list[Row] = []
    place: list[tuple[int, int]] = []
    index = 0
    for i, group in enumerate(shaped):
        for n, rollout in enumerate(group.rollouts):
            if valid[i][n] and group.coef != 0:
                own = temperature or rollout.sampling.temperature or 1.0
                stale = behavior_base or group.id in info.stale
                rows.append(make_row(rollout, index, i, temperature=own, reward=float(group.rewards[n]), stale=stale, kl=group.kl))
                place.append((i, n))
            index += 1
    return Plan(shaped, valid, rows, place)


def valid_rows(group: Group, needs_behavior: bool) -> NDArray[np.bool_]:
    """bool[n]: rows that take part, in the baseline as in the loss."""
    rewards = np.asarray(group.rewards)
    ok = np.isfinite(rewards) & np.array([t.response_length > 0 for t in group.rollouts], bool)
    ok &= np.array([v.outcome != "unknown" for v in group.verdicts], bool) | (rewards != 0)
    if needs_behavior:
        ok &= np.array([bool(np.isfinite(t.logp[t.loss_mask > 0]).all()) for t in group.rollouts], bool)
    return ok


def with_advantages(plan: Plan, objective: Objective, factors: Mapping[str, float], entropies: Mapping[int, Float64]) -> list[Row]:
    """The plan's rows with their advantages (times their group's factor) and step-level token weights.

    `entropies`: row index -> float64[tokens], of rows that were forwarded ahead; a row without one gets zeros.
    """
    found = group_advantages(plan.groups, objective.estimate, plan.valid)
    lengths = np.array([len(r.targets) for r in plan.rows], np.int64)
    tokens = StepTokens(
        advantage=np.concatenate([found[i][n] for i, n in plan.place] or [np.zeros(0)]),
        lengths=lengths,
        group=np.array([i for i, _ in plan.place], np.int64),
        rewards=np.array([r.reward for r in plan.rows], np.float64),
        truncated=np.array([r.truncated for r in plan.rows], bool),
        entropy=np.concatenate([entropies.get(r.index, np.zeros(len(r.targets))) for r in plan.rows]) if entropies else None,
    )
    if not plan.rows:
        return []
    cuts = np.cumsum(lengths)[:-1]
    advantage = np.split(objective.transform(tokens), cuts)
    factor = objective.step_factor(tokens)
    factors_of = np.split(factor, cuts) if factor is not None else [None] * len(plan.rows)
    scale = [factors.get(plan.groups[i].id, 1.0) for i, _ in plan.place]
    return [replace(r, advantage=a * s, factor=f) for r, a, s, f in zip(plan.rows, advantage, scale, factors_of, strict=True)]


def updates_of(plan: Plan, rows: Sequence[Row], objective: Objective, *, minibatches: int, epochs: int, seed: int, step: int) -> list[list[Row]]:
    """Per optimizer update the rows that need a forward pass, their weights fixed over the whole update.

    Groups are dealt to `minibatches` updates by key, `epochs` times over.
    """
    out: list[list[Row]] = []
    members: list[list[int]] = [[] for _ in plan.groups]
    for number, (i, _) in enumerate(plan.place):
        members[i].append(number)
    for epoch in range(epochs):
        parts: list[list[int]] = [list(range(len(plan.groups)))]
        if minibatches > 1:
            by_id = {g.id: i for i, g in enumerate(plan.groups)}
            shuffled = [by_id[i] for i in keyed_order(seed, list(by_id), "minibatches", step, *([epoch] if epoch else []))]
            parts = [sorted(shuffled[n::minibatches]) for n in range(minibatches)]
        out += [_weighted([rows[n] for i in part for n in members[i]], plan, objective) for part in parts]
    return out


def _weighted(rows: Sequence[Row], plan: Plan, objective: Objective) -> list[Row]:
    if not rows:
        return []
    groups = [plan.groups[r.family[0]] for r in rows]
    alive = [bool(np.any(r.advantage)) for r in rows]
    weights = row_weights(
        objective.aggregate(),
        [len(r.targets) for r in rows],
        [g.stream for g in groups],
        [0.0 if objective.selects(g.estimator) and not a else g.coef for g, a in zip(groups, alive, strict=True)],
        max(t.sampling.max_tokens for i in {r.family[0] for r in rows} for t in plan.groups[i].rollouts),
        objective.numbers["denominator"],
    )
    aux: dict[str, Float64] = {}
    for name, part in objective.aux_rows(np.array([r.reward for r in rows])).items():
        aux[name] = part / max(float(part @ np.array([len(r.targets) for r in rows])), 1.0)
    always = bool(objective.preset.parts["regularizers"])
    out = []
    for n, (row, weight) in enumerate(zip(rows, weights, strict=True)):
        own = {name: float(part[n]) for name, part in aux.items()}
        if (weight and (alive[n] or always)) or any(own.values()):  # else its gradient is exactly 0: no forward
            out.append(replace(row, weight=float(weight), aux=own))
    return out
