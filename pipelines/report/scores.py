"""pass@1 and pass@k per round, with intervals."""

from __future__ import annotations

import numpy as np
import polars as pl

from pipelines.evaluate import mean_with_interval, pass_at_k

SCHEMA = {
    "round": pl.Int64,
    "benchmark": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "problems": pl.Int64,
    "n": pl.Int64,
}


def scores(evals: pl.DataFrame) -> pl.DataFrame:
    """round, benchmark, metric, value, low, high, problems, n; metrics pass@1, pass@2, pass@4, … up to the fewest answers of any problem."""
    rows = []
    for (round, benchmark), table in evals.filter(pl.col("n") > 0).group_by("round", "benchmark", maintain_order=True):
        fewest = int(table["n"].min())  # type: ignore[arg-type]
        for k in sorted({2**i for i in range(fewest.bit_length())} | {fewest}):
            pairs = table.select("n", "passes").unique()
            known = {(n, c): pass_at_k(n, c, k) for n, c in pairs.iter_rows()}
            rates = np.asarray([known[pair] for pair in table.select("n", "passes").iter_rows()])
            rows.append((round, benchmark, f"pass@{k}", *mean_with_interval(rates), len(rates), fewest))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row").sort("round", "benchmark", maintain_order=True)
