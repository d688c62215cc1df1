"""Values of literal Python expressions, computed without executing anything: what the expected side of an assert may be."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from typing import Any

MAX_BITS, MAX_LENGTH = 200_000, 1_000_000

_MAKERS: dict[str, Callable[..., Any]] = {
    "set": set,
    "frozenset": frozenset,
    "tuple": tuple,
    "list": list,
    "dict": dict,
    "sorted": sorted,
    "range": range,
}
_OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


class NotConstant(ValueError):
    """The expression says something that this reader does not know; it has to be run instead."""


def fold(node: ast.expr) -> Any:
    """The value of a literal, a display of literals, arithmetic on them (bounded), `set((1, 2))` and its like, `float("nan")`, `math.pi`."""
    try:
        return _fold(node)
    except NotConstant:
        raise
    except (TypeError, ValueError, ArithmeticError, RecursionError, MemoryError) as error:
        raise NotConstant(type(error).__name__) from None


def _fold(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant) and node.value is not ...:
        return node.value
    if isinstance(node, ast.Tuple):
        return tuple(_fold(e) for e in node.elts)
    if isinstance(node, ast.List):
        return [_fold(e) for e in node.elts]
    if isinstance(node, ast.Set):
        return {_fold(e) for e in node.elts}
    if isinstance(node, ast.Dict) and all(k is not None for k in node.keys):
        return {_fold(k): _fold(v) for k, v in zip(node.keys, node.values) if k is not None}
    if isinstance(node, ast.UnaryOp):
        value = _fold(node.operand)
        if isinstance(node.op, ast.Not):
            return not value
        if isinstance(value, int | float | complex) and isinstance(node.op, ast.USub | ast.UAdd):
            return -value if isinstance(node.op, ast.USub) else +value
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _arithmetic(_OPERATORS[type(node.op)], _fold(node.left), _fold(node.right))
    if isinstance(node, ast.Attribute) and ast.unparse(node) in ("math.pi", "math.e", "math.tau", "math.inf", "math.nan"):
        return getattr(math, node.attr)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords and len(node.args) <= 3:
        return _made(node.func.id, [_fold(a) for a in node.args])
    raise NotConstant(type(node).__name__)


def _arithmetic(operate: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    if operate is operator.pow and isinstance(left, int) and isinstance(right, int) and left.bit_length() * abs(right) > MAX_BITS:
        raise NotConstant("a power of too many digits")
    if operate is operator.mul:
        for a, b in ((left, right), (right, left)):
            if isinstance(a, int) and isinstance(b, str | bytes | list | tuple) and a * len(b) > MAX_LENGTH:
                raise NotConstant("a repetition that is too long")
    if operate is operator.mod and isinstance(left, str | bytes):
        raise NotConstant("text formatting")
    value = operate(left, right)
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise NotConstant("a number of too many digits")
    return value


def _made(name: str, arguments: list[Any]) -> Any:
    if name in ("float", "int", "complex", "str", "bytes") and len(arguments) == 1 and isinstance(arguments[0], int | float | str):
        return {"float": float, "int": int, "complex": complex, "str": str}.get(name, NotConstant)(arguments[0])
    if name in _MAKERS and all(isinstance(a, int | list | tuple | set | dict | range | str | frozenset) for a in arguments):
        value = _MAKERS[name](*arguments)
        if len(value) > MAX_LENGTH:
            raise NotConstant("too long")
        return value
    raise NotConstant(f"{name}()")
