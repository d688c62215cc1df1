"""Ratio, clip rule and surrogate: from log-probs and advantages to the loss of each token. Everything is a loss to minimise.

Sources: PPO clip arXiv 1707.06347, dual clip arXiv 1912.09729; `shared/reference/objectives.md` sections 4.2 and 5A.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pipelines.grpo.component import component
from pipelines.grpo.tokens import TokenBatch, log_ratio

if TYPE_CHECKING:
    from torch import Tensor

# ---------------------------------------------------------------------------------------------------------------- ratio


@component("ratio", paper="PPO, arXiv 1707.06347")
def token(batch: TokenBatch) -> Tensor:
    """log pi / pi_old of each token float[M]."""
    return log_ratio(batch.logp, batch.old_logp)


@component("ratio", paper="GSPO, arXiv 2507.18071, eq. 7")
def sequence(batch: TokenBatch) -> Tensor:
    """The mean log-ratio of the row, on each of its tokens; its gradient reaches every token of the row alike."""
    return batch.spread(batch.row_mean(batch.logp - batch.old_logp)).clamp(-20, 20)


@component("ratio", paper="GSPO, arXiv 2507.18071, eq. 14 (GSPO-token)")
def sequence_token(batch: TokenBatch) -> Tensor:
    """The row's mean log-ratio in value, each token's own log-prob in gradient: for advantages that differ within a row."""
    mean = batch.spread(batch.row_mean((batch.logp - batch.old_logp).detach()))
    return (batch.logp - batch.logp.detach() + mean).clamp(-20, 20)


# ----------------------------------------------------------------------------------------------------------------- clip


class Bounds(NamedTuple):
    """The ratio's bounds, floats or float[M]; `dual` = c, the most that a token of negative advantage may cost (0 = no bound)."""

    low: Tensor | float
    high: Tensor | float
    dual: float

    def clamp(self, ratio: Tensor) -> Tensor:
        return ratio.clamp(self.low, self.high)  # type: ignore[arg-type]


_CLIP = {
    "clip_low": (lambda v: 0 <= v < 1, "must lie in [0, 1)"),
    "dual_clip": (lambda v: v == 0 or 1 < v < float("inf"), "must be above 1 (or 0 = off)"),
}


@component("clip", paper="PPO, arXiv 1707.06347; clip-higher: DAPO, arXiv 2503.14476; dual clip: arXiv 1912.09729", checks=_CLIP)
def fixed(batch: TokenBatch, *, clip_low: float = 0.2, clip_high: float = 0.2, dual_clip: float = 3.0) -> Bounds:
    """[1 - low, 1 + high] for every token."""
    return Bounds(1 - clip_low, 1 + clip_high, dual_clip)


@component("clip", paper="DCPO, arXiv 2509.02333, section 3.1", checks=_CLIP)
def adaptive(batch: TokenBatch, *, clip_low: float = 0.16, clip_high: float = 0.2, dual_clip: float = 10.0) -> Bounds:
    """Bounds that leave rare tokens more room: |rho - 1| x p <= eps, with p = rho q, q = pi_old(token), solved for rho; at most `dual_clip` above."""
    q = batch.old_logp.detach().exp()
    low = 0.5 + 0.5 * (1 - 4 * clip_low / q).clamp(min=0).sqrt()
    high = 0.5 + 0.5 * (1 + 4 * clip_high / q).sqrt()
    return Bounds(low, high.clamp(max=dual_clip) if dual_clip else high, dual_clip)


@component(
    "clip",
    paper="CISPO: MiniMax-M1, arXiv 2506.13585; ScaleRL, arXiv 2510.13786",
    checks={"ratio_max": (lambda v: 1 <= v < float("inf"), "must be 1 or more")},
)
def capped(batch: TokenBatch, *, ratio_max: float = 5.0) -> Bounds:
    """At most `ratio_max` (TRL's epsilon_high; verl and slime write 1 + epsilon), nothing below."""
    return Bounds(0.0, ratio_max, 0.0)


@component("clip", paper="no bound")
def none(batch: TokenBatch) -> Bounds:
    """The ratio is not bounded."""
    return Bounds(0.0, float("inf"), 0.0)


# ------------------------------------------------------------------------------------------------------------ surrogate


def clip_surrogate(ratio: Tensor, advantage: Tensor, bounds: Bounds) -> Tensor:
    """max(-rho A, -clip(rho) A) per token; where A < 0 at most -c A."""
    loss = (-ratio * advantage).maximum(-bounds.clamp(ratio) * advantage)
    if bounds.dual:
        loss = loss.minimum(-bounds.dual * advantage).where(advantage < 0, loss)
    return loss


def clipped(ratio: Tensor, advantage: Tensor, bounds: Bounds) -> Tensor:
    """bool[M]: the tokens beyond the bound that their advantage pushes them to."""
    return ((ratio > bounds.high) & (advantage > 0)) | ((ratio < bounds.low) & (advantage < 0))


@component("surrogate", paper="PPO, arXiv 1707.06347, eq. 7")
def ppo(batch: TokenBatch, log_rho: Tensor, bounds: Bounds) -> Tensor:
    """The pessimistic minimum of the plain and the clipped surrogate."""
    return clip_surrogate(log_rho.exp(), batch.advantage, bounds)


@component("surrogate", paper="CISPO: MiniMax-M1, arXiv 2506.13585, section 3.1")
def cispo(batch: TokenBatch, log_rho: Tensor, bounds: Bounds) -> Tensor:
    """-sg(clip(rho)) A log pi: the clip weighs tokens, it silences none."""
    return -bounds.clamp(log_rho.exp()).detach() * batch.advantage * batch.logp


@component(
    "surrogate",
    paper="SAPO, arXiv 2511.20347 (TRL, verl)",
    checks={
        "tau_positive": (lambda v: 0 < v < float("inf"), "must be above 0"),
        "tau_negative": (lambda v: 0 < v < float("inf"), "must be above 0"),
    },
)
def sapo(batch: TokenBatch, log_rho: Tensor, bounds: Bounds, *, tau_positive: float = 1.0, tau_negative: float = 1.05) -> Tensor:
    """-sigmoid(tau (rho - 1)) 4 / tau A: a gate in place of a clip, of slope 1 at rho = 1."""
    tau = log_rho.new_full(log_rho.shape, tau_positive).where(batch.advantage > 0, tau_negative)
    return -(tau * (log_rho.exp() - 1)).sigmoid() * 4 / tau * batch.advantage
