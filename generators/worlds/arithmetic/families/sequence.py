"""Sequences: find the rule, go on."""

from __future__ import annotations

from generators.worlds.arithmetic.draw import Draw
from generators.worlds.arithmetic.shape import Family, Numbers

FAMILY = Family(
    "sequence",
    (
        "sequence",
        "pattern",
    ),
)


_ASK = "What comes next? | Find the next number. | Which number is next?"


@FAMILY.shape(
    1,
    "b - a; c + r1",
    "A row of numbers is {a}, {b}, {c}. | {A} counts {a}, {b}, {c}. | Look at {a}, {b}, {c}.",
    _ASK,
)
def rising(d: Draw) -> Numbers:
    a, step = d(1, 60), d(2, 12)
    return {"a": a, "b": a + step, "c": a + 2 * step}


@FAMILY.shape(
    2,
    "a - b; c - r1",
    "A row of numbers is {a}, {b}, {c}. | {A} counts down {a}, {b}, {c}. | Look at {a}, {b}, {c}.",
    _ASK,
)
def falling(d: Draw) -> Numbers:
    last, step = d(2, 80), d(2, 25)
    return {"a": last + 3 * step, "b": last + 2 * step, "c": last + step}


@FAMILY.shape(
    3,
    "b / a; c * r1",
    "{A} writes {a}, {b}, {c}. | {A} shows {B} the numbers {a}, {b}, {c}. | {A} and {B} read {a}, {b}, {c}.",
    "Each is the same number of times the one before. What is next? | Every number is a fixed multiple of the last. Find the next number.",
)
def growing(d: Draw) -> Numbers:
    a, times = d(2, 40), d(2, 6)
    return {"a": a, "b": a * times, "c": a * times * times}


@FAMILY.shape(
    4,
    "b - a; n - 1; r1 * r2; a + r3",
    "A row of numbers goes {a}, {b} and so on in equal steps. | {A} counts {a}, {b} and so on in equal steps.",
    "What is number {n} in the row? | Which number is in place {n}?",
)
def far_term(d: Draw) -> Numbers:
    a = d(1, 60)
    return {"a": a, "b": a + d(2, 20), "n": d(5, 25)}


@FAMILY.shape(
    5,
    "b - a; c - b; r2 - r1; r2 + r3; c + r4",
    "A row of numbers is {a}, {b}, {c}. | {A} writes {a}, {b}, {c}. | Look at {a}, {b}, {c}.",
    "The steps grow by the same amount each time. What is next? | Each step is larger by a fixed amount. Find the next number.",
)
def growing_steps(d: Draw) -> Numbers:
    a, step, more = d(5, 300), d(5, 60), d(2, 20)
    return {"a": a, "b": a + step, "c": a + 2 * step + more}
