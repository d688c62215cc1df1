"""Averages: of a few scores, and what they say about one of them."""

from __future__ import annotations

from generators.worlds.arithmetic.draw import Draw
from generators.worlds.arithmetic.shape import Family, Numbers

FAMILY = Family(
    "average",
    (
        "average",
        "addition",
        "division",
    ),
)


@FAMILY.shape(
    1,
    "a + b; r1 / 2",
    "{A} scores {a} and {b}. | {A} has {a} {xs} and {B} has {b}.",
    "What is the average? | What is the mean?",
)
def of_two(d: Draw) -> Numbers:
    a, b = d(2, 60), d(2, 60)
    return {"a": a, "b": b + (a + b) % 2}


@FAMILY.shape(
    2,
    "a + b; r1 + c; r2 / 3",
    "{A} scores {a}, {b} and {c}. | Three {holders} hold {a}, {b} and {c} {xs}.",
    "What is the average? | What is the mean?",
)
def of_three(d: Draw) -> Numbers:
    a, b, c = d(2, 40), d(2, 40), d(2, 40)
    return {"a": a, "b": b, "c": c + -(a + b + c) % 3}


@FAMILY.shape(
    3,
    "a + b; r1 + c; r2 + e; r3 / 4",
    "{A} scores {a}, {b}, {c} and {e}. | Four {holders} hold {a}, {b}, {c} and {e} {xs}.",
    "What is the average? | What is the mean?",
)
def of_four(d: Draw) -> Numbers:
    a, b, c, e = d(5, 60), d(5, 60), d(5, 60), d(5, 60)
    return {"a": a, "b": b, "c": c, "e": e + -(a + b + c + e) % 4}


@FAMILY.shape(
    4,
    "m * 3; r1 - a; r2 - b",
    "The average of three scores is {m}. | {A} has a mean of {m} over three games.",
    "Two of the scores are {a} and {b}. | Two scores were {a} and {b}.",
    "What is the third? | What is the other score?",
)
def missing(d: Draw) -> Numbers:
    m = d(10, 80)
    a = d(m // 2, m + m // 3)
    return {"m": m, "a": a, "b": d(m // 2, m + m // 3)}


@FAMILY.shape(
    5,
    "m * k; r1 + s; k + 1; r2 / r3",
    "{A} has an average of {m} over {k} games. | In {k} games {A} scores {m} on average.",
    "In the next game {he} scores {s}. | The next score is {s}.",
    "What is the new average? | What is the average now?",
)
def moved(d: Draw) -> Numbers:
    k, m = d(3, 9), d(20, 90)
    shift = d(-5, 12)
    return {"m": m, "k": k, "s": max(m + shift * (k + 1), m % (k + 1))}
