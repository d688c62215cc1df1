"""Ratios: so many for so many."""

from __future__ import annotations

from generators.worlds.arithmetic.draw import Draw
from generators.worlds.arithmetic.shape import Family, Numbers

FAMILY = Family(
    "ratio",
    (
        "ratio",
        "division",
        "multiplication",
    ),
)


@FAMILY.shape(
    1,
    "n * b",
    "For each {x} there are {b} {ys}. | Every {x} comes with {b} {ys}.",
    "How many {ys} go with {n} {xs}? | There are {n} {xs}. How many {ys} are there?",
)
def for_each(d: Draw) -> Numbers:
    return {"n": d(2, 30), "b": d(2, 9)}


@FAMILY.shape(
    2,
    "n / a; r1 * b",
    "There are {b} {ys} for every {a} {xs}. | The ratio of {xs} to {ys} is {a} to {b}.",
    "There are {n} {xs}. | {A} has {n} {xs}.",
    "How many {ys} are there? | How many {ys} is that?",
)
def for_every(d: Draw) -> Numbers:
    a, b = d(2, 7), d(2, 9)
    return {"a": a, "b": b, "n": a * d(2, 12)}


@FAMILY.shape(
    3,
    "a + b; n / r1; r2 * a",
    "{A} and {B} share {n} {xs} in the ratio {a} to {b}. | {n} {xs} are split {a} to {b} between {A} and {B}.",
    "How many does {A} get? | How many {xs} are for {A}?",
)
def first_share(d: Draw) -> Numbers:
    a, b = d(1, 9), d(2, 9)
    return {"a": a, "b": b, "n": (a + b) * d(2, 12)}


@FAMILY.shape(
    4,
    "a + b; n / r1; b - a; r2 * r3",
    "{A} and {B} share {n} {xs} in the ratio {a} to {b}. | {n} {xs} are split {a} to {b} between {A} and {B}.",
    "How many more does {B} get? | How many more {xs} are for {B}?",
)
def gap_of_shares(d: Draw) -> Numbers:
    a = d(1, 8)
    b = a + d(1, 7)
    return {"a": a, "b": b, "n": (a + b) * d(3, 15)}


@FAMILY.shape(
    5,
    "a + b; r1 + c; n / r2; r3 * c",
    "{A}, {B} and {C} share {n} {xs} in the ratio {a} to {b} to {c}. | {n} {xs} are split {a} to {b} to {c} between {A}, {B} and {C}.",
    "How many does {C} get? | How many {xs} are for {C}?",
)
def three_shares(d: Draw) -> Numbers:
    a, b, c = d(1, 9), d(2, 9), d(2, 9)
    return {"a": a, "b": b, "c": c, "n": (a + b + c) * d(4, 30)}
