"""Where SwS looks: problems a policy does not learn, the failure rate of each category, and the budget that follows from them.

Source: SwS (arXiv 2506.08989, section 2.2). The paper writes max < 0.5 and slope < 0; its released failure cases hold problems with a
maximum of exactly 0.5 and never-solved ones, whose slope is 0, so `<=` is the rule and `strict` the option.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import polars as pl

from filters.selection import largest_remainder

HALF = Fraction(1, 2)


def slope(accuracies: Sequence[Fraction | float]) -> Fraction:
    """Least-squares slope of the accuracies on visit 0, 1, …, exact; 0 for a single visit."""
    n = len(accuracies)
    if n < 2:
        return Fraction(0)
    values = [Fraction(a) for a in accuracies]
    middle = Fraction(n - 1, 2)
    return sum(((t - middle) * a for t, a in enumerate(values)), Fraction(0)) / sum((t - middle) ** 2 for t in range(n))


def is_weak(accuracies: Sequence[Fraction | float], strict: bool = False) -> bool:
    """Whether the policy fails here and does not learn: no visit above one half, no rising slope. False without any visit."""
    if not accuracies:
        return False
    best, rising = max(Fraction(a) for a in accuracies), slope(accuracies)
    return best < HALF and rising < 0 if strict else best <= HALF and rising <= 0


@dataclass(frozen=True)
class Weakness:
    """What the history says: weak problem ids by category, and how many problems of each category were visited."""

    weak: Mapping[str, tuple[str, ...]]
    visited: Mapping[str, int]

    @property
    def rates(self) -> dict[str, Fraction]:
        """F of each category: weak problems per visited one."""
        return {domain: Fraction(len(self.weak.get(domain, ())), total) for domain, total in sorted(self.visited.items()) if total}


def weaknesses(history: pl.DataFrame, *, strict: bool = False) -> Weakness:
    """`history`: problem_id, domain, passes, n, one row per visit in time order. Visits where nothing was judged do not count."""
    visits: dict[str, list[Fraction]] = {}
    domains: dict[str, str] = {}
    for problem_id, domain, passes, n in history.select("problem_id", "domain", "passes", "n").iter_rows():
        if n > 0:
            visits.setdefault(problem_id, []).append(Fraction(passes, n))
            domains[problem_id] = domain or ""
    weak: dict[str, list[str]] = {}
    visited: dict[str, int] = {}
    for problem_id in sorted(visits):
        visited[domains[problem_id]] = visited.get(domains[problem_id], 0) + 1
        if is_weak(visits[problem_id], strict):
            weak.setdefault(domains[problem_id], []).append(problem_id)
    return Weakness({domain: tuple(ids) for domain, ids in sorted(weak.items())}, visited)


def budgets(total: int, rates: Mapping[str, Fraction | float], caps: Mapping[str, int] | None = None) -> dict[str, int]:
    """|X_T,i| = |X_T| F_i / sum F in whole problems (largest remainder): sums to `total` where any rate is above 0."""
    return largest_remainder(total, rates, caps)


def uniform(categories: Iterable[str]) -> dict[str, Fraction]:
    """The control: every visited category alike, however it fares."""
    return {category: Fraction(1) for category in sorted(categories)}
