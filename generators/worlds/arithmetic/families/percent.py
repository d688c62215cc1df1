"""Percentages and discounts; parts that come out whole."""

from __future__ import annotations

from generators.worlds.arithmetic.draw import Draw
from generators.worlds.arithmetic.shape import Family, Numbers

FAMILY = Family(
    "percent",
    (
        "percentage",
        "fraction",
    ),
)


_PARTS = ((50, 2), (25, 4), (20, 5), (10, 10))  # percent = one part in so many
_TENTHS = (30, 40, 60, 70, 80, 90)


@FAMILY.shape(
    1,
    "n / _k",
    "{A} has {n} {xs}. | There are {n} {xs} in a {holder}.",
    "{p}% of them are red. | {p}% of the {xs} are new.",
    "How many {xs} is that? | How many is this?",
)
def part(d: Draw) -> Numbers:
    p, k = d.pick(_PARTS)
    return {"n": k * d(2, 40 if k == 2 else 25), "p": p, "_k": k}


@FAMILY.shape(
    2,
    "n / _k; n - r1",
    "A {good} costs ${n}. | The price of a {good} is ${n}.",
    "It is {p}% off. | The store takes {p}% off.",
    "What does {A} pay? | What is the new price in dollars?",
)
def discount(d: Draw) -> Numbers:
    p, k = d.pick(_PARTS)
    return {"n": k * d(3, 40 if k < 5 else 30), "p": p, "_k": k}


@FAMILY.shape(
    3,
    "n / 10; r1 * _m",
    "{A} has {n} {xs}. | There are {n} {xs} in a {holder}.",
    "{p}% of them are red. | {p}% of the {xs} are sold.",
    "How many {xs} is that? | How many is this?",
)
def tenths(d: Draw) -> Numbers:
    p = d.pick(_TENTHS)
    return {"n": 10 * d(2, 40), "p": p, "_m": p // 10}


@FAMILY.shape(
    4,
    "n / 10; r1 * _m; n - r2",
    "A {good} costs ${n}. | The price of a {good} is ${n}.",
    "It is {p}% off today. | The store takes {p}% off.",
    "What does {A} pay? | What is the new price in dollars?",
)
def big_discount(d: Draw) -> Numbers:
    p = d.pick(_TENTHS)
    return {"n": 10 * d(5, 80), "p": p, "_m": p // 10}


@FAMILY.shape(
    5,
    "a * n; r1 / 10; r2 * _m; r1 - r3",
    "A {good} costs ${n}. | The price of a {good} is ${n}.",
    "{A} buys {a} of them at {p}% off. | The store takes {p}% off and {A} buys {a}.",
    "How much does {A} pay in all? | What is the total cost in dollars?",
)
def bulk_discount(d: Draw) -> Numbers:
    p = d.pick(_TENTHS)
    return {"a": d(3, 9), "n": 10 * d(3, 40), "p": p, "_m": p // 10}
