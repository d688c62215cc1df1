"""The tree an answer is read into, and what can be said of a tree without evaluating it.

A node is an operator and its arguments. Expressions: num, sym, const, add, mul, div, neg, pow, root, fn, pm, mp, fact, sum, prod, deg, pct.
Structures: tuple (with its brackets), set, list, matrix, rel, union, inter, minus, reals (ℝ, ℤ, …), empty, base, quantity, text.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple


class Node(NamedTuple):
    """`op` names the operator; `args` are nodes, except for the leaves num (Fraction, decimals or -1), sym, const, text (str)."""

    op: str
    args: tuple[Any, ...]


INFINITY = Node("const", ("inf",))
MINUS_INFINITY = Node("neg", (INFINITY,))


def words(text: str) -> frozenset[str]:
    """The words of a text, as a set."""
    return frozenset(text.split())


STRUCTURES = words("tuple set list matrix rel union inter minus reals empty base quantity text cases where builder cong name")


def num(value: int | Fraction, decimals: int = -1) -> Node:
    """`decimals`: digits behind the point of a decimal as written, -1 for an exact number."""
    return Node("num", (Fraction(value), decimals))


def sym(name: str) -> Node:
    return Node("sym", (name,))


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it; linear, no recursion."""
    todo = [node]
    while todo:
        here = todo.pop()
        yield here
        todo += [a for a in here.args if isinstance(a, Node)]


def symbols(node: Node) -> frozenset[str]:
    """Free symbols; the index of a sum or product is bound."""
    free: set[str] = set()
    bound: set[str] = set()
    for here in walk(node):
        if here.op == "sym":
            free.add(here.args[0])
        elif here.op in ("sum", "prod"):
            bound.add(here.args[0])
    return frozenset(free - bound)


def is_expression(node: Node) -> bool:
    return not any(here.op in STRUCTURES for here in walk(node))


def is_decimal(node: Node) -> bool:
    """Written with a decimal point somewhere: maybe rounded."""
    return any(here.op == "num" and here.args[1] > 0 for here in walk(node))


def substitute(node: Node, table: dict[str, Node]) -> Node:
    """Free symbols replaced; used to rename bound variables and to expand ± (keys "±", "∓")."""
    if node.op == "sym":
        return table.get(node.args[0], node)
    if node.op in ("num", "const", "text", "reals"):
        return node
    return Node(node.op, tuple(substitute(a, table) if isinstance(a, Node) else a for a in node.args))


def with_sign(node: Node, sign: int) -> Node:
    """± read as `sign` and ∓ as -`sign`, everywhere in the tree."""
    if node.op in ("pm", "mp"):
        positive = (sign > 0) == (node.op == "pm")
        parts = [with_sign(a, sign) for a in node.args]
        last = parts[-1] if positive else Node("neg", (parts[-1],))
        return last if len(parts) == 1 else Node("add", (parts[0], last))
    if node.op in ("num", "const", "text", "reals", "sym"):
        return node
    return Node(node.op, tuple(with_sign(a, sign) if isinstance(a, Node) else a for a in node.args))


def has_sign(node: Node) -> bool:
    return any(here.op in ("pm", "mp") for here in walk(node))
