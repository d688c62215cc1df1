"""Advantage transforms: from advantages to advantages, over all counted tokens of a step at once, in the preset's order.

`StepTokens` is global (all ranks, all micro-batches), so quantiles and whitening do not depend on how a step is cut.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.grpo.component import component

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class StepTokens:
    """The trained tokens of a step's counted rows, row after row. advantage, entropy float64[N]; lengths, group int64[n];
    rewards float64[n]; truncated bool[n] (cut off by the token limit).

    `entropy` (under the weights at the start of the step) is there where a component asks for the signal `step_entropy`.
    """

    advantage: Float64
    lengths: Int64
    group: Int64
    rewards: Float64
    truncated: NDArray[np.bool_]
    entropy: Float64 | None = None

    @property
    def row(self) -> Int64:
        return np.repeat(np.arange(len(self.lengths)), self.lengths)


@component("transforms", paper="REINFORCE++, arXiv 2501.03262, section 3; verl's masked_whiten")
def whiten(tokens: StepTokens, *, whiten_eps: float = 1e-8) -> Float64:
    """(A - mean) / sqrt(var + eps) over all tokens of the batch, unbiased variance; a long row weighs more."""
    a = tokens.advantage
    if len(a) < 2 or (a == a[0]).all():
        return np.zeros(len(a))
    return np.asarray((a - a.mean()) / np.sqrt(a.var(ddof=1) + whiten_eps))


@component("transforms", paper="Fathom, arXiv 2509.24107, section 3")
def good_group_scale(tokens: StepTokens) -> Float64:
    """A x (groups / groups with some advantage other than 0): saturated groups do not shrink the step."""
    groups = len(set(tokens.group.tolist()))
    alive = len(set(np.repeat(tokens.group, tokens.lengths)[tokens.advantage != 0].tolist()))
    return tokens.advantage * (groups / max(alive, 1))


def bounded_bonus(advantage: Float64, signal: Float64, alpha: float, kappa: float) -> Float64:
    """A + min(alpha s, |A| / kappa) for s >= 0: with kappa > 1 no sign ever flips, and where A = 0 nothing is added."""
    return np.asarray(advantage + np.minimum(alpha * signal, np.abs(advantage) / kappa))


@component(
    "transforms",
    needs=["step_entropy"],
    switch="entropy_bonus",
    paper="Reasoning with exploration, arXiv 2506.14758",
    checks={"bonus_kappa": (lambda v: v > 1, "must be above 1, or signs would flip")},
)
def entropy_advantage(tokens: StepTokens, *, entropy_bonus: float = 0.0, bonus_kappa: float = 2.0) -> Float64:
    """A + min(alpha H, |A| / kappa): tokens of high entropy are pushed a little further."""
    assert tokens.entropy is not None
    return bounded_bonus(tokens.advantage, tokens.entropy, entropy_bonus, bonus_kappa)
