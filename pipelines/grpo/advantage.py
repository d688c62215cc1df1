"""Advantage estimators: pure functions from the rewards of whole groups to one advantage per rollout.

Shapes: rewards float64[n], bounds int64[g + 1] (group i is rewards[bounds[i]:bounds[i+1]]) -> float64[n].
Every estimator but `reinforce` gives exact zeros to a group of equal rewards and to a group of one.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.errors import UserError
from data.records import Group

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class EstimatorOptions:
    """Where codebases differ silently: verl ddof 1, eps 1e-6; TRL ddof 1, eps 1e-4; Fathom and DeepSearch ddof 0."""

    ddof: int = 1
    eps: float = 1e-6


Estimator = Callable[[Float64, Int64, EstimatorOptions], Float64]
ESTIMATORS: dict[str, Estimator] = {}


def register_estimator(name: str) -> Callable[[Estimator], Estimator]:
    """Makes an estimator available to presets and to `Group.estimator` under `name`."""

    def add(estimator: Estimator) -> Estimator:
        ESTIMATORS[name] = estimator
        return estimator

    return add


def estimator_named(name: str) -> Estimator:
    """The estimator, or a UserError that names the nearest one."""
    if name not in ESTIMATORS:
        near = difflib.get_close_matches(name, ESTIMATORS, 1, 0.0)[0]
        raise UserError(f"there is no advantage estimator {name!r}; did you mean {near!r}? ({', '.join(sorted(ESTIMATORS))})")
    return ESTIMATORS[name]


def _centred(rewards: Float64, bounds: Int64) -> tuple[Float64, Int64, Int64]:
    """(reward minus its group's mean, group index int64[n], group sizes int64[g]); exact zeros where rewards are all equal."""
    sizes = np.diff(bounds)
    group = np.repeat(np.arange(len(sizes)), sizes)
    filled = sizes > 0
    starts = bounds[:-1][filled]
    centred = np.zeros(len(rewards))
    if len(rewards):
        mean, low, high = (np.zeros(len(sizes)) for _ in range(3))
        mean[filled] = np.add.reduceat(rewards, starts) / sizes[filled]
        low[filled], high[filled] = np.minimum.reduceat(rewards, starts), np.maximum.reduceat(rewards, starts)
        centred = np.where((low == high)[group], 0.0, rewards - mean[group])
    return centred, group, sizes


@register_estimator("group_norm")
def group_norm(rewards: Float64, bounds: Int64, options: EstimatorOptions) -> Float64:
    """(r - mean) / (std + eps) within the group: GRPO (DeepSeekMath, arXiv 2402.03300, eq. 3 and section 4.1.2)."""
    centred, group, sizes = _centred(rewards, bounds)
    squares = np.bincount(group, centred**2, minlength=len(sizes))
    std = np.sqrt(squares / np.maximum(sizes - options.ddof, 1))
    return np.asarray(centred / (std[group] + options.eps))


@register_estimator("group_center")
def group_center(rewards: Float64, bounds: Int64, options: EstimatorOptions) -> Float64:
    """r - mean within the group: Dr. GRPO (arXiv 2503.20783, section 3.2); no division by the standard deviation."""
    return _centred(rewards, bounds)[0]


@register_estimator("rloo")
def rloo(rewards: Float64, bounds: Int64, options: EstimatorOptions) -> Float64:
    """r minus the mean of the group's other rewards = (r - mean) n / (n - 1): RLOO (arXiv 2402.14740, section 3)."""
    centred, group, sizes = _centred(rewards, bounds)
    return np.asarray(centred * (sizes / np.maximum(sizes - 1, 1))[group])


@register_estimator("reinforce")
def reinforce(rewards: Float64, bounds: Int64, options: EstimatorOptions) -> Float64:
    """The reward itself, no baseline (Williams 1992): for streams whose rewards are already centred by their strategy."""
    return rewards.copy()


def group_advantages(
    groups: Sequence[Group], preset_estimator: str, options: EstimatorOptions, factors: Mapping[str, float], valid: Sequence[NDArray[np.bool_]]
) -> list[Float64]:
    """Per group float64[n]: each group's own estimator ("group" = the preset's) on its valid rows, times its factor; 0 where not valid."""
    by_name: dict[str, list[int]] = {}
    for i, group in enumerate(groups):
        by_name.setdefault(preset_estimator if group.estimator == "group" else group.estimator, []).append(i)
    out = [np.zeros(len(group.rewards)) for group in groups]
    for name, members in by_name.items():
        rewards = [np.asarray(groups[i].rewards, np.float64)[valid[i]] for i in members]
        bounds = np.concatenate([[0], np.cumsum([len(r) for r in rewards])]).astype(np.int64)
        flat = estimator_named(name)(np.concatenate(rewards), bounds, options)
        for i, start, end in zip(members, bounds[:-1], bounds[1:], strict=True):
            out[i][valid[i]] = flat[start:end] * factors.get(groups[i].id, 1.0)
    return out
