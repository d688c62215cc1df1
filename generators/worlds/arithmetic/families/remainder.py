"""Remainders: what is left when holders are filled."""

from __future__ import annotations

from generators.worlds.arithmetic.draw import Draw
from generators.worlds.arithmetic.shape import Family, Numbers

FAMILY = Family(
    "remainder",
    (
        "remainder",
        "division",
    ),
)


@FAMILY.shape(
    1,
    "_q * k; n - r1",
    "{A} packs {n} {xs} into {holders} of {k}. | {A} puts {n} {xs} into {holders}, {k} in each.",
    "How many {xs} are left over? | How many do not fit into full {holders}?",
)
def left_over(d: Draw) -> Numbers:
    k, q = d(3, 9), d(2, 9)
    return {"n": k * q + d(1, k - 1), "k": k, "_q": q}


@FAMILY.shape(
    2,
    "_q * k; n - r1; _q + 1",
    "{A} packs {n} {xs} into {holders} of {k}. | {n} {xs} go into {holders} that hold {k} each.",
    "How many {holders} are needed for all? | How many {holders} does {A} need for all of them?",
)
def needed(d: Draw) -> Numbers:
    k, q = d(3, 12), d(2, 12)
    return {"n": k * q + d(1, k - 1), "k": k, "_q": q}


@FAMILY.shape(
    3,
    "a + b; _q * k; r1 - r2",
    "{A} has {a} {xs} and {B} has {b}. | {A} finds {a} {xs} and {B} finds {b}.",
    "They pack them into {holders} of {k}. | They fill {holders}, {k} in each.",
    "How many {xs} are left over? | How many do not fit into full {holders}?",
)
def pooled(d: Draw) -> Numbers:
    k, a, b = d(3, 12), d(10, 60), d(10, 60)
    if (a + b) % k == 0:
        a += 1
    return {"a": a, "b": b, "k": k, "_q": (a + b) // k}


@FAMILY.shape(
    4,
    "a * b; _q * k; r1 - r2",
    "{A} has {a} rows of {b} {xs}. | There are {a} shelves with {b} {xs} each.",
    "They are packed into {holders} of {k}. | They go into {holders}, {k} in each.",
    "How many {xs} are left over? | How many do not fit into full {holders}?",
)
def rows(d: Draw) -> Numbers:
    while True:
        k, a, b = d(4, 12), d(3, 12), d(4, 15)
        if a * b % k and a * b > k:
            return {"a": a, "b": b, "k": k, "_q": a * b // k}


@FAMILY.shape(
    5,
    "a * b; r1 + c; r2 - e; _q * k; r3 - r4",
    "There are {a} rows of {b} {xs} and {c} more. | {A} has {a} shelves with {b} {xs} each and {c} loose {xs}.",
    "{e} are sold and the rest are packed into {holders} of {k}. | {e} break. The rest go into {holders}, {k} in each.",
    "How many {xs} are left over? | How many do not fit into full {holders}?",
)
def rows_sold(d: Draw) -> Numbers:
    while True:
        k, a, b, c = d(4, 15), d(4, 15), d(6, 20), d(5, 60)
        e = d(3, min(90, a * b + c - 20))
        total = a * b + c - e
        if total % k:
            return {"a": a, "b": b, "c": c, "e": e, "k": k, "_q": total // k}
