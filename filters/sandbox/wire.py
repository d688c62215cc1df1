"""The typed text in which values leave (and enter) a sandboxed process: JSON with a tag on everything that JSON would blur.

Scalars are plain JSON (None, bool, float, str, int up to 2^53); the rest is a list that starts with its tag:
`["l", …]` list, `["t", …]` tuple, `["s", …]` set, `["f", …]` frozenset, `["q", …]` deque, `["d", [k, v], …]` dict, `["it", …]` an iterator's items,
`["i", hex]` int, `["b", hex]` bytes, `["B", hex]` bytearray, `["c", re, im]`, `["r", a, b, c]` range, `["F", n, d]` Fraction, `["D", text]` Decimal,
`["o", type name]` anything else: such a value equals nothing.

Both sides use this file: the child only encodes what a program returned, the parent only decodes. Decoding makes nothing but these plain
values, whatever the text says; subclasses are sent as their base type, so a candidate's own `__eq__` never meets a judge.
Stands alone (standard library only): it is loaded inside the sandbox too.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from itertools import islice
from typing import Any

MAX_ITEMS = 200_000  # per container; an endless generator ends here
MAX_DEPTH = 200
SMALL = 1 << 53

_SEQUENCES: tuple[tuple[type, str], ...] = ((list, "l"), (tuple, "t"), (set, "s"), (frozenset, "f"), (deque, "q"))
_ITERATORS = frozenset(
    [
        "generator",
        "map",
        "filter",
        "zip",
        "enumerate",
        "reversed",
        "list_iterator",
        "list_reverseiterator",
        "tuple_iterator",
        "set_iterator",
        "str_iterator",
        "str_ascii_iterator",
        "range_iterator",
        "dict_keyiterator",
        "dict_valueiterator",
        "dict_itemiterator",
        "chain",
        "islice",
        "permutations",
        "combinations",
        "product",
        "accumulate",
        "takewhile",
        "dropwhile",
        "starmap",
        "zip_longest",
        "cycle",
        "count",
        "repeat",
        "groupby",
        "dict_values",
    ]
)


class WireError(ValueError):
    """The text is not one this codec writes, or passes a limit."""


class Opaque:
    """A value that has no plain form; equal to nothing, not even to itself."""

    __slots__ = ("kind",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __eq__(self, other: object) -> bool:
        return False

    def __repr__(self) -> str:
        return f"<{self.kind}>"


def encode(value: Any, depth: int = 0) -> Any:
    """`value` as JSON-able data. Never raises on odd values: they become `["o", type]`."""
    kind = type(value)
    if value is None or kind is bool or kind is float or kind is str:
        return value
    if kind is int:
        return value if -SMALL < value < SMALL else ["i", format(value, "x")]
    if depth >= MAX_DEPTH:
        return ["o", "too deep"]
    for base, tag in _SEQUENCES:
        if isinstance(value, base):
            return [tag, *[encode(v, depth + 1) for v in islice(base.__iter__(value), MAX_ITEMS + 1)]]  # type: ignore[attr-defined]
    if isinstance(value, dict):
        return ["d", *[[encode(k, depth + 1), encode(v, depth + 1)] for k, v in islice(dict.items(value), MAX_ITEMS + 1)]]
    return _encode_rare(value, kind, depth)


def _encode_rare(value: Any, kind: type, depth: int) -> Any:
    if isinstance(value, bool | int):
        return encode(int.__add__(value, 0), depth)
    if isinstance(value, float):
        return float.__add__(value, 0.0)
    if isinstance(value, str):
        return str.__getitem__(value, slice(None))
    if isinstance(value, bytes):
        return ["b", bytes.hex(value)]
    if isinstance(value, bytearray):
        return ["B", bytearray.hex(value)]
    if isinstance(value, complex):
        return ["c", value.real, value.imag]
    if kind is range:
        return ["r", *(encode(v) for v in (value.start, value.stop, value.step))]
    name = kind.__name__
    if name in ("dict_keys", "dict_items") and kind.__module__ == "builtins":  # these compare equal to sets
        return ["s", *[encode(v, depth + 1) for v in islice(value, MAX_ITEMS + 1)]]
    if kind.__module__ in ("builtins", "itertools") and name in _ITERATORS:
        return ["it", *[encode(v, depth + 1) for v in islice(value, MAX_ITEMS + 1)]]
    if kind.__module__ == "fractions" and name == "Fraction":
        return ["F", encode(value.numerator), encode(value.denominator)]
    if kind.__module__ == "decimal" and name == "Decimal":
        return ["D", str(value)]
    return ["o", f"{kind.__module__}.{kind.__qualname__}"[:80]]


def dumps(value: Any) -> bytes:
    return json.dumps(encode(value), separators=(",", ":")).encode("ascii")


def loads(text: bytes | str) -> Any:
    """The value that `dumps` wrote. Raises `WireError` for anything else."""
    try:
        return decode(json.loads(text))
    except WireError:
        raise
    except (ValueError, TypeError, RecursionError, OverflowError, ArithmeticError, AttributeError) as error:
        raise WireError(f"not a value: {type(error).__name__}") from None


def decode(data: Any) -> Any:
    if data is None or isinstance(data, bool | int | float | str):
        return data
    if not isinstance(data, list) or not data or not isinstance(data[0], str):
        raise WireError("a container without its tag")
    tag, items = data[0], data[1:]
    if len(items) > MAX_ITEMS:
        raise WireError(f"more than {MAX_ITEMS} items")
    if tag in ("l", "t", "q", "it", "s", "f"):
        values = [decode(v) for v in items]
        if tag in ("s", "f"):
            _refuse_collisions(values)
        makers: dict[str, Any] = {"l": list, "t": tuple, "q": deque, "it": iter, "s": set, "f": frozenset}
        return makers[tag](values)
    if tag == "d":
        pairs = [(decode(k), decode(v)) for k, v in items]
        _refuse_collisions([k for k, _ in pairs])
        return dict(pairs)
    return _decode_rare(tag, items)


def _decode_rare(tag: str, items: list[Any]) -> Any:
    if tag == "i":
        return int(items[0], 16)
    if tag == "b":
        return bytes.fromhex(items[0])
    if tag == "B":
        return bytearray.fromhex(items[0])
    if tag == "c":
        return complex(float(items[0]), float(items[1]))
    if tag == "r":
        start, stop, step = (decode(v) for v in items)
        return range(start, stop, step)
    if tag == "F":
        from fractions import Fraction

        return Fraction(decode(items[0]), decode(items[1]))
    if tag == "D":
        from decimal import Decimal

        if len(items[0]) > 5000:
            raise WireError("a Decimal of more than 5000 characters")
        return Decimal(items[0])
    if tag == "o":
        return Opaque(str(items[0])[:80] if items else "object")
    raise WireError(f"unknown tag {tag[:10]!r}")


def _refuse_collisions(values: list[Any]) -> None:
    """Many members of one hash make a set quadratic: a way to hang the judge, never an honest answer."""
    if len(values) > 64 and max(Counter(hash(v) for v in values).values()) > 32:
        raise WireError("a set or dict built of colliding members")
