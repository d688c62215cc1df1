"""Work: how much in which time, alone or together."""

from __future__ import annotations

from generators.worlds.arithmetic.draw import Draw
from generators.worlds.arithmetic.shape import Family, Numbers

FAMILY = Family(
    "work",
    (
        "rate",
        "multiplication",
        "division",
    ),
)


@FAMILY.shape(
    1,
    "a * t",
    "A {maker} makes {a} {xs} an hour. | Each hour a {maker} makes {a} {xs}.",
    "How many {xs} are made in {t} hours? | How many is that in {t} hours?",
)
def output(d: Draw) -> Numbers:
    return {"a": d(2, 20), "t": d(2, 9)}


@FAMILY.shape(
    2,
    "k * a; r1 * t",
    "A {maker} makes {a} {xs} an hour. | Each {maker} can make {a} {xs} an hour.",
    "How many do {k} of them make in {t} hours? | There are {k} of them. How many {xs} do they make in {t} hours?",
)
def team(d: Draw) -> Numbers:
    return {"a": d(2, 12), "k": d(2, 9), "t": d(2, 6)}


@FAMILY.shape(
    3,
    "n - b; r1 / a",
    "A {maker} must make {n} {xs}. | A {maker} has an order for {n} {xs}.",
    "{b} are done. | {b} of them are ready.",
    "At {a} an hour, how many hours are left? | How many hours are left at {a} {xs} an hour?",
)
def rest_of_order(d: Draw) -> Numbers:
    a, b = d(2, 12), d(5, 60)
    return {"n": b + a * d(2, 12), "b": b, "a": a}


@FAMILY.shape(
    4,
    "a + b; n - c; r2 / r1",
    "{A} makes {a} {xs} an hour and {B} makes {b}. | In an hour {A} makes {a} {xs} and {B} makes {b}.",
    "They need {n} and have {c}. | {c} of {n} {xs} are done.",
    "How many more hours do they work together? | How many hours are left for both?",
)
def both(d: Draw) -> Numbers:
    a, b, c = d(2, 15), d(2, 15), d(5, 60)
    return {"a": a, "b": b, "c": c, "n": c + (a + b) * d(2, 12)}


@FAMILY.shape(
    5,
    "n / k; r1 / t; r2 * m; r3 * u",
    "{k} {maker}s make {n} {xs} in {t} hours. | In {t} hours {k} {maker}s make {n} {xs}.",
    "How many {xs} do {m} of them make in {u} hours? | At that rate, how many can {m} of them make in {u} hours?",
)
def crews(d: Draw) -> Numbers:
    k, t, rate = d(2, 9), d(2, 9), d(2, 12)
    return {"k": k, "t": t, "n": k * t * rate, "m": d(2, 12), "u": d(2, 9)}
