"""Adaptive sampling: is a problem inside the band, outside, or does telling need more answers? Rollouts go only where it is open.

The question asked is the one that a fixed budget would answer: of `horizon` judged answers, would the count lie in the band? Given k of n
so far and the prior, the rest is beta-binomial, so the chance of "yes" is exact. A decision stands once that chance is at least
`certainty`, or at most 1 - `certainty`; a problem far from the band's ends is settled by a handful of answers, one on an end needs all.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from filters.beta import Prior, beta_binomial
from filters.difficulty import Band

Decision = Literal["in", "out", "open"]


@lru_cache(maxsize=65_536)
def chance_inside(passes: int, n: int, band: Band, horizon: int, prior: Prior) -> float:
    """Chance in [0, 1] that the count of `horizon` judged answers lies in the band, after `passes` of `n` (n <= horizon) were seen."""
    if not 0 <= passes <= n <= horizon:
        raise ValueError(f"needs 0 <= passes <= n <= horizon, got {passes} of {n} of {horizon}")
    rest = horizon - n
    chances = beta_binomial(rest, prior.a + passes, prior.b + n - passes)
    return float(sum(chance for more, chance in enumerate(chances) if band.contains(passes + more, horizon)))


def decide(passes: int, n: int, band: Band, horizon: int, prior: Prior, certainty: float = 0.95) -> Decision:
    """"in" or "out" once the answers seen make it that certain (at `horizon` they always do), else "open": it needs more samples."""
    inside = chance_inside(passes, min(n, horizon), band, horizon, prior) if n <= horizon else float(band.contains(passes, n))
    if inside >= certainty:
        return "in"
    return "out" if inside <= 1 - certainty else "open"
