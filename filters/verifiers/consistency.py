"""The `consistency` verifier: no reference needed, agreement is the evidence.

cross_vote (Co-Reward, arXiv 2508.00410): the answer is held against the vote of answers to a *rewritten* question (spec.answers); a tie
  earns nobody anything.
option_shuffle (ACRE): the question is asked again with the response's reasoning and the options in another order; does the answer follow
  the option's text? Rewards right-and-consistent 1, right then not .5, not then right .25, else 0 (the paper's coefficients were not
  obtained: INFERRED). A reasoning that names letters is told: its letters mean other options after the shuffle.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from data.ids import content_hash
from data.keyed import keyed_rng
from data.records import Problem, Sampling
from filters.verifiers.answer_text import alias
from filters.verifiers.asking import Asking, ModelVerifier, Wish, question
from filters.verifiers.base import register_verifier
from filters.verifiers.choice import ChoiceSpec, chosen
from filters.verifiers.numbers import Number, parse_number
from filters.verifiers.spec import Judgement, Spec, read_spec
from filters.verifiers.stated import stated_answer
from filters.verifiers.votes import plurality

REWARDS: Mapping[tuple[bool, bool], float] = {(True, True): 1.0, (True, False): 0.5, (False, True): 0.25, (False, False): 0.0}
"""(right before the shuffle, right after it) -> reward"""
_LETTER = re.compile(r"\b(?:option|choice|answer)s?\s+(?:is\s+)?\(?[A-H]\b|\([A-H]\)", re.I)


class ConsistencySpec(Spec):
    mode: Literal["cross_vote", "option_shuffle"] = "cross_vote"
    answers: tuple[str, ...] = ()
    """cross_vote: the answers that were given to the rewritten question, empty ones where there was none."""
    options: dict[str, str] | tuple[str, ...] = ()
    """option_shuffle: as for the `choice` verifier."""
    shuffles: Annotated[int, Field(ge=1, le=16)] = 1
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    max_tokens: Annotated[int, Field(ge=1)] = 64

    @model_validator(mode="after")
    def _enough(self) -> ConsistencySpec:
        if self.mode == "cross_vote" and not self.answers:
            raise ValueError("answers: give the answers to the rewritten question")
        if self.mode == "option_shuffle":
            wrong = read_spec(ChoiceSpec, {"options": self.options})
            if isinstance(wrong, str):
                raise ValueError(wrong.removeprefix("spec."))
        return self


def derangement(letters: Sequence[str], seed: int) -> dict[str, str]:
    """old letter -> new letter with no letter in its place, drawn by key; the identity shows no consistency and cannot come out."""
    if len(letters) < 2:
        raise ValueError("one option cannot be put elsewhere")
    rng = keyed_rng(seed, "derangement")
    while True:
        drawn = [letters[int(i)] for i in rng.permutation(len(letters))]
        if all(a != b for a, b in zip(letters, drawn, strict=True)):
            return dict(zip(letters, drawn, strict=True))


def names_letters(trace: str) -> bool:
    """Whether a reasoning refers to options by letter, which mean something else after a shuffle."""
    return _LETTER.search(trace) is not None


def same_answer(one: str, other: str) -> bool:
    """Equal numbers or one text in two ways; the paper's vote compares strings (1/2 is not 0.5 there)."""
    left, right = parse_number(one), parse_number(other)
    if isinstance(left, Number) and isinstance(right, Number):
        return left.value == right.value and (not left.unit or not right.unit or left.unit == right.unit)
    return alias(one, other)


class ConsistencyVerifier(ModelVerifier[ConsistencySpec]):
    """Agreement instead of a reference."""

    name = "consistency"
    Spec = ConsistencySpec
    asks_model = False

    def refuse(self, problem: Problem, spec: ConsistencySpec) -> str:
        if spec.mode == "option_shuffle":
            if isinstance(chosen(problem.reference, _options(spec)), str):
                return f"the reference {problem.reference[:40]!r} names none of the options"
        elif plurality(spec.answers, same_answer) is None:
            return "the answers to the rewritten question have no majority: a tie, or all empty"
        return ""

    def alone(self, problem: Problem, spec: ConsistencySpec, response: str) -> Judgement | None:
        if spec.mode == "option_shuffle":
            return None if self.tools.generate is not None else ("unknown", 0.0, "no model to ask was given")
        vote = plurality(spec.answers, same_answer)
        answer, why = stated_answer(response, same_answer)
        if answer is None:
            return "fail", 0.0, why
        good = vote is not None and same_answer(answer, vote)
        return ("pass" if good else "fail"), float(good), f"the vote on the rewritten question is {vote!r}"

    def asking(self, problem: Problem, spec: ConsistencySpec, response: str) -> Asking:
        options = _options(spec)
        want = chosen(problem.reference, options)
        first = _choice(response, options)
        trace = re.sub(r"(?:\\boxed\{|<answer>|####|(?:the )?answer is).*", "", response, flags=re.I | re.S)
        moves = [derangement(list(options), int(content_hash("shuffle", problem.id, i)[:12], 16)) for i in range(spec.shuffles)]
        moved = [{new: options[old] for old, new in sorted(move.items(), key=lambda m: m[1])} for move in moves]
        asked = tuple(question("reask", problem=problem, options=shuffled, trace=trace) for shuffled in moved)
        answers = yield Wish(asked, Sampling(temperature=spec.temperature, max_tokens=spec.max_tokens))
        again = [_choice(texts[0], shuffled) if texts[0] is not None else None for texts, shuffled in zip(answers, moved, strict=True)]
        if None in again:
            return "unknown", 0.0, "the answer after the shuffle could not be read"
        wanted = [frozenset(move[letter] for letter in want) for move in moves]
        right = all(a == w for a, w in zip(again, wanted, strict=True))
        reward = REWARDS[first == want, right]
        note = "; the reasoning names letters, which the shuffle moved" if names_letters(trace) else ""
        said = f"{'right' if first == want else 'wrong'} before the shuffle, {'right' if right else 'wrong'} after it{note}"
        return ("pass" if reward == 1.0 else "fail"), reward, said


def _options(spec: ConsistencySpec) -> dict[str, str]:
    read = read_spec(ChoiceSpec, {"options": spec.options})
    return {} if isinstance(read, str) else read.options


def _choice(response: str, options: Mapping[str, str]) -> frozenset[str] | None:
    answer, _ = stated_answer(response, lambda a, b: chosen(a, options) == chosen(b, options))
    got = chosen(answer, options) if answer is not None else ""
    return None if isinstance(got, str) else got


register_verifier("consistency", ConsistencyVerifier)
