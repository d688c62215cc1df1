"""The objective: log-ratio -> clipped surrogate x token weights + regularizers -> aggregation, on flat tokens.

Everything is a loss to minimise. Shapes: float[N] over trained tokens, rows concatenated; aggregation is a weight per
token that is computed from the whole step before micro-batching, so that the sum over micro-batches equals the whole.
Sources: `shared/reference/objectives.md` sections 4.2-4.5; PPO clip arXiv 1707.06347, dual clip arXiv 1912.09729.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from pipelines.grpo.presets import Preset

LOG_RATIO_BOUND = 20.0  # exp(20) is finite in float32, and so is its product with any advantage


@dataclass(frozen=True)
class TokenBatch:
    """Flat trained tokens of some rows. `weight` = aggregation weight x the group's coefficient; only `logp` and `entropy` may carry gradient.

    `old_logp` is the proximal policy's, `behavior_logp` the sampler's (NaN where it did not say), `ref_logp` the reference's.
    """

    logp: Tensor
    old_logp: Tensor
    behavior_logp: Tensor
    advantage: Tensor
    weight: Tensor
    entropy: Tensor
    ref_logp: Tensor | None = None


def log_ratio(logp: Tensor, base: Tensor) -> Tensor:
    """logp - base, clamped to +-20 so that no ratio overflows."""
    return (logp - base).clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)


def clip_surrogate(ratio: Tensor, advantage: Tensor, clip_low: float, clip_high: float, dual_clip: float = 0.0) -> Tensor:
    """max(-rho A, -clip(rho, 1 - low, 1 + high) A) per token; where A < 0 at most -c A (dual clip, 0 = off)."""
    loss = torch.maximum(-ratio * advantage, -ratio.clamp(1 - clip_low, 1 + clip_high) * advantage)
    if dual_clip:
        loss = torch.where(advantage < 0, torch.minimum(loss, -dual_clip * advantage), loss)
    return loss


def clip_share(ratio: Tensor, advantage: Tensor, clip_low: float, clip_high: float) -> Tensor:
    """bool[N]: the tokens whose gradient the clip has cut off."""
    return ((ratio > 1 + clip_high) & (advantage > 0)) | ((ratio < 1 - clip_low) & (advantage < 0))


def kl_k1(logp: Tensor, ref: Tensor) -> Tensor:
    """logp - ref: unbiased in value; as a loss its expected gradient is 0."""
    return -log_ratio(ref, logp)


def kl_k2(logp: Tensor, ref: Tensor) -> Tensor:
    """(ref - logp)^2 / 2: as a loss, its expected gradient on policy is that of the reverse KL(pi || ref)."""
    return log_ratio(ref, logp).square() / 2


def kl_k3(logp: Tensor, ref: Tensor) -> Tensor:
    """exp(d) - d - 1 with d = ref - logp: unbiased in value; as a loss, its expected gradient is that of the forward KL(ref || pi)."""
    d = log_ratio(ref, logp)
    return d.exp() - d - 1


KL_ESTIMATORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"k1": kl_k1, "k2": kl_k2, "k3": kl_k3}


def truncated_importance(old_logp: Tensor, behavior_logp: Tensor, cap: float) -> Tensor:
    """min(pi_old / pi_behavior, cap) per token, detached: corrects the engine's numerics (TIS, fengyao.notion.site 2025)."""
    return log_ratio(old_logp, behavior_logp).exp().clamp(max=cap).detach()


@dataclass
class Tally:
    """Sums over tokens of everything that the metrics report; adds up over micro-batches."""

    sums: dict[str, float] = field(default_factory=dict)
    maxima: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, value: Tensor | float) -> None:
        self.sums[name] = self.sums.get(name, 0.0) + float(value)

    def peak(self, name: str, values: Tensor) -> None:
        if values.numel():
            self.maxima[name] = max(self.maxima.get(name, 0.0), float(values.max()))

    def mean(self, name: str, per: str = "tokens") -> float:
        return self.sums.get(name, 0.0) / max(self.sums.get(per, 0.0), 1.0)


def objective(batch: TokenBatch, preset: Preset, tally: Tally) -> Tensor:
    """The loss of these tokens (a summand of the step's loss); what happened is added to `tally`."""
    log_rho = log_ratio(batch.logp, batch.old_logp)
    ratio = log_rho.exp()
    loss = clip_surrogate(ratio, batch.advantage, preset.clip_low, preset.clip_high, preset.dual_clip)
    if preset.tis_cap:
        loss = loss * truncated_importance(batch.old_logp, batch.behavior_logp, preset.tis_cap)
    if preset.kl_coef and batch.ref_logp is not None:  # after the weights: a regularizer is neither masked nor reweighted
        kl = KL_ESTIMATORS[preset.kl](batch.logp, batch.ref_logp)
        loss = loss + preset.kl_coef * kl
        tally.add("kl", kl.detach().sum())
    total = (loss * batch.weight).sum()
    with torch.no_grad():
        tally.add("tokens", batch.logp.numel())
        tally.add("loss", total.detach())
        tally.add("entropy", batch.entropy.detach().sum())
        tally.add("ratio", ratio.sum())
        tally.peak("ratio", ratio)
        tally.add("clipped", clip_share(ratio, batch.advantage, preset.clip_low, preset.clip_high).sum())
        said = torch.isfinite(batch.behavior_logp)
        gap = (batch.old_logp - batch.behavior_logp)[said].abs()
        tally.add("mismatch", gap.sum())
        tally.add("mismatch_tokens", gap.numel())
        tally.peak("mismatch", gap)
    return total
