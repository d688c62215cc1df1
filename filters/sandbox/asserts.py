"""Assert scripts turned into (call, relation, expected) checks wherever they can be; the rest stays a script.

`assert f(1, 2) == 3` becomes a call whose value is compared in the judge's process, where the program has no say. Turned as well: `not`, `is`,
order, `in`, `abs(f(x) - 2.5) < 1e-6`, `math.isclose`, `and` of such, wrappers such as `sorted(f(x))`, and the body of HumanEval's
`check(candidate)`. What remains (loops, helper functions, values kept in variables) runs as a script in a process of its own that calls the
program over a pipe ("judge"); only a script that handles the program's own objects has to run beside it ("beside"), and its verdict says so.
Which of the three it is depends on the script alone, never on the program.
"""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

from data.errors import UserError
from filters.sandbox.checks import Check
from filters.sandbox.constants import NotConstant, fold

WRAPPERS = frozenset(
    ["list", "tuple", "set", "frozenset", "sorted", "len", "str", "int", "float", "sum", "max", "min", "dict", "bool", "round", "abs"]
)
_PLAIN = (list, str, dict, set, tuple, int, float, bytes, complex)
PLAIN_ATTRIBUTES = frozenset(name for kind in _PLAIN for name in dir(kind) if not name.startswith("_"))
_COMPARE = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Is: "is",
    ast.IsNot: "is not",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.In: "in",
    ast.NotIn: "not in",
}
_MIRROR = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


@dataclass
class _Script:
    """What is known of a script before its statements are looked at."""

    bound: set[str]  # names it binds anywhere
    entry: str
    rtol: float
    atol: float
    setup: str = ""
    checks: list[Check] = field(default_factory=list)


def split_script(script: str, *, entry: str = "", where: str = "script", beside: bool = False, rtol: float, atol: float) -> list[Check]:
    """The checks that together say what the script says. Raises `UserError` where it is no Python."""
    try:
        tree = ast.parse(script)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"{where} is not Python: {error}") from None
    statements, arms = _flattened(tree, entry)
    bound = _bound_names(statements)
    known = _Script(bound, entry, rtol, atol, setup="\n".join(ast.unparse(s) for s in statements if isinstance(s, ast.Import | ast.ImportFrom)))
    everything = ast.Module([*_modules_used(tree, bound), *tree.body, *arms], [])
    whole = ast.unparse(everything)
    bound |= {"candidate"}
    if beside or _handles_objects(statements, bound):
        pairs = _pairs_only(statements, known) if not beside else None
        return pairs if pairs is not None else [Check("beside", whole)]
    if any(_has_effect(s, bound) for s in statements):
        return [Check("judge", whole, names=_free_names(everything, bound | _bound_names(everything.body), entry))]
    rest: list[ast.stmt] = []
    for statement in statements:
        checks = _checks_of(statement, known)
        if checks is None:
            rest.append(statement)
        else:
            known.checks.extend(checks)
    if any(_matters(s) for s in rest):
        module = ast.Module([*_modules_used(ast.Module(rest, []), bound), *rest], [])
        known.checks.append(Check("judge", ast.unparse(module), names=_free_names(module, _bound_names(module.body) | {"candidate"}, entry)))
    return known.checks or [Check("judge", whole, names=_free_names(everything, bound | _bound_names(everything.body), entry))]


def _pairs_only(statements: list[ast.stmt], known: _Script) -> list[Check] | None:
    """All asserts as pairs, or None: what builds objects in call arguments (`f([Pair(1, 2)])`) needs no script."""
    checks: list[Check] = []
    for statement in statements:
        found = _checks_of(statement, known)
        if found is None and _matters(statement):
            return None
        checks.extend(found or ())
    return checks or None


def _flattened(tree: ast.Module, entry: str) -> tuple[list[ast.stmt], list[ast.stmt]]:
    """The statements that run, with the body of `check(candidate)` in the place of its call; and the call to add where the script has none."""
    check = next((s for s in tree.body if isinstance(s, ast.FunctionDef) and s.name == "check" and len(s.args.args) == 1), None)
    if check is None:
        return tree.body, []
    calls = [s for s in tree.body if isinstance(s, ast.Expr) and isinstance(s.value, ast.Call) and getattr(s.value.func, "id", "") == "check"]
    arms: list[ast.stmt] = [] if calls or not entry else [ast.parse(f"check({entry})").body[0]]
    others = [s for s in tree.body if s is not check and s not in calls]
    target = calls[0].value.args[0] if len(calls) == 1 and len(calls[0].value.args) == 1 else None  # type: ignore[attr-defined]
    named = target.id if isinstance(target, ast.Name) else entry if not calls else ""
    if not named or check.decorator_list or any(isinstance(n, ast.Return | ast.Yield | ast.Global | ast.Nonlocal) for n in ast.walk(check)):
        return tree.body + arms, arms
    renamed = [_Renamed(check.args.args[0].arg, named).visit(s) for s in ast.parse(ast.unparse(ast.Module(check.body, []))).body]
    return [*others, *renamed], arms


class _Renamed(ast.NodeTransformer):
    def __init__(self, old: str, new: str) -> None:
        self.old, self.new = old, new

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.copy_location(ast.Name(self.new, node.ctx), node) if node.id == self.old else node


def _bound_names(statements: list[ast.stmt]) -> set[str]:
    bound = set()
    for node in (n for s in statements for n in ast.walk(s)):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            bound.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.alias):
            bound.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            bound.add(node.name)
    return bound


def _free_names(tree: ast.AST, bound: set[str], entry: str = "") -> tuple[str, ...]:
    """Names that the script leaves to the program: those it neither binds nor finds among the builtins, and the entry."""
    names = (n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id not in bound and (n.id == entry or not hasattr(builtins, n.id)))
    return tuple(dict.fromkeys(names))


def _modules_used(tree: ast.AST, bound: set[str]) -> list[ast.stmt]:
    """Imports of the standard modules that a script uses without importing them (its author leaned on the program's imports)."""
    used = (n.value.id for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name))
    return [ast.Import([ast.alias(name)]) for name in dict.fromkeys(used) if _is_module(name) and name not in bound]


def _is_module(name: str) -> bool:
    return name in sys.stdlib_module_names


def _handles_objects(statements: list[ast.stmt], bound: set[str]) -> bool:
    """The script reaches into values of the program (attributes that no plain value has, the program's names used as anything but functions),
    or hands it functions."""
    nodes = [n for s in statements for n in ast.walk(s)]
    called = {id(part) for n in nodes if isinstance(n, ast.Call) for part in (n.func, *_arguments(n))}
    functions = {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)} | {n for n in dir(builtins) if n not in bound}
    from_program = _names_of_program_values(nodes, bound)
    for node in nodes:
        if isinstance(node, ast.Call) and _names_the_program(node.func, bound) and any(_is_function(a, functions) for a in _arguments(node)):
            return True
        if isinstance(node, ast.Attribute):
            own = isinstance(node.value, ast.Name) and (_is_module(node.value.id) or node.value.id in bound - from_program)
            if not own and (isinstance(node.ctx, ast.Store) or node.attr not in PLAIN_ATTRIBUTES):
                return True
        elif id(node) not in called and isinstance(node, ast.Name) and _names_the_program(node, bound):
            return True
    return False


def _is_function(node: ast.expr, functions: set[str]) -> bool:
    return isinstance(node, ast.Lambda) or (isinstance(node, ast.Name) and node.id in functions)


def _arguments(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(k.value for k in call.keywords)]


def _names_the_program(node: ast.AST, bound: set[str]) -> bool:
    return isinstance(node, ast.Name) and node.id not in bound and not hasattr(builtins, node.id) and not _is_module(node.id)


def _names_of_program_values(nodes: list[ast.AST], bound: set[str]) -> set[str]:
    """Names of the script that hold, or may hold, what a call of the program gave."""
    found: set[str] = set()
    for _ in range(3):  # a = f(1); b = a; c = b
        for node in nodes:
            if not isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.For | ast.NamedExpr | ast.comprehension):
                continue
            source = node.iter if isinstance(node, ast.For | ast.comprehension) else node.value
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [n for n in ast.walk(source) if isinstance(n, ast.Name)] if source is not None else []
            if any(n.id in found or _names_the_program(n, bound) for n in names):
                found |= {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
    return found


def _has_effect(statement: ast.stmt, bound: set[str]) -> bool:
    """A bare call of the program: what follows may depend on it, so the script is not taken apart."""
    return (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call) and any(_names_the_program(n, bound) for n in ast.walk(statement))
    )


def _matters(statement: ast.stmt) -> bool:
    """Whether leaving the statement out could change a verdict, the asserts that were turned apart."""
    if isinstance(statement, ast.Import | ast.ImportFrom | ast.Pass | ast.FunctionDef | ast.ClassDef):
        return False
    if isinstance(statement, ast.Expr):
        call = statement.value
        return not (isinstance(call, ast.Constant) or (isinstance(call, ast.Call) and getattr(call.func, "id", "") == "print"))
    if isinstance(statement, ast.Assign):
        return any(isinstance(n, ast.Call) for n in ast.walk(statement))
    return True


def _checks_of(statement: ast.stmt, known: _Script) -> list[Check] | None:
    if not isinstance(statement, ast.Assert):
        return None
    try:
        return list(_turned(statement.test, known))
    except NotConstant:
        return None


def _turned(test: ast.expr, known: _Script) -> Iterator[Check]:
    """Checks that say what the expression says; raises `NotConstant` where it cannot be turned."""
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        for value in test.values:
            yield from _turned(value, known)
    elif isinstance(test, ast.Constant):
        if not test.value:
            raise NotConstant("an assert that never holds")
    elif isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        yield _check(test.operand, "false", None, known)
    elif isinstance(test, ast.Compare) and len(test.ops) == 1:
        yield _comparison(test, known)
    elif isinstance(test, ast.Call) and _dotted(test.func) in ("math.isclose", "isclose") and len(test.args) == 2:
        given = {k.arg: fold(k.value) for k in test.keywords}
        left, right = _sides(test.args[0], test.args[1], known)
        yield _check(left, "==", right, known, rtol=given.get("rel_tol", 1e-9), atol=given.get("abs_tol", 0.0))
    else:
        yield _check(test, "true", None, known)


def _comparison(test: ast.Compare, known: _Script) -> Check:
    left, op, right = test.left, _COMPARE[type(test.ops[0])], test.comparators[0]
    if op in ("<", "<=") and isinstance(left, ast.Call) and _dotted(left.func) in ("abs", "math.fabs") and len(left.args) == 1:
        inner = left.args[0]
        if isinstance(inner, ast.BinOp) and isinstance(inner.op, ast.Sub):
            call, value = _sides(inner.left, inner.right, known)
            return _check(call, "==", value, known, rtol=0.0, atol=float(fold(right)))
    if op in ("is", "is not") and not (isinstance(right, ast.Constant) and right.value in (None, True, False)):
        raise NotConstant("identity")
    if _is_call(left, known):
        return _check(left, op, fold(right), known)
    if op in _MIRROR:
        return _check(right, _MIRROR[op], fold(left), known)
    raise NotConstant("neither side is a call")


def _sides(a: ast.expr, b: ast.expr, known: _Script) -> tuple[ast.expr, object]:
    return (a, fold(b)) if _is_call(a, known) else (b, fold(a))


def _check(call: ast.expr, op: str, expected: object, known: _Script, rtol: float | None = None, atol: float | None = None) -> Check:
    if not _is_call(call, known):
        raise NotConstant("not a call of the program")
    tolerance = known.rtol if rtol is None else rtol, known.atol if atol is None else atol
    return Check("call", ast.unparse(call), op, expected, *tolerance, setup=known.setup)


def _is_call(node: ast.expr, known: _Script) -> bool:
    """One call of the program with arguments that need nothing of the script, perhaps inside wrappers of one argument."""
    if isinstance(node, ast.Subscript):
        return _is_call(node.value, known) and _needs_nothing(node.slice, known)
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Name) and node.func.id in WRAPPERS and node.func.id not in known.bound:
        rest = [*node.args[1:], *(k.value for k in node.keywords)]
        plain = not rest or (node.func.id == "round" and all(isinstance(r, ast.Constant) for r in rest))
        if node.args and plain and _is_call(node.args[0], known):
            return True
    root: ast.expr = node.func
    while isinstance(root, ast.Attribute | ast.Call):  # Solution().method(…)
        root = root.value if isinstance(root, ast.Attribute) else root.func
    if not isinstance(root, ast.Name) or root.id in known.bound or (_is_module(root.id) and root.id != known.entry):
        return False
    if hasattr(builtins, root.id) and root.id != known.entry and any(_names_the_program(n, known.bound) for n in ast.walk(node)):
        return False  # all(f(x) for …) is about the program's values; sum(10, 15) can only mean a `sum` of the program
    return _needs_nothing(node, known)


def _needs_nothing(node: ast.expr, known: _Script) -> bool:
    imported = {line.split(" as ")[-1].split()[-1].split(".")[0] for line in known.setup.splitlines()}
    nodes = list(ast.walk(node))
    inner = {n.id for n in nodes if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)} | {n.arg for n in nodes if isinstance(n, ast.arg)}
    return all(n.id not in known.bound - imported - inner for n in ast.walk(node) if isinstance(n, ast.Name))


def _dotted(node: ast.expr) -> str:
    return ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""
