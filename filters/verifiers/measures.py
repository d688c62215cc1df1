"""Values that carry something with them: a unit, a percent sign, degrees, a base, the terms of a ratio."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from data.records import Outcome
from filters.verifiers.expressions import Node, walk
from filters.verifiers.sameness import constant, same
from filters.verifiers.units import compare_units, converted

Judged = tuple[Outcome, str]
SameValue = Callable[[Node, Node], Judged]
EQUAL: Judged = ("pass", "equal")
DIFFERENT: Judged = ("fail", "another value")


def every(verdicts: list[Judged]) -> Judged:
    """The first that failed, else the first that is unknown, else equal."""
    for wanted in ("fail", "unknown"):
        for verdict in verdicts:
            if verdict[0] == wanted:
                return verdict
    return EQUAL


def same_quantity(want: Node, got: Node, same_value: SameValue) -> Judged:
    (a, unit), (b, other) = _measured(want), _measured(got)
    if unit and other:
        told = compare_units(unit, other)
        if told == "same":
            return same_value(a, b)
        factor = converted(other, unit)
        if factor is not None:
            return same_value(a, Node("mul", (b, Node("num", (factor, -1)))))
        verdict = same_value(a, b)
        return (
            ("fail", f"the unit is {other!r}, not {unit!r}")
            if told == "different"
            else ("unknown", f"units {other!r} and {unit!r}")
            if verdict[0] == "pass"
            else verdict
        )
    verdict = same_value(a, b)
    if "°" in (unit, other) and verdict[0] != "pass":
        if _has_pi(b if unit else a):
            return EQUAL if same(Node("deg", (a,)) if unit else a, Node("deg", (b,)) if other else b) is True else DIFFERENT
    elif "%" in (unit, other) and not (unit and other):
        x, y = constant(a), constant(b)
        if isinstance(x, Fraction) and isinstance(y, Fraction):
            if other and abs(x) < 1 and x != 0:
                y = y / 100
            return EQUAL if x == y else ("unknown", "a bare ratio where the reference is in percent") if unit and x == 100 * y else DIFFERENT
    return verdict


def _measured(node: Node) -> tuple[Node, str]:
    return (node.args[0], "°") if node.op == "deg" else (node.args[0], node.args[1]) if node.op == "quantity" else (node, "")


def _has_pi(node: Node) -> bool:
    return any(n == Node("const", ("pi",)) for n in walk(node))


def same_base(want: Node, got: Node) -> Judged:
    if want.op == got.op == "base":
        return EQUAL if want == got else ("fail", "another number or base") if want.args[1] == got.args[1] else ("unknown", "another base")
    if want.op == "base":
        return EQUAL if got == Node("num", (Fraction(int(want.args[0])), -1)) else DIFFERENT
    return ("unknown", "a base where the reference has none") if want == Node("num", (Fraction(int(got.args[0])), -1)) else DIFFERENT


def same_ratio(want: Node, got: Node, same_value: SameValue) -> Judged:
    a, b = _terms(want), _terms(got)
    if len(a) == 1 or len(b) == 1:
        return same_value(Node("div", tuple(a)), b[0]) if len(a) == 2 else same_value(a[0], Node("div", tuple(b))) if len(b) == 2 else DIFFERENT
    if len(a) != len(b):
        return "fail", "another number of terms"
    return every([same_value(Node("mul", (x, b[0])), Node("mul", (y, a[0]))) for x, y in zip(a[1:], b[1:])])


def _terms(node: Node) -> list[Node]:
    return [*_terms(node.args[0]), node.args[1]] if node.op == "ratio" else [node]
