"""More calls of a function, near those that its tests make: other inputs of the same types, as EvalPlus grows them (arXiv 2305.01210, section 2.2).

They come without an expected value: only the reference, run in the sandbox, can say what is right. Text in, text out; nothing is run here.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from data.keyed import keyed_rng
from filters.sandbox.constants import NotConstant, fold

ATTEMPTS = 20  # per wanted call


def near_calls(calls: Sequence[str], wanted: int, key: str = "") -> list[str]:
    """Up to `wanted` calls that differ from the given ones in one argument (or a few); keyed, without repetition."""
    parsed = [p for call in calls if (p := _arguments(call)) is not None]
    if not parsed or not any(arguments for _, arguments in parsed):
        return []
    rng = keyed_rng(0, "near_calls", key)
    found: dict[str, None] = {}
    for _ in range(ATTEMPTS * wanted):
        if len(found) >= wanted:
            break
        name, arguments = parsed[int(rng.integers(len(parsed)))]
        changed = list(arguments)
        for _ in range(int(rng.integers(1, 3))):
            if changed:
                place = int(rng.integers(len(changed)))
                changed[place] = _near(changed[place], rng)
        try:
            text = f"{name}({', '.join(map(repr, changed))})"
        except ValueError:  # an integer of more digits than Python prints
            continue
        if text not in calls and len(text) < 20_000 and "nan" not in text and "inf" not in text:
            found[text] = None
    return list(found)


def _arguments(call: str) -> tuple[str, list[Any]] | None:
    """(function, argument values) of `f(1, [2])`; None for a call that is not of this form."""
    try:
        node = ast.parse(call, mode="eval").body
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            return node.func.id, [fold(a) for a in node.args]
    except (SyntaxError, ValueError, RecursionError, MemoryError, NotConstant):
        pass
    return None


def _near(value: Any, rng: np.random.Generator) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return _one_of(rng, [value + 1, value - 1, 0, 1, -value, 2 * value, value + int(rng.integers(-20, 21))])
    if isinstance(value, float):
        return value if not math.isfinite(value) else _one_of(rng, [value + 0.5, value - 1.0, 0.0, -value, 2 * value, float(round(value))])
    if isinstance(value, str):
        return _near_text(value, rng)
    if isinstance(value, list | tuple):
        return type(value)(_near_items(list(value), rng))
    if isinstance(value, dict) and value:
        key = list(value)[int(rng.integers(len(value)))]
        without = {k: v for k, v in value.items() if k != key}
        return without if rng.random() < 0.3 else value | {key: _near(value[key], rng)}
    if isinstance(value, set | frozenset) and value:
        return type(value)(_near_items(sorted(value, key=repr), rng))
    return value


def _near_text(text: str, rng: np.random.Generator) -> str:
    place = int(rng.integers(len(text) + 1))
    letter = _one_of(rng, list("aAzb 0159.,-()") + list(text[:8]))
    cut = text[: max(place - 1, 0)] + text[place:]
    return str(_one_of(rng, ["", cut, text[:place] + letter + text[place:], text + text, text[::-1], text.swapcase(), text + " " + text]))


def _near_items(items: list[Any], rng: np.random.Generator) -> list[Any]:
    if not items:
        return items
    place = int(rng.integers(len(items)))
    with_other = [*items[:place], _near(items[place], rng), *items[place + 1 :]]
    repeated = [*items[: place + 1], *items[place:]]
    return list(_one_of(rng, [with_other, with_other, items[:place] + items[place + 1 :], repeated, items[::-1], items + items, []]))


def _one_of(rng: np.random.Generator, options: list[Any]) -> Any:
    return options[int(rng.integers(len(options)))]
