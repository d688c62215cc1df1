"""Which verifier judges a problem that came without one, and why that one: the reason travels in `meta["verifier_reason"]`.

Only verifiers that are registered here and that can work with the problem (`check_problem`) are chosen; else `math`, which compares
numbers by value and texts word by word, with the reason said.
"""

from __future__ import annotations

import difflib
import re
from functools import lru_cache

from data.errors import UserError
from data.problems.choices import LETTERS
from data.records import Problem, with_problem
from filters.verifiers.base import get_verifier, verifier_names
from filters.verifiers.math import reference_kind

SHORT_TEXT = 120  # characters
_LETTER = re.compile(r"\(?([A-Ja-j])\)?[.:]?\Z")
_MARK = re.compile(r"(?:^|(?<=\s))\(?([A-J])[).:]\s+(?=\S)")

REASONS = {
    "number": "the answer is a number",
    "percent": "the answer is a percentage",
    "quantity": "the answer is a number with a unit",
    "symbolic": "the answer is a mathematical expression",
}


def choose_verifier(problem: Problem, named: bool, where: str) -> Problem:
    """`problem` with the verifier that its row names (UserError with `where` if there is none of that name), else the one that fits."""
    if named:
        if problem.verifier not in _known():
            near = difflib.get_close_matches(problem.verifier, _known(), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(_known())}"
            raise UserError(f"{where}: field 'verifier': no verifier named {problem.verifier!r}; {hint}")
        return _with(problem, problem.verifier, "named in the row")
    wanted, reason = fitting(problem)
    if wanted == "math":
        return _with(problem, "math", reason)
    if wanted not in _known():
        instead = ", so texts are compared word by word" if problem.reference else ""
        return _with(problem, "math", f"{reason}; there is no verifier {wanted!r} here{instead}")
    found = _with(problem, wanted, reason)
    if wanted == "choice":
        options = dict(zip(LETTERS, problem.meta["choices"])) if "choices" in problem.meta else listed_options(problem.prompt)
        found = with_problem(found, spec={"options": options, **problem.spec})
    if why := get_verifier(wanted).check_problem(found):
        return _with(problem, "math", f"{reason}, but {wanted!r} cannot judge it: {why}")
    return found


def fitting(problem: Problem) -> tuple[str, str]:
    """(verifier, reason) for a problem whose row names none: by its tests, its choices, then its answer."""
    if "tests" in problem.spec:
        return "code", "the row has tests"
    if "instruction_id_list" in problem.spec:
        return "instruction", "the row lists instructions"
    reference = problem.reference.strip()
    if _LETTER.match(reference):
        if "choices" in problem.meta:
            return "choice", "the row has choices"
        if _LETTER.match(reference)[1].upper() in listed_options(problem.prompt):  # type: ignore[index]
            return "choice", "the answer is a letter and the problem lists choices"
    kind = reference_kind(reference)
    if kind in ("number", "percent", "quantity") or (kind == "symbolic" and not _is_prose(reference)):
        return "math", REASONS[kind]
    if len(reference) <= SHORT_TEXT:
        return "answer", "the answer is a short text"
    return "math", "the answer is a long text"


def listed_options(prompt: str) -> dict[str, str]:
    """{"A": "one", "B": "two"} of a prompt that ends in "(A) one (B) two", "A) one", "A. one" …; {} where there are not two in order."""
    marks: list[re.Match[str]] = []
    for mark in _MARK.finditer(prompt):
        if mark[1] == "A":
            marks = [mark]  # the last list that begins anew is the one that counts
        elif marks and len(marks) < len(LETTERS) and mark[1] == LETTERS[len(marks)]:
            marks.append(mark)
    if len(marks) < 2:
        return {}
    ends = [*(mark.start() for mark in marks[1:]), len(prompt)]
    return {mark[1]: prompt[mark.end() : end].strip(" \t\n,;") for mark, end in zip(marks, ends, strict=True)}


def _is_prose(text: str) -> bool:
    """Words rather than a formula: "the Treaty of Versailles", "on 4 May 1904"; not "x + 1" nor anything in LaTeX."""
    if re.search(r"[\\^_={}+*/<>|$]", text):
        return False
    words = re.findall(r"[^\W\d_]{2,}", text)
    return bool(words) and sum(map(len, words)) >= 0.5 * len(re.sub(r"\s", "", text))


def _with(problem: Problem, verifier: str, reason: str) -> Problem:
    return with_problem(problem, verifier=verifier, meta={**problem.meta, "verifier_reason": reason})


@lru_cache(maxsize=1)
def _known() -> tuple[str, ...]:
    return tuple(verifier_names())
