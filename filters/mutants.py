"""Small wrong changes of a Python program, one per mutant: how well does a suite of tests notice?

Operators are the classical ones (DeMillo 1978, mutmut, cosmic-ray): another comparison, arithmetic or boolean operator, a constant off by one,
a condition turned round, a statement left out, a result forgotten, `break` for `continue`, `min` for `max`. Text in, text out: nothing is run here.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

from data.ids import content_hash

_COMPARE: dict[type, tuple[type, ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
_ARITHMETIC: dict[type, tuple[type, ...]] = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Add, ast.FloorDiv),
    ast.Div: (ast.Mult, ast.FloorDiv),
    ast.FloorDiv: (ast.Mult, ast.Div),
    ast.Mod: (ast.Mult, ast.FloorDiv),
    ast.Pow: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
    ast.BitXor: (ast.BitOr,),
    ast.LShift: (ast.RShift,),
    ast.RShift: (ast.LShift,),
}
_PAIRS = (("min", "max"), ("any", "all"), ("lower", "upper"), ("islower", "isupper"), ("floor", "ceil"), ("lstrip", "rstrip"), ("append", "extend"))
_NAMES = {a: b for pair in _PAIRS for a, b in (pair, pair[::-1])} | {"sorted": "list", "startswith": "endswith"}


@dataclass(frozen=True)
class Mutant:
    """A program that differs from its original in one place."""

    code: str
    change: str
    line: int


def mutants(code: str, limit: int = 0, key: str = "") -> list[Mutant]:
    """The mutants of a program, or `limit` of them: which ones depends on their text and `key` alone. Empty where it is no Python."""
    try:
        tree = ast.parse(code)
        original = ast.unparse(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    found: dict[str, Mutant] = {}
    for index, node in enumerate(ast.walk(tree)):
        for variant, change in _variants(node):
            text = _replaced(tree, index, variant)
            if text != original and text not in found:
                found[text] = Mutant(text, change, getattr(node, "lineno", 0))
    every = list(found.values())
    if not limit or len(every) <= limit:
        return every
    chosen = sorted(every, key=lambda m: content_hash("mutant", key, m.code))[:limit]
    return [m for m in every if m in chosen]


def _replaced(tree: ast.Module, index: int, variant: ast.AST) -> str:
    """The program with the node at this place of `ast.walk` replaced."""
    whole = copy.deepcopy(tree)
    target = next(node for i, node in enumerate(ast.walk(whole)) if i == index)
    for parent in ast.walk(whole):
        for name, value in ast.iter_fields(parent):
            if value is target:
                setattr(parent, name, variant)
            elif isinstance(value, list) and any(v is target for v in value):
                setattr(parent, name, [variant if v is target else v for v in value])
    return ast.unparse(ast.fix_missing_locations(whole))


def _variants(node: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """What may stand in the place of `node`, with a word on the change."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        for operator in _COMPARE[type(node.ops[0])]:
            yield ast.Compare(node.left, [operator()], node.comparators), f"{type(node.ops[0]).__name__} to {operator.__name__}"
    elif isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in _ARITHMETIC:
        for operator in _ARITHMETIC[type(node.op)]:
            changed = copy.copy(node)
            changed.op = operator()
            yield changed, f"{type(node.op).__name__} to {operator.__name__}"
    elif isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield ast.BoolOp(other, node.values), f"{type(node.op).__name__} to {type(other).__name__}"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield node.operand, f"{type(node.op).__name__} left out"
    elif isinstance(node, ast.Constant):
        yield from ((ast.Constant(value), f"{node.value!r} to {value!r}") for value in _other_constants(node.value))
    elif isinstance(node, ast.Name | ast.Attribute):
        name = node.id if isinstance(node, ast.Name) else node.attr
        if name in _NAMES and isinstance(node.ctx, ast.Load):
            renamed = copy.copy(node)
            setattr(renamed, "id" if isinstance(node, ast.Name) else "attr", _NAMES[name])
            yield renamed, f"{name} to {_NAMES[name]}"
    elif isinstance(node, ast.If | ast.While | ast.IfExp):
        turned = copy.copy(node)
        turned.test = ast.UnaryOp(ast.Not(), node.test)
        yield turned, "condition turned round"
    yield from _statement_variants(node)


def _statement_variants(node: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    if isinstance(node, ast.Break):
        yield ast.Continue(), "break to continue"
    elif isinstance(node, ast.Continue):
        yield ast.Break(), "continue to break"
    elif isinstance(node, ast.Return) and node.value is not None and not (isinstance(node.value, ast.Constant) and node.value.value is None):
        yield ast.Return(None), "result forgotten"
    elif isinstance(node, ast.Assign | ast.AugAssign) or (isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)):
        yield ast.Pass(), "statement left out"


def _other_constants(value: object) -> tuple[bool | int | float | str, ...]:
    if isinstance(value, bool):
        return (not value,)
    if isinstance(value, int):
        return (value + 1, value - 1)
    if isinstance(value, float):
        return (value + 1.0, -value)
    if isinstance(value, str) and len(value) < 40:
        return ("",) if value else ("x",)
    return ()
