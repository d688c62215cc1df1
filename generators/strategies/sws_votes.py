"""What SwS believes: two judges on a problem's quality, eight answers on its solution, eight of the student's on its difficulty.

Source: SwS (arXiv 2506.08989, section 2.4) and its released filter: keep iff the first judge says perfect and the second perfect or
acceptable; the answer is the mode of the votes where at least half of all votes agree; the student's accuracy lies in [25 %, 75 %].
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import ceil
from typing import Literal

from filters.difficulty import PRESETS, Band
from filters.verifiers.extraction import find_answer
from filters.verifiers.math import compare_answers
from filters.written import Form

Judgement = Literal["perfect", "acceptable", "bad"]
JUDGEMENTS: tuple[Judgement, ...] = ("perfect", "acceptable", "bad")
NOTHING = frozenset({"", "none", "null", "nan", "n/a", "unknown"})
"""What an extractor says where it found no answer; in the released code "None" could win the vote."""


def keeps(first: Judgement | None, second: Judgement | None) -> bool:
    """Two of the nine pairs of judgements keep a problem; an unreadable one keeps nothing."""
    return first == "perfect" and second in ("perfect", "acceptable")


def stated_answer(response: str) -> str:
    """The one answer that a response marks as its own, "" where it marks none, or two."""
    answer, why = find_answer(response, "strict", same_answer, plausible=lambda text: True)
    return answer if answer is not None and not why else ""


def planned_answer(plan: str, form: Form) -> str:
    """What the plan of a problem comes to, "" where it does not say: the answer that it marks, or the end of a chain of equations (`line`)."""
    if form == "line":
        return plan.rpartition("=")[2].strip()
    return stated_answer(plan)


def same_answer(one: str, other: str) -> bool:
    return one == other or compare_answers(one, other)[0] == "pass"


def consistent_answer(answers: Sequence[str], agreement: int) -> tuple[str | None, int]:
    """(the answer that most votes give, its votes); None where fewer than `agreement` agree, or where two answers have as many.

    `answers`: one per vote, as extracted; one that says nothing is a vote for nothing. Different spellings of one value are one answer,
    whose text is its first.
    """
    classes: list[list[str]] = []
    for answer in answers:
        if answer.strip().lower() in NOTHING:
            continue
        home = next((c for c in classes if same_answer(c[0], answer)), None)
        if home is None:
            classes.append([answer])
        else:
            home.append(answer)
    votes = sorted((len(c) for c in classes), reverse=True)
    if not votes or votes[0] < agreement or (len(votes) > 1 and votes[1] == votes[0]):
        return None, votes[0] if votes else 0
    return next(c[0] for c in classes if len(c) == votes[0]), votes[0]


def votes_needed(votes: int, share: float = 0.5) -> int:
    """At least this share of all votes: of half 4 of 8, 4 of 7."""
    return ceil(Fraction(str(share)) * votes)


def right_difficulty(passes: int, n: int, band: Band = PRESETS["sws"]) -> bool:
    """2 to 6 of 8."""
    return band.contains(passes, n)
