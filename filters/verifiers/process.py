"""The `process` verifier: where is the first wrong step?

arithmetic: every arithmetic equality that a step states is computed exactly; a false one is the first error (no model asked; unknown
  where nothing was stated that could be checked).
model: the same, and then N votes of a model on the index of the first wrong step (OPV); below `consistency` the verdict is unknown, and
  the reason says that a person should look: `filters.verifiers.process_score.query_set` makes the queue.
index: the response is itself a judgement of the steps in the prompt, the reference the true index (-1: none); OPV's reward, -1 as fail.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field

from data.records import Problem, Sampling
from filters.verifiers.arithmetic import claims
from filters.verifiers.asking import _VERDICT as VERDICT
from filters.verifiers.asking import Asking, ModelVerifier, Wish, question
from filters.verifiers.base import register_verifier
from filters.verifiers.process_score import consistency, first_error, opv_reward
from filters.verifiers.spec import Judgement, Spec
from filters.verifiers.stated import stated_answer

MAX_STEPS = 200


class ProcessSpec(Spec):
    mode: Literal["arithmetic", "model", "index"] = "arithmetic"
    votes: Annotated[int, Field(ge=1, le=64)] = 8
    consistency: Annotated[float, Field(gt=0, le=1)] = 0.75
    """Share of the votes that must name one index."""
    decay: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """OPV's lambda: reward decay^|said - true|."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    max_tokens: Annotated[int, Field(ge=1)] = 1024


def steps_of(response: str) -> list[str]:
    """Lines that are not blank; where there is one line only, its sentences. At most MAX_STEPS, the last one holding the rest."""
    lines = [line.strip() for line in response.splitlines() if line.strip()]
    if len(lines) == 1:
        lines = [s for s in re.split(r"(?<=[.!?])\s+(?=[A-Z])", lines[0]) if s]
    return lines if len(lines) <= MAX_STEPS else [*lines[: MAX_STEPS - 1], "\n".join(lines[MAX_STEPS - 1 :])]


def first_false_claim(steps: list[str]) -> tuple[int, str, int]:
    """(index of the first step that states a false equality or -1, that equality, equalities checked up to there)."""
    checked = 0
    for index, step in enumerate(steps):
        for line in step.split("\n"):
            for claim in claims(line):
                checked += 1
                if not claim.holds:
                    return index, claim.text, checked
    return -1, "", checked


class ProcessVerifier(ModelVerifier[ProcessSpec]):
    """The first wrong step."""

    name = "process"
    Spec = ProcessSpec
    asks_model = False

    def refuse(self, problem: Problem, spec: ProcessSpec) -> str:
        if spec.mode == "index" and not re.fullmatch(r"-1|[0-9]{1,6}", problem.reference.strip()):
            return "mode index needs the true index as reference: -1, 0, 1, …"
        return ""

    def alone(self, problem: Problem, spec: ProcessSpec, response: str) -> Judgement | None:
        if spec.mode == "index":
            return judge_index(problem.reference.strip(), response, spec.decay)
        steps = steps_of(response)
        if not steps:
            return "fail", 0.0, "the response is empty"
        index, claim, checked = first_false_claim(steps)
        if index >= 0:
            return "fail", 0.0, f"step {index}: {claim[:120]} is false"
        if spec.mode == "model":
            return None if self.tools.generate is not None else ("unknown", 0.0, f"no model to ask was given; {checked} equalities hold")
        return ("pass", 1.0, f"all {checked} stated equalities hold") if checked else ("unknown", 0.0, "no equality is stated that could be checked")

    def asking(self, problem: Problem, spec: ProcessSpec, response: str) -> Asking:
        steps = steps_of(response)
        asked = question("first_error", problem=problem, steps=steps)
        ((texts,),) = [(yield Wish((asked,), Sampling(temperature=spec.temperature, max_tokens=spec.max_tokens), spec.votes))]
        votes = [read_index(text, asked.fence, len(steps)) for text in texts]
        share, index = consistency(votes), first_error(votes)
        if index is None or share < spec.consistency:
            return "unknown", 0.0, f"to annotate: {share:.2f} of {len(votes)} votes agree on the first wrong step"
        said = f"{share:.2f} of {len(votes)} votes"
        return ("pass", 1.0, f"no wrong step: {said}") if index == -1 else ("fail", 0.0, f"step {index} is wrong: {said}")


def read_index(text: str | None, fence: str, steps: int) -> int | None:
    """The index in the one verdict with this fence; None where it is unreadable or out of range."""
    said = {value.strip() for got, value in VERDICT.findall((text or "")[-20_000:]) if got == fence}
    if len(said) != 1 or not re.fullmatch(r"-1|[0-9]{1,4}", value := said.pop()):
        return None
    return int(value) if int(value) < steps else None


def judge_index(true: str, response: str, decay: float) -> Judgement:
    answer, why = stated_answer(response, lambda a, b: a.strip() == b.strip())
    if answer is None:
        return "fail", 0.0, why
    stated = answer.strip().strip("$.()[] ").replace("−", "-")
    if not re.fullmatch(r"-1|[0-9]{1,6}", stated):
        return "fail", 0.0, "the answer is no step index"
    reward = opv_reward(int(stated), int(true), decay)
    return ("pass" if reward == 1.0 else "fail"), max(0.0, reward), f"said {stated}, true is {true}"


register_verifier("process", ProcessVerifier)
