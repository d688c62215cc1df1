"""Aggregation: what one token weighs in the loss, computed for the whole update before micro-batching.

Every aggregation is linear in the token losses, so it is a weight per row; the sum over any split into micro-batches
(or ranks) is then the whole, exactly. Names are verl's; `shared/reference/objectives.md` section 4.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.grpo.component import component

Float64 = NDArray[np.float64]
DENOMINATORS = {"denominator": ("batch", "stream")}
"""`batch` pools the rows of all streams with a coefficient other than 0; `stream` gives each stream its own mean, so that a
small stream weighs as much as a large one."""


@component("aggregation", paper="DAPO, arXiv 2503.14476, eq. 8", choices=DENOMINATORS)
def token_mean(lengths: Float64, limit: int, *, denominator: str = "batch") -> Float64:
    """Every token of the step weighs the same."""
    return np.full(len(lengths), 1.0 / max(lengths.sum(), 1.0))


@component("aggregation", paper="DeepSeekMath, arXiv 2402.03300, eq. 3", choices=DENOMINATORS)
def seq_mean_token_mean(lengths: Float64, limit: int, *, denominator: str = "batch") -> Float64:
    """Every row weighs the same, tokens share their row's weight."""
    return 1.0 / (np.maximum(lengths, 1.0) * max((lengths > 0).sum(), 1))


@component("aggregation", paper="verl: seq-mean-token-sum", choices=DENOMINATORS)
def seq_mean_token_sum(lengths: Float64, limit: int, *, denominator: str = "batch") -> Float64:
    """Sum over a row's tokens, mean over rows."""
    return np.full(len(lengths), 1.0 / max((lengths > 0).sum(), 1))


@component("aggregation", paper="Dr. GRPO, arXiv 2503.20783, section 3.2", choices=DENOMINATORS)
def sum_over_const(lengths: Float64, limit: int, *, const_length: int = 0, denominator: str = "batch") -> Float64:
    """Sum over tokens / (rows x a constant length; 0 = the sampling's max_tokens): TRL's form; verl leaves the rows out."""
    return np.full(len(lengths), 1.0 / (max((lengths > 0).sum(), 1) * (const_length or limit)))


@component("aggregation", paper="DCPO, arXiv 2509.02333, section 3.3 (OTM)", choices=DENOMINATORS)
def only_token_mean(lengths: Float64, limit: int, *, denominator: str = "batch") -> Float64:
    """Mean over a row's tokens, sum over rows: no row is diluted by the batch, so the scale grows with it; retune the learning rate."""
    return 1.0 / np.maximum(lengths, 1.0)


def row_weights(
    aggregate: Callable[[Float64, int], Float64], lengths: Sequence[int], streams: Sequence[str], coefs: Sequence[float], limit: int, denominator: str
) -> Float64:
    """float64[rows]: what a token of each row weighs in the step's loss = aggregation over its pool x the group's coefficient.

    Rows without trained tokens and rows of coefficient 0 belong to no pool. Global: computed on all rows of an update.
    """
    length, coef = np.asarray(lengths, np.float64), np.asarray(coefs, np.float64)
    pool = np.asarray(streams if denominator == "stream" else [""] * len(length), dtype=object)
    counted = (length > 0) & (coef != 0)
    out = np.zeros(len(length))
    for name in sorted(set(pool[counted])):
        members = counted & (pool == name)
        out[members] = aggregate(length[members], limit)
    return out * coef
