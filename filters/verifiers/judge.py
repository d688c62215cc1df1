"""The `judge` verifier: a model judges, with a budget of votes and second thoughts, and is held to account.

pointwise: is the response right (against the reference, where there is one)? `votes` samples, each after `waits` second thoughts (J1's
budget forcing); fewer than `agreement` of all votes for one side is unknown. With `control` the judge is also shown a response that says
nothing: a judge that accepts it is believed on nothing about this problem.
pairwise: is the response better than the reference? Asked in both orders; a preference that stays with the place is unknown.
Whatever cannot be read is no vote. Fail closed: the unreadable, the undecided and the broken are `unknown`, never a pass or a fail.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from data.records import Problem, Sampling
from filters.verifiers.asking import Answers, Asking, ModelVerifier, Question, Wish, question, read_verdict, says_nothing
from filters.verifiers.base import register_verifier
from filters.verifiers.spec import Judgement, Spec
from filters.verifiers.votes import majority

CONTROL = "Thought process:\nLet's solve this problem step by step.\nSolution:"
"""A response without an answer; what a judge must refuse to be believed."""


class JudgeSpec(Spec):
    mode: Literal["pointwise", "pairwise"] = "pointwise"
    """`pairwise` compares with the reference, which is then another response."""
    votes: Annotated[int, Field(ge=1, le=64)] = 3
    """Samples per judgement, and per order in `pairwise`."""
    waits: Annotated[int, Field(ge=0, le=8)] = 0
    """Times each sample is told to check itself again before its verdict counts."""
    agreement: Annotated[float, Field(ge=0.5, lt=1)] = 0.5
    """More than this share of all votes must agree."""
    control: bool = True
    """Also ask about a response that says nothing."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    max_tokens: Annotated[int, Field(ge=1)] = 1024

    def sampling(self) -> Sampling:
        return Sampling(temperature=self.temperature, max_tokens=self.max_tokens)


class JudgeVerifier(ModelVerifier[JudgeSpec]):
    """A model's judgement."""

    name = "judge"
    Spec = JudgeSpec

    def refuse(self, problem: Problem, spec: JudgeSpec) -> str:
        if spec.mode == "pairwise" and not problem.reference.strip():
            return "a pairwise judgement needs a reference response to compare with"
        return "" if problem.prompt.strip() or problem.reference.strip() else "the problem has neither a prompt nor a reference"

    def alone(self, problem: Problem, spec: JudgeSpec, response: str) -> Judgement | None:
        return ("fail", 0.0, "the response says nothing") if says_nothing(response) else None

    def asking(self, problem: Problem, spec: JudgeSpec, response: str) -> Asking:
        if spec.mode == "pairwise":
            return pairwise(problem, spec, response)
        return pointwise(problem, spec, response, (problem.reference,) if problem.reference.strip() else ())


def pointwise(problem: Problem, spec: JudgeSpec, response: str, references: Sequence[str]) -> Asking:
    """Whether the response is right; `references` are right answers, () where none is known."""
    shown = [response, CONTROL] if spec.control else [response]
    questions = [question("correct", problem=problem, response=text, references=list(references)) for text in shown]
    votes, *control = yield from budgeted(questions, spec, ("yes", "no"))
    if control and majority(control[0], 0.0) != "no":
        return "unknown", 0.0, "the judge does not refuse a response that says nothing, so it is not believed"
    decided = majority(votes, spec.agreement)
    tally = f"{votes.count('yes')} yes, {votes.count('no')} no, {votes.count(None)} unreadable of {len(votes)} votes"
    if decided is None:
        return "unknown", 0.0, f"the judge is undecided: {tally}"
    return ("pass", 1.0, f"judged right: {tally}") if decided == "yes" else ("fail", 0.0, f"judged wrong: {tally}")


def pairwise(problem: Problem, spec: JudgeSpec, response: str) -> Asking:
    """Whether the response is better than the reference, whichever of them is shown first."""
    asked = [
        question("prefer", problem=problem, first=response, second=problem.reference),
        question("prefer", problem=problem, first=problem.reference, second=response),
    ]
    votes = yield from budgeted(asked, spec, ("A", "B"))
    first, swapped = (majority(v, spec.agreement) for v in votes)
    if first is None or swapped is None:
        return "unknown", 0.0, "the judge is undecided between the two responses"
    if first == swapped:
        return "unknown", 0.0, f"the judge prefers whatever stands at {first}: its preference does not survive a swap"
    return ("pass", 1.0, "preferred in both orders") if first == "A" else ("fail", 0.0, "the reference is preferred in both orders")


def budgeted(questions: Sequence[Question], spec: JudgeSpec, allowed: Sequence[str]) -> Generator[Wish, Answers, list[list[str | None]]]:
    """Votes [questions, votes] after `waits` second thoughts; a sample whose answer is lost on the way is no vote."""
    said = yield Wish(tuple(questions), spec.sampling(), spec.votes)
    told = [
        [replace(q, turns=(text,), draw=vote) if text is not None else None for vote, text in enumerate(texts)]
        for q, texts in zip(questions, said, strict=True)
    ]
    for _ in range(spec.waits):
        again = tuple(q for row in told for q in row if q is not None)
        if not again:
            break
        more = iter((yield Wish(again, spec.sampling())))
        texts = [[next(more)[0] if q is not None else None for q in row] for row in told]
        told = [
            [replace(q, turns=(*q.turns, text)) if q is not None and text is not None else None for q, text in zip(row, new, strict=True)]
            for row, new in zip(told, texts, strict=True)
        ]
    return [[read_verdict(q.turns[-1], q.fence, allowed) if q is not None else None for q in row] for row in told]


register_verifier("judge", JudgeVerifier)
