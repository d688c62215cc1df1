"""Votes among the answers to one problem: which final answer most of them give, and what a vote of it is worth.

Majority voting is self-consistency (Wang et al., arXiv 2203.11171, section 2): answers are grouped by their final answer, not by
their text. Two answers vote for one thing when their verifier gives them the same `answer_key`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from data.records import Problem
from filters.verifiers.base import get_verifier


def answer_key(problem: Problem, response: str) -> str | None:
    """The canonical form of a response's final answer: "" where it states none, None where the problem's verifier knows no such form."""
    key = getattr(get_verifier(problem.verifier), "answer_key", None)
    return None if key is None else str(key(problem, response))


def majority_passes(keys: Sequence[str], passed: Sequence[bool]) -> float:
    """Chance in [0, 1] that the most frequent answer passes, ties broken at random; responses without an answer do not vote.

    keys: one per response, "" = no answer; passed: the verdict of each. Responses with one key may have different verdicts (an
    answer that is right but refused for its form): then the key counts for the share of them that passed.
    """
    if len(keys) != len(passed):
        raise ValueError(f"one verdict per answer: {len(keys)} answers, {len(passed)} verdicts")
    votes = Counter(key for key in keys if key)
    if not votes:
        return 0.0
    most = max(votes.values())
    winners = [key for key, count in votes.items() if count == most]
    share = {key: sum(p for k, p in zip(keys, passed, strict=True) if k == key) / votes[key] for key in winners}
    return sum(share.values()) / len(winners)
