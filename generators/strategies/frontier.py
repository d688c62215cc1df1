"""`frontier`: ask the world for new problems where the policy sometimes succeeds.

Offline. The cells (family × level) of the world whose pass rate lies inside the band get new problems, in proportion to
the chance that a group of rollouts there has both right and wrong answers and so carries gradient: `1 - p^G - (1 - p)^G`
(DAPO's criterion, arXiv 2503.14476 section 3.2, looked at before sampling). Unlike the reward's variance `4 p (1 - p)` it
leaves cells that the policy solves one time in ten their fair share: there is most to gain.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from data.keyed import keyed_seed
from data.records import Candidate
from filters.selection import largest_remainder
from generators.strategies.base import BaseStrategy, RoundContext


def mixed_share(pass_rate: float, group_size: int) -> float:
    """Chance in [0, 1] that `group_size` answers, each right with `pass_rate`, are neither all right nor all wrong."""
    return 1.0 - pass_rate**group_size - (1.0 - pass_rate) ** group_size


def cell_name(family: str, level: int) -> str:
    return f"{family}/{level}"


def frontier_cells(difficulty: pl.DataFrame, band: tuple[float, float]) -> dict[tuple[str, int], float]:
    """Pass rate per (domain, level) of the latest round probed, for the cells inside the inclusive band."""
    if difficulty.is_empty():
        return {}
    latest = difficulty.filter(pl.col("round") == pl.col("round").max(), pl.col("level") > 0)
    cells = latest.group_by("domain", "level").agg(pl.col("passes").sum(), pl.col("n").sum()).filter(pl.col("n") > 0)
    rates = {(d, int(lv)): p / n for d, lv, p, n in cells.select("domain", "level", "passes", "n").iter_rows()}
    return {cell: rate for cell, rate in sorted(rates.items()) if band[0] <= rate <= band[1]}


class Frontier(BaseStrategy):
    name = "frontier"
    settings_known = frozenset({"budget"})

    def propose(self, ctx: RoundContext) -> Iterator[Candidate]:
        if ctx.world is None:
            return
        cells = frontier_cells(ctx.difficulty, ctx.band)
        shares = largest_remainder(ctx.budget, {cell_name(*cell): mixed_share(rate, ctx.group_size) for cell, rate in cells.items()})
        parents: dict[tuple[str, int], str] = {}
        for problem_id, domain, level in ctx.difficulty.select("problem_id", "domain", "level").sort("problem_id").iter_rows():
            parents.setdefault((domain, int(level)), problem_id)
        for family, level in sorted(cells):
            seed = keyed_seed(ctx.seed, ctx.round, self.name, family, level)
            reason = f"pass rate {cells[(family, level)]:.2f} in {family} at level {level}"
            for index in range(shares[cell_name(family, level)]):
                problem = ctx.world.make(family, level, index, seed=seed, split="train")
                yield Candidate(problem, ctx.round, self.name, (parents[(family, level)],), reason=reason)
