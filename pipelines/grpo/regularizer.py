"""Regularizers: terms added to the token loss after the weights, aggregated like it; and auxiliary losses with denominators of their own.

Gradient facts, on policy and in expectation (`objectives.md` section 4.4, tested): k1 as a loss moves nothing, k2 is the reverse
KL(pi || ref), k3 the forward KL(ref || pi).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.grpo.component import component
from pipelines.grpo.tokens import TokenBatch, log_ratio

if TYPE_CHECKING:
    from torch import Tensor


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


KL_ESTIMATORS = {"k1": kl_k1, "k2": kl_k2, "k3": kl_k3}
KL_NAMES = ("k1", "k2", "k3", "k1+", "k3+")


def kl_estimate(name: str, logp: Tensor, ref: Tensor) -> Tensor:
    """The estimator `name`; with a "+" its value and k2's gradient (verl's straight-through)."""
    found = KL_ESTIMATORS[name[:2]](logp, ref)
    if name.endswith("+"):
        through = kl_k2(logp, ref)
        found = through - through.detach() + found.detach()
    return found


@component(
    "regularizers",
    name="kl",
    needs=["ref_logp"],
    switch="kl_coef",
    paper="schulman.joschu.net/blog/kl-approx.html; DeepSeekMath, eq. 4",
    choices={"kl": KL_NAMES},
)
def kl_to_reference(batch: TokenBatch, *, kl_coef: float = 0.0, kl: str = "k3", kl_unbiased: bool = False) -> Tensor:
    """coef x the group's share of it x KL estimate per token.

    `kl_unbiased` multiplies by pi / pi_old, so that off policy it still estimates the current KL (TRL's default).
    """
    assert batch.ref_logp is not None
    estimate = kl_estimate(kl, batch.logp, batch.ref_logp)
    if kl_unbiased:
        estimate = estimate * log_ratio(batch.logp, batch.old_logp).exp()
    return kl_coef * (estimate if batch.kl is None else batch.kl * estimate)


@component(
    "regularizers",
    needs=["entropy_grad"],
    switch="entropy_coef",
    paper="A3C, arXiv 1602.01783, section 4",
    checks={"entropy_coef": (lambda v: abs(v) < float("inf"), "must be a finite number (negative = a penalty)")},
)
def entropy(batch: TokenBatch, *, entropy_coef: float = 0.0) -> Tensor:
    """-coef x entropy of the full next-token distribution; a negative coefficient punishes entropy."""
    assert batch.entropy is not None
    return -entropy_coef * batch.entropy


# ----------------------------------------------------------------------------------------------------- auxiliary losses


@component("aux", switch="nll_coef", paper="VAPO, arXiv 2504.05118 (language-model loss on right answers)")
class PositiveNLL:
    """coef x mean -log pi over the tokens of right rows: the policy imitates what it got right, by a denominator of its own."""

    def rows(self, rewards: NDArray[np.float64], *, nll_coef: float = 0.0, correct_above: float = 0.5) -> NDArray[np.float64]:
        """Which rows take part, float64[n]; the trainer divides by their tokens in the whole step."""
        return (rewards > correct_above).astype(np.float64)

    def __call__(self, batch: TokenBatch, *, nll_coef: float = 0.0, correct_above: float = 0.5) -> Tensor:
        """Per-token loss float[M]."""
        return -nll_coef * batch.logp
