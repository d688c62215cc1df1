"""Aggregation: what one token weighs in the loss, computed for the whole update before micro-batching.

Every aggregation is linear in the token losses, so it is a weight per row; the sum over any split into micro-batches
(or ranks) is then the whole, exactly. Names are verl's; `shared/reference/objectives.md` section 4.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Aggregation = Callable[[Float64, float], Float64]


def token_mean(lengths: Float64, const: float) -> Float64:
    """Every token of the step weighs the same (DAPO)."""
    return np.full(len(lengths), 1.0 / max(lengths.sum(), 1.0))


def seq_mean_token_mean(lengths: Float64, const: float) -> Float64:
    """Every row weighs the same, tokens share their row's weight (GRPO)."""
    return 1.0 / (np.maximum(lengths, 1.0) * max((lengths > 0).sum(), 1))


def seq_mean_token_sum(lengths: Float64, const: float) -> Float64:
    """Sum over a row's tokens, mean over rows."""
    return np.full(len(lengths), 1.0 / max((lengths > 0).sum(), 1))


def sum_over_const(lengths: Float64, const: float) -> Float64:
    """Sum over tokens / (rows x a constant length): Dr. GRPO (TRL's form; verl leaves the rows out)."""
    return np.full(len(lengths), 1.0 / (max((lengths > 0).sum(), 1) * const))


AGGREGATIONS: dict[str, Aggregation] = {f.__name__: f for f in (token_mean, seq_mean_token_mean, seq_mean_token_sum, sum_over_const)}


def row_weights(aggregation: str, lengths: Sequence[int], streams: Sequence[str], coefs: Sequence[float], const: float, denominator: str) -> Float64:
    """float64[rows]: what a token of each row weighs in the step's loss = aggregation over its pool x the group's coefficient.

    Rows without trained tokens and rows of coefficient 0 belong to no pool. Global: computed on all rows of an update.
    """
    length, coef = np.asarray(lengths, np.float64), np.asarray(coefs, np.float64)
    pool = np.asarray(streams if denominator == "stream" else [""] * len(length), dtype=object)
    counted = (length > 0) & (coef != 0)
    out = np.zeros(len(length))
    for name in sorted(set(pool[counted])):
        members = counted & (pool == name)
        out[members] = AGGREGATIONS[aggregation](length[members], const)
    return out * coef
