"""Composers and reward shapers: functions from groups to groups, between collection and packing. Advantages are computed afterwards."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from data.records import Group, GroupEdit
from pipelines.grpo.component import REGISTRY, component


@dataclass
class StepInfo:
    """What a composer may know of the step. It adds the ids of groups that an older policy sampled to `stale`: their ratio is against
    the sampler's own log-probs."""

    step: int
    seed: int
    stale: set[str] = field(default_factory=set)


def drop_zero_variance(groups: Sequence[Group], keeps_flat: bool = False) -> list[Group]:
    """Keeps the groups from which gradient can come (DAPO's dynamic sampling; the refill is the loop's).

    `keeps_flat`: the preset's own estimator learns from groups of equal rewards (`Preset.keeps_flat_groups`). A group with an
    estimator of its own is judged by that one; without a baseline, rewards that are all 0 still give nothing.
    """
    return [g for g in groups if not g.zero_variance or (_learns_flat(g, keeps_flat) and bool(len(g.rewards)))]


def _learns_flat(group: Group, keeps_flat: bool) -> bool:
    if group.estimator == "group":
        return keeps_flat
    if group.estimator == "reinforce":
        return bool(np.any(group.rewards))
    return group.estimator in REGISTRY["estimator"] and REGISTRY["estimator"][group.estimator].flat


@component("composers", switch="dynamic_sampling", paper="DAPO, arXiv 2503.14476, section 3.2")
def drop_flat(groups: Sequence[Group], info: StepInfo, *, dynamic_sampling: bool = False) -> list[Group]:
    """Dynamic sampling: groups without variance leave the step and its denominators; the loop refills."""
    return drop_zero_variance(groups)


def apply_edits(groups: Sequence[Group], edits: Iterable[GroupEdit]) -> tuple[list[Group], dict[str, float]]:
    """(the edited groups, factor per scaled group id). Edits act in the order given; factors of one group multiply.

    A dropped group stays dropped: later edits of it have no effect (two strategies may both refuse it).
    An id that no group of the step has, a doubled id, or rewards of another length are a ValueError.
    """
    kept: dict[str, Group] = {}
    for group in groups:
        if group.id in kept:
            raise ValueError(f"two groups of this step have the id {group.id}; give their specs different keys")
        kept[group.id] = group
    dropped: set[str] = set()
    factors: dict[str, float] = {}
    for edit in edits:
        if edit.kind == "add":
            if edit.group is None:
                raise ValueError(f"the edit adds group {edit.group_id} but carries no group")
            if edit.group.id in kept:
                raise ValueError(f"the edit adds group {edit.group.id}, which this step already has")
            kept[edit.group.id] = edit.group
            dropped.discard(edit.group.id)
        elif edit.group_id in dropped:
            continue
        elif edit.group_id not in kept:
            raise ValueError(f"the edit would {edit.kind} group {edit.group_id}, but this step has no such group")
        elif edit.kind == "drop":
            del kept[edit.group_id]
            factors.pop(edit.group_id, None)
            dropped.add(edit.group_id)
        elif edit.kind == "scale":
            if not math.isfinite(edit.factor):
                raise ValueError(f"the edit scales group {edit.group_id} by {edit.factor}; a factor must be finite")
            factors[edit.group_id] = factors.get(edit.group_id, 1.0) * edit.factor
        elif edit.kind == "set_reward":
            kept[edit.group_id] = _with_rewards(kept[edit.group_id], edit.rewards)
        else:
            raise ValueError(f"unknown kind of edit {edit.kind!r}; known: add, drop, scale, set_reward")
    return list(kept.values()), factors


def _with_rewards(group: Group, rewards: object) -> Group:
    values = np.asarray([] if rewards is None else rewards, np.float32)
    if values.shape != (len(group.rollouts),):
        raise ValueError(f"the edit sets {values.size} rewards on group {group.id}, which has {len(group.rollouts)} rollouts")
    return replace(group, rewards=values)


def overlong_penalty(length: int, limit: int, cache: int) -> float:
    """0 up to limit - cache tokens, then down linearly to -1 at `limit` (DAPO, arXiv 2503.14476, eq. 13)."""
    return max(-1.0, min(0.0, (limit - cache - length) / cache)) if cache > 0 else 0.0


@component(
    "shapers",
    switch="overlong_share",
    paper="DAPO, arXiv 2503.14476, eq. 13",
    checks={"overlong_share": (lambda v: 0 <= v <= 1, "must lie in [0, 1] (0 = off)")},
)
def overlong(groups: Sequence[Group], *, overlong_share: float = 0.0, overlong_factor: float = 1.0) -> list[Group]:
    """Adds `overlong_factor` x the penalty to every reward; the window is `overlong_share` of each rollout's own `max_tokens`."""
    shaped = []
    for group in groups:
        penalty = [overlong_penalty(t.response_length, t.sampling.max_tokens, round(overlong_share * t.sampling.max_tokens)) for t in group.rollouts]
        shaped.append(replace(group, rewards=(group.rewards + np.asarray(penalty, np.float32) * np.float32(overlong_factor)).astype(np.float32)))
    return shaped
