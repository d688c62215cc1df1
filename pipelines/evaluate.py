"""What a policy can do, from counts per problem: pass@k, avg@n, majority@n and CoT-Pass@k, each with an interval over problems.

- pass@k: chance that at least one of k answers passes, unbiased from n >= k answers (Chen et al., arXiv 2107.03374, section 2.1).
- avg@n: mean share of n answers that pass; the same number as pass@1, named as benchmark tables name it.
- majority@n: chance that the most frequent answer passes (self-consistency, Wang et al., arXiv 2203.11171).
- CoT-Pass@k: pass@k where an answer counts only if its chain is right, too (Wen et al., arXiv 2506.14245, section 3).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.intervals import Estimate, mean_with_interval

VoteRule = Literal["any", "all", "majority"]

SCORES_SCHEMA: dict[str, pl.DataType] = {
    "round": pl.Int64(),
    "benchmark": pl.String(),
    "metric": pl.String(),
    "value": pl.Float64(),
    "low": pl.Float64(),
    "high": pl.Float64(),
    "problems": pl.Int64(),
    "n": pl.Int64(),
}


def pass_at_k(n: int, passes: int, k: int) -> float:
    """Unbiased pass@k of one problem: 1 - C(n - c, k) / C(n, k) (Chen et al., arXiv 2107.03374, section 2.1)."""
    if not 0 <= passes <= n or not 1 <= k <= n:
        raise ValueError(f"pass@k needs 0 <= passes <= n and 1 <= k <= n, got n={n}, passes={passes}, k={k}")
    if n - passes < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(n - passes + 1, n + 1)))


def pass_at_k_rates(n: Sequence[int] | NDArray[np.int64], passes: Sequence[int] | NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """float64[problems]: `pass_at_k` of each; every distinct pair (n, passes) is worked out once."""
    pairs, where = np.unique(np.stack([np.asarray(n, np.int64), np.asarray(passes, np.int64)]), axis=1, return_inverse=True)
    values = np.asarray([pass_at_k(int(m), int(c), k) for m, c in pairs.T])
    return values[where.reshape(-1)]


def ks(n: int) -> tuple[int, ...]:
    """The k for which pass@k is worth showing: powers of two up to n, and n itself."""
    return tuple(sorted({2**i for i in range(n.bit_length()) if 2**i <= n} | {n}))


def chain_holds(votes: Sequence[bool], rule: VoteRule) -> bool:
    """One word from a judge's votes on a chain: any of them, all of them, or more than half; no vote, no."""
    if rule == "any":
        return any(votes)
    return bool(votes) and (all(votes) if rule == "all" else 2 * sum(votes) > len(votes))


def scores(evals: pl.DataFrame) -> pl.DataFrame:
    """One row per round, benchmark and metric (`SCORES_SCHEMA`), sorted by the first two, metrics in reading order.

    `evals`: round, benchmark, n, passes, and majority, chain_passes where known, one row per problem. Problems with fewer than k answers
    are left out of pass@k; `n` is the number of answers behind the figure (for pass@k the fewest that any problem has).
    """
    rows = []
    for (round, benchmark), table in evals.filter(pl.col("n") > 0).group_by("round", "benchmark", maintain_order=True):
        fewest = int(table["n"].min())  # type: ignore[arg-type]
        for metric, rates in _rates(table, fewest):
            value, low, high = mean_with_interval(rates)
            rows.append((round, benchmark, metric, value, low, high, len(rates), fewest))
    return pl.DataFrame(rows, schema=SCORES_SCHEMA, orient="row").sort("round", "benchmark", maintain_order=True)


def _rates(table: pl.DataFrame, fewest: int) -> Iterator[tuple[str, NDArray[np.float64]]]:
    n, passes = table["n"].to_numpy(), table["passes"].to_numpy()
    for k in ks(fewest):
        yield f"pass@{k}", pass_at_k_rates(n, passes, k)
    if fewest > 1:
        yield f"avg@{fewest}", passes / n
    if fewest > 1 and "majority" in table.columns and table["majority"].null_count() < table.height:
        yield f"majority@{fewest}", table["majority"].drop_nulls().to_numpy()
    if "chain_passes" in table.columns and table["chain_passes"].null_count() < table.height:
        judged = table.filter(pl.col("chain_passes").is_not_null())
        for k in ks(fewest):
            yield f"cot-pass@{k}", pass_at_k_rates(judged["n"].to_numpy(), judged["chain_passes"].to_numpy(), k)


def score_of(table: pl.DataFrame, metric: str) -> Estimate | None:
    """The estimate named `metric` in a table of `scores`, None where it is not there."""
    found = table.filter(pl.col("metric") == metric)
    return None if found.is_empty() else Estimate(*found.select("value", "low", "high").row(0))
