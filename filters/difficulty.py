"""Difficulty of a problem for a policy: how many of its judged answers passed, and what that says about its true pass rate.

Bands are compared on integer counts (k·q against p·n), never on floats: 2 of 8 is inside [0.25, 0.75] on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import polars as pl

DIFFICULTY_SCHEMA: dict[str, Any] = {
    "problem_id": pl.String,
    "policy_id": pl.String,
    "domain": pl.String,
    "level": pl.Int32,
    "concepts": pl.List(pl.String),
    "passes": pl.Int64,
    "fails": pl.Int64,
    "unknowns": pl.Int64,
    "n": pl.Int64,
    "pass_rate": pl.Float64,
    "posterior_mean": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
}


@dataclass(frozen=True)
class Band:
    """Pass rates worth training on: lo <= k/n <= hi, ends included; `mixed` asks for 0 < k < n besides."""

    lo: Fraction
    hi: Fraction
    mixed: bool = False

    @classmethod
    def of(cls, lo: float | str | Fraction, hi: float | str | Fraction, *, mixed: bool = False) -> Band:
        """0.1 means one tenth, not the binary float nearest to it."""
        low, high = (x if isinstance(x, Fraction) else Fraction(str(x)) for x in (lo, hi))
        if not 0 <= low <= high <= 1:
            raise ValueError(f"a band needs 0 <= lo <= hi <= 1, got {lo} and {hi}")
        return cls(low, high, mixed)

    def contains(self, passes: int, n: int) -> bool:
        """False where nothing was judged (n = 0)."""
        inside = self.lo.numerator * n <= passes * self.lo.denominator and passes * self.hi.denominator <= self.hi.numerator * n
        return n > 0 and inside and (not self.mixed or 0 < passes < n)

    def expr(self, passes: str = "passes", n: str = "n") -> pl.Expr:
        """`contains` over columns of a table."""
        k, m = pl.col(passes).cast(pl.Int64), pl.col(n).cast(pl.Int64)
        inside = (m > 0) & (k * self.lo.denominator >= m * self.lo.numerator) & (k * self.hi.denominator <= m * self.hi.numerator)
        return inside & (k > 0) & (k < m) if self.mixed else inside

    def __str__(self) -> str:
        return f"{'mixed, ' if self.mixed else ''}{float(self.lo):g}..{float(self.hi):g}"


PRESETS: Mapping[str, Band] = MappingProxyType(
    {
        "dapo": Band.of(0, 1, mixed=True),  # DAPO (arXiv 2503.14476, section 3.2): 0 < k < n
        "sws": Band.of("0.25", "0.75"),  # SwS (arXiv 2506.08989, section 2.4): 2..6 of 8
        "svs_source": Band.of("1/8", "1/2"),  # SvS (arXiv 2508.14029, Alg. 1; ends included as in its code): 1..4 of 8
        "svs_variant": Band.of("1/8", "5/8"),  # the same: 1..5 of 8
    }
)


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
def credible_interval(passes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Equal-tailed credible interval of the pass rate under a uniform prior, Beta(1, 1); (0.025, 0.975) for n = 0."""
    if not 0 <= passes <= n:
        raise ValueError(f"passes must lie in 0..n, got {passes} of {n}")
    tail = (1 - level) / 2
    return beta_quantile(tail, passes + 1, n - passes + 1), beta_quantile(1 - tail, passes + 1, n - passes + 1)


def estimate(verdicts: pl.DataFrame, problems: pl.DataFrame | None = None) -> pl.DataFrame:
    """One row per problem and policy, sorted by both: counts, pass rate and interval (`DIFFICULTY_SCHEMA`).

    `verdicts`: problem_id, policy_id, outcome, one row per rollout. Unknown verdicts are counted apart and are not in n.
    `problems` (problem_id, domain, level, concepts; any may be absent) gives the columns that describe the problem.
    `pass_rate` is null where n = 0; `posterior_mean` = (k + 1) / (n + 2).
    """
    outcome = pl.col("outcome")
    counts = (
        verdicts.group_by("problem_id", "policy_id")
        .agg(
            passes=(outcome == "pass").sum().cast(pl.Int64),
            fails=(outcome == "fail").sum().cast(pl.Int64),
            unknowns=(outcome == "unknown").sum().cast(pl.Int64),
        )
        .with_columns(n=pl.col("passes") + pl.col("fails"))
        .with_columns(
            pass_rate=pl.when(pl.col("n") > 0).then(pl.col("passes") / pl.col("n")),
            posterior_mean=(pl.col("passes") + 1) / (pl.col("n") + 2),
        )
    )
    pairs = counts.select("passes", "n").unique()
    bounds = [credible_interval(k, n) for k, n in pairs.iter_rows()]
    pairs = pairs.with_columns(
        pl.Series("ci_low", [low for low, _ in bounds], pl.Float64),
        pl.Series("ci_high", [high for _, high in bounds], pl.Float64),
    )
    rows = counts.join(pairs, on=["passes", "n"], how="left")
    described = [c for c in ("domain", "level", "concepts") if problems is not None and c in problems.columns]
    if problems is not None and described:
        rows = rows.join(problems.select("problem_id", *described).unique("problem_id", keep="first"), on="problem_id", how="left")
    rows = rows.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in DIFFICULTY_SCHEMA.items() if name not in rows.columns)
    return rows.select(pl.col(name).cast(dtype) for name, dtype in DIFFICULTY_SCHEMA.items()).sort("problem_id", "policy_id")
