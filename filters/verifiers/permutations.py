"""Answers that name one tuple and say "and its permutations": all of them spelled out."""

from __future__ import annotations

import re
from itertools import permutations

from filters.verifiers.expressions import Node
from filters.verifiers.notation import Unreadable

MAX_TUPLES = 130
PERMUTED = re.compile(
    r",?\s*(?:\\text\s*\{)?\s*(?:\(\s*)?(?:,?\s*(?:and|or|with|plus|up to)\s+)?"
    r"(?:all\s+|any\s+)?(?:of\s+)?(?:its\s+|their\s+|the\s+|other\s+)*(?:cyclic\s+)?permutations?"
    r"(?:\s+(?:thereof|of (?:it|them|these|this|the (?:above|same))))?(?:\s+of(?=\s*[\\}$(]))?\s*(?:\))?\s*\}?",
    re.IGNORECASE,
)


def permuted(node: Node, *, cyclic: bool) -> Node:
    """The list of all (or all cyclic) permutations of the tuples in `node`, each once. Raises `Unreadable`."""
    if node.op == "rel" and node.args[0] in (("=",), ("in",)):
        node = node.args[2]
    items = node.args[1:] if node.op == "list" else node.args if node.op == "set" else (node,)
    out: dict[Node, None] = {}
    for item in items:
        if item.op != "tuple" or len(item.args) > 7:
            raise Unreadable("the answer permutes something that is no short tuple")
        cells = item.args[2:]
        orders = [cells[i:] + cells[:i] for i in range(len(cells))] if cyclic else permutations(cells)
        for order in orders:
            out[Node("tuple", (*item.args[:2], *order))] = None
            if len(out) > MAX_TUPLES:
                raise Unreadable("the answer has too many permutations")
    return Node("list", (",", *out)) if len(out) > 1 else next(iter(out))
