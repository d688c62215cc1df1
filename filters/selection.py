"""Which problems are trained on: those inside the band, in keyed order, at most N, balanced over domains if asked.

Pure: the same pool, band and key give the same choice in any order of arrival, and every row gets a decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import polars as pl

from data.keyed import keyed_order
from filters.difficulty import Band


def largest_remainder(total: int, weights: Mapping[str, float | Fraction], caps: Mapping[str, int] | None = None) -> dict[str, int]:
    """`total` seats shared in proportion to `weights` (Hamilton's method), none above its cap; what a cap frees goes to the others.

    Sums to min(total, sum of caps over the keys with weight). Ties go to the larger weight, then to the smaller key.
    """
    exact = {key: Fraction(weight) for key, weight in weights.items() if weight > 0}
    shares = dict.fromkeys(weights, 0)
    room = {key: total if caps is None else max(0, min(total, caps.get(key, 0))) for key in exact}
    left = min(total, sum(room.values()))
    while left > 0:
        open_keys = [key for key in exact if shares[key] < room[key]]
        weight_sum = sum((exact[key] for key in open_keys), Fraction(0))
        ideal = {key: left * exact[key] / weight_sum for key in open_keys}
        capped = [key for key in open_keys if ideal[key] >= room[key] - shares[key]]
        if capped:  # fill them, then share the rest anew among the others
            for key in capped:
                left -= room[key] - shares[key]
                shares[key] = room[key]
            continue
        for key in open_keys:
            shares[key] += int(ideal[key])
            left -= int(ideal[key])
        for key in sorted(open_keys, key=lambda k: (int(ideal[k]) - ideal[k], -exact[k], k))[:left]:
            shares[key] += 1
        break
    return shares


def select(
    pool: pl.DataFrame,
    band: Band,
    *,
    run_seed: int,
    key: tuple[Any, ...] = (),
    limit: int | None = None,
    balance: bool = False,
    ident: str = "problem_id",
) -> pl.DataFrame:
    """`pool` in its own order with `kept`, `rule` and `reason`; a decision for every row.

    `pool`: `ident` (unique), passes, n, and domain where `balance`. Rules: "unjudged" (n = 0), "band", "budget" (inside the band
    but beyond `limit`), "selected". `key` names the draw (round, stage, …); kept rows also have `position`, their place in keyed order.
    """
    if pool[ident].n_unique() != pool.height:
        raise ValueError(f"the pool holds a {ident} twice; select chooses each once")
    pool = pool.with_columns(pl.col(ident).cast(pl.String))  # an empty pool may have no types
    inside = pool.filter(band.expr())
    ranked = keyed_order(run_seed, inside[ident].to_list(), *key)
    kept = set(ranked if limit is None else _first(inside, ranked, limit, balance, ident))
    places = {i: place for place, i in enumerate([i for i in ranked if i in kept])}
    position = pl.DataFrame({ident: list(places), "position": list(places.values())}, schema={ident: pl.String, "position": pl.Int64})
    counts = pl.format("{} of {} passed", pl.col("passes"), pl.col("n"))
    known = pl.col("n") > 0
    return (
        pool.join(position, on=ident, how="left", maintain_order="left")
        .with_columns(kept=pl.col("position").is_not_null(), _inside=band.expr())
        .with_columns(
            rule=pl.when(pl.col("kept")).then(pl.lit("selected")).when(~known).then(pl.lit("unjudged")).when(~pl.col("_inside")).then(pl.lit("band")).otherwise(pl.lit("budget")),
            reason=pl.when(~known)
            .then(pl.lit("no answer could be judged"))
            .when(~pl.col("_inside"))
            .then(pl.format("{}: outside the band {}", counts, pl.lit(str(band))))
            .when(pl.col("kept"))
            .then(pl.format("{}: inside the band {}", counts, pl.lit(str(band))))
            .otherwise(pl.format("{}: inside the band, beyond the {} problems of this round", counts, pl.lit(str(limit)))),
        )
        .drop("_inside")
    )


def _first(inside: pl.DataFrame, ranked: list[str], limit: int, balance: bool, ident: str) -> list[str]:
    if not balance:
        return ranked[:limit]
    domain = dict(zip(inside[ident], inside["domain"].fill_null(""), strict=True))
    caps: dict[str, int] = {}
    for i in ranked:
        caps[domain[i]] = caps.get(domain[i], 0) + 1
    left = largest_remainder(limit, dict.fromkeys(sorted(caps), 1), caps)
    chosen = []
    for i in ranked:
        if left[domain[i]] > 0:
            left[domain[i]] -= 1
            chosen.append(i)
    return chosen
