"""Totals: things come and go."""

from __future__ import annotations

from generators.worlds.arithmetic.draw import Draw
from generators.worlds.arithmetic.shape import Family, Numbers

FAMILY = Family(
    "totals",
    (
        "addition",
        "subtraction",
    ),
)


@FAMILY.shape(
    1,
    "a + b",
    "{A} has {a} {xs}. | {A} owns {a} {xs}.",
    "{He} gets {b} more. | {B} gives {A} {b} more. | {He} buys {b} more.",
    "How many {xs} does {A} have now? | How many {xs} are there in all?",
)
def gain(d: Draw) -> Numbers:
    return {"a": d(2, 60), "b": d(2, 39)}


@FAMILY.shape(
    1,
    "a - b",
    "{A} has {a} {xs}. | There are {a} {xs} on a shelf.",
    "{B} takes {b} of them. | {b} of them get lost. | {b} of them are sold.",
    "How many are left? | How many {xs} are left?",
)
def loss(d: Draw) -> Numbers:
    b = d(2, 40)
    return {"a": b + d(1, 50), "b": b}


@FAMILY.shape(
    2,
    "a + b; r1 - c",
    "{A} has {a} {xs}. | {A} starts with {a} {xs}.",
    "{He} finds {b} more and loses {c}. | {He} gets {b} from {B} and gives {c} to {C}.",
    "How many {xs} does {A} have now? | How many does {he} have left?",
)
def gain_loss(d: Draw) -> Numbers:
    a, b = d(10, 70), d(5, 60)
    return {"a": a, "b": b, "c": d(2, min(50, a + b - 1))}


@FAMILY.shape(
    3,
    "a + b; r1 + c",
    "{A} has {a} {xs}, {B} has {b} and {C} has {c}. | {A} sold {a} {xs}, {B} sold {b} and {C} sold {c}.",
    "How many {xs} is that in all? | What is the total?",
)
def three_people(d: Draw) -> Numbers:
    return {"a": d(20, 150), "b": d(20, 150), "c": d(20, 150)}


@FAMILY.shape(
    3,
    "a - b; r1 + c",
    "A shop has {a} {xs}. | There are {a} {xs} in a store.",
    "It sells {b} and then gets {c} new ones. | {b} are sold and {c} new ones arrive.",
    "How many {xs} are there now? | How many {xs} does it have now?",
)
def shop(d: Draw) -> Numbers:
    b = d(20, 120)
    return {"a": b + d(10, 150), "b": b, "c": d(20, 150)}


@FAMILY.shape(
    4,
    "a + b; r1 - c; r2 + d",
    "{A} has {a} {xs}. | {A} starts with {a} {xs}.",
    "{He} buys {b} more, gives {c} to {B} and finds {d}. | {B} gives {A} {b} more. Then {he} loses {c} and buys {d}.",
    "How many {xs} does {A} have at the end? | How many {xs} is that now?",
)
def four_events(d: Draw) -> Numbers:
    a, b = d(50, 300), d(50, 200)
    return {"a": a, "b": b, "c": d(20, a), "d": d(20, 150)}


@FAMILY.shape(
    5,
    "a + b; r1 - c; r2 - d; r3 + e",
    "A shop has {a} {xs} and gets {b} more. | There are {a} {xs} in a store and {b} more arrive.",
    "It sells {c} on Monday and {d} on Tuesday. | It sells {c} one day and {d} the next.",
    "Then {e} are returned. | On Friday {e} new ones come in.",
    "How many {xs} does it have now? | How many {xs} are there at the end?",
)
def busy_shop(d: Draw) -> Numbers:
    a, b = d(200, 900), d(100, 600)
    return {"a": a, "b": b, "c": d(50, a // 2), "d": d(50, a // 2), "e": d(20, 300)}
