"""Intervals one can trust: means over problems, and paired comparisons of two policies on the same problems.

Problems are the sample: a benchmark is a draw from the problems one cares about, and answers to one problem are not independent
problems. So the interval comes from the spread between problems, however many answers each got.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data.keyed import keyed_rng

RESAMPLES = 2000
UNSEEN = 0.1
_Z = 1.959963984540054  # 97.5 % point of the standard normal distribution


class Estimate(NamedTuple):
    """A value with a 95 % interval."""

    value: float
    low: float
    high: float


def t_quantile(df: int) -> float:
    """97.5 % point of Student's t, by the Cornish-Fisher series in 1/df (Abramowitz & Stegun 26.7.5); within 0.2 % from df = 4 on."""
    if df <= 3:
        return (12.706, 4.303, 3.182)[max(df, 1) - 1]
    z = _Z
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / df ** (i + 1) for i, term in enumerate(terms))


def mean_with_interval(rates: NDArray[np.float64]) -> Estimate:
    """Mean of per-problem rates in [0, 1] with Wilson's score interval (1927) on the effective number of problems.

    rates float64[problems]: pass rates, or any estimate per problem that lies in [0, 1] (pass@k, majority). A rate from several
    answers varies less than one coin toss, so m problems are worth m* = m · p(1 - p) / s² tosses (the design effect of Korn & Graubard,
    Survey Methodology 24, 1998), with Student's t for the normal quantile. With one answer a problem this is Wilson's interval. Unlike
    the percentile bootstrap it keeps its 95 % on sixteen problems and near 0 and 1 (`tests/pipelines/test_pipelines_intervals.py`).
    `UNSEEN` of a problem at the far end is added to the spread: without it, two hundred problems with pass@4 = 0.997 cover the truth
    78 times in 100, because the rare hard problem is often in no sample. With no problem everything is 0, with an interval of [0, 1].
    """
    problems = len(rates)
    if problems == 0:
        return Estimate(0.0, 0.0, 1.0)
    mean = float(np.mean(rates))
    if problems == 1:
        return Estimate(mean, 0.0, 1.0)
    spread = float(np.var(rates, ddof=1))
    spread += UNSEEN * max(mean, 1 - mean) ** 2 / problems if spread else 0.0
    tosses = problems - 1.0 if spread == 0 else (problems - 1) * max(mean * (1 - mean), 1e-12) / spread
    c = t_quantile(problems - 1) ** 2 / tosses
    middle = (mean + c / 2) / (1 + c)
    half = math.sqrt(c * mean * (1 - mean) + c * c / 4) / (1 + c)
    return Estimate(mean, min(mean, max(0.0, middle - half)), max(mean, min(1.0, middle + half)))


def paired_difference(before: NDArray[np.float64], after: NDArray[np.float64], *, key: tuple[object, ...] = ()) -> Estimate:
    """Mean gain on the same problems in the same order: the problems' own spread cancels out.

    Percentile bootstrap over problems (Efron 1979), keyed, so it is the same each time. Where every problem gained the same the
    bootstrap sees no spread: the rule of three (3 / m, Hanley & Lippman-Hand 1983) bounds it.
    """
    if len(before) != len(after):
        raise ValueError(f"a paired comparison needs the same problems: {len(before)} before, {len(after)} after")
    if not len(after):
        return Estimate(0.0, 0.0, 0.0)
    gains = after - before
    if np.ptp(gains) == 0:
        gain, room = float(gains[0]), 3 / len(gains)
        return Estimate(gain, max(-1.0, gain - room), min(1.0, gain + room))
    rng = keyed_rng(0, "bootstrap", "paired", *key)
    means = np.sort(np.asarray([rng.choice(gains, len(gains)).mean() for _ in range(RESAMPLES)]))
    return Estimate(float(gains.mean()), float(means[int(0.025 * RESAMPLES)]), float(means[int(0.975 * RESAMPLES)]))
