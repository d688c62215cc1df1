"""Travel: speed, time, distance."""

from __future__ import annotations

from generators.worlds.arithmetic.draw import Draw
from generators.worlds.arithmetic.shape import Family, Numbers

FAMILY = Family(
    "travel",
    (
        "rate",
        "distance",
    ),
)


@FAMILY.shape(
    1,
    "v * t",
    "A {vehicle} goes {v} miles per hour. | The speed of a {vehicle} is {v} miles per hour.",
    "How far does it go in {t} hours? | How many miles is that in {t} hours?",
)
def distance(d: Draw) -> Numbers:
    return {"v": d(3, 30), "t": d(2, 6)}


@FAMILY.shape(
    2,
    "s / t",
    "A {vehicle} goes {s} miles in {t} hours. | In {t} hours a {vehicle} travels {s} miles.",
    "What is its speed in miles per hour? | How many miles is that per hour?",
)
def speed(d: Draw) -> Numbers:
    t = d(2, 9)
    return {"s": t * d(5, 50), "t": t}


@FAMILY.shape(
    2,
    "s / v",
    "A {vehicle} goes {v} miles per hour. | The speed of a {vehicle} is {v} miles per hour.",
    "How long does it take to go {s} miles? | How many hours does it need for {s} miles?",
)
def duration(d: Draw) -> Numbers:
    v = d(5, 40)
    return {"s": v * d(2, 9), "v": v}


@FAMILY.shape(
    3,
    "v * t; w * u; r1 + r2",
    "A {vehicle} goes {t} hours at {v} miles per hour and {u} hours at {w} miles per hour. | "
    "A {vehicle} travels at {v} miles per hour for {t} hours, then at {w} miles per hour for {u} hours.",
    "How far does it go? | How many miles is that in all?",
)
def two_legs(d: Draw) -> Numbers:
    return {"v": d(5, 40), "t": d(2, 6), "w": d(5, 40), "u": d(2, 6)}


@FAMILY.shape(
    4,
    "v * t; w * u; r1 + r2; s - r3",
    "A trip is {s} miles long. | {A} plans a trip of {s} miles.",
    "A {vehicle} goes {t} hours at {v} miles per hour and {u} hours at {w} miles per hour. | "
    "The {vehicle} goes {v} miles per hour for {t} hours, then {w} miles per hour for {u} hours.",
    "How many miles are left? | How far is it to the end?",
)
def to_go(d: Draw) -> Numbers:
    v, t, w, u = d(10, 50), d(2, 6), d(10, 50), d(2, 6)
    return {"v": v, "t": t, "w": w, "u": u, "s": v * t + w * u + d(10, 200)}


@FAMILY.shape(
    5,
    "v * t; s - r1; r2 / w; t + r3",
    "A trip is {s} miles long. | {A} plans a trip of {s} miles.",
    "A {vehicle} goes {t} hours at {v} miles per hour and the rest at {w} miles per hour. | "
    "The {vehicle} goes {v} miles per hour for {t} hours, then {w} miles per hour to the end.",
    "How many hours does the trip take? | How long is the whole trip in hours?",
)
def whole_trip(d: Draw) -> Numbers:
    v, t, w, u = d(12, 60), d(2, 9), d(12, 60), d(2, 9)
    return {"v": v, "t": t, "w": w, "s": v * t + w * u}
