"""Arithmetic of rubrics: RuscaRL's points and scaffolds, Rubric Anchors' veto, saturation and interaction. Pure; no model.

RuscaRL formulas READ from IANNXANG/RuscaRL; those of Rubric Anchors are ours (INFERRED): the paper gives prose only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data.keyed import keyed_rng


def rubric_score(points: Sequence[float], met: Sequence[bool]) -> float:
    """Points of met criteria over the sum of *positive* points; 0 where there are none. Not clipped: it may be negative."""
    total = sum(p for p in points if p > 0)
    return sum(p for p, m in zip(points, met, strict=True) if m) / total if total > 0 else 0.0


def score_bounds(points: Sequence[float], met: Sequence[bool | None]) -> tuple[float, float]:
    """The least and the greatest score that criteria not judged (None) leave open. RuscaRL's code counts a failed judgement as "not met",
    which *rewards* what cannot be judged on negative criteria; here it stays open."""
    low = rubric_score(points, [m if m is not None else p < 0 for p, m in zip(points, met, strict=True)])
    return low, rubric_score(points, [m if m is not None else p > 0 for p, m in zip(points, met, strict=True)])


def group_ratio(i: int, group: int, *, shape: Literal["linear", "binary"] = "linear", full: int = 1) -> float:
    """Share of the rubric that sample i of a group sees: (G-1-i)/(G-1), or all for the first `full` and none for the others; 1 for G = 1."""
    if group == 1:
        return 1.0
    return float(i < full) if shape == "binary" else (group - 1 - i) / (group - 1)


def step_ratio(
    x: float, *, shape: Literal["linear", "power", "sigmoid"] = "sigmoid", start: float = 0.2, steepness: float = 125.0, power: float = 2.0
) -> float:
    """Share at training progress x in [0, 1], x = (step-1)/(T-1). The sigmoid of the recipe (.2, 125) is nearly a switch."""
    if shape == "linear":
        return 1.0 - x
    if shape == "power":
        return (1.0 - x) ** power
    return 1.0 / (1.0 + math.exp(min(700.0, (x - start) * steepness)))


def scaffold(points: Sequence[float], ratio: float, seed: int) -> list[int]:
    """Positions of the round(n * ratio) criteria that a prompt reveals, drawn at random, in rubric order; possibly none."""
    n = len(points)
    shown = int(n * ratio + 0.5)
    return sorted(int(i) for i in keyed_rng(seed, "scaffold").permutation(n)[:shown])


def anchored_score(
    scores: Sequence[float],
    weights: Sequence[float],
    *,
    veto: Mapping[int, float] | None = None,
    floor: float = 0.0,
    caps: Mapping[int, float] | None = None,
    rho: float = 0.25,
    interactions: Mapping[tuple[int, int], float] | None = None,
) -> float:
    """Rubric Anchors over dimension scores s_k in [0, 1] (tier reached / highest tier); in [0, 1].

    saturation: above its cap a dimension counts rho < 1 as much, s' = min(s, cap) + rho max(0, s - cap);
    base: sum w s' / sum w; interaction: + sum over pairs c_jk s'_j s'_k; then clipped to [0, 1];
    veto: a dimension below its bound makes it min(score, floor), whatever the others say.
    """
    if not 0 <= rho <= 1 or sum(weights) <= 0 or min(weights) < 0:
        raise ValueError("weights must be >= 0 with a positive sum, rho in [0, 1]")
    caps, interactions, veto = caps or {}, interactions or {}, veto or {}
    shaped = [min(s, caps.get(k, 1.0)) + rho * max(0.0, s - caps.get(k, 1.0)) for k, s in enumerate(scores)]
    score = sum(w * s for w, s in zip(weights, shaped, strict=True)) / sum(weights)
    score += sum(c * shaped[j] * shaped[k] for (j, k), c in interactions.items())
    score = min(1.0, max(0.0, score))
    return min(score, floor) if any(scores[k] < bound for k, bound in veto.items()) else score


def central_quantile(scores: Sequence[float], low: float = 0.25, high: float = 0.75) -> NDArray[np.int64]:
    """Rubric Anchors' offline filter: positions whose critic score lies in the central quantile (bounds not given in the paper)."""
    values = np.asarray(scores, np.float64)
    if not len(values):
        return np.empty(0, np.int64)
    inside = (values >= np.quantile(values, low)) & (values <= np.quantile(values, high))
    return np.flatnonzero(inside)
