"""The `choice` verifier: multiple choice by letter or by the option's own text, one or several; shotgun answers are refused.

spec: {"options": ["red", "blue"] | {"A": "red", "B": "blue"}, "several"?: true}; the reference is a letter ("B", "A, C")
or an option's text. A letter beside another option's text ("(A) blue") is a contradiction and never passes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

from pydantic import field_validator

from data.records import Problem
from data.text import storable
from filters.verifiers.base import register_verifier
from filters.verifiers.spec import Judgement, Spec, TypedVerifier, passed
from filters.verifiers.stated import stated_answer

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DRESS = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox|boxed)\s*\{([^{}]{0,400})\}")
_LEADING = re.compile(r"(?:the\s+)?(?:correct\s+)?(?:option|choice|answer|letter)?s?\s*(?:is|are)?\s*:?\s*", re.I)
_JOIN = re.compile(r"\s*(?:,|;|/|&|\band\b|\+)\s*(?:and\b\s*)?", re.I)
_REASON = re.compile(r"\s*(?:[,;.:]?\s*(?:because|since|as|for|which|that|this|given)\b|\n).*", re.I | re.S)


class ChoiceSpec(Spec):
    options: dict[str, str]
    """Texts by letter; a list is lettered A, B, C …"""
    several: bool = False
    """Several options may be right; the answer must name exactly those."""

    @field_validator("options", mode="before")
    @classmethod
    def _lettered(cls, value: object) -> object:
        if isinstance(value, (list, tuple)) and len(value) <= len(LETTERS):
            return {LETTERS[i]: text for i, text in enumerate(value)}
        if isinstance(value, Mapping):
            return {str(k).strip().strip("().").upper(): text for k, text in value.items()}
        return value

    @field_validator("options")
    @classmethod
    def _distinct(cls, value: dict[str, str]) -> dict[str, str]:
        if len(value) < 2:
            raise ValueError("give at least two options")
        if any(not re.fullmatch(r"[A-Z]|[0-9]{1,2}", letter) for letter in value):
            raise ValueError("letters must be A to Z (or numbers)")
        texts = [folded(text) for text in value.values()]
        if len(set(texts)) < len(texts):
            raise ValueError("two options say the same")
        return value


def folded(text: str) -> str:
    """Case, width, punctuation at the ends and blanks do not tell options apart."""
    text = _DRESS.sub(r"\1", unicodedata.normalize("NFKC", text)).strip().strip("$*_`\"'").rstrip(".,;: ").strip()
    return re.sub(r"\s+", " ", text).casefold()


def chosen(text: str, options: Mapping[str, str]) -> frozenset[str] | str:
    """The letters that `text` names, or why it names none. Bounded: at most 2,000 characters are read."""
    said = folded(text[:2_000])
    by_text = {folded(option): letter for letter, option in options.items()}
    if said in by_text:
        return frozenset((by_text[said],))
    if said.upper() in options:
        return frozenset((said.upper(),))
    body = _LEADING.sub("", said, count=1)
    if body in by_text:
        return frozenset((by_text[body],))
    whole = _one(body, options, by_text)  # "b) red, white and blue" is one option with a comma in it
    if whole:
        return frozenset((whole,))
    found: set[str] = set()
    for part in _JOIN.split(_REASON.sub("", body) if len(body) > 1 else body):
        one = _one(part.strip(), options, by_text)
        if one is None:
            return "the answer names no option"
        if one == "":
            return "the letter and the text beside it are two options"
        found.add(one)
    return frozenset(found) if found else "the answer names no option"


def _one(part: str, options: Mapping[str, str], by_text: Mapping[str, str]) -> str | None:
    """The letter of "(b)", "b", "b) blue", "blue"; "" where letter and text contradict each other, None where it is neither."""
    if part in by_text:
        return by_text[part]
    match = re.fullmatch(r"(?:option\s+|choice\s+)?[\(\[]?\s*([a-z]|[0-9]{1,2})\s*[\)\].:]?(?:\s*[-:–]?\s+(.+)|\s*[\)\].:-]+\s*(.+))?", part)
    if match is None or match[1].upper() not in options:
        return None
    letter, text = match[1].upper(), (match[2] or match[3] or "").strip()
    if not text or folded(text) == folded(options[letter]):
        return letter
    return "" if folded(text) in by_text or re.match(r"[\(\[]?[a-z][\)\].:]", text) else None


class ChoiceVerifier(TypedVerifier[ChoiceSpec]):
    """Options by letter or text."""

    name = "choice"
    Spec = ChoiceSpec

    def refuse(self, problem: Problem, spec: ChoiceSpec) -> str:
        want = chosen(problem.reference, spec.options)
        if isinstance(want, str):
            return f"the reference {problem.reference[:40]!r} names none of the options {', '.join(spec.options)}"
        if len(want) > 1 and not spec.several:
            return "the reference names several options; say spec.several = true"
        return ""

    def judge(self, problem: Problem, spec: ChoiceSpec, response: str) -> Judgement:
        answer, why = _stated(response, spec.options)
        if answer is None:
            return "fail", 0.0, why
        got = chosen(answer, spec.options)
        if isinstance(got, str):
            return "fail", 0.0, got
        if len(got) > 1 and not spec.several:
            return "fail", 0.0, f"several options where one is asked for: {', '.join(sorted(got))}"
        want = chosen(problem.reference, spec.options)
        return passed(got == want, "the right option" if got == want else f"chose {', '.join(sorted(got))}")

    def answer_key(self, problem: Problem, response: str) -> str:
        """The letters chosen, "" where there is no answer: equal keys are one vote."""
        spec = self.settings(problem)
        if isinstance(spec, str):
            return ""
        answer, _ = _stated(storable(response), spec.options)
        got = chosen(answer, spec.options) if answer is not None else ""
        return "" if isinstance(got, str) else ",".join(sorted(got))

    def oracle(self, problem: Problem) -> str:
        return f"The answer is ({problem.reference})." if len(problem.reference.strip()) == 1 else f"<answer>{problem.reference}</answer>"


def _stated(response: str, options: Mapping[str, str]) -> tuple[str | None, str]:
    return stated_answer(response, lambda one, other: chosen(one, options) == chosen(other, options))


register_verifier("choice", ChoiceVerifier)
