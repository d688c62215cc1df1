"""Two runs side by side: what each made and refused, and the paired difference of their policies on the same problems."""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from data.lake import Lake
from pipelines.intervals import Estimate, paired_difference

MADE = """
SELECT strategy, count(*) FILTER (rule = 'proposed') AS proposed, count(*) FILTER (stage = 'audit' AND kept) AS kept FROM decisions
WHERE stage IN ('synthesize', 'audit') AND round <= ? GROUP BY strategy"""
REFUSED = "SELECT rule, count(*) AS refused FROM decisions WHERE stage IN ('synthesize', 'audit') AND NOT kept AND round <= ? GROUP BY rule"
KEPT = "SELECT DISTINCT problem_id FROM decisions WHERE stage = 'audit' AND kept AND round <= ?"


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


class Yield(NamedTuple):
    """What two runs synthesized."""

    strategies: pl.DataFrame  # strategy, proposed, kept, proposed_b, kept_b
    rules: pl.DataFrame  # rule, refused, refused_b
    kept: tuple[int, int]  # different problems
    shared: int  # of them, in both


def compare_yields(a: Lake, b: Lake, rounds: tuple[int | None, int | None] = (None, None)) -> Yield:
    """Up to the given round of each (None: all there are)."""
    limits = [(1 << 30 if round is None else round,) for round in rounds]
    tables = []
    for query, key in ((MADE, "strategy"), (REFUSED, "rule")):
        one, other = (lake.query(query, limit) for lake, limit in zip((a, b), limits))
        tables.append(one.join(other, on=key, how="full", suffix="_b", coalesce=True).fill_null(0).sort(key))
    ids = [set(lake.query(KEPT, limit)["problem_id"]) for lake, limit in zip((a, b), limits)]
    return Yield(tables[0], tables[1], (len(ids[0]), len(ids[1])), len(ids[0] & ids[1]))
