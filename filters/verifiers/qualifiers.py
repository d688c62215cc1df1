"""What stands behind an answer: "where k is an integer", "for x > 0", "(n ≥ 2)". Idle remarks may be missing, conditions may not."""

from __future__ import annotations

import re
from collections.abc import Sequence

from filters.verifiers.expressions import Node, is_expression, num, symbols
from filters.verifiers.realsets import real_set, same_set
from filters.verifiers.sameness import proportional

_IDLE = re.compile(
    r"\b(?:integers?|any|all|every|each|arbitrary|constants?|real|reals|numbers?|positive|non-?negative|natural|whole|some|is|are|an?|the|and|any|"
    r"in|of|be|can|where|for|with|respectively|x|y|z|n|k|m|t|a|b|c|d|p|q|r|s|u|v|w|to|value|values|choice|fixed|given|mathbb|R|Z|N|all|following)\b|[^A-Za-z<>=0-9]",
    re.IGNORECASE,
)


def idle(rule: Node) -> bool:
    """A remark that every reader supplies: "k ∈ ℤ", "where c is a constant", "for all positive integers n"."""
    if rule.op == "text":
        return not _IDLE.sub("", str(rule.args[0]))
    if rule.op == "rel" and rule.args[0] == ("in",):
        return rule.args[2].op in ("reals", "name", "sym") or idle(rule.args[2])
    if rule.op == "rel" and rule.args[0] in ((">=",), (">",)) and rule.args[1].op == "sym" and rule.args[1].args[0] in "nmk":
        return rule.args[2] in (num(0), num(1))  # the first index there is
    return rule.op == "sym"


def same_qualifiers(want: Sequence[Node], got: Sequence[Node], arguments: frozenset[str]) -> bool | str:
    """True, or why the conditions differ. `arguments`: of the functions that the answer defines; their domain may go without saying."""
    one, other = [r for r in want if not idle(r)], [r for r in got if not idle(r)]
    if not one and not other:
        return True
    if not (one and other) and all(r.op == "rel" and symbols(r) and symbols(r) <= arguments for r in (*one, *other)):
        return True
    if len(one) != len(other):
        return "conditions on one side only"
    rest = list(other)
    for rule in one:
        match = next((r for r in rest if _same_rule(rule, r)), None)
        if match is None:
            return "other conditions"
        rest.remove(match)
    return True


def _same_rule(one: Node, other: Node) -> bool:
    if one == other:
        return True
    if one.op == "text" or other.op == "text":
        return one.op == other.op and _plain(str(one.args[0])) == _plain(str(other.args[0]))
    a, b = real_set(one), real_set(other)
    if a is not None and b is not None:
        return a.variable == b.variable and same_set(a, b) is True
    if (
        one.op == other.op == "rel"
        and one.args[0] == other.args[0]
        and len(one.args) == len(other.args) == 3
        and all(map(is_expression, one.args[1:] + other.args[1:]))
    ):
        left, right = (Node("add", (n.args[1], Node("neg", (n.args[2],)))) for n in (one, other))
        return proportional(left, right, positive=one.args[0] not in (("=",), ("!=",))) is True
    return False


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", text.lower()).strip()
