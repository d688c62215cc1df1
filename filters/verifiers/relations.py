"""Equations up to a constant factor, inequalities up to a positive one, congruences."""

from __future__ import annotations

from fractions import Fraction

from data.records import Outcome
from filters.verifiers.evaluation import free_symbols
from filters.verifiers.expressions import Node, has_sign, is_expression, with_sign
from filters.verifiers.sameness import constant, proportional
from filters.verifiers.symbolic import same_curve

Judged = tuple[Outcome, str]
EQUAL: Judged = ("pass", "equal")
_FLIP = {">": "<", ">=": "<="}


def as_equations(reference: Node, answer: Node) -> Judged | None:
    want, got = _relations(reference), _relations(answer)
    if not want or not got:
        return None
    if len(want) != len(got):
        return "fail", "another number of relations"
    rest, unsure = list(got), ""
    for one in want:
        for other in rest:
            told = _same_relation(one, other)
            if told is True:
                rest.remove(other)
                break
            unsure = unsure or (told if isinstance(told, str) else "")
        else:
            return ("unknown", unsure) if unsure else ("fail", "another relation")
    return EQUAL


def _relations(node: Node) -> list[tuple[str, Node]]:
    """Each as (sign of relation, left - right), > turned into <; [] where the answer is not made of relations between expressions."""
    items = node.args[1:] if node.op == "list" else (node,)
    out = []
    for item in [i for one in items for i in ((with_sign(one, 1), with_sign(one, -1)) if one.op == "rel" and has_sign(one) else (one,))]:
        if item.op != "rel" or not all(is_expression(p) for p in item.args[1:]):
            return []
        for op, left, right in zip(item.args[0], item.args[1:], item.args[2:]):
            if op not in ("=", "<", "<=", ">", ">=", "!="):
                return []
            if op in _FLIP:
                op, left, right = _FLIP[op], right, left
            out.append((op, Node("add", (left, Node("neg", (right,))))))
    return out


def _same_relation(one: tuple[str, Node], other: tuple[str, Node]) -> bool | str:
    if one[0] != other[0] or not (free_symbols(one[1]) or free_symbols(other[1])):
        return False
    if free_symbols(one[1]) != free_symbols(other[1]):
        return False
    told = proportional(one[1], other[1], positive=one[0] in ("<", "<="))
    if told is not True and one[0] == "=":
        return same_curve(one[1], other[1])
    return told


def as_congruences(reference: Node, answer: Node) -> Judged | None:
    if reference.op != "cong" or answer.op != "cong":
        return None
    m, n = constant(reference.args[-1]), constant(answer.args[-1])
    a, b = constant(reference.args[-2]), constant(answer.args[-2])
    if not all(isinstance(v, Fraction) for v in (a, b, m, n)) or m == 0:
        return "unknown", "a congruence with symbols"
    if reference.args[0] != answer.args[0]:
        return "unknown", "congruences of different symbols"
    return EQUAL if m == n and ((a - b) / m).denominator == 1 else ("fail", "another congruence")
