"""The `reorder` verifier: shuffled steps put back into order (MR-RLVR, arXiv 2511.17473). r = share of steps that stand in their place.

Some steps may change places without harm: with `needs` (which step uses the result of which) the place of a step is judged against the
order nearest to the response among all that respect it, so that commuting steps count as right and r = 1 exactly for the responses that
are themselves such an order. Without `needs` there is one right order. Anything but a permutation of the steps' numbers is worth 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field, model_validator

from data.records import Problem
from filters.verifiers.asking import read_json
from filters.verifiers.base import register_verifier
from filters.verifiers.spec import Judgement, Spec, TypedVerifier

MOST = 12
"""Steps; the nearest order is found among all subsets of them."""

_ORDER = re.compile(r"<order>([^<]{0,200})</order>", re.I)


class ReorderSpec(Spec):
    order: Annotated[tuple[int, ...], Field(min_length=2, max_length=MOST)]
    """The steps' numbers, as they are shown (from 1), in the order of the solution."""
    needs: dict[int, tuple[int, ...]] | None = None
    """Shown number -> those that must stand before it; null = every step needs the one before it."""

    @model_validator(mode="after")
    def _fits(self) -> ReorderSpec:
        steps = set(range(1, len(self.order) + 1))
        if set(self.order) != steps:
            raise ValueError(f"order must be a permutation of 1..{len(self.order)}")
        place = {step: n for n, step in enumerate(self.order)}
        for step, before in (self.needs or {}).items():
            if step not in steps or not set(before) <= steps or any(place[b] >= place[step] for b in before):
                raise ValueError("needs must name steps, each needing only steps that stand before it in order")
        return self

    def before(self) -> Mapping[int, Sequence[int]]:
        if self.needs is not None:
            return self.needs
        return {step: self.order[:n] for n, step in enumerate(self.order)}


def read_order(response: str) -> list[int]:
    """The numbers of the last <order>…</order> behind the thought, of {"order": […]}, or of a single line of numbers; [] where there are none."""
    said = response.rpartition("</think>")[2][-20_000:]
    tagged = _ORDER.findall(said)
    if tagged:
        text = tagged[-1]
    elif (listed := (read_json(said) or {}).get("order")) is not None:
        return [n for n in listed if type(n) is int] if isinstance(listed, list) and all(type(n) is int for n in listed) else []
    else:
        text = said.strip()
    if not re.fullmatch(r"[\d\s,;>-]{1,200}", text):
        return []
    return [int(n) for n in re.findall(r"\d{1,3}", text)]


def places_right(said: Sequence[int], before: Mapping[int, Sequence[int]]) -> int:
    """Most places that `said`, a permutation of 1..n, shares with one order that respects `before`; n exactly where it respects it itself.

    Over subsets of steps already placed: best[S] = most places shared by an order of S in the first |S| places.
    """
    n = len(said)
    needs = [sum(1 << (b - 1) for b in before.get(step + 1, ())) for step in range(n)]
    best = [-1] * (1 << n)
    best[0] = 0
    for done in range(1 << n):
        if best[done] < 0:
            continue
        here = done.bit_count()
        for step in range(n):
            if not done >> step & 1 and needs[step] & ~done == 0:
                then = done | 1 << step
                best[then] = max(best[then], best[done] + (here < n and said[here] == step + 1))
    return best[-1]


class ReorderVerifier(TypedVerifier[ReorderSpec]):
    """Steps back in order."""

    name = "reorder"
    Spec = ReorderSpec
    needs_reference = False
    outright = True

    def judge(self, problem: Problem, spec: ReorderSpec, response: str) -> Judgement:
        said, n = read_order(response), len(spec.order)
        if sorted(said) != list(range(1, n + 1)):
            return "fail", 0.0, f"no permutation of 1 to {n}"
        right = places_right(said, spec.before())
        return ("pass" if right == n else "fail"), right / n, f"{right} of {n} steps stand in their place"

    def oracle(self, problem: Problem) -> str:
        return f"<order>{' '.join(map(str, problem.spec['order']))}</order>"


register_verifier("reorder", ReorderVerifier)
