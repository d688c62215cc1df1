"""What a story asks, as one formula over the numbers it tells: written from the meaning, apart from the worked chains.

A chain (`Shape.steps`) may use numbers that the story does not tell (the quotient of a remainder); a formula may not. It says
`Ill` where the question has no answer: fewer than none are left, a pen would be cut in two, a row of numbers follows no rule.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from generators.worlds.arithmetic.steps import Number


class Ill(ValueError):
    """The question has no answer in its own story."""


def _less(whole: Number, *parts: Number) -> Number:
    """`whole` after `parts` are taken away one by one; nothing can be taken that is not there."""
    for part in parts:
        whole -= part
        if whole < 0:
            raise Ill("more is taken away than there is")
    return whole


def _each(whole: Number, parts: Number) -> int:
    """Equal parts of things that cannot be cut."""
    if parts < 1 or whole % parts:
        raise Ill("it does not come out even")
    return int(whole // parts)


def _over(whole: Number, by: Number) -> Fraction:
    """A quotient that may be a fraction: hours, miles, a mean."""
    if by == 0:
        raise Ill("division by nothing")
    return Fraction(whole) / by


def _next(a: int, b: int, c: int, *, rising: bool) -> int:
    if b - a != c - b or (b > a) is not rising:
        raise Ill("no equal steps")
    if 2 * c < b:
        raise Ill("the row falls below nothing")
    return 2 * c - b


def _multiple(a: int, b: int, c: int) -> int:
    times = _each(b, a)
    if a == 0 or b * times != c:
        raise Ill("no fixed multiple")
    return c * times


def _bins(n: int, k: int) -> int:
    if k < 1:
        raise Ill("holders that hold nothing")
    return -(-n // k)


def _left(n: int, k: int) -> int:
    if k < 1:
        raise Ill("holders that hold nothing")
    return n % k


def _percent(n: int, p: int) -> int:
    if p > 100:
        raise Ill("more than all of them")
    return _each(n * p, 100)


def _price(n: int, p: int, a: int = 1) -> Number:
    if p > 100:
        raise Ill("more than the price is taken off")
    return Fraction(a * n * (100 - p), 100)


FORMULAS: dict[str, Callable[..., Number]] = {
    "totals/1.gain": lambda a, b: a + b,
    "totals/1.loss": lambda a, b: _less(a, b),
    "totals/2.gain_loss": lambda a, b, c: _less(a + b, c),
    "totals/3.three_people": lambda a, b, c: a + b + c,
    "totals/3.shop": lambda a, b, c: _less(a, b) + c,
    "totals/4.four_events": lambda a, b, c, d: _less(a + b, c) + d,
    "totals/5.busy_shop": lambda a, b, c, d, e: _less(a + b, c, d) + e,
    "shopping/1.cost": lambda a, p: p * a,
    "shopping/2.change": lambda a, p, c: _less(c, p * a),
    "shopping/3.two_kinds": lambda a, p, b, q: p * a + q * b,
    "shopping/4.two_kinds_change": lambda a, p, b, q, c: _less(c, p * a + q * b),
    "shopping/5.coupon": lambda a, p, b, q, k, c: _less(c, _less(p * a + q * b, k)),
    "sharing/1.share": lambda a, k: _each(a, k),
    "sharing/2.pool": lambda a, b, k: _each(a + b, k),
    "sharing/3.repack": lambda a, b, k: _each(a * b, k),
    "sharing/4.keep_some": lambda a, b, c, k: _each(_less(a * b, c), k),
    "sharing/5.loose_ones": lambda a, b, c, e, k: _each(_less(a * b + c, e), k),
    "travel/1.distance": lambda v, t: v * t,
    "travel/2.speed": lambda s, t: _over(s, t),
    "travel/2.duration": lambda s, v: _over(s, v),
    "travel/3.two_legs": lambda v, t, w, u: v * t + w * u,
    "travel/4.to_go": lambda v, t, w, u, s: _less(s, v * t + w * u),
    "travel/5.whole_trip": lambda v, t, w, s: t + _over(_less(s, v * t), w),
    "percent/1.part": lambda n, p: _percent(n, p),
    "percent/2.discount": lambda n, p: _price(n, p),
    "percent/3.tenths": lambda n, p: _percent(n, p),
    "percent/4.big_discount": lambda n, p: _price(n, p),
    "percent/5.bulk_discount": lambda n, p, a: _price(n, p, a),
    "compare/1.times": lambda a, k: k * a,
    "compare/1.twice": lambda a, k: k * a,
    "compare/2.more_together": lambda a, b: 2 * a + b,
    "compare/3.times_together": lambda a, k: (k + 1) * a,
    "compare/4.fewer": lambda a, k, c: k * a + _less(k * a, c),
    "compare/5.three_together": lambda a, k, c: a + k * a + _less(k * a, c),
    "ages/1.older": lambda a, b: a + b,
    "ages/1.younger": lambda a, b: _less(a, b),
    "ages/2.times_later": lambda a, k, b: k * a + b,
    "ages/3.sum_of_ages": lambda a, b: 2 * a + b,
    "ages/4.sum_later": lambda a, b, c: 2 * (a + c) + b,
    "ages/5.gap": lambda b, c, k: _less(k * (b + c) - c, b),
    "work/1.output": lambda a, t: a * t,
    "work/2.team": lambda a, k, t: a * k * t,
    "work/3.rest_of_order": lambda n, b, a: _over(_less(n, b), a),
    "work/4.both": lambda a, b, n, c: _over(_less(n, c), a + b),
    "work/5.crews": lambda k, n, t, m, u: _each(n * m * u, k * t),
    "ratio/1.for_each": lambda n, b: n * b,
    "ratio/2.for_every": lambda n, a, b: b * _each(n, a),
    "ratio/3.first_share": lambda n, a, b: a * _each(n, a + b),
    "ratio/4.gap_of_shares": lambda n, a, b: _less(b * _each(n, a + b), a * _each(n, a + b)),
    "ratio/5.three_shares": lambda n, a, b, c: c * _each(n, a + b + c),
    "remainder/1.left_over": lambda n, k: _left(n, k),
    "remainder/2.needed": lambda n, k: _bins(n, k),
    "remainder/3.pooled": lambda a, b, k: _left(a + b, k),
    "remainder/4.rows": lambda a, b, k: _left(a * b, k),
    "remainder/5.rows_sold": lambda a, b, c, e, k: _left(int(_less(a * b + c, e)), k),
    "average/1.of_two": lambda a, b: _over(a + b, 2),
    "average/2.of_three": lambda a, b, c: _over(a + b + c, 3),
    "average/3.of_four": lambda a, b, c, e: _over(a + b + c + e, 4),
    "average/4.missing": lambda m, a, b: _less(3 * m, a, b),
    "average/5.moved": lambda m, k, s: _over(m * k + s, k + 1),
    "units/1.minutes": lambda n: 60 * n,
    "units/1.days": lambda n: 7 * n,
    "units/1.centimeters": lambda n: 100 * n,
    "units/2.hours_and_minutes": lambda h, m: 60 * h + m,
    "units/3.meters": lambda n: _over(n, 100),
    "units/3.hours": lambda n: _over(n, 60),
    "units/4.hours_of_days": lambda k, m: _over(k * m, 60),
    "units/5.rope": lambda n, p, c, q: _over(_less(100 * n, p * c), q),
    "sequence/1.rising": lambda a, b, c: _next(a, b, c, rising=True),
    "sequence/2.falling": lambda a, b, c: _next(a, b, c, rising=False),
    "sequence/3.growing": lambda a, b, c: _multiple(a, b, c),
    "sequence/4.far_term": lambda a, b, n: a + _less(b, a) * (n - 1),
    "sequence/5.growing_steps": lambda a, b, c: c + 2 * (c - b) - (b - a),
}
"""By family/shape; arguments are the numbers the story tells, by their names."""


def solve(shape: str, numbers: dict[str, int]) -> Number:
    """The answer; raises Ill where there is none. `numbers`: those told, names as in the shape's text."""
    answer = FORMULAS[shape](**numbers)
    if answer < 0:
        raise Ill("the answer would be below nothing")
    return answer
