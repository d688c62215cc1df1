"""The `math` verifier: finds the one final answer of a response and compares it with the reference by exact value.

Precision first: what it cannot read it calls `fail` (certainly not the reference) or `unknown` (may be: an expression, a unit it
cannot convert, a symbolic reference written otherwise), never `pass`. Nothing the model wrote is evaluated.
Settings of a problem (`spec`): {"extract": "strict" | "last_number"}, see `filters.verifiers.extraction`.
"""

from __future__ import annotations

import re
import time
import unicodedata
from functools import lru_cache

from data.records import Outcome, Problem, Verdict
from data.text import storable
from filters.verifiers.base import register_verifier
from filters.verifiers.extraction import POLICIES, find_answer
from filters.verifiers.numbers import MAX_LENGTH, Number, Refusal, parse_number
from filters.verifiers.units import known_unit, same_unit

_parse = lru_cache(maxsize=65_536)(parse_number)
_WORDS = re.compile(r"[^\W\d_]+(?: [^\W\d_]+){0,2}\Z")
_NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_MATH_WORDS = frozenset(("pi", "π", "e", "i", "infinity", "inf", *_NUMBER_WORDS))
_SYNONYMS = ({"yes", "true"}, {"no", "false"})


def compare_numbers(reference: Number, answer: Number) -> tuple[Outcome, str]:
    """Exact on values; units count when the reference has one.

    Percent: "50 %" against a bare 50 passes (the question asked for percent), against a bare 1/2 too, but "0.5 %" against a bare
    0.5 does not: below 1 a bare reference is a ratio. A bare 0.5 against "50 %" is `unknown`: it may mean either.
    """
    want, got = reference.value, answer.value
    if reference.unit and answer.unit:
        if same_unit(reference.unit, answer.unit):
            return ("pass", "equal") if want == got else ("fail", "another number")
        if want == got and known_unit(reference.unit) and known_unit(answer.unit):
            return "fail", f"the unit is {answer.unit!r}, not {reference.unit!r}"
        return "unknown", f"units {answer.unit!r} and {reference.unit!r} cannot be compared"
    if same_unit(answer.unit, "%") and abs(want) < 1 and want != 0:
        got = got / 100
    if want == got:
        return "pass", "equal"
    if same_unit(reference.unit, "%") and want == got * 100:
        return "unknown", "a bare ratio where the reference is in percent"
    return "fail", "another number"


def normal_text(text: str) -> str:
    """Text answers compare equal under NFKC, LaTeX dress off and blanks gone; case counts only in symbolic answers."""
    text = unicodedata.normalize("NFKC", text).strip().strip("*_` ").rstrip(".,;: ")
    words = re.sub(r"\\(?:text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}", r"\1", text).strip("$ ")
    if _WORDS.match(words):
        return words.casefold() if len(words) > 1 else words
    for dress in ("\\left", "\\right", "\\,", "\\!", "\\;", "\\ "):
        words = words.replace(dress, "")
    return re.sub(r"\s+", "", words.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac"))


def _one_word(text: str) -> bool:
    return _WORDS.match(text) is not None and " " not in text and text not in _MATH_WORDS


def compare_texts(reference: str, answer: str) -> tuple[Outcome, str]:
    """Equal text passes; two different plain words (or a word and a number) fail; anything else cannot be told.

    Words of mathematics ("pi", "e"), two ways to say yes, and a word that begins the other one are left untold.
    """
    want, got = normal_text(reference), normal_text(answer[: 10 * MAX_LENGTH])
    if want and want == got:
        return "pass", "equal text"
    if _one_word(want):
        if isinstance(_parse(answer[: MAX_LENGTH + 1]), Number):
            return "fail", "a number where the reference is a word"
        alike = want.casefold().startswith(got.casefold()) or got.casefold().startswith(want.casefold()) or {want, got} in _SYNONYMS
        if _one_word(got) and not alike:
            return "fail", "another word"
    return "unknown", "the reference is not a number, and the answer is written otherwise"


def _agree(one: str, other: str) -> bool:
    left, right = _parse(one[: MAX_LENGTH + 1]), _parse(other[: MAX_LENGTH + 1])
    if isinstance(left, Number) and isinstance(right, Number):
        return left.value == right.value and (not left.unit or not right.unit or same_unit(left.unit, right.unit))
    return normal_text(one) == normal_text(other)


def judge(reference: str, response: str, extract: str = "strict") -> tuple[Outcome, str]:
    """(outcome, reason) of one response; pure and total. A response and what the ledger stored of it are judged alike."""
    response = storable(response)
    want = _parse(reference)
    numeric = isinstance(want, Number)
    answer, why = find_answer(response, extract, _agree, numeric=numeric)
    if answer is None:
        return "fail", why
    got = _parse(answer[: MAX_LENGTH + 1])
    if why == "bare" and not isinstance(got, Number) and normal_text(answer) != normal_text(reference):
        # one unmarked line is an answer only if nothing else is in it
        if extract != "last_number":
            return "fail", "no final answer"
        answer, why = find_answer(response + "\n.", extract, _agree, numeric=numeric)
        if answer is None:
            return "fail", why
        got = _parse(answer[: MAX_LENGTH + 1])
    if isinstance(want, Number):
        if isinstance(got, Number):
            return compare_numbers(want, got)
        return ("unknown", got.reason) if got.expression else ("fail", got.reason)
    return compare_texts(reference, answer)


class MathVerifier:
    """Final answers against a reference, by exact value."""

    name = "math"

    def verify(self, problem: Problem, response: str) -> Verdict:
        start = time.perf_counter()
        outcome: Outcome
        unjudgeable = self.check_problem(problem)
        outcome, reason = ("unknown", unjudgeable) if unjudgeable else judge(problem.reference, response, str(problem.spec.get("extract", "strict")))
        ms = (time.perf_counter() - start) * 1e3
        return Verdict(outcome, 1.0 if outcome == "pass" else 0.0, reason, self.name, problem_id=problem.id, ms=ms)

    def check_problem(self, problem: Problem) -> str:
        if not problem.reference.strip():
            return "the problem has no reference answer"
        if len(problem.reference) > MAX_LENGTH:
            return f"the reference answer is longer than {MAX_LENGTH} characters"
        extract = problem.spec.get("extract", "strict")
        if extract not in POLICIES:
            return f"spec extract={extract!r} is none of {', '.join(POLICIES)}"
        return ""

    def answer_key(self, problem: Problem, response: str) -> str:
        """The final answer in one canonical form, "" where there is none: equal keys are one vote."""
        answer, _ = find_answer(storable(response), str(problem.spec.get("extract", "strict")), _agree, numeric=False)
        if answer is None:
            return ""
        read = _parse(answer[: MAX_LENGTH + 1])
        return f"{read.value} {read.unit}".strip() if isinstance(read, Number) else normal_text(answer)


def reference_kind(reference: str) -> str:
    """number | percent | quantity (a number with a unit) | text | symbolic: how the verifier reads a reference."""
    read = _parse(reference)
    if isinstance(read, Number):
        return "number" if not read.unit else "percent" if same_unit(read.unit, "%") else "quantity"
    return "text" if _WORDS.match(normal_text(reference)) and isinstance(read, Refusal) and not read.expression else "symbolic"


register_verifier("math", MathVerifier)
