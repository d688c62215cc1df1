"""Process tasks out of a worked solution: its steps, which of them use which, pieces to mask, steps to shuffle. Pure functions.

For MR-RLVR (arXiv 2511.17473). Its mask rates and thresholds were not to be had (`reference/strategies.md` section 6): they are settings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from data.keyed import keyed_order
from filters.verifiers.numbers import Number, parse_number

_END = re.compile(r"####.*\Z|\\boxed\s*\{.*\Z", re.S)
_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?![\w])")
_RESULT = re.compile(r"=\s*\$?(-?\d[\d,]*(?:\.\d+)?)(?![\w])")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9\\])")


@dataclass(frozen=True)
class Masked:
    """A solution with pieces behind [m1], [m2], …"""

    text: str
    masks: dict[str, str]


@dataclass(frozen=True)
class Shuffled:
    """Steps as they are shown; `order` = shown numbers (from 1) in the solution's order; `needs` = shown number -> those before it."""

    steps: tuple[str, ...]
    order: tuple[int, ...]
    needs: dict[int, tuple[int, ...]]


def steps_of(solution: str) -> list[str]:
    """The steps of a worked solution without its final answer: lines, else equations between commas, else sentences."""
    body = _END.sub("", solution.rpartition("</think>")[2]).strip()
    lines = [line.strip(" ,;") for line in body.splitlines() if line.strip(" ,;")]
    if len(lines) == 1:
        parts = [part.strip() for part in re.split(r",\s+|;\s*", lines[0]) if part.strip()]
        lines = parts if len(parts) > 1 and all("=" in part for part in parts) else [s.strip() for s in _SENTENCE.split(lines[0]) if s.strip()]
    return lines


def numbers(text: str) -> list[Fraction]:
    return [value for found in _NUMBER.findall(text) if (value := _value(found)) is not None]


def _result(step: str) -> re.Match[str] | None:
    """The number behind the last equals sign, where one stands there."""
    last = step.rfind("=")
    return _RESULT.match(step, last) if last >= 0 else None


def result_of(step: str) -> Fraction | None:
    """The number behind the last equals sign of a step."""
    found = _result(step)
    return _value(found[1]) if found else None


def _value(text: str) -> Fraction | None:
    read = parse_number(text.rstrip(","))
    return read.value if isinstance(read, Number) else None


def needs_of(steps: Sequence[str], told: str) -> dict[int, tuple[int, ...]]:
    """Which earlier steps (from 0) each step uses: those whose result it calculates with, unless the problem tells that number as well.

    Where a step has no equation nobody can tell what it uses: then every step needs the one before it.
    """
    results = [result_of(step) for step in steps]
    if any(result is None for result in results):
        return {n: (n - 1,) if n else () for n in range(len(steps))}
    given = set(numbers(told))
    needs: dict[int, tuple[int, ...]] = {}
    for n, step in enumerate(steps):
        used = set(numbers(step.rpartition("=")[0])) - given
        latest = {results[m]: m for m in range(n)}  # of two steps with one result the later one is meant
        needs[n] = tuple(sorted({latest[value] for value in used if value in latest}))
    return needs


def shuffle_steps(steps: Sequence[str], told: str, seed: int) -> Shuffled | None:
    """Keyed shuffle; None where the steps are too few or alike, or no order shown could be wrong."""
    n = len(steps)
    if n < 2 or len(set(steps)) < n:
        return None
    needs = needs_of(steps, told)
    if not any(needs.values()):
        return None
    for attempt in range(20):
        shown = [int(i) for i in keyed_order(seed, [str(i) for i in range(n)], "shuffle", attempt)]  # shown[k] = step at place k
        number = {step: place + 1 for place, step in enumerate(shown)}
        before = {number[step]: tuple(sorted(number[b] for b in needs[step])) for step in range(n)}
        if any(b > at for at, earlier in before.items() for b in earlier):  # reading the steps as shown is wrong
            return Shuffled(tuple(steps[i] for i in shown), tuple(number[step] for step in range(n)), before)
    return None


def mask_pieces(steps: Sequence[str], share: float, most: int, seed: int) -> Masked | None:
    """Masks results of steps, at least one and at most `most`, `share` of those there are, in keyed order; None where no step has one.

    A result is masked where it comes out; where a later step uses it, it stays, so that the task is to work out what the rest rests on.
    """
    places = [n for n, step in enumerate(steps) if _result(step)]
    if not places:
        return None
    count = max(1, min(most, int(share * len(places) + 0.5)))
    chosen = sorted(int(n) for n in keyed_order(seed, [str(n) for n in places], "mask")[:count])
    masks: dict[str, str] = {}
    told = list(steps)
    for index, n in enumerate(chosen, 1):
        found = _result(steps[n])
        assert found is not None
        masks[f"m{index}"] = found[1]
        told[n] = f"{steps[n][: found.start(1)]}[m{index}]{steps[n][found.end(1) :]}"
    return Masked("\n".join(told), masks)


def linear(needs: Mapping[int, Sequence[int]], order: Sequence[int]) -> bool:
    """Whether `order` puts every step behind what it needs."""
    place = {step: n for n, step in enumerate(order)}
    return all(place[b] < place[step] for step, before in needs.items() for b in before)
