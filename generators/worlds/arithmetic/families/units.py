"""Unit conversion: time, length, money; some answers are decimals."""

from __future__ import annotations

from generators.worlds.arithmetic.draw import Draw
from generators.worlds.arithmetic.shape import Family, Numbers

FAMILY = Family(
    "units",
    (
        "unit conversion",
        "multiplication",
        "decimal",
    ),
)


@FAMILY.shape(
    1,
    "n * 60",
    "{A} reads for {n} hours. | A film lasts {n} hours. | {A} walks for {n} hours. | A game takes {n} hours. | The {vehicle} is {n} hours late.",
    "How many minutes is that? | What is this in minutes?",
)
def minutes(d: Draw) -> Numbers:
    return {"n": d(2, 40)}


@FAMILY.shape(
    1,
    "n * 7",
    "{A} is away for {n} weeks. | A trip lasts {n} weeks. | {A} waits {n} weeks. | {A} reads for {n} weeks. | The {vehicle} is away for {n} weeks.",
    "How many days is that? | What is this in days?",
)
def days(d: Draw) -> Numbers:
    return {"n": d(2, 60)}


@FAMILY.shape(
    1,
    "n * 100",
    "A rope is {n} meters long. | A wall is {n} meters wide. | {A} jumps {n} meters. | {A} walks {n} meters. | The {vehicle} moves {n} meters.",
    "How many centimeters is that? | What is this in centimeters?",
)
def centimeters(d: Draw) -> Numbers:
    return {"n": d(2, 90)}


@FAMILY.shape(
    2,
    "h * 60; r1 + m",
    "{A} reads for {h} hours and {m} minutes. | {A} plays with {B} for {h} hours and {m} minutes. | {A} walks for {h} hours and {m} minutes.",
    "How many minutes is that? | What is this in minutes?",
)
def hours_and_minutes(d: Draw) -> Numbers:
    return {"h": d(2, 9), "m": d(2, 58)}


@FAMILY.shape(
    3,
    "n / 100",
    "{A} has {n} centimeters of rope. | {A} is {n} centimeters behind {B}. | The {vehicle} moves {n} centimeters.",
    "How many meters is that? | What is this in meters?",
)
def meters(d: Draw) -> Numbers:
    return {"n": 5 * d(21, 180)}


@FAMILY.shape(
    3,
    "n / 60",
    "{A} reads for {n} minutes. | {A} plays with {B} for {n} minutes. | {A} waits {n} minutes for {B}.",
    "How many hours is that? | What is this in hours?",
)
def hours(d: Draw) -> Numbers:
    return {"n": 30 * d(2, 24)}


@FAMILY.shape(
    4,
    "k * m; r1 / 60",
    "{A} reads {m} minutes a day. | {A} walks {m} minutes a day. | {A} plays with {B} for {m} minutes a day.",
    "How many hours is that in {k} days? | What is this in hours after {k} days?",
)
def hours_of_days(d: Draw) -> Numbers:
    m = d.pick((10, 12, 15, 18, 20, 24, 30, 36, 40, 45, 48, 50, 54))
    need = next(step for step in range(1, 31) if m * step % 30 == 0)
    return {"m": m, "k": need * d(2, max(2, 36 // need))}


@FAMILY.shape(
    5,
    "n * 100; p * c; r1 - r2; r3 / q",
    "A rope is {n} meters long. | {A} has {n} meters of rope.",
    "{A} cuts off {p} pieces of {c} centimeters and makes {q} equal pieces of the rest. | "
    "{p} pieces of {c} centimeters are cut off. The rest is cut into {q} equal pieces.",
    "How many centimeters long is each of the {q} pieces? | How long is each of the {q} pieces in centimeters?",
)
def rope(d: Draw) -> Numbers:
    while True:
        n, p, c, q = d(2, 12), d(2, 9), d(10, 60), d(2, 8)
        rest = n * 100 - p * c
        if rest > 0 and rest % q == 0:
            return {"n": n, "p": p, "c": c, "q": q}
