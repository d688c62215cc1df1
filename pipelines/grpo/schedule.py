"""Schedules: any number of an objective may be one, written as a table `{schedule = "linear", start = 1.0, end = 0.1, steps = 200}`.

Stateless ones are functions of the step alone, so that a resumed run cannot shift them; `adaptive` follows a metric and
is checkpointed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from data.errors import UserError
from pipelines.grpo.component import nearest


@dataclass(frozen=True)
class Linear:
    """From `start` to `end` over `steps` steps, then it stays."""

    start: float
    end: float
    steps: int

    def value(self, step: int) -> float:
        return self.start + (self.end - self.start) * min(1.0, step / max(self.steps, 1))


@dataclass(frozen=True)
class Cosine:
    """From `start` to `end` along half a cosine over `steps` steps, `cycles` times (restarts: SGDR, arXiv 1608.03983), then it stays at `end`."""

    start: float
    end: float
    steps: int
    cycles: int = 1

    def value(self, step: int) -> float:
        if step >= self.steps * self.cycles:
            return self.end
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * (step % self.steps) / self.steps)) / 2


@dataclass(frozen=True)
class Piecewise:
    """`values[i]` from step `at[i]` on; `at` begins with 0."""

    at: Sequence[int]
    values: Sequence[float]

    def value(self, step: int) -> float:
        return float(self.values[max(i for i, begin in enumerate(self.at) if begin <= step)])


@dataclass
class Adaptive:
    """Multiplied each step by 1 + clip(metric / target - 1, +-0.2) x gain: the KL controller of Ziegler et al. (arXiv 1909.08593, section 2.2)."""

    start: float
    target: float
    metric: str = "kl"
    gain: float = 0.1
    stateful: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.now = self.start

    def value(self, step: int) -> float:
        return self.now

    def observe(self, metrics: Mapping[str, float]) -> None:
        if math.isfinite(found := metrics.get(self.metric, math.nan)):
            self.now *= 1 + min(0.2, max(-0.2, found / self.target - 1)) * self.gain


Schedule = Linear | Cosine | Piecewise | Adaptive
SCHEDULES: dict[str, type[Schedule]] = {"linear": Linear, "cosine": Cosine, "piecewise": Piecewise, "adaptive": Adaptive}


def schedule_from(table: Mapping[str, Any], key: str) -> Schedule:
    """The schedule that a recipe's table describes; UserError naming the key where it describes none."""
    kind = str(table.get("schedule", ""))
    if kind not in SCHEDULES:
        raise UserError(f"{key}: there is no schedule {kind!r}; did you mean {nearest(kind, SCHEDULES)!r}? ({', '.join(SCHEDULES)})")
    made = SCHEDULES[kind]
    names = [f.name for f in fields(made)]
    given = {k: v for k, v in table.items() if k != "schedule"}
    for name in given:
        if name not in names:
            raise UserError(f"{key}: schedule {kind!r} takes {', '.join(names)}; it does not know {name!r}")
    for field in fields(made):
        value = given.get(field.name, field.default)
        wanted: tuple[type, ...] = {"float": (int, float), "int": (int,), "str": (str,)}.get(str(field.type), (list, tuple))
        if isinstance(value, bool) or not isinstance(value, wanted):
            raise UserError(f"{key}: schedule {kind!r} needs {field.name} ({field.type}), got {given.get(field.name)!r}")
    built = made(**given)
    if isinstance(built, Linear | Cosine) and built.steps < 1:
        raise UserError(f"{key}: steps must be 1 or more, got {built.steps}")
    if isinstance(built, Adaptive) and not built.target > 0:
        raise UserError(f"{key}: target must be above 0, got {built.target}")
    if isinstance(built, Piecewise) and (list(built.at[:1]) != [0] or sorted(built.at) != list(built.at) or len(built.at) != len(built.values)):
        raise UserError(f"{key}: `at` must rise from 0 and have one value each, got {list(built.at)} and {list(built.values)}")
    return built
