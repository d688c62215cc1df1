"""A solution as a chain of two-operand equations, evaluated exactly: `a * b`, `r1 + c` (r1 = the first step's result)."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

Number = int | Fraction
Step = tuple[str, str, str]

_OPERATIONS: dict[str, Callable[[Number, Number], Number]] = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def parse_steps(chain: str) -> tuple[Step, ...]:
    """'a * b; c - r1' -> (('a', '*', 'b'), ('c', '-', 'r1')); operands are number names, results r1, r2, … or integers."""
    steps = []
    for part in chain.split(";"):
        left, op, right = part.split()
        if op not in "+-*/":
            raise ValueError(f"unknown operation {op!r} in {chain!r}")
        steps.append((left, op, right))
    return tuple(steps)


def decimal(value: Number) -> str:
    """Exact decimal text of an integer or a fraction whose denominator divides a power of ten."""
    if isinstance(value, int) or value.denominator == 1:
        return str(int(value))
    digits = next((k for k in range(1, 7) if 10**k % value.denominator == 0), None)
    if digits is None:
        raise ValueError(f"{value} has no short exact decimal form")
    whole, part = divmod(abs(value.numerator) * 10**digits // value.denominator, 10**digits)
    return f"{'-' if value < 0 else ''}{whole}.{part:0{digits}d}"


def _divide(left: Number, right: Number) -> Number:
    if isinstance(left, int) and isinstance(right, int) and left % right == 0:
        return left // right
    return Fraction(left) / right


def results_of(steps: Sequence[Step], numbers: Mapping[str, int]) -> list[Number]:
    """The result of every step, in order."""
    return [work_out(steps[:count], numbers)[1] for count in range(1, len(steps) + 1)]


def work_out(steps: Sequence[Step], numbers: Mapping[str, Number]) -> tuple[list[str], Number]:
    """The equations as text ('12*3=36') and the last result."""
    known: dict[str, Number] = dict(numbers)
    equations = []
    result: Number = 0
    for position, (left, op, right) in enumerate(steps, 1):
        a, b = _value(left, known), _value(right, known)
        result = _divide(a, b) if op == "/" else _OPERATIONS[op](a, b)
        known[f"r{position}"] = result
        equations.append(f"{decimal(a)}{op}{decimal(b)}={decimal(result)}")
    return equations, result


def operands(steps: Sequence[Step]) -> set[str]:
    """The number names that a chain starts from."""
    names = {name for left, _, right in steps for name in (left, right) if not name.isdigit()}
    return {name for name in names if not (name[0] == "r" and name[1:].isdigit())}


def work_out_as_far(steps: Sequence[Step], numbers: Mapping[str, int]) -> tuple[list[str], Number | None]:
    """`work_out` up to the first step that divides by nothing or has no short decimal ('82/7=?'); the result is None there."""
    known: dict[str, Number] = dict(numbers)
    done: list[str] = []
    for position, step in enumerate(steps, 1):
        left, op, right = step
        try:
            (equation,), result = work_out([("a", op, "b")], {"a": _value(left, known), "b": _value(right, known)})
        except (ZeroDivisionError, ValueError):
            return [*done, f"{decimal(_value(left, known))}{op}{decimal(_value(right, known))}=?"], None
        known[f"r{position}"] = result
        done.append(equation)
    return done, result


def _value(operand: str, known: Mapping[str, Number]) -> Number:
    return int(operand) if operand.isdigit() else known[operand]
