"""Sets of real numbers: intervals, unions, inequalities in one variable, all brought to sorted disjoint pieces."""

from __future__ import annotations

from fractions import Fraction
from functools import cmp_to_key
from typing import Any, NamedTuple

from filters.verifiers.evaluation import close, free_symbols
from filters.verifiers.expressions import INFINITY, MINUS_INFINITY, Node, is_expression, with_sign
from filters.verifiers.sameness import constant, number, same

_FLIP = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}


class Piece(NamedTuple):
    """An interval; a point is a closed interval of one number. Infinite ends are open."""

    low: Node
    closed_low: bool
    high: Node
    closed_high: bool


EVERYTHING = Piece(MINUS_INFINITY, False, INFINITY, False)


class RealSet(NamedTuple):
    variable: str  # "" where none is named
    pieces: tuple[Piece, ...]


def real_set(node: Node) -> RealSet | None:
    """The set that `node` denotes, if it is one of real numbers. A bare (a, b) counts as an interval: the caller knows it may be a pair."""
    op, args = node
    if op == "tuple" and len(args) == 4 and all(is_expression(a) for a in args[2:]):
        low, high = args[2], args[3]
        if low == high and args[0] == "[" and args[1] == "]":
            return RealSet("", (Piece(low, True, high, True),))
        a, b = constant(low), constant(high)
        if a is not None and b is not None and not _less(a, b):
            return None
        return RealSet("", (Piece(low, args[0] == "[" and low != MINUS_INFINITY, high, args[1] == "]" and high != INFINITY),))
    if op == "reals" and args[0] in ("R", "R+", "R-", "R0+"):
        zero = Node("num", (Fraction(0), -1))
        if args[0] == "R0+":
            return RealSet("", (Piece(zero, True, INFINITY, False),))
        low, high = (zero if args[0] == "R+" else MINUS_INFINITY), (zero if args[0] == "R-" else INFINITY)
        return RealSet("", (Piece(low, False, high, False),))
    if op == "empty":
        return RealSet("", ())
    if op == "set":
        points = [p for a in args for p in ((with_sign(a, 1), with_sign(a, -1)) if a.op in ("pm", "mp") else (a,))]
        if all(is_expression(a) for a in points):
            return RealSet("", tuple(Piece(a, True, a, True) for a in points))
        return None
    if op in ("union", "inter", "minus"):
        left, right = real_set(args[0]), real_set(args[1])
        if left is None or right is None:
            return None
        if op == "union":
            return merged(RealSet(left.variable, left.pieces + right.pieces))
        return intersection(left, right) if op == "inter" else intersection(left, complement(right))
    if op == "builder":
        inner = real_set(args[1])
        variable = args[0].args[1] if args[0].op == "rel" else args[0]
        return inner if inner is not None and variable.op == "sym" and inner.variable == variable.args[0] else None
    if op == "rel":
        return _relation(node)
    if op == "list" and args[1].op == "rel" and args[1].args[0] == ("!=",) and all(is_expression(a) for a in args[2:]):
        args = (args[0], args[1], *(Node("rel", (("!=",), args[1].args[1], a)) for a in args[2:]))  # k ≠ 0, 1
    if op == "list" and args[0] in ("or", "and", ",") and len(args) <= 12:
        return _listed(args[0], [real_set(a) for a in args[1:]], all(a.op == "rel" for a in args[1:]))
    return None


def _listed(kind: str, parts: list[RealSet | None], relations: bool) -> RealSet | None:
    if any(p is None for p in parts) or (kind != "or" and not relations and not any(p and p.variable for p in parts)):
        return None
    sets = [p for p in parts if p is not None]
    names = {s.variable for s in sets} - {""}
    if len(names) > 1 or (relations and not names):
        return None
    both: RealSet | None = sets[0]
    if kind != "or":
        for s in sets[1:]:
            both = intersection(both, s)
        if both is not None and both.pieces:
            return both
    return merged(RealSet(sets[0].variable, tuple(p for s in sets for p in s.pieces)))


def _relation(node: Node) -> RealSet | None:
    ops, parts = node.args[0], node.args[1:]
    if (ops == ("in",) and parts[0].op == "sym") or (
        ops == ("=",) and parts[0].op == "sym" and parts[1].op in ("union", "inter", "minus", "reals", "empty", "tuple")
    ):
        inner = real_set(parts[1])
        return RealSet(parts[0].args[0], inner.pieces) if inner is not None else None
    if not all(is_expression(p) for p in parts):
        return None
    if len(ops) == 1 and parts[1].op == "sym" and parts[0].op != "sym" and ops[0] in (*_FLIP, "!="):
        ops, parts = (_FLIP.get(ops[0], ops[0]),), (parts[1], parts[0])
    if len(ops) == 1 and parts[0].op == "fn" and parts[0].args[0] == "abs" and parts[0].args[1].op == "sym" and ops[0] in _FLIP:
        name, bound = parts[0].args[1].args[0], parts[1]  # |k| < 2; anything harder, like |x - 3| < 2, is a problem left unsolved
        size = constant(bound)
        if size is None or not _less(Fraction(0), size):
            return None
        inner = RealSet(name, (Piece(Node("neg", (bound,)), len(ops[0]) == 2, bound, len(ops[0]) == 2),))
        outer = RealSet(name, (Piece(Node("neg", (bound,)), len(ops[0]) == 1, bound, len(ops[0]) == 1),))
        return inner if ops[0][0] == "<" else complement(outer)
    if len(ops) == 1 and parts[0].op == "sym":
        name, bound = parts[0].args[0], parts[1]
        if name in free_symbols(bound):
            return None
        if ops[0] == "=":
            signs = (with_sign(bound, 1), with_sign(bound, -1))
            return RealSet(name, tuple(Piece(b, True, b, True) for b in dict.fromkeys(signs)))
        if ops[0] == "!=":
            holes = tuple(Piece(b, True, b, True) for b in dict.fromkeys((with_sign(bound, 1), with_sign(bound, -1))))
            return RealSet(name, found.pieces) if (found := complement(RealSet(name, holes))) is not None else None
        if ops[0] in ("<", "<="):
            return RealSet(name, (Piece(MINUS_INFINITY, False, bound, ops[0] == "<=" and bound != INFINITY),))
        if ops[0] in (">", ">="):
            return RealSet(name, (Piece(bound, ops[0] == ">=" and bound != MINUS_INFINITY, INFINITY, False),))
    if len(ops) == 2 and parts[1].op == "sym" and {o[0] for o in ops} in ({"<"}, {">"}):
        low, first, second, high = parts[0], ops[0], ops[1], parts[2]
        if first[0] == ">":
            low, first, second, high = high, second, first, low
        name = parts[1].args[0]
        if name in free_symbols(low) | free_symbols(high):
            return None
        return RealSet(name, (Piece(low, len(first) == 2 and low != MINUS_INFINITY, high, len(second) == 2 and high != INFINITY),))
    return None


# numeric pieces


def _end(node: Node) -> Any:
    if node == INFINITY or node == Node("const", ("inf",)):
        return float("inf")
    if node == MINUS_INFINITY:
        return float("-inf")
    return constant(node)


def _less(a: Any, b: Any) -> bool:
    if isinstance(a, float) or isinstance(b, float):
        a, b = (x if isinstance(x, float) else 0.0 for x in (a, b))
        return a < b
    if close(a, b):
        return False
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a < b
    a, b = number(a), number(b)
    return bool(getattr(a, "real", a) < getattr(b, "real", b))


def _alike(a: Any, b: Any) -> bool:
    if isinstance(a, float) or isinstance(b, float):
        return isinstance(a, float) and isinstance(b, float) and a == b
    return close(a, b)


def _numeric(pieces: tuple[Piece, ...]) -> list[tuple[Any, bool, Any, bool, Piece]] | None:
    out = []
    for p in pieces:
        low, high = _end(p.low), _end(p.high)
        if low is None or high is None:
            return None
        if _less(low, high) or (_alike(low, high) and p.closed_low and p.closed_high):
            out.append((low, p.closed_low, high, p.closed_high, p))
    return out


def merged(found: RealSet) -> RealSet:
    """Pieces sorted and joined where they overlap or touch; symbolic pieces stay as they are."""
    numeric = _numeric(found.pieces)
    if numeric is None or len(found.pieces) < 2:
        return found

    def order(a: Any, b: Any) -> int:
        if _less(a[0], b[0]):
            return -1
        if _less(b[0], a[0]):
            return 1
        return int(b[1]) - int(a[1])

    out: list[Any] = []
    for low, closed_low, high, closed_high, piece in sorted(numeric, key=cmp_to_key(order)):
        if out and (_less(low, out[-1][2]) or (_alike(low, out[-1][2]) and (closed_low or out[-1][3]))):
            last = out[-1]
            if _less(last[2], high) or (_alike(last[2], high) and closed_high):
                out[-1] = (last[0], last[1], high, closed_high, Piece(last[4].low, last[1], piece.high, closed_high))
        else:
            out.append((low, closed_low, high, closed_high, piece))
    return RealSet(found.variable, tuple(o[4] for o in out))


def complement(found: RealSet | None) -> RealSet | None:
    if found is None:
        return None
    found = merged(found)
    if _numeric(found.pieces) is None:
        return None
    pieces, low, closed = [], MINUS_INFINITY, False
    for p in found.pieces:
        if p.low != MINUS_INFINITY:
            pieces.append(Piece(low, closed, p.low, not p.closed_low))
        low, closed = p.high, not p.closed_high
    if low != INFINITY:
        pieces.append(Piece(low, closed, INFINITY, False))
    return RealSet(found.variable, tuple(pieces))


def intersection(left: RealSet | None, right: RealSet | None) -> RealSet | None:
    if left is None or right is None:
        return None
    a, b = _numeric(left.pieces), _numeric(right.pieces)
    if a is None or b is None:
        return _symbolic_intersection(left, right)
    out = []
    for p in a:
        for q in b:
            low = q if _less(p[0], q[0]) or (_alike(p[0], q[0]) and not q[1]) else p
            high = q if _less(q[2], p[2]) or (_alike(p[2], q[2]) and not q[3]) else p
            if _less(low[0], high[2]) or (_alike(low[0], high[2]) and low[1] and high[3]):
                out.append(Piece(low[4].low, low[1], high[4].high, high[3]))
    return merged(RealSet(left.variable or right.variable, tuple(out)))


def _symbolic_intersection(left: RealSet, right: RealSet) -> RealSet | None:
    """x > a and x < b with symbols in the bounds: one bound from each side."""
    if len(left.pieces) != 1 or len(right.pieces) != 1:
        return None
    p, q = left.pieces[0], right.pieces[0]
    if p.low == MINUS_INFINITY and q.high == INFINITY:
        p, q = q, p
    if p.high == INFINITY and q.low == MINUS_INFINITY:
        return RealSet(left.variable or right.variable, (Piece(p.low, p.closed_low, q.high, q.closed_high),))
    return None


def same_set(left: RealSet, right: RealSet) -> bool | str:
    left, right = merged(left), merged(right)
    a, b = _numeric(left.pieces), _numeric(right.pieces)
    if (a is None) != (b is None):
        return False
    if a is not None and b is not None:
        return len(a) == len(b) and all(_alike(p[0], q[0]) and _alike(p[2], q[2]) and p[1] == q[1] and p[3] == q[3] for p, q in zip(a, b))
    if len(left.pieces) != len(right.pieces):
        return False
    rest = list(right.pieces)
    for p in left.pieces:
        for q in rest:
            if p.closed_low == q.closed_low and p.closed_high == q.closed_high and _same_end(p.low, q.low) and _same_end(p.high, q.high):
                rest.remove(q)
                break
        else:
            return False
    return True


def _same_end(left: Node, right: Node) -> bool:
    return left == right or (left not in (INFINITY, MINUS_INFINITY) and right not in (INFINITY, MINUS_INFINITY) and same(left, right) is True)
