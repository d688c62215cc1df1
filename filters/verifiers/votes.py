"""What several judgements say together: pure functions of votes, labels and budgets (J1, OPV, Co-Reward)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

T = TypeVar("T", bound=Hashable)


def majority(votes: Sequence[T | None], share: float = 0.5) -> T | None:
    """The value with more than `share` of *all* votes, those that could not be read (None) included; None where no value has it."""
    counts = Counter(v for v in votes if v is not None)
    if not counts:
        return None
    (value, count), *rest = counts.most_common(2)
    tie = bool(rest) and rest[0][1] == count
    return value if not tie and count > share * len(votes) else None


def plurality(answers: Sequence[str], same: Callable[[str, str], bool] | None = None) -> str | None:
    """Co-Reward's vote: the most frequent answer that is not empty; None on a tie, whose order would depend on the samples' order.

    same: whether two texts are one answer (equal text by default; the paper's vote knows no 1/2 = 0.5).
    """
    classes: list[list[str]] = []
    for answer in answers:
        if not answer:
            continue
        home = next((c for c in classes if c[0] == answer or (same is not None and same(c[0], answer))), None)
        if home is None:
            classes.append([answer])
        else:
            home.append(answer)
    classes.sort(key=len, reverse=True)
    if not classes or (len(classes) > 1 and len(classes[0]) == len(classes[1])):
        return None
    return classes[0][0]


def cross_vote(one: Sequence[str], other: Sequence[str], same: Callable[[str, str], bool] | None = None) -> tuple[list[float], list[float]]:
    """Co-Reward (arXiv 2508.00410): each side's samples are rewarded by the *other* side's vote; a tie or an empty answer earns 0."""

    def rewards(answers: Sequence[str], vote: str | None) -> list[float]:
        return [float(vote is not None and bool(a) and (a == vote or (same is not None and same(a, vote)))) for a in answers]

    return rewards(one, plurality(other, same)), rewards(other, plurality(one, same))


def verdict_reward(verdict: str | None, label: str) -> float:
    """J1's reward of a judge's sample (READ from the abstract, form INFERRED): 1 for the label's verdict in the right format, else 0."""
    return float(verdict is not None and verdict == label)


def matching_traces(verdicts: Sequence[str | None], label: str) -> list[int]:
    """J1's rejection sampling: positions of the traces whose verdict is the label's."""
    return [i for i, verdict in enumerate(verdicts) if verdict == label]


def swap_consistency(first: Sequence[str | None], swapped: Sequence[str | None]) -> float:
    """Share of pairs whose preference (A or B, as shown) turns round when the two are shown in the other order; unread ones count against."""
    if len(first) != len(swapped):
        raise ValueError(f"{len(first)} preferences against {len(swapped)} swapped ones")
    turned = sum(a is not None and b is not None and {a, b} == {"A", "B"} for a, b in zip(first, swapped))
    return turned / len(first) if first else math.nan


def accuracy_by_budget(votes: Sequence[Sequence[str | None]], labels: Sequence[str], budgets: Sequence[int]) -> list[tuple[int, float, float, float]]:
    """(budget, accuracy, low, high) of majority voting with the first `budget` samples of each item; 95 % Wilson interval.

    votes [items, samples]; an item without a majority is wrong. What J1's simple test-time scaling is measured by.
    """
    found = []
    for budget in budgets:
        right = sum(majority(list(v)[:budget]) == label for v, label in zip(votes, labels, strict=True))
        low, high = wilson(right, len(labels))
        found.append((budget, right / len(labels), low, high))
    return found


def wilson(successes: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    if n == 0:
        return 0.0, 1.0
    p = successes / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, (middle - half) / (1 + z * z / n)), min(1.0, (middle + half) / (1 + z * z / n))
