"""Token weights: detached factors of the token loss (after the clip, as in TRL and verl; regularizers are not touched by them).

A weight masks or rescales and changes no denominator. d = log pi_old - log pi_behavior is the engine's mismatch, or a stale policy's lag.
Sources: `shared/reference/objectives.md` sections 4.5 and 5C.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from pipelines.grpo.component import component
from pipelines.grpo.tokens import LOG_RATIO_BOUND, TokenBatch
from pipelines.grpo.transform import Float64, StepTokens

if TYPE_CHECKING:
    from torch import Tensor

LEVELS = ("token", "sequence", "geometric")
"""Of a ratio: each token's own, the row's product, or the row's geometric mean (what does not grow with length)."""


def _off(value: float) -> bool:
    return 0 <= value < math.inf


_CAP = (lambda v: v == 0 or (math.isfinite(v) and v > 0), "must be above 0 (or 0 = off)")


def mismatch(batch: TokenBatch, level: str) -> Tensor:
    """log pi_old - log pi_behavior at `level`, on each token float[M], detached, clamped to +-20."""
    d = (batch.old_logp - batch.behavior_logp).detach()
    if level == "sequence":
        d = batch.spread(batch.row_sum(d))
    elif level == "geometric":
        d = batch.spread(batch.row_mean(d))
    return d.clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)


@component(
    "weights",
    needs=["behavior_logp"],
    switch="tis_cap",
    paper="TIS, fengyao.notion.site 2025; verl, TRL",
    checks={"tis_cap": _CAP},
    choices={"tis_level": LEVELS},
)
def truncated_importance(batch: TokenBatch, *, tis_cap: float = 0.0, tis_level: str = "token") -> Tensor:
    """min(pi_old / pi_behavior, cap): corrects the engine's numerics."""
    return mismatch(batch, tis_level).exp().clamp(max=tis_cap)


@component(
    "weights", needs=["behavior_logp"], switch="mis_high", paper="MIS, TRL's sequence_mask", checks={"mis_high": _CAP}, choices={"mis_level": LEVELS}
)
def masked_importance(batch: TokenBatch, *, mis_high: float = 0.0, mis_low: float = 0.0, mis_level: str = "sequence") -> Tensor:
    """pi_old / pi_behavior where it lies in [low, high], else 0."""
    ratio = mismatch(batch, mis_level).exp()
    return ratio.where((ratio >= mis_low) & (ratio <= mis_high), 0.0)


@component(
    "weights",
    needs=["behavior_logp"],
    switch="reject_high",
    paper="verl: rollout rejection sampling",
    checks={"reject_high": _CAP},
    choices={"reject_level": LEVELS},
)
def rejection(batch: TokenBatch, *, reject_high: float = 0.0, reject_low: float = 0.0, reject_level: str = "geometric") -> Tensor:
    """1 where pi_old / pi_behavior lies in [low, high], else 0: a mask without the ratio; multiply with truncated importance for verl's MIS."""
    ratio = mismatch(batch, reject_level).exp()
    return ((ratio >= reject_low) & (ratio <= reject_high)).to(ratio.dtype)


@component(
    "weights",
    needs=["behavior_logp"],
    switch="off_policy_limit",
    paper="DeepSeek-V3.2, arXiv 2512.02556, section 3.1; TRL",
    checks={"off_policy_limit": (_off, "must be a finite number, 0 or more (0 = off)")},
)
def off_policy_mask(batch: TokenBatch, *, off_policy_limit: float = 0.0) -> Tensor:
    """0 on rows of negative advantage whose mean log pi_behavior - log pi exceeds the limit: what the policy would no longer say teaches nothing."""
    drift = batch.spread(batch.row_mean((batch.behavior_logp - batch.logp).detach()))
    return ((batch.advantage >= 0) | (drift <= off_policy_limit)).to(drift.dtype)


@component(
    "weights",
    needs=["step_entropy"],
    switch="entropy_share",
    step=True,
    paper="80/20, arXiv 2506.01939; per row: EARL",
    checks={"entropy_share": (lambda v: 0 <= v <= 1, "must lie in [0, 1] (0 = off)")},
    choices={"entropy_scope": ("batch", "row")},
)
def entropy_mask(tokens: StepTokens, *, entropy_share: float = 0.0, entropy_scope: str = "batch") -> Float64:
    """1 on the `entropy_share` of tokens with the highest entropy, of the whole step or of each row; 0 on the others."""
    assert tokens.entropy is not None
    if entropy_scope == "batch":
        return (tokens.entropy >= np.quantile(tokens.entropy, 1 - entropy_share)).astype(np.float64) if len(tokens.entropy) else np.zeros(0)
    parts = np.split(tokens.entropy, np.cumsum(tokens.lengths)[:-1])
    return np.concatenate([(p >= np.quantile(p, 1 - entropy_share)).astype(np.float64) for p in parts if len(p)] or [np.zeros(0)])


@component("weights", switch="overlong_filter", step=True, paper="DAPO, arXiv 2503.14476, section 3.4 (overlong filtering)")
def overlong_mask(tokens: StepTokens, *, overlong_filter: bool = False) -> Float64:
    """0 on rows that the token limit cut off: a right answer may have been on its way."""
    return np.repeat(np.where(tokens.truncated, 0.0, 1.0), tokens.lengths)
