"""The `answer` verifier: short answers of search and reading tasks, by exact match and rules; it says exactly where a judge is needed.

Rules, in order; the first that decides gives the verdict and is named in the reason:
  em      the official exact match with the reference or an alias                                    pass
  closed  yes, no and noanswer are nothing else                                                      fail
  number  both are numbers ("five", "5 million", "1,024"): equal or not                              pass, fail, or judge (units)
  date    both are dates: the same day or not; one says less than the other                          pass, fail, or judge
  alias   one thing written in two ways: diacritics, "&", titles, "(disambiguation)", initials' dots  pass
  f1      token F1 at or above `judge_from`, or the reference stands in a short answer               judge: `unknown` without a model
  else                                                                                               fail
Measured on labelled answers (reference/verifiers.md section 4): EM .94-1.0 precision; F1 >= .5 as a pass is wrong in 1 to 12 of 100, so
F1 alone never passes here; the band is handed to a judge (`Tools.generate`) or stays unknown.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Annotated

from pydantic import Field

from data.records import Problem
from data.text import storable
from filters.verifiers.answer_text import alias, canonical, contains, exact_match, f1, normalize
from filters.verifiers.asking import Asking, ModelVerifier
from filters.verifiers.base import register_verifier
from filters.verifiers.dates import read_date, same_date
from filters.verifiers.judge import JudgeSpec, pointwise
from filters.verifiers.numbers import Number, parse_number
from filters.verifiers.spec import Judgement, Spec
from filters.verifiers.stated import stated_answer
from filters.verifiers.units import same_unit

MAX_ANSWER = 300  # characters of a short answer
_NUMBERS = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen",
    "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
]  # fmt: skip


class AnswerSpec(Spec):
    aliases: tuple[str, ...] = ()
    """Other texts that are right."""
    judge_from: Annotated[float, Field(gt=0, le=1)] = 0.6
    """Token F1 from which a judge is asked."""
    max_words: Annotated[int, Field(ge=1)] = 10
    """Words an answer may have beyond the reference's for "the reference stands in it" to count: a longer one lists candidates."""


class AnswerVerifier(ModelVerifier[AnswerSpec]):
    """Short answers; with a model at hand (`bind`) the band between pass and fail is asked, else it is unknown."""

    name = "answer"
    Spec = AnswerSpec
    asks_model = False
    needs_reference = True

    def refuse(self, problem: Problem, spec: AnswerSpec) -> str:
        if not normalize(problem.reference):
            return "the problem has no reference answer" if not problem.reference.strip() else "nothing is left of the reference after normalisation"
        return ""

    def alone(self, problem: Problem, spec: AnswerSpec, response: str) -> Judgement | None:
        answer, why = stated_answer(response, _agree)
        if answer is None:
            return "fail", 0.0, why
        if len(answer) > MAX_ANSWER:
            return "fail", 0.0, f"the answer is longer than {MAX_ANSWER} characters"
        verdicts = [compare(reference, answer, spec) for reference in dict.fromkeys((problem.reference, *spec.aliases))]
        best = min(verdicts, key=lambda v: ("pass", "unknown", "fail").index(v[0]))
        return None if best[0] == "unknown" and self.tools.generate is not None else best

    def asking(self, problem: Problem, spec: AnswerSpec, response: str) -> Asking:
        answer, _ = stated_answer(response, _agree)
        return pointwise(problem, JudgeSpec(), answer or "", (problem.reference, *spec.aliases))

    def answer_key(self, problem: Problem, response: str) -> str:
        """The final answer in one canonical form, "" where there is none: equal keys are one vote."""
        answer, _ = stated_answer(storable(response), _agree)
        return canonical(answer) if answer is not None else ""

    def oracle(self, problem: Problem) -> str:
        return f"<answer>{problem.reference}</answer>"


def _agree(one: str, other: str) -> bool:
    return alias(one, other)


def compare(reference: str, answer: str, spec: AnswerSpec | None = None) -> Judgement:
    """One reference against one short answer, by the rules of this module; `unknown` is where a judge is asked."""
    spec = spec or AnswerSpec()
    if exact_match(answer, reference):
        return ("pass", 1.0, "em") if normalize(answer) else ("fail", 0.0, "the answer is empty")
    got, want = normalize(answer), normalize(reference)
    if not got:
        return "fail", 0.0, "the answer is empty"
    if want in ("yes", "no", "noanswer") or got in ("yes", "no", "noanswer"):
        return "fail", 0.0, f"closed: {got[:20]!r} is not {want[:20]!r}"
    one, other = read_date(reference), read_date(answer)
    if one is not None and other is not None:
        same = same_date(one, other)
        if same is None:
            return "unknown", 0.0, "judge: one date says less than the other"
        return ("pass", 1.0, "date") if same else ("fail", 0.0, "date: another date")
    left, right = _number(reference), _number(answer)
    if isinstance(left, Number) and isinstance(right, Number):
        return _compare_numbers(left, right)
    if alias(answer, reference):
        return "pass", 1.0, "alias"
    score = f1(answer, reference)
    extra = len(got.split()) - len(want.split())
    if contains(answer, reference) and extra <= spec.max_words:
        return "unknown", 0.0, f"judge: the reference stands in the answer beside {extra} other words"
    if contains(reference, answer) and score >= 0.4 and len(got) > 2:
        return "unknown", 0.0, "judge: the answer is a part of the reference"
    if score >= spec.judge_from:
        return "unknown", 0.0, f"judge: F1 {score:.2f}"
    return "fail", 0.0, f"F1 {score:.2f}"


def _compare_numbers(want: Number, got: Number) -> Judgement:
    if want.value != got.value:
        return "fail", 0.0, "number: another number"
    if want.unit == got.unit or not want.unit or not got.unit or same_unit(want.unit, got.unit):
        return "pass", 1.0, "number"
    return "unknown", 0.0, f"judge: equal numbers of {want.unit!r} and {got.unit!r}"


@lru_cache(maxsize=65_536)
def _number(text: str) -> Number | None:
    """A number in digits or in words up to twenty ("five films" is 5 with a unit), else None."""
    words = text.strip().split(" ")
    if words[0].lower() in _NUMBERS and len(words) <= 3:
        text = " ".join([str(_NUMBERS.index(words[0].lower())), *words[1:]])
    read = parse_number(text)
    return replace(read, unit=read.unit.strip().lower()) if isinstance(read, Number) else None


register_verifier("answer", AnswerVerifier)
