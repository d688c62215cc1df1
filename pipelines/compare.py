"""Two policies on the same problems: the paired difference, and which problems made it."""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from pipelines.intervals import Estimate, paired_difference


class Comparison(NamedTuple):
    """B minus A on one benchmark. `problems` have answers from both; the others could not be paired."""

    benchmark: str
    a: float  # pass@1 of each on the shared problems
    b: float
    difference: Estimate
    problems: int
    unpaired: int
    better: int  # problems that B passes more often
    worse: int


def compare(a: pl.DataFrame, b: pl.DataFrame) -> list[Comparison]:
    """One `Comparison` per benchmark that both have. `a`, `b`: benchmark, problem_id, n, passes; one row per problem and benchmark."""
    keys = ["benchmark", "problem_id"]
    rated = [t.filter(pl.col("n") > 0).select(*keys, rate=pl.col("passes") / pl.col("n")) for t in (a, b)]
    both = rated[0].join(rated[1], on=keys, how="full", suffix="_b", coalesce=True).sort(keys)
    found = []
    for (benchmark,), table in both.group_by("benchmark", maintain_order=True):
        paired = table.drop_nulls(["rate", "rate_b"])
        if paired.is_empty():
            continue
        before, after = paired["rate"].to_numpy(), paired["rate_b"].to_numpy()
        found.append(
            Comparison(
                str(benchmark),
                float(before.mean()),
                float(after.mean()),
                paired_difference(before, after, key=("compare", benchmark)),
                paired.height,
                table.height - paired.height,
                int((after > before).sum()),
                int((after < before).sum()),
            )
        )
    return found
