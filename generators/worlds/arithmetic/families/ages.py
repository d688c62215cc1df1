"""Ages: older, younger, then and now."""

from __future__ import annotations

from generators.worlds.arithmetic.draw import Draw
from generators.worlds.arithmetic.shape import Family, Numbers

FAMILY = Family(
    "ages",
    (
        "age",
        "addition",
        "multiplication",
    ),
)


@FAMILY.shape(
    1,
    "a + b",
    "{A} is {a} years old. | {A} is {a}.",
    "How old is {he} in {b} years? | {B} is {b} years older. How old is {B}?",
)
def older(d: Draw) -> Numbers:
    return {"a": d(2, 60), "b": d(2, 30)}


@FAMILY.shape(
    1,
    "a - b",
    "{A} is {a} years old. | {A} is {a}.",
    "How old was {he} {b} years ago? | {B} is {b} years younger. How old is {B}?",
)
def younger(d: Draw) -> Numbers:
    b = d(2, 30)
    return {"a": b + d(2, 40), "b": b}


@FAMILY.shape(
    2,
    "a * k; r1 + b",
    "{A} is {a} years old. | {A} is {a}.",
    "{B} is {k} times as old. | {B} is {k} times as old as {A}.",
    "How old is {B} in {b} years? | What is the age of {B} in {b} years?",
)
def times_later(d: Draw) -> Numbers:
    return {"a": d(3, 20), "k": d(3, 5), "b": d(2, 30)}


@FAMILY.shape(
    3,
    "a + b; a + r1",
    "{A} is {a} years old. | {A} is {a}.",
    "{B} is {b} years older. | {B} is {b} years older than {A}.",
    "What is the sum of their ages? | How old are they together?",
)
def sum_of_ages(d: Draw) -> Numbers:
    return {"a": d(5, 60), "b": d(2, 30)}


@FAMILY.shape(
    4,
    "a + b; a + r1; c * 2; r2 + r3",
    "{A} is {a} years old. | {A} is {a}.",
    "{B} is {b} years older. | {B} is {b} years older than {A}.",
    "What is the sum of their ages in {c} years? | How old are they together in {c} years?",
)
def sum_later(d: Draw) -> Numbers:
    return {"a": d(5, 60), "b": d(2, 30), "c": d(2, 20)}


@FAMILY.shape(
    5,
    "b + c; r1 * k; r2 - c; r3 - b",
    "{B} is {b} years old. | {B} is {b}.",
    "In {c} years {A} is {k} times as old as {B}. | In {c} years {A} has {k} times the age of {B}.",
    "How many years older is {A} now? | By how many years is {A} older?",
)
def gap(d: Draw) -> Numbers:
    return {"b": d(3, 20), "c": d(2, 15), "k": d(2, 6)}
