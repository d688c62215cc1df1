"""The codec must carry every plain value exactly, never build anything else, and survive any text."""

from __future__ import annotations

import json
import math
import time
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.sandbox import wire

numbers = st.integers() | st.floats(allow_nan=False) | st.fractions() | st.complex_numbers(allow_nan=False)
scalars = st.none() | st.booleans() | numbers | st.text() | st.binary()
hashable = st.recursive(scalars, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=4), max_leaves=6)
values = st.recursive(
    hashable,
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner) | st.dictionaries(hashable, inner, max_size=4) | st.sets(hashable, max_size=4),
)


def same(a: object, b: object) -> bool:
    """Equal, and of equal types all the way down."""
    if type(a) is not type(b):
        return False
    if isinstance(a, list | tuple | deque):
        return len(a) == len(b) and all(map(same, a, b))  # type: ignore[arg-type]
    if isinstance(a, dict):
        return same(list(a), list(b)) and same(list(a.values()), list(b.values()))  # type: ignore[call-overload,attr-defined]
    if isinstance(a, float):
        return math.copysign(1, a) == math.copysign(1, b) and a == b  # type: ignore[arg-type]
    return a == b


@given(values)
def test_plain_values_come_back_equal_and_of_the_same_types(value: object) -> None:
    assert same(wire.loads(wire.dumps(value)), value)


@given(st.text() | st.binary() | values.map(lambda v: json.dumps(wire.encode(v))[:-1]))
def test_any_text_is_a_value_or_a_wire_error(text: str | bytes) -> None:
    with suppress(wire.WireError):
        wire.loads(text)


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3), lambda i: st.lists(i) | st.dictionaries(st.text(), i))
)
def test_any_json_is_a_value_or_a_wire_error(data: object) -> None:
    """JSON that the codec never writes, with its tags mixed in."""
    for text in (json.dumps(data), json.dumps(["d", data]), json.dumps(["s", data, data]), json.dumps(["F", data, 0]), json.dumps(["r", data, 1, 0])):
        with suppress(wire.WireError):
            wire.loads(text)


def test_subclasses_travel_as_their_base_type() -> None:
    class Liar(int):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = int.__hash__

    class Text(str):
        def __str__(self) -> str:
            return "other"

    class Items(dict[int, int]):
        def items(self):  # type: ignore[no-untyped-def]
            return [(9, 9)]

    point = namedtuple("point", "x y")
    for value, plain in (
        (Liar(7), 7), (Text("abc"), "abc"), (Items({1: 2}), {1: 2}), (point(1, 2), (1, 2)), (Counter("aab"), {"a": 2, "b": 1}),
        (defaultdict(int, {1: 2}), {1: 2}), (OrderedDict({1: 2}), {1: 2}), ({1: 2}.keys(), {1}), (range(3), range(3)),
    ):  # fmt: skip
        back = wire.loads(wire.dumps(value))
        assert back == plain and type(back) is type(plain)
    assert wire.loads(wire.dumps(Decimal("1.50"))) == Decimal("1.5") and wire.loads(wire.dumps(Fraction(1, 3))) == Fraction(1, 3)
    assert list(wire.loads(wire.dumps(x * x for x in range(3)))) == [0, 1, 4]


def test_other_objects_equal_nothing() -> None:
    class Anything:
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = object.__hash__

    for value in (Anything(), Anything, print, [1, Anything()][1]):
        back = wire.loads(wire.dumps(value))
        assert isinstance(back, wire.Opaque)
        assert back != back and back != 3 and [back] != [3]


def test_cyclic_and_deep_and_endless_values_end() -> None:
    cyclic: list[object] = []
    cyclic.append(cyclic)
    deep: object = 1
    for _ in range(5000):
        deep = (deep,)
    for value in (cyclic, deep):
        assert b"too deep" in wire.dumps(value)

    def endless():  # type: ignore[no-untyped-def]
        while True:
            yield 1

    with pytest.raises(wire.WireError, match="items"):
        wire.loads(wire.dumps(endless()))


def test_colliding_members_cannot_hang_the_judge() -> None:
    modulus = (1 << 61) - 1
    text = json.dumps(["s", *[["i", format(i * modulus, "x")] for i in range(100_000)]])
    began = time.process_time()
    with pytest.raises(wire.WireError, match="colliding"):
        wire.loads(text)
    assert time.process_time() - began < 5
    assert wire.loads(wire.dumps(set(range(100_000)))) == set(range(100_000))
