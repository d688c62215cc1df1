"""DCPO's advantage: standardized over all visits of a prompt, not over one group (arXiv 2509.02333, section 3.2; no shipped oracle anywhere)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipelines.grpo.advantage import DDOF, Float64, Judged
from pipelines.grpo.component import component


@component("estimator", name="smooth_standardization", paper="DCPO, arXiv 2509.02333, section 3.2", checks=DDOF, flat=True)
class SmoothStandardization:
    """Of the group's own and the prompt's cumulative standardization, blended by visits, the one of smaller magnitude.

    With visit i, cumulative mean M and deviation S: new = (r - m) / s, tot = (r - M) / S;
    SA_new = (i-1)/i new + 1/i tot, SA_tot = 1/i new + (i-1)/i tot. A saturated group therefore keeps a gradient from its second visit on.
    The memory is three numbers per problem, and is checkpointed.
    """

    def __init__(self) -> None:
        self.seen: dict[str, list[float]] = {}  # problem id -> [visits, mean, variance]

    def __call__(self, judged: Judged, *, ddof: int = 1, eps: float = 1e-6) -> Float64:
        out = np.zeros(len(judged.rewards))
        for i, problem in enumerate(judged.problems):
            rows = slice(int(judged.bounds[i]), int(judged.bounds[i + 1]))
            if rows.start < rows.stop:
                out[rows] = self._group(judged.rewards[rows], problem, ddof, eps)
        return out

    def _group(self, rewards: Float64, problem: str, ddof: int, eps: float) -> Float64:
        flat = bool((rewards == rewards[0]).all())
        m1 = float(rewards[0]) if flat else float(rewards.mean())
        v1 = 0.0 if flat or len(rewards) <= ddof else float(((rewards - m1) ** 2).sum() / (len(rewards) - ddof))
        visits, m0, v0 = self.seen.get(problem, [0.0, m1, v1])
        mean = (m0 * visits + m1) / (visits + 1)
        variance = (visits * v0 + v1 + visits / (visits + 1) * (m1 - m0) ** 2) / (visits + 1)
        now = visits + 1
        self.seen[problem] = [now, mean, variance]
        new = np.zeros(len(rewards)) if flat else (rewards - m1) / (np.sqrt(v1) + eps)
        total = np.zeros(len(rewards)) if variance == 0 else (rewards - mean) / (np.sqrt(variance) + eps)
        by_new, by_total = (now - 1) / now * new + total / now, new / now + (now - 1) / now * total
        return np.asarray(np.where(np.abs(by_new) < np.abs(by_total), by_new, by_total))

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.seen = {k: list(v) for k, v in state["seen"].items()}
