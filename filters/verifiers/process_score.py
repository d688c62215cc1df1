"""Arithmetic of process rewards: first-error votes, queues for annotation, and the shapes in which papers feed step scores back. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from data.keyed import keyed_order

Float = NDArray[np.float64]


def opv_reward(said: int, true: int, decay: float = 0.5) -> float:
    """OPV (arXiv 2512.10756): -1 where "is there an error?" is answered wrongly, else decay^|said - true|; indices from 0, -1 = no error."""
    if (said == -1) != (true == -1):
        return -1.0
    return float(decay ** abs(said - true))


def consistency(votes: Sequence[int | None]) -> float:
    """Share of all votes for the most frequent first-error index; unreadable ones count in the denominator."""
    counts = Counter(v for v in votes if v is not None)
    return max(counts.values()) / len(votes) if counts else 0.0


def first_error(votes: Sequence[int | None]) -> int | None:
    """The most frequent first-error index; None on a tie."""
    ranked = Counter(v for v in votes if v is not None).most_common(2)
    if not ranked or (len(ranked) > 1 and ranked[0][1] == ranked[1][1]):
        return None
    return ranked[0][0]


def query_set(consistencies: Mapping[str, float], threshold: float, keep_share: float = 0.05, seed: int = 0) -> list[str]:
    """Ids to ask people about, OPV: all below the threshold (least consistent first), and a small keyed share of the others as a control."""
    unsure = sorted((c, i) for i, c in consistencies.items() if c < threshold)
    sure = keyed_order(seed, [i for i, c in consistencies.items() if c >= threshold], "query")
    return [i for _, i in unsure] + sure[: math.ceil(keep_share * len(sure))]


def flagged(votes: Sequence[int | None], errors: int = 6) -> bool:
    """OPV's cleaning rule: at least `errors` of (there: 8) verifications report an error."""
    return sum(v is not None and v != -1 for v in votes) >= errors


def flawed_positive(correct: bool, error_index: int | None, weight: float = 1.0) -> float:
    """FAPO (READ, yyDing1/FAPO): -1 wrong, +1 right and sound, 1 - weight right with a flaw (first error != -1); the released weight is 1."""
    if not correct:
        return -1.0
    return 1.0 - weight if error_index is not None and error_index != -1 else 1.0


def flaw_detector_reward(said: int | None, true: int, steps: int) -> float:
    """FAPO's reward of the flaw detector: 1 - |said - true| / steps where both see a flaw, 1 where both see none, else -1 (format too)."""
    if said is None or (said == -1) != (true == -1):
        return -1.0
    return 1.0 if true == -1 else 1.0 - abs(said - true) / steps


def prof_counts(right: int, wrong: int, keep: int) -> tuple[int, int]:
    """PROF: how many (right, wrong) rollouts to remove of a group so that `keep` stay and the two sides are as balanced as can be."""
    drop = right + wrong - keep
    if drop < 0 or keep < 0:
        raise ValueError(f"cannot keep {keep} of {right + wrong}")
    from_right = math.floor((right - wrong) / 2 + drop / 2 + 0.5)
    from_right = min(right, drop, max(from_right, drop - wrong, 0))
    return from_right, drop - from_right


def prof_filter(correct: Sequence[bool], step_scores: Sequence[Sequence[float]], keep: int) -> list[int]:
    """PROF (arXiv 2509.03403): positions kept. Among right rollouts those with the lowest mean step score go, among wrong ones the highest."""
    means = [float(np.mean(s)) if len(s) else 0.0 for s in step_scores]
    right = sorted((i for i, c in enumerate(correct) if c), key=lambda i: (means[i], i))
    wrong = sorted((i for i, c in enumerate(correct) if not c), key=lambda i: (-means[i], i))
    from_right, from_wrong = prof_counts(len(right), len(wrong), keep)
    return sorted([*right[from_right:], *wrong[from_wrong:]])


def renorm(step_rewards: Sequence[float], outcome: float, mu: float = 1.0) -> list[float]:
    """PPR's ReNorm: r_t + outcome - mu, so that with mu = 1 a wrong outcome makes every step <= 0 and a right one >= 0.

    A constant shift has no effect under group-mean-centred advantages of one-step rows; it matters for un-centred returns.
    """
    return [r + outcome - mu for r in step_rewards]


def r3(logp: Float, masked: Float) -> Float:
    """DRO's R3: sum over reference tokens of w_j (log pi(y_j | trace) - log pi(y_j | masked trace)); float64[N].

    logp float64[N, T]: log-probs of the reference's T tokens after each of N traces; masked float64[T]. w_j is the standard deviation over
    the traces, normalised to sum 1 (the form of w is not given in the paper: INFERRED); 0 where no token varies.
    """
    logp, masked = np.asarray(logp, np.float64), np.asarray(masked, np.float64)
    spread = logp.std(axis=0)
    if not spread.sum() > 0:
        return np.zeros(len(logp))
    return (logp - masked) @ (spread / spread.sum())


def r3_propagated(p: Float, decay: float) -> Float:
    """DRO's propagation P_k(j) = p_k + (1 - p_k)(1 - e^(-decay d)) for distances d = 0, 1, …; p float64[N], result float64[N, N] with d = |j - k|."""
    p = np.asarray(p, np.float64)
    distance = np.abs(np.arange(len(p))[:, None] - np.arange(len(p))[None, :])
    return p[:, None] + (1 - p[:, None]) * (1 - np.exp(-decay * distance))


def length_reward(length: int, target: int, beta: float = 1.0) -> float:
    """DRO: 1 - beta ||y| - |y^|| / |y|."""
    return 1.0 - beta * abs(target - length) / target


def answerable(ranks: NDArray[np.int64], worst_share: float, top_k: float) -> bool:
    """DRO's first filter: some trace predicts even the hardest tokens. ranks int64[N, T] (0 = most likely); a trace passes where the mean rank
    of its worst `worst_share` tokens (at least one) is below top_k. `worst_share` and `top_k` are not given in the paper."""
    n = max(1, math.ceil(worst_share * ranks.shape[1]))
    worst = np.sort(ranks, axis=1)[:, -n:].mean(axis=1)
    return bool((worst < top_k).any())


def most_varied(spreads: Sequence[Float], drop_share: float) -> list[int]:
    """DRO's second filter: positions kept when problems are ranked by their largest token spread and the lowest `drop_share` go."""
    largest = [float(np.max(s)) if len(s) else 0.0 for s in spreads]
    order = sorted(range(len(spreads)), key=lambda i: (-largest[i], i))
    return sorted(order[: len(order) - int(drop_share * len(order))])
