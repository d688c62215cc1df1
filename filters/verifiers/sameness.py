"""Are two expressions the same? True, False, or a sentence why it cannot be told."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Any

from filters.verifiers.evaluation import TOO_LONG, close, context, free_symbols, integral, value_at
from filters.verifiers.expressions import Node, is_decimal, is_expression, walk

REAL_POINTS, WHOLE_POINTS = 6, 8
NONE: frozenset[str] = frozenset()
Told = bool | str


@lru_cache(maxsize=65_536)
def same(left: Node, right: Node) -> Told:
    """The same value wherever both exist. Constants: equal to 40 digits. Symbols: equal at every sampled point, at least three of them."""
    if left == right:
        return True
    if not (is_expression(left) and is_expression(right)):
        return False
    told = _same(left, right, 0)
    if told is not True and (_bare_log(left) or _bare_log(right)):
        again = _same(left, right, 10)
        return True if again is True else told
    return told


def _same(left: Node, right: Node, log_base: int) -> Told:
    names = free_symbols(left) | free_symbols(right)
    if not names:
        a, b = value_at(left, NONE, 0, False, log_base)[0], value_at(right, NONE, 0, False, log_base)[0]
        if isinstance(a, str) or isinstance(b, str):
            return a if isinstance(a, str) else str(b)
        return close(a, b)
    whole = integral(left) or integral(right)
    agreed, reason = 0, "the values do not exist at enough points"
    for index in range(WHOLE_POINTS if whole else REAL_POINTS):
        (a, off), (b, off_too) = value_at(left, names, index, whole, log_base), value_at(right, names, index, whole, log_base)
        if isinstance(a, str) or isinstance(b, str):
            if TOO_LONG in (a, b):
                return TOO_LONG
            if isinstance(a, str) and isinstance(b, str):
                reason = a
            continue
        if close(a, b):
            agreed += 1
        elif whole or index < 2:
            return False
        elif agreed >= 2 and (off or off_too):
            continue  # roots and logarithms off their domain
        elif agreed >= 2:
            return "equal where the symbols are positive, not elsewhere"
        else:
            return False
    return True if agreed >= 3 or (agreed == 2 and not whole) else reason


def proportional(left: Node, right: Node, positive: bool = False) -> Told:
    """left = c * right with one constant c != 0 (c > 0 where `positive`) at every sampled point."""
    names = free_symbols(left) | free_symbols(right)
    if not (is_expression(left) and is_expression(right)):
        return "not two expressions"
    if not names:
        return "no variable"
    factor, seen = None, 0
    for index in range(REAL_POINTS):
        a, b = value_at(left, names, index, False, 0)[0], value_at(right, names, index, False, 0)[0]
        if isinstance(a, str) or isinstance(b, str):
            continue
        if close(a, Fraction(0)) or close(b, Fraction(0)):
            return "zero at a sampled point"
        ratio = a / b if isinstance(a, Fraction) and isinstance(b, Fraction) else number(a) / number(b)
        if factor is not None and not close(ratio, factor):
            return False
        factor, seen = ratio, seen + 1
    if factor is None or seen < 3:
        return "the values do not exist at enough points"
    return not positive or (_is_real(factor) and (factor if isinstance(factor, Fraction) else context().re(factor)) > 0)


def constant(node: Node) -> Any:
    """The value of an expression without variables, else None."""
    if not is_expression(node) or free_symbols(node):
        return None
    value = value_at(node, NONE, 0, False, 0)[0]
    return None if isinstance(value, str) else value


def number(value: Any) -> Any:
    return context().mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value


def approximates(exact: Node, decimal: Node) -> bool:
    """Does `decimal` round `exact`, to the digits written?"""
    if not is_decimal(decimal):
        return False
    a, b = constant(exact), constant(decimal)
    digits = max((n.args[1] for n in walk(decimal) if n.op == "num"), default=0)
    return a is not None and b is not None and bool(abs(number(a) - number(b)) <= context().mpf("0.6") * context().mpf(10) ** -min(digits, 30))


def _is_real(value: Any) -> bool:
    return isinstance(value, Fraction) or bool(abs(context().im(value)) < context().mpf(10) ** -30 * (1 + abs(value)))


def _bare_log(node: Node) -> bool:
    return any(n.op == "fn" and n.args[0] == "log" for n in walk(node))


_UNDONE = frozenset(("gcd", "lcm", "mod", "max", "min", "floor", "ceil", "abs"))
LARGE = 10**7


def left_undone(node: Node) -> str:
    """What of its arithmetic an answer leaves to the reader ("37+45" for 82); "" for a reduced form.

    Fractions, mixed numbers, powers, factorials and binomials are forms of a number, and so are sums and products of these (2^5-1);
    so is a product of large numbers (2021*505*337), which nobody multiplies out.
    """
    whole = constant(node)
    large = isinstance(whole, Fraction) and (abs(whole.numerator) >= LARGE or whole.denominator >= LARGE)
    for here in walk(node):
        if here.op in ("sum", "prod") and not free_symbols(here):
            return "a sum left undone"
        if here.op == "fn" and here.args[0] in _UNDONE and constant(here) is not None:
            return "a function left undone"
        if not large and _operation(here) and all(isinstance(constant(a), Fraction) for a in here.args) and not any(map(_compact, walk(here))):
            return "arithmetic left undone"
    return ""


def _compact(node: Node) -> bool:
    """A power, factorial or binomial coefficient: closed forms are made of them."""
    if node.op == "pow":
        return node.args[1].op == "num" and abs(node.args[1].args[0]) >= 2
    return node.op == "fn" and node.args[0] in ("fact", "binom")


def _operation(node: Node) -> bool:
    """A sum, product or quotient that is not itself a way to write a number: a fraction, a mixed number, 1.5 * 10^4."""
    if node.op == "div":
        return not all(a.op in ("num", "neg", "pow", "fn") for a in node.args)
    return node.op in ("add", "mul", "ratio") and not _mixed(node)


def _mixed(node: Node) -> bool:
    """3 1/2, or 1.5 * 10^4."""
    one, other = node.args if len(node.args) == 2 else (node, node)
    if node.op == "add":
        return one.op == "num" and other.op == "div" and all(a.op == "num" for a in other.args) and 0 < other.args[0].args[0] < other.args[1].args[0]
    return node.op == "mul" and one.op == "num" and other.op == "pow" and other.args[0] == Node("num", (Fraction(10), -1))
