"""Advantage estimators: pure functions from the rewards of whole groups to advantages.

An estimator gives one advantage per row float64[n], or, where they differ within a row, one per trained token float64[sum of
lengths]. All but `reinforce`, `return_to_go` and the signed ones give exact zeros to a group of equal rewards and to a group of one.
Where codebases differ silently: verl ddof 1, eps 1e-6; TRL ddof 1, eps 1e-4; Fathom and DeepSearch ddof 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from data.records import Group
from pipelines.grpo.component import component

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Judged:
    """Rows of whole groups. rewards float64[n]; bounds int64[g + 1] (group i is rows bounds[i]:bounds[i + 1]); lengths int64[n]
    (trained tokens); problems: problem id per group, what an estimator's memory is keyed by."""

    rewards: Float64
    bounds: Int64
    lengths: Int64
    problems: tuple[str, ...] = ()

    @cached_property
    def sizes(self) -> Int64:
        return np.diff(self.bounds)

    @cached_property
    def group(self) -> Int64:
        """Group number of each row int64[n]."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)

    @classmethod
    def of(cls, groups: Sequence[Sequence[float] | Float64], lengths: Sequence[int] = (), problems: Sequence[str] = ()) -> Judged:
        """From rewards group by group; every row one token long unless `lengths` says otherwise."""
        rewards = np.concatenate([np.asarray(g, np.float64) for g in groups] or [np.zeros(0)])
        bounds = np.concatenate([[0], np.cumsum([len(g) for g in groups])]).astype(np.int64)
        return cls(rewards, bounds, np.asarray(lengths if len(lengths) else np.ones(len(rewards)), np.int64), tuple(problems))


DDOF = {"ddof": (lambda v: v in (0, 1), "must be 0 (population) or 1 (sample)")}


def _centred(judged: Judged) -> tuple[Float64, Float64]:
    """(reward minus its group's mean, the mean itself), float64[n]; exact zeros where rewards are all equal."""
    rewards, group, sizes = judged.rewards, judged.group, judged.sizes
    if not len(rewards):
        return np.zeros(0), np.zeros(0)
    filled = sizes > 0
    starts = judged.bounds[:-1][filled]
    mean, low, high = (np.zeros(len(sizes)) for _ in range(3))
    mean[filled] = np.add.reduceat(rewards, starts) / sizes[filled]
    low[filled], high[filled] = np.minimum.reduceat(rewards, starts), np.maximum.reduceat(rewards, starts)
    return np.where((low == high)[group], 0.0, rewards - mean[group]), mean[group]


def _variance(centred: Float64, judged: Judged, ddof: int) -> Float64:
    """Variance of each row's group float64[n]."""
    squares = np.bincount(judged.group, centred**2, minlength=len(judged.sizes))
    return np.asarray((squares / np.maximum(judged.sizes - ddof, 1))[judged.group])


@component("estimator", paper="DeepSeekMath, arXiv 2402.03300, section 4.1.2", checks=DDOF)
def group_norm(judged: Judged, *, ddof: int = 1, eps: float = 1e-6) -> Float64:
    """(r - mean) / (std + eps) within the group: GRPO."""
    centred, _ = _centred(judged)
    return np.asarray(centred / (np.sqrt(_variance(centred, judged, ddof)) + eps))


@component("estimator", paper="Dr. GRPO, arXiv 2503.20783, section 3.2")
def group_center(judged: Judged) -> Float64:
    """r - mean within the group: Dr. GRPO; no division by the standard deviation."""
    return _centred(judged)[0]


@component("estimator", paper="RLOO, arXiv 2402.14740, section 3")
def rloo(judged: Judged) -> Float64:
    """r minus the mean of the group's other rewards = (r - mean) n / (n - 1)."""
    return np.asarray(_centred(judged)[0] * (judged.sizes / np.maximum(judged.sizes - 1, 1))[judged.group])


@component("estimator", paper="Williams 1992", flat=True)
def reinforce(judged: Judged) -> Float64:
    """The reward itself, no baseline: for streams whose rewards are already centred by their strategy."""
    return judged.rewards.copy()


@component("estimator", paper="REINFORCE++, arXiv 2501.03262", flat=True, checks={"gamma": (lambda v: 0 < v <= 1, "must lie in (0, 1]")})
def return_to_go(judged: Judged, *, gamma: float = 1.0) -> Float64:
    """gamma^(tokens still to come) x r for each token: REINFORCE++ before its whitening."""
    lengths = judged.lengths
    last = np.repeat(np.cumsum(lengths), lengths)
    remaining = last - 1 - np.arange(len(last))
    return np.asarray(np.repeat(judged.rewards, lengths) * gamma**remaining)


def _is_right(judged: Judged, correct_above: float) -> NDArray[np.bool_]:
    return judged.rewards > correct_above


@component("estimator", paper="NSR, arXiv 2506.01347, section 3", flat=True, selects=True)
def negative_only(judged: Judged, *, correct_above: float = 0.5) -> Float64:
    """-1 on wrong rows, 0 on right ones (which are in no denominator): negative sample reinforcement."""
    return np.where(_is_right(judged, correct_above), 0.0, -1.0)


@component("estimator", paper="PSR, arXiv 2506.01347, section 3", flat=True, selects=True)
def positive_only(judged: Judged, *, correct_above: float = 0.5) -> Float64:
    """+1 on right rows, 0 on wrong ones (which are in no denominator): positive sample reinforcement."""
    return np.where(_is_right(judged, correct_above), 1.0, 0.0)


@component("estimator", paper="W-REINFORCE, arXiv 2506.01347, section 5", flat=True)
def weighted_signs(judged: Judged, *, positive_weight: float = 0.1, correct_above: float = 0.5) -> Float64:
    """lambda on right rows, -1 on wrong ones; no baseline."""
    return np.where(_is_right(judged, correct_above), positive_weight, -1.0)


Estimate = Callable[[Judged], Float64]


def group_advantages(groups: Sequence[Group], estimate: Callable[[str], Estimate], valid: Sequence[NDArray[np.bool_]]) -> list[list[Float64]]:
    """Per group and row the advantages of its trained tokens float64[tokens]; rows that are not valid get zeros.

    Each group's own estimator (`estimate("group")` is the preset's) sees all groups of that estimator together, their valid rows only.
    """
    by_name: dict[str, list[int]] = {}
    for i, group in enumerate(groups):
        by_name.setdefault(group.estimator, []).append(i)
    out = [[np.zeros(t.response_length) for t in g.rollouts] for g in groups]
    for name, members in by_name.items():
        rows = [(i, n) for i in members for n in np.flatnonzero(valid[i])]
        judged = Judged.of(
            [np.asarray(groups[i].rewards, np.float64)[valid[i]] for i in members],
            [groups[i].rollouts[n].response_length for i, n in rows],
            [groups[i].problem.id for i in members],
        )
        found = estimate(name)(judged)
        if len(found) == len(rows):
            found = np.repeat(found, judged.lengths)
        for (i, n), part in zip(rows, np.split(found, np.cumsum(judged.lengths)[:-1]), strict=False):
            out[i][n] = part
    return out
