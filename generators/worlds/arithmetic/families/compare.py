"""Comparisons: more than, fewer than, times as many."""

from __future__ import annotations

from generators.worlds.arithmetic.draw import Draw
from generators.worlds.arithmetic.shape import Family, Numbers

FAMILY = Family(
    "compare",
    (
        "comparison",
        "multiplication",
        "addition",
    ),
)


@FAMILY.shape(
    1,
    "a * k",
    "{A} has {a} {xs}. | {A} picks {a} {xs}.",
    "{B} has {k} times as many. | {B} has {k} times as many {xs} as {A}.",
    "How many {xs} does {B} have? | How many is that for {B}?",
)
def times(d: Draw) -> Numbers:
    return {"a": d(2, 25), "k": d(3, 6)}


@FAMILY.shape(
    1,
    "a * k",
    "{A} has {a} {xs}. | {A} picks {a} {xs}.",
    "{B} has twice as many. | {B} has double that.",
    "How many {xs} does {B} have? | How many is that for {B}?",
)
def twice(d: Draw) -> Numbers:
    return {"a": d(2, 60), "k": 2}


@FAMILY.shape(
    2,
    "a + b; a + r1",
    "{A} has {a} {xs}. | {A} picks {a} {xs}.",
    "{B} has {b} more than {A}. | {B} has {b} {xs} more.",
    "How many do they have together? | How many {xs} is that in all?",
)
def more_together(d: Draw) -> Numbers:
    return {"a": d(3, 60), "b": d(2, 40)}


@FAMILY.shape(
    3,
    "a * k; a + r1",
    "{A} has {a} {xs}. | {A} picks {a} {xs}.",
    "{B} has {k} times as many. | {B} has {k} times as many {xs} as {A}.",
    "How many do they have together? | How many {xs} is that in all?",
)
def times_together(d: Draw) -> Numbers:
    return {"a": d(6, 60), "k": d(3, 9)}


@FAMILY.shape(
    4,
    "a * k; r1 - c; r1 + r2",
    "{A} has {a} {xs}. {B} has {k} times as many. | {B} has {k} times as many {xs} as {A}, who has {a}.",
    "{C} has {c} fewer than {B}. | {C} has {c} {xs} less than {B}.",
    "How many do {B} and {C} have together? | How many {xs} is that for {B} and {C}?",
)
def fewer(d: Draw) -> Numbers:
    a, k = d(8, 50), d(3, 9)
    return {"a": a, "k": k, "c": d(2, a * k - 2)}


@FAMILY.shape(
    5,
    "a * k; r1 - c; a + r1; r2 + r3",
    "{A} has {a} {xs}. {B} has {k} times as many. | {B} has {k} times as many {xs} as {A}, who has {a}.",
    "{C} has {c} fewer than {B}. | {C} has {c} {xs} less than {B}.",
    "How many do all three have together? | How many {xs} is that for all three?",
)
def three_together(d: Draw) -> Numbers:
    a, k = d(15, 99), d(3, 9)
    return {"a": a, "k": k, "c": d(10, a * k - 10)}
