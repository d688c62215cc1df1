"""Sharing: equal parts without remainder."""

from __future__ import annotations

from generators.worlds.arithmetic.draw import Draw
from generators.worlds.arithmetic.shape import Family, Numbers

FAMILY = Family(
    "sharing",
    (
        "division",
        "multiplication",
    ),
)


@FAMILY.shape(
    1,
    "a / k",
    "{A} shares {a} {xs} equally among {k} {people}. | {k} {people} share {a} {xs} equally.",
    "How many {xs} does each get? | How many {xs} per person?",
)
def share(d: Draw) -> Numbers:
    k = d(2, 9)
    return {"a": k * d(2, 16), "k": k}


@FAMILY.shape(
    2,
    "a + b; r1 / k",
    "{A} has {a} {xs} and {B} has {b}. | {A} finds {a} {xs} and {B} finds {b}.",
    "They share them equally among {k} {people}. | They put them all into {k} equal piles.",
    "How many {xs} are in each part? | How many is that each?",
)
def pool(d: Draw) -> Numbers:
    k = d(2, 9)
    total = k * d(3, 14)
    a = d(2, total - 2)
    return {"a": a, "b": total - a, "k": k}


@FAMILY.shape(
    3,
    "a * b; r1 / k",
    "{A} has {a} {holders} with {b} {xs} each. | {A} buys {a} {holders} of {b} {xs}.",
    "{He} shares the {xs} equally among {k} {people}. | {k} {people} share the {xs} equally.",
    "How many {xs} does each get? | How many {xs} per person?",
)
def repack(d: Draw) -> Numbers:
    k, m, n, q = d(2, 6), d(1, 3), d(2, 9), d(1, 3)
    return {"a": k * m, "b": n * q, "k": k} if d(0, 1) else {"a": n * q, "b": k * m, "k": k}


@FAMILY.shape(
    4,
    "a * b; r1 - c; r2 / k",
    "{A} has {a} {holders} with {b} {xs} each. | {A} fills {a} {holders} with {b} {xs} each.",
    "{He} keeps {c} {xs} and shares the rest among {k} {people}. | {c} {xs} are lost and {k} {people} share the rest equally.",
    "How many {xs} does each get? | How many {xs} per person?",
)
def keep_some(d: Draw) -> Numbers:
    a, b, k = d(3, 12), d(4, 15), d(2, 9)
    c = a * b - k * d(1, max(1, (a * b - 2) // k))
    return {"a": a, "b": b, "k": k, "c": c if c > 1 else c + k}


@FAMILY.shape(
    5,
    "a * b; r1 + c; r2 - e; r3 / k",
    "{A} has {a} {holders} with {b} {xs} each and {c} loose {xs}. | {A} buys {a} {holders} of {b} {xs} and {c} single {xs}.",
    "{He} gives {e} to {B} and shares the rest among {k} {people}. | {e} are lost. {k} {people} share the rest equally.",
    "How many {xs} does each get? | How many {xs} per person?",
)
def loose_ones(d: Draw) -> Numbers:
    a, b, k, q = d(5, 15), d(6, 20), d(3, 12), d(5, 12)
    e = d(3, 40)
    total = k * max(q, -(-(a * b + 2 - e) // k))
    return {"a": a, "b": b, "c": total + e - a * b, "e": e, "k": k}
