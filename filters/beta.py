"""Beta and beta-binomial distributions of pass rates, without scipy: cumulative function, quantile, predictive counts, a fitted prior."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Prior(NamedTuple):
    """Beta(a, b): what is believed of a problem's pass rate before any answer to it."""

    a: float
    b: float


UNIFORM = Prior(1.0, 1.0)
FEWEST = 30
"""Problems below which no prior is fitted: two parameters from less would say more about chance than about the problems."""

# Means by logit, concentrations by logarithm. A fixed grid, so that equal counts give an equal prior, bit for bit, on every machine.
_MEANS = tuple(round(1 / (1 + math.exp(-x / 8)), 4) for x in range(-32, 33))
_CONCENTRATIONS = tuple(round(math.exp(x / 4), 3) for x in range(-6, 19))


def beta_cdf(x: float, a: float, b: float) -> float:
    """Regularised incomplete beta function I_x(a, b), by its continued fraction (Numerical Recipes 6.4; Lentz's method)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return front * _continued_fraction(x, a, b) / a
    return 1 - front * _continued_fraction(1 - x, b, a) / b


def _continued_fraction(x: float, a: float, b: float) -> float:
    tiny = 1e-300
    c, d = 1.0, 1 / _nonzero(1 - (a + b) * x / (a + 1), tiny)
    value = d
    for m in range(1, 10_000):
        for numerator in (m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)), -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))):
            d = 1 / _nonzero(1 + numerator * d, tiny)
            c = _nonzero(1 + numerator / c, tiny)
            value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return value


def _nonzero(x: float, tiny: float) -> float:
    return x if abs(x) > tiny else tiny


def beta_quantile(p: float, a: float, b: float) -> float:
    """x with I_x(a, b) = p, by bisection to the last bits; exact at p = 0 and 1."""
    lo, hi = 0.0, 1.0
    for _ in range(60):
        middle = (lo + hi) / 2
        lo, hi = (middle, hi) if beta_cdf(middle, a, b) < p else (lo, middle)
    return (lo + hi) / 2


@lru_cache(maxsize=65_536)
def credible_interval(passes: int, n: int, level: float = 0.95, prior: Prior = UNIFORM) -> tuple[float, float]:
    """Equal-tailed credible interval of the pass rate; (0.025, 0.975) for n = 0 under the uniform prior."""
    if not 0 <= passes <= n:
        raise ValueError(f"passes must lie in 0..n, got {passes} of {n}")
    tail = (1 - level) / 2
    a, b = prior.a + passes, prior.b + n - passes
    return beta_quantile(tail, a, b), beta_quantile(1 - tail, a, b)


@lru_cache(maxsize=65_536)
def beta_binomial(n: int, a: float, b: float) -> NDArray[np.float64]:
    """float64[n + 1]: chance of 0..n passes in n answers when the pass rate is Beta(a, b). Read-only: it is cached."""
    whole = math.lgamma(n + 1) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) - math.lgamma(a + b + n)
    logs = [whole - math.lgamma(k + 1) - math.lgamma(n - k + 1) + math.lgamma(a + k) + math.lgamma(b + n - k) for k in range(n + 1)]
    chances = np.exp(np.asarray(logs))
    chances.flags.writeable = False
    return chances


def fit_prior(counts: Mapping[tuple[int, int], int]) -> Prior:
    """The Beta prior under which the counts are likeliest (empirical Bayes, Robbins 1956): one policy's problems inform one another.

    counts: (passes, n) -> number of problems. The uniform prior where fewer than `FEWEST` problems were judged. Credible intervals under
    the fitted prior cover the truth as often as they say over the problems, which those under a fixed prior do not.
    """
    judged = {pair: m for pair, m in counts.items() if pair[1] > 0}
    if sum(judged.values()) < FEWEST:
        return UNIFORM
    k = np.asarray([k for k, _ in judged], np.int64)
    n = np.asarray([n for _, n in judged], np.int64)
    weight = np.asarray(list(judged.values()), np.float64)
    top = int(n.max())

    def likelihood(a: float, b: float) -> float:
        # log of the rising factorial (x)_j = x (x + 1) … (x + j - 1), for j = 0..top
        steps = np.arange(top)
        rising = [np.concatenate([[0.0], np.cumsum(np.log(x + steps))]) for x in (a, b, a + b)]
        return float(weight @ (rising[0][k] + rising[1][n - k] - rising[2][n]))

    grid = [(m * c, (1 - m) * c) for m in _MEANS for c in _CONCENTRATIONS]
    return Prior(*max(grid, key=lambda ab: (round(likelihood(*ab), 6), ab)))
