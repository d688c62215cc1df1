"""The `rubric` verifier: a response against a weighted rubric; each criterion is checked by a program where it can be, by a model else.

spec.rubrics (RuscaRL): {"criterion", "points" (may be negative), "tags"?: ["verifier:rule", "function:…", "parameters:…"]}; the reward is
the points met over the positive points, clipped to [0, 1]. spec.dimensions (Rubric Anchors): {"criterion", "tiers": worst to best,
"weight"?, "veto_below"?, "cap"?} with `floor`, `rho` and `interactions`; the arithmetic is in `filters.verifiers.rubric_score`.
A criterion that cannot be judged after `retries` stays open: the verdict is unknown unless it could change nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from data.records import Problem, Sampling
from filters.verifiers.asking import Answers, Asking, ModelVerifier, Question, Wish, question, read_json
from filters.verifiers.base import get_verifier, register_verifier
from filters.verifiers.rubric_score import anchored_score, score_bounds
from filters.verifiers.spec import Judgement, Spec


class Criterion(Spec):
    criterion: Annotated[str, Field(min_length=1)]
    points: float
    """Earned where the criterion is met; negative where it names something bad."""
    tags: tuple[str, ...] = ()
    """`verifier:rule` with `function:NAME` and `parameters:TEXT` sends it to a program (see RULES); others are labels."""

    @model_validator(mode="after")
    def _known_rule(self) -> Criterion:
        route = route_tags(self.tags)
        if route is not None and route[0] not in RULES:
            raise ValueError(f"tags: no rule function {route[0]!r}; there are {', '.join(RULES)}")
        return self


class Dimension(Spec):
    criterion: Annotated[str, Field(min_length=1)]
    tiers: Annotated[tuple[str, ...], Field(min_length=2)]
    """What each tier looks like, worst first."""
    weight: Annotated[float, Field(ge=0)] = 1.0
    veto_below: int = 0
    """Below this tier the whole score is at most `floor`; 0 = no veto."""
    cap: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the highest tier above which more counts only `rho` as much."""


class RubricSpec(Spec):
    rubrics: tuple[Criterion, ...] = ()
    dimensions: tuple[Dimension, ...] = ()
    interactions: tuple[tuple[int, int, float], ...] = ()
    """(j, k, c): dimensions j and k good together add c s_j s_k (negative c: they get in each other's way)."""
    floor: Annotated[float, Field(ge=0, le=1)] = 0.0
    rho: Annotated[float, Field(ge=0, le=1)] = 0.25
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Reward from which the verdict is pass."""
    retries: Annotated[int, Field(ge=0, le=10)] = 3
    """Times a criterion is asked again whose answer could not be read."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    max_tokens: Annotated[int, Field(ge=1)] = 512

    @model_validator(mode="after")
    def _one_kind(self) -> RubricSpec:
        if bool(self.rubrics) == bool(self.dimensions):
            raise ValueError("give either rubrics or dimensions")
        if self.dimensions and sum(d.weight for d in self.dimensions) <= 0:
            raise ValueError("dimensions: at least one weight must be above 0")
        if any(not (0 <= j < k < len(self.dimensions)) for j, k, _ in self.interactions):
            raise ValueError("interactions: each is (j, k, c) with 0 <= j < k < the number of dimensions")
        return self


def route_tags(tags: tuple[str, ...]) -> tuple[str, str] | None:
    """(function, parameters) where the tags send a criterion to a program, None where a model judges it."""
    said = dict(tag.split(":", 1) for tag in tags if ":" in tag)
    return (said.get("function", ""), said.get("parameters", "")) if said.get("verifier") == "rule" else None


def _verified(name: str) -> Callable[[Problem, str, str], bool | None]:
    def rule(problem: Problem, response: str, parameters: str) -> bool | None:
        spec: dict[str, Any] = {}
        if name == "instruction":
            spec = {"instructions": [json.loads(parameters)]}
        outcome = get_verifier(name).verify(Problem(problem.prompt, parameters, name, spec), response).outcome
        return None if outcome == "unknown" else outcome == "pass"

    return rule


RULES: Mapping[str, Callable[[Problem, str, str], bool | None]] = {
    "math_verify": _verified("math"),
    "answer": _verified("answer"),
    "instruction": _verified("instruction"),
    "contains": lambda problem, response, text: text.casefold() in response.casefold(),
    "max_words": lambda problem, response, text: len(re.findall(r"\w+", response)) <= int(text),
    "min_words": lambda problem, response, text: len(re.findall(r"\w+", response)) >= int(text),
}
"""Criteria that a program checks: (problem, response, parameters) -> met, or None where it cannot tell."""


def by_rule(problem: Problem, response: str, function: str, parameters: str) -> bool | None:
    try:
        return RULES[function](problem, response, parameters)
    except Exception:  # noqa: BLE001 - wrong parameters leave the criterion open, which is never a point
        return None


class RubricVerifier(ModelVerifier[RubricSpec]):
    """Weighted rubrics."""

    name = "rubric"
    Spec = RubricSpec

    def alone(self, problem: Problem, spec: RubricSpec, response: str) -> Judgement | None:
        if not response.strip():
            return "fail", 0.0, "the response is empty"
        if spec.rubrics and all(route_tags(c.tags) is not None for c in spec.rubrics):
            return weighed(spec, rules_met(problem, spec, response))
        return None

    def asking(self, problem: Problem, spec: RubricSpec, response: str) -> Asking:
        return _points(problem, spec, response) if spec.rubrics else _tiers(problem, spec, response)


def rules_met(problem: Problem, spec: RubricSpec, response: str) -> list[bool | None]:
    """What programs say on each criterion; None also where a model must be asked."""
    routes = [route_tags(c.tags) for c in spec.rubrics]
    return [by_rule(problem, response, *route) if route is not None else None for route in routes]


def weighed(spec: RubricSpec, met: list[bool | None]) -> Judgement:
    low, high = score_bounds([c.points for c in spec.rubrics], met)
    open_ones = [c.criterion for c, m in zip(spec.rubrics, met, strict=True) if m is None]
    if low < spec.threshold <= high:
        said = f"{len(open_ones)} criteria could not be judged (the first: {open_ones[0][:60]!r})"
        return "unknown", 0.0, f"{said}; the score lies in [{low:.3f}, {high:.3f}]"
    reward = min(1.0, max(0.0, low))  # what is certain
    missed = [c.criterion for c, m in zip(spec.rubrics, met, strict=True) if m is not None and m != (c.points > 0)]
    said = f"score {low:.3f}" + (f"; first lost: {missed[0][:80]!r}" if missed else "") + (f"; {len(open_ones)} not judged" if open_ones else "")
    return ("pass", reward, said) if low >= spec.threshold else ("fail", reward, said)


def _points(problem: Problem, spec: RubricSpec, response: str) -> Asking:
    met = rules_met(problem, spec, response)
    places = [i for i, c in enumerate(spec.rubrics) if route_tags(c.tags) is None]
    questions = [question("criterion", problem=problem, response=response, criterion=spec.rubrics[i].criterion) for i in places]
    found = yield from _until_read(questions, spec, lambda said: said.get("criteria_met"), lambda v: isinstance(v, bool))
    for place, value in zip(places, found, strict=True):
        met[place] = value
    return weighed(spec, met)


def _tiers(problem: Problem, spec: RubricSpec, response: str) -> Asking:
    questions = [question("tier", problem=problem, response=response, criterion=d.criterion, tiers=list(d.tiers)) for d in spec.dimensions]
    found = yield from _until_read(questions, spec, lambda said: said.get("tier"), lambda v: isinstance(v, int) and not isinstance(v, bool))
    tiers = [t if t is not None and 0 <= t < len(d.tiers) else -1 for t, d in zip(found, spec.dimensions, strict=True)]
    if -1 in tiers:
        return "unknown", 0.0, f"dimension {spec.dimensions[tiers.index(-1)].criterion[:60]!r} could not be judged"
    scores = [t / (len(d.tiers) - 1) for t, d in zip(tiers, spec.dimensions, strict=True)]
    reward = anchored_score(
        scores,
        [d.weight for d in spec.dimensions],
        veto={k: d.veto_below / (len(d.tiers) - 1) for k, d in enumerate(spec.dimensions) if d.veto_below > 0},
        floor=spec.floor,
        caps={k: d.cap for k, d in enumerate(spec.dimensions)},
        rho=spec.rho,
        interactions={(j, k): c for j, k, c in spec.interactions},
    )
    vetoed = [d.criterion for t, d in zip(tiers, spec.dimensions, strict=True) if t < d.veto_below]
    said = f"score {reward:.3f} from tiers {', '.join(map(str, tiers))}" + (f"; vetoed by {vetoed[0][:60]!r}" if vetoed else "")
    return ("pass" if reward >= spec.threshold else "fail"), reward, said


def _until_read(
    questions: list[Question], spec: RubricSpec, pick: Callable[[Mapping[str, Any]], Any], right: Callable[[Any], bool]
) -> Generator[Wish, Answers, list[Any]]:
    """A value per question; those whose answer cannot be read are asked again with other seeds, and are None in the end."""
    found: list[Any] = [None] * len(questions)
    sampling = Sampling(temperature=spec.temperature, max_tokens=spec.max_tokens)
    for attempt in range(spec.retries + 1):
        left = [i for i, value in enumerate(found) if value is None]
        if not left:
            break
        answers = yield Wish(tuple(questions[i] for i in left), sampling, attempt=attempt)
        for i, (text,) in zip(left, answers, strict=True):
            said = read_json(text, questions[i].fence)
            value = pick(said) if said is not None else None
            found[i] = value if right(value) else None
    return found


register_verifier("rubric", RubricVerifier)
