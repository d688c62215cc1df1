"""Equality between an expected value and what a program emitted, decided in the judge's process on plain decoded values."""

from __future__ import annotations

import math
import operator
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

from filters.sandbox.wire import Opaque

RTOL, ATOL = 1e-9, 1e-12
_NUMBERS = (int, float, complex, Fraction, Decimal)
_ORDER: dict[str, Callable[[Any, Any], Any]] = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def equal(expected: Any, got: Any, *, rtol: float = RTOL, atol: float = ATOL, from_json: bool = False) -> bool:
    """Python's `==` on plain values, with a tolerance where a float takes part and nan equal to nan.

    `from_json`: the expected value was written in JSON, which has one kind of array and only text for keys: a list then also stands for a
    tuple, and a key "1" for the key 1; but true is not 1 there.
    """
    try:
        return _equal(expected, got, rtol, atol, from_json)
    except (RecursionError, OverflowError, ArithmeticError, TypeError, ValueError):
        return False


def _equal(expected: Any, got: Any, rtol: float, atol: float, from_json: bool) -> bool:
    kind = type(got)
    if (kind is int or kind is str) and type(expected) is kind:  # most values
        return bool(expected == got)
    if isinstance(got, Opaque):
        return False
    if isinstance(expected, bool) or isinstance(got, bool) or expected is None or got is None:
        if from_json and type(expected) is not type(got):
            return False
        return type(got) in (bool, int, float, type(None)) and bool(expected == got)
    if isinstance(expected, _NUMBERS) and isinstance(got, _NUMBERS):
        return close(expected, got, rtol, atol)
    if isinstance(expected, list | tuple | deque):
        alike = isinstance(got, list | tuple) if from_json else type(got) is type(expected)
        return alike and len(got) == len(expected) and all(_equal(e, g, rtol, atol, from_json) for e, g in zip(expected, got))
    if isinstance(expected, dict):
        return isinstance(got, dict) and _equal_dicts(expected, got, rtol, atol, from_json)
    if isinstance(expected, set | frozenset):
        return isinstance(got, set | frozenset) and expected == got
    return type(expected) is type(got) and bool(expected == got)


def _equal_dicts(expected: dict[Any, Any], got: dict[Any, Any], rtol: float, atol: float, from_json: bool) -> bool:
    if len(expected) != len(got):
        return False
    if from_json:
        got = {_json_key(k): v for k, v in got.items()}
    return all(k in got and _equal(v, got[k], rtol, atol, from_json) for k, v in expected.items())


def _json_key(key: Any) -> Any:
    """The text that JSON writes for a key."""
    if isinstance(key, bool) or key is None:
        return {True: "true", False: "false", None: "null"}[key]
    return str(key) if isinstance(key, float) or (isinstance(key, int) and abs(key) < 1 << 64) else key


def close(expected: Any, got: Any, rtol: float = RTOL, atol: float = ATOL) -> bool:
    """Exact between integers, fractions and decimals; within the tolerance as soon as a float takes part."""
    if not any(isinstance(v, float | complex) for v in (expected, got)):
        return bool(expected == got)
    if isinstance(expected, complex) or isinstance(got, complex):
        a, b = complex(expected), complex(got)
        return close(a.real, b.real, rtol, atol) and close(a.imag, b.imag, rtol, atol)
    if expected == got:
        return True
    a, b = float(expected), float(got)
    return (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=rtol, abs_tol=atol)


def holds(op: str, expected: Any, got: Any, **how: Any) -> bool:
    """Whether `got op expected`. Ops: == != is true false < <= > >= in `not in`; anything odd is False."""
    if isinstance(got, Opaque):
        return False
    if op == "==":
        return equal(expected, got, **how)
    if op == "!=":
        return not equal(expected, got, **how)
    try:
        if op in ("true", "false"):
            return bool(got) is (op == "true")
        if op in ("is", "is not"):  # only asked about None, True and False
            return (got is expected) is (op == "is")
        if op in ("in", "not in"):
            return any(equal(e, got, **how) for e in expected) is (op == "in")
        return bool(_ORDER[op](got, expected))
    except (TypeError, ValueError, ArithmeticError, RecursionError):
        return False


def same_text(expected: str, got: str, rtol: float = RTOL, atol: float = ATOL) -> bool:
    """Standard output: equal up to blanks at line ends and empty lines at the end; numbers that are written with a point may differ within the
    tolerance ("0.50" is 0.5)."""
    want, have = _lines(expected), _lines(got)
    if want == have:
        return True
    if len(want) != len(have):
        return False
    return all(a == b or _same_tokens(a.split(), b.split(), rtol, atol) for a, b in zip(want, have))


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.replace("\r\n", "\n").rstrip().split("\n")]


def _same_tokens(want: list[str], have: list[str], rtol: float, atol: float) -> bool:
    return len(want) == len(have) and all(a == b or _same_number(a, b, rtol, atol) for a, b in zip(want, have))


def _same_number(a: str, b: str, rtol: float, atol: float) -> bool:
    if not any(c in a.lower() for c in ".e") or max(len(a), len(b)) > 64 or "_" in b:
        return False
    try:
        return math.isclose(float(a), float(b), rel_tol=rtol, abs_tol=atol)
    except ValueError:
        return False
