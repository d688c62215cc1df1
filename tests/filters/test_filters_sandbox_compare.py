"""Equality as Python means it, with tolerance for floats and JSON's poverty forgiven where JSON was the source."""

from __future__ import annotations

from collections import deque
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.sandbox.compare import equal, holds, same_text
from filters.sandbox.wire import Opaque

NAN = float("nan")


@pytest.mark.parametrize(
    ("expected", "got", "python", "from_json"),
    [
        (1, 1, True, True), (1, 2, False, False), (1, 1.0, True, True), (1, True, True, False), (True, 1, True, False), (False, 0.0, True, False),
        (None, None, True, True), (None, 0, False, False), (0.3, 0.1 + 0.2, True, True), (0.3, 0.31, False, False), (0.0, -0.0, True, True),
        (NAN, NAN, True, True), (NAN, 1.0, False, False), (float("inf"), float("inf"), True, True), (1e300, 10**300, True, True),
        ([1, 2], (1, 2), False, True), ((1, 2), [1, 2], False, True), ([1, 2], [2, 1], False, False), ([1, [2]], (1, (2,)), False, True),
        ([], (), False, True), ([1], {1}, False, False), ("1", 1, False, False), ("ab", "ab", True, True), ("ab", ["a", "b"], False, False),
        ({"1": 2}, {1: 2}, False, True), ({"a": [1]}, {"a": (1,)}, False, True), ({"a": 1}, {"a": 1, "b": 2}, False, False),
        ({"true": 1}, {True: 1}, False, True), ({1, 2}, {2, 1}, True, True), ({1}, frozenset({1}), True, True),
        (deque([1]), deque([1]), True, False), (deque([1]), [1], False, True), (Fraction(1, 2), 0.5, True, True), (2, Fraction(2), True, True),
        (Decimal("0.5"), 0.5, True, True), (1j, 1j, True, True), (b"a", b"a", True, True), (b"a", "a", False, False), (10**400, 1.0, False, False),
        (3, Opaque("x"), False, False), ([3], [Opaque("x")], False, False),
    ],
)  # fmt: skip
def test_equality(expected: object, got: object, python: bool, from_json: bool) -> None:
    assert equal(expected, got) is python
    assert equal(expected, got, from_json=True) is from_json


json_values = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda i: st.lists(i) | st.dictionaries(st.text(), i))


@given(json_values, json_values)
def test_without_floats_it_is_pythons_equality(a: object, b: object) -> None:
    assert equal(a, a) and equal(a, a, from_json=True)
    assert equal(a, b) == (a == b)
    if equal(a, b, from_json=True):
        assert a == b


def test_relations_and_their_oddities() -> None:
    assert holds("true", None, [0]) and not holds("true", None, []) and holds("false", None, 0)
    assert holds("is", None, None) and not holds("is", True, 1) and holds("is not", None, 0)
    assert holds("<", 3, 2) and not holds("<", 3, 3) and not holds("<", 3, "2") and holds("in", [1, 2.0], 2) and holds("not in", [1], 3)
    for op in ("==", "!=", "true", "false", "is", "is not", "<", "in", "not in"):
        assert not holds(op, 3, Opaque("x"))


@pytest.mark.parametrize(
    ("expected", "got", "same"),
    [
        ("1 2\n", "1 2", True), ("1 2", "1 2   \n\n", True), ("1\n2", "1\r\n2\r\n", True), ("1 2", "1  2", True), ("1\n2", "1 2", False),
        ("0.5", "0.50", True), ("0.3", "0.30000000000000004", True), ("1", "1.0", False), ("0.333333", "0.334", False), ("YES", "yes", False),
        ("", "", True), ("", "\n", True), ("a", "", False), (" a", "a", True), ("1e3", "1000.0", True), ("nan", "x", False), ("1_0.0", "10.0", True),
    ],
)  # fmt: skip
def test_standard_output(expected: str, got: str, same: bool) -> None:
    assert same_text(expected, got) is same
