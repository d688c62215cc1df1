"""Shopping: prices, quantities, change."""

from __future__ import annotations

from generators.worlds.arithmetic.draw import Draw
from generators.worlds.arithmetic.shape import Family, Numbers

FAMILY = Family(
    "shopping",
    (
        "multiplication",
        "money",
    ),
)


@FAMILY.shape(
    1,
    "a * p",
    "A {x} costs ${p}. | Each {x} is ${p}.",
    "{A} buys {a} {xs}. | {A} wants {a} {xs}.",
    "How much does {he} pay? | What is the cost in dollars?",
)
def cost(d: Draw) -> Numbers:
    return {"a": d(2, 12), "p": d(2, 15)}


@FAMILY.shape(
    2,
    "a * p; c - r1",
    "{A} buys {a} {xs} at ${p} each. | {A} gets {a} {xs} for ${p} each.",
    "{He} pays with ${c}. | {He} had ${c}.",
    "How much money is left? | How many dollars does {he} have left?",
)
def change(d: Draw) -> Numbers:
    a, p = d(2, 9), d(2, 12)
    return {"a": a, "p": p, "c": a * p + d(1, 60)}


@FAMILY.shape(
    3,
    "a * p; b * q; r1 + r2",
    "{A} buys {a} {xs} at ${p} each and {b} {ys} at ${q} each. | A {x} is ${p} and a {y} is ${q}. {A} buys {a} {xs} and {b} {ys}.",
    "How much does {he} pay? | What is the total cost in dollars?",
)
def two_kinds(d: Draw) -> Numbers:
    return {"a": d(2, 9), "p": d(2, 15), "b": d(2, 9), "q": d(2, 15)}


@FAMILY.shape(
    4,
    "a * p; b * q; r1 + r2; c - r3",
    "{A} has ${c}. | {A} takes ${c} to the market.",
    "{He} buys {a} {xs} at ${p} each and {b} {ys} at ${q} each. | {He} gets {a} {xs} for ${p} each and {b} {ys} for ${q} each.",
    "How much money is left? | How many dollars does {he} have left?",
)
def two_kinds_change(d: Draw) -> Numbers:
    a, p, b, q = d(2, 12), d(3, 20), d(2, 12), d(3, 20)
    return {"a": a, "p": p, "b": b, "q": q, "c": a * p + b * q + d(5, 200)}


@FAMILY.shape(
    5,
    "a * p; b * q; r1 + r2; r3 - k; c - r4",
    "{A} has ${c} and a coupon for ${k} off. | {A} takes ${c} and a ${k} coupon to the store.",
    "{He} buys {a} {xs} at ${p} each and {b} {ys} at ${q} each. | {He} gets {a} {xs} for ${p} each and {b} {ys} for ${q} each.",
    "How much money is left? | How many dollars does {he} have left?",
)
def coupon(d: Draw) -> Numbers:
    a, p, b, q = d(3, 15), d(6, 40), d(3, 15), d(6, 40)
    cost = a * p + b * q
    return {"a": a, "p": p, "b": b, "q": q, "k": d(3, 25), "c": cost + d(10, 300)}
