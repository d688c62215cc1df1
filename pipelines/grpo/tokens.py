"""What token-level components see: flat tensors over the trained tokens of a micro-batch, rows concatenated and never cut."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

LOG_RATIO_BOUND = 20.0  # exp(20) is finite in float32, and so is its product with any advantage


@dataclass(frozen=True)
class TokenBatch:
    """Shapes: float[M] over trained tokens, lengths int64[R], rewards float[R]. Only `logp` and `entropy` may carry gradient.

    `old_logp` is the proximal policy's, `behavior_logp` the sampler's (NaN where it did not say), `ref_logp` the reference's (None where
    nobody asked). `weight` = aggregation weight x the group's coefficient, fixed over the whole step; `factor` = product of the
    step-level token weights (None = 1); `kl` = each token's share of the KL coefficient (None = 1).
    `aux` = weight of each token in an auxiliary loss, by component name.
    """

    logp: Tensor
    old_logp: Tensor
    behavior_logp: Tensor
    advantage: Tensor
    weight: Tensor
    lengths: Tensor
    entropy: Tensor | None = None
    ref_logp: Tensor | None = None
    factor: Tensor | None = None
    rewards: Tensor | None = None
    kl: Tensor | None = None
    aux: dict[str, Tensor] = field(default_factory=dict)

    def row_sum(self, values: Tensor) -> Tensor:
        """float[M] -> its sum per row float[R], differentiable."""
        numbers = self.lengths.new_ones(len(self.lengths)).cumsum(0) - 1
        rows = numbers.repeat_interleave(self.lengths, output_size=len(values))
        return values.new_zeros(len(self.lengths)).index_add(0, rows, values)

    def row_mean(self, values: Tensor) -> Tensor:
        return self.row_sum(values) / self.lengths

    def spread(self, values: Tensor) -> Tensor:
        """float[R] -> float[M]: a row's value on each of its tokens."""
        return values.repeat_interleave(self.lengths, output_size=len(self.logp))


def log_ratio(logp: Tensor, base: Tensor) -> Tensor:
    """logp - base, clamped to +-20 so that no ratio overflows."""
    return (logp - base).clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)
