"""Numbers one can trust: means over problems with bootstrap intervals, and paired comparisons of two policies."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data.keyed import keyed_rng

RESAMPLES = 2000


class Estimate(NamedTuple):
    """A value with a 95 % interval."""

    value: float
    low: float
    high: float


def mean_with_interval(rates: NDArray[np.float64], *, key: tuple[object, ...] = (), resamples: int = RESAMPLES) -> Estimate:
    """Mean of per-problem rates in [0, 1], percentile bootstrap over problems (Efron 1979); keyed, so it is the same each time.

    rates float64[problems]. Where all problems agree the bootstrap sees no spread: the rule of three (3 / n) bounds the other
    side (Hanley & Lippman-Hand 1983). With no problem everything is 0, with an interval of [0, 1].
    """
    if len(rates) == 0:
        return Estimate(0.0, 0.0, 1.0)
    if np.ptp(rates) == 0:
        mean, room = float(rates[0]), 3 / len(rates)
        return Estimate(mean, max(0.0, mean - room), min(1.0, mean + room))
    return _bootstrap(rates, key, resamples)


def paired_difference(before: NDArray[np.float64], after: NDArray[np.float64], *, key: tuple[object, ...] = ()) -> Estimate:
    """Mean gain on the same problems in the same order: the problems' own spread cancels out."""
    if len(before) != len(after):
        raise ValueError(f"a paired comparison needs the same problems: {len(before)} before, {len(after)} after")
    return _bootstrap(after - before, ("paired", *key), RESAMPLES) if len(after) else Estimate(0.0, 0.0, 0.0)


def _bootstrap(values: NDArray[np.float64], key: tuple[object, ...], resamples: int) -> Estimate:
    rng = keyed_rng(0, "bootstrap", *key)
    means = np.sort(np.asarray([rng.choice(values, len(values)).mean() for _ in range(resamples)]))
    low, high = means[int(0.025 * resamples)], means[min(resamples - 1, int(0.975 * resamples))]
    return Estimate(float(values.mean()), float(low), float(high))


def pass_at_k(n: int, passes: int, k: int) -> float:
    """Unbiased pass@k of one problem: 1 - C(n - c, k) / C(n, k) (Chen et al., arXiv 2107.03374, section 2.1)."""
    if not 0 <= passes <= n or not 1 <= k <= n:
        raise ValueError(f"pass@k needs 0 <= passes <= n and 1 <= k <= n, got n={n}, passes={passes}, k={k}")
    if n - passes < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(n - passes + 1, n + 1)))
