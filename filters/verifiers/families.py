"""Families of values with an integer parameter: π/6 + 2πk, k ∈ ℤ, however the parameter is called, shifted or split."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from data.records import Outcome
from filters.verifiers.evaluation import Evaluator, Refused, close, free_symbols
from filters.verifiers.expressions import Node, is_expression, with_sign
from filters.verifiers.sameness import number

SPAN = 40  # parameters from -SPAN to SPAN
Judged = tuple[Outcome, str]


def same_family(want: Node, want_rules: Sequence[Node], got: Node, got_rules: Sequence[Node]) -> Judged:
    """The two sets of values inside a window that both cover well; only for real values with one integer parameter each."""
    if not (_integers(want_rules) or _integers(got_rules)):
        return "unknown", "no integer parameter is declared"
    one, other = _members(want), _members(got)
    if not one or not other:
        return "unknown", "no family of values"
    a, b = _points(one, _only_natural(want_rules)), _points(other, _only_natural(got_rules))
    if a is None or b is None:
        return "unknown", "no family of values"
    window = min(max(abs(number(x)) for x in a), max(abs(number(x)) for x in b)) * 3 / 4
    inside, others = [x for x in a if abs(number(x)) <= window], [x for x in b if abs(number(x)) <= window]
    if len(inside) < 5:
        return "unknown", "no family of values"
    if len(inside) != len(others) or not all(close(x, y) for x, y in zip(inside, others)):
        return "fail", "another family of values"
    return "pass", "the same family of values"


def _integers(rules: Sequence[Node]) -> bool:
    for rule in rules:
        if rule.op == "rel" and rule.args[0] == ("in",) and rule.args[2].op == "reals" and rule.args[2].args[0][0] in "ZN":
            return True
        if rule.op == "text" and "integer" in str(rule.args[0]).lower():
            return True
    return False


def _only_natural(rules: Sequence[Node]) -> bool:
    for rule in rules:
        if rule.op == "rel" and rule.args[0] == ("in",) and rule.args[2].op == "reals" and rule.args[2].args[0] != "Z":
            return True
        if rule.op == "text" and any(w in str(rule.args[0]).lower() for w in ("positive", "negative", "natural")):
            return True
    return False


def _members(node: Node) -> list[Node]:
    """The expressions of the family, names and ± off; [] where it is something else."""
    items = list(node.args[1:]) if node.op == "list" else list(node.args) if node.op in ("set", "union") else [node]
    out = []
    for item in items:
        if item.op == "set" and len(item.args) == 1:
            item = item.args[0]
        if item.op == "rel" and item.args[0] == ("=",) and item.args[1].op == "sym":
            item = item.args[2]
        if item.op in ("deg", "quantity"):
            item = item.args[0]
        if not is_expression(item) or len(free_symbols(item)) > 1:
            return []
        out += list(dict.fromkeys((with_sign(item, 1), with_sign(item, -1))))
    return out


def _points(members: list[Node], natural: bool) -> list[Any] | None:
    if natural or len(members) > 8:
        return None  # where a family begins is a condition, which is not for this comparison
    values: list[Any] = []
    try:
        for member in members:
            names = free_symbols(member)
            for k in range(-SPAN, SPAN + 1) if names else (0,):
                value = Evaluator(dict.fromkeys(names, Fraction(k)))(member)
                if not isinstance(value, Fraction) and getattr(value, "imag", 0) != 0:
                    return None
                values.append(value)
    except (Refused, OverflowError, ValueError, TypeError):
        return None
    values.sort(key=number)
    out = values[:1]
    for value in values[1:]:
        if not close(value, out[-1]):
            out.append(value)
    return out
