"""Difficulty of a problem for a policy: how many of its judged answers passed, and what that says about its true pass rate.

The pass rate has a Beta posterior; its prior is fitted to all problems of the same policy version (`filters.beta.fit_prior`).
Bands are compared on integer counts (k·q against p·n), never on floats: 2 of 8 is inside [0.25, 0.75] on every machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import polars as pl

from filters.beta import Prior, credible_interval, fit_prior

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
        "medvlthinker": Band.of("1/16", "7/16"),  # MedVLThinker (arXiv 2508.02669): 1..7 of 16
        "sws": Band.of("0.25", "0.75"),  # SwS (arXiv 2506.08989, section 2.4), synthesized problems: 2..6 of 8
        "sws_training": Band.of("1/8", "7/8"),  # the same, dynamic sampling of augmented RL (its released script): 1..7 of 8
        "svs_source": Band.of("1/8", "1/2"),  # SvS (arXiv 2508.14029, Alg. 1; ends included as in its code): 1..4 of 8
        "svs_variant": Band.of("1/8", "5/8"),  # the same: 1..5 of 8
    }
)


def estimate(verdicts: pl.DataFrame, problems: pl.DataFrame | None = None) -> pl.DataFrame:
    """One row per problem and policy, sorted by both: counts, pass rate, posterior mean and interval (`DIFFICULTY_SCHEMA`).

    `verdicts`: problem_id, policy_id, outcome, one row per rollout. Unknown verdicts are counted apart and are not in n.
    `problems` (problem_id, domain, level, concepts; any may be absent) gives the columns that describe the problem.
    `pass_rate` is null where n = 0; `posterior_mean` = (a + k) / (a + b + n) with the policy's own prior Beta(a, b), uniform where it
    has fewer than `filters.beta.FEWEST` judged problems.
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
        .with_columns(pass_rate=pl.when(pl.col("n") > 0).then(pl.col("passes") / pl.col("n")))
    )
    pairs = counts.select("policy_id", "passes", "n").unique()
    priors = priors_of(counts)
    posteriors = [_posterior(k, n, priors[policy]) for policy, k, n in pairs.iter_rows()]
    columns = [pl.Series(name, [p[i] for p in posteriors], pl.Float64) for i, name in enumerate(("posterior_mean", "ci_low", "ci_high"))]
    rows = counts.join(pairs.with_columns(columns), on=["policy_id", "passes", "n"], how="left")
    described = [c for c in ("domain", "level", "concepts") if problems is not None and c in problems.columns]
    if problems is not None and described:
        rows = rows.join(problems.select("problem_id", *described).unique("problem_id", keep="first"), on="problem_id", how="left")
    rows = rows.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in DIFFICULTY_SCHEMA.items() if name not in rows.columns)
    return rows.select(pl.col(name).cast(dtype) for name, dtype in DIFFICULTY_SCHEMA.items()).sort("problem_id", "policy_id")


def priors_of(counts: pl.DataFrame) -> dict[str, Prior]:
    """The fitted prior of each policy in a table with policy_id, passes and n."""
    return {
        policy: fit_prior(Counter(zip(table["passes"].to_list(), table["n"].to_list(), strict=True)))
        for (policy,), table in counts.group_by("policy_id")
    }


def _posterior(passes: int, n: int, prior: Prior) -> tuple[float, float, float]:
    return ((prior.a + passes) / (prior.a + prior.b + n), *credible_interval(passes, n, prior=prior))
