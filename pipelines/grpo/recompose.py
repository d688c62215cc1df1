"""Composers: pure functions from groups to groups, between collection and packing. Advantages are computed afterwards."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from data.records import Group, GroupEdit


def drop_zero_variance(groups: Sequence[Group]) -> list[Group]:
    """Keeps the groups from which gradient can come (DAPO's dynamic sampling; the refill is the loop's). `reinforce` needs no variance."""
    return [g for g in groups if not g.zero_variance or (g.estimator == "reinforce" and bool(np.any(g.rewards)))]


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


def shape_overlong(groups: Sequence[Group], share: float) -> list[Group]:
    """Adds the overlong penalty to every reward; the window is `share` of each rollout's own `max_tokens`."""
    if share <= 0:
        return list(groups)
    shaped = []
    for group in groups:
        penalty = [overlong_penalty(t.response_length, t.sampling.max_tokens, round(share * t.sampling.max_tokens)) for t in group.rollouts]
        shaped.append(replace(group, rewards=(group.rewards + np.asarray(penalty, np.float32)).astype(np.float32)))
    return shaped
