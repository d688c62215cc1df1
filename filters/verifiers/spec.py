"""Typed settings of verifiers: what a problem's `spec` may say, checked by pydantic and refused in one sentence.

`TypedVerifier` is the frame that the family shares: settings read, problem checked, response made storable, time taken. A verifier
adds `judge` (and `refuse`, where some problems cannot be judged).
"""

from __future__ import annotations

import difflib
import json
import time
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from data.records import Outcome, Problem, Verdict
from data.text import storable

Judgement = tuple[Outcome, float, str]
"""outcome, reward in [0, 1], reason"""

MAX_REASON = 300  # characters


class Spec(BaseModel):
    """Settings of one verifier on one problem. Unknown settings are refused; an attribute's docstring says what it means."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


S = TypeVar("S", bound=Spec)


def read_spec(kind: type[S], spec: Mapping[str, Any]) -> S | str:
    """The settings, or why they are wrong: the setting, its value, what would be right."""
    try:
        return kind.model_validate(dict(spec))
    except ValidationError as error:
        return spec_sentence(kind, error)


def spec_sentence(kind: type[Spec], error: ValidationError) -> str:
    """The first thing wrong, in a sentence: "spec.options: should have at least 2 items (got ['A'])"."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(p) for p in ("spec", *first["loc"]))
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(first["loc"][-1]), kind.model_fields, n=1)
        known = ", ".join(kind.model_fields) or "none"
        return f"{key}: no such setting; " + (f"did you mean {near[0]!r}?" if near else f"this verifier knows {known}")
    message = first["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if first["type"] == "missing":
        return f"{key}: is missing"
    value = first.get("input")
    shown = json.dumps(value, default=str, ensure_ascii=False)
    shown = "" if isinstance(value, Mapping) or not first["loc"] else f" (got {shown if len(shown) <= 60 else shown[:57] + '…'})"
    return f"{key}: {message[:1].lower()}{message[1:]}{shown}"


class TypedVerifier(Generic[S]):
    """A verifier with typed settings; see `filters.verifiers.base` for the protocol."""

    name: str = ""
    Spec: ClassVar[type[Spec]] = Spec

    def judge(self, problem: Problem, spec: S, response: str) -> Judgement:
        raise NotImplementedError

    def refuse(self, problem: Problem, spec: S) -> str:
        """Why this problem cannot be judged, '' where it can."""
        return ""

    def check_problem(self, problem: Problem) -> str:
        spec = self.settings(problem)
        return spec if isinstance(spec, str) else self.refuse(problem, spec)

    def settings(self, problem: Problem) -> S | str:
        return read_spec(self.Spec, problem.spec)  # type: ignore[return-value]

    def verify(self, problem: Problem, response: str) -> Verdict:
        start = time.perf_counter()
        spec = self.settings(problem)
        why = spec if isinstance(spec, str) else self.refuse(problem, spec)
        judgement: Judgement = ("unknown", 0.0, why) if why or isinstance(spec, str) else self.judge(problem, spec, storable(response))
        return self.verdict(problem, judgement, (time.perf_counter() - start) * 1e3)

    def verdict(self, problem: Problem, judgement: Judgement, ms: float = 0.0) -> Verdict:
        outcome, reward, reason = judgement
        return Verdict(outcome, 0.0 if outcome == "unknown" else reward, storable(reason[:MAX_REASON]), self.name, problem_id=problem.id, ms=ms)


def passed(good: bool, reason: str) -> Judgement:
    """pass with reward 1 or fail with reward 0."""
    return ("pass", 1.0, reason) if good else ("fail", 0.0, reason)
