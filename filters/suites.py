"""How far can a suite of tests be trusted? The measures of SAGA / TCGBench (arXiv 2507.06920), mutation scores and minimal suites.

A kill matrix is bool[tests, wrong]: entry (t, w) says that test t rejects the known wrong solution w. All measures are relative to that pool,
so its size and origin belong to every figure. Pure functions first; `audit_rows` runs the programs in the sandbox.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from data.keyed import keyed_rng

if TYPE_CHECKING:
    from filters.suite_audit import SuiteRecord

Kills = np.ndarray[tuple[int, int], np.dtype[np.bool_]]
"""bool[tests, wrong]"""


def as_kills(matrix: object) -> Kills:
    kills = np.asarray(matrix, dtype=bool)
    if kills.ndim != 2:
        raise ValueError(f"a kill matrix is bool[tests, wrong], got shape {kills.shape}")
    return kills.reshape(kills.shape[0], kills.shape[1])


def detection_rate(kills: Kills) -> float:
    """Share of the wrong solutions that some test rejects (1 - epsilon in the paper); nan without any wrong solution."""
    kills = as_kills(kills)
    return float(kills.any(axis=0).mean()) if kills.shape[1] else float("nan")


def verifier_accuracy(kills: Kills) -> float:
    """1 if every known wrong solution is rejected, else 0 (per problem; averaged over problems it is the paper's VAcc)."""
    kills = as_kills(kills)
    return float(kills.any(axis=0).all()) if kills.shape[1] else float("nan")


def depc(kills: Kills) -> int:
    """Distinct error-pattern coverage: how many different non-zero kill vectors the tests have."""
    kills = as_kills(kills)
    return len({row.tobytes() for row in kills if row.any()})


def depc_ratio(kills: Kills) -> float:
    """DEPC per test."""
    return depc(kills) / len(kills) if len(kills) else float("nan")


def detection_curve(kills: Kills) -> NDArray[np.float64]:
    """DR(k) for k = 1..tests: expected detection rate of k tests drawn without replacement, exact (hypergeometric). float64[tests]"""
    kills = as_kills(kills)
    n = len(kills)
    sparing = n - kills.sum(axis=0)  # tests that let each wrong solution through
    survive = np.ones((n + 1, kills.shape[1]))
    for k in range(1, n + 1):  # C(sparing, k) / C(n, k), one factor at a time
        survive[k] = survive[k - 1] * np.clip(sparing - (k - 1), 0, None) / (n - (k - 1))
    return 1.0 - survive[1:].mean(axis=1) if kills.shape[1] else np.full(n, np.nan)


def accuracy_curve(matrices: Sequence[Kills], upto: int = 0, draws: int = 64, seed: int = 0) -> NDArray[np.float64]:
    """Acc(k) for k = 1..upto (default: the smallest suite): mean over problems of the chance that k random tests reject every wrong solution.

    Estimated from `draws` keyed random orders per problem. float64[upto]
    """
    matrices = [as_kills(m) for m in matrices if as_kills(m).shape[1]]
    if not matrices:
        return np.full(upto, np.nan)
    upto = upto or min(len(m) for m in matrices)
    total = np.zeros(upto)
    for index, kills in enumerate(matrices):
        rng = keyed_rng(seed, "accuracy_curve", index)
        for _ in range(draws):
            order = rng.permutation(len(kills))[:upto]
            reached: NDArray[np.bool_] = np.atleast_1d(np.logical_or.accumulate(kills[order], axis=0).all(axis=1))
            total += np.pad(reached, (0, upto - len(reached)), mode="edge") if len(reached) else 0.0
    return total / (draws * len(matrices))


def auc_at_n(accuracies: Sequence[float] | NDArray[np.float64]) -> float:
    """AUC@N: trapezoids under Acc(k_min..N), divided by N - k_min (2507.06920, section 3). One point: its own value."""
    values = np.asarray(accuracies, dtype=float)
    if len(values) == 0:
        return float("nan")
    return float(((values[1:] + values[:-1]) / 2).mean()) if len(values) > 1 else float(values[0])


def mean_kill_rate(kills: Kills) -> float:
    """p: the chance that a random test rejects a random wrong solution."""
    kills = as_kills(kills)
    return float(kills.mean()) if kills.size else float("nan")


def kill_correlation(given: Kills) -> float:
    """rho: mean pairwise Pearson correlation of the tests' kill vectors, but for those that reject all or none. 0 without pairs."""
    kills = np.asarray(as_kills(given), float)
    varied = kills[kills.std(axis=1) > 0] if kills.size else kills
    if len(varied) < 2:
        return 0.0
    correlation = np.atleast_2d(np.corrcoef(varied))
    return float(correlation[np.triu_indices(len(varied), k=1)].mean())


def effective_tests(n: int, rho: float) -> float:
    """n / (1 + (n - 1) rho): how many independent tests n correlated ones are worth."""
    return n / (1.0 + (n - 1) * rho)


def saturation_bound(p: float, rho: float) -> float:
    """1 - (1 - p)^(1 / rho): the detection rate that more tests of this kind approach; 1 where they are not correlated."""
    if rho <= 0.0:
        return 1.0 if p > 0 else 0.0
    return 1.0 - (1.0 - p) ** (1.0 / rho)


def mutation_score(kills: Kills, equivalent: Sequence[bool] | NDArray[np.bool_] | None = None) -> float:
    """Killed mutants over those that are not equivalent to the original; nan where none is left. `equivalent`: bool[mutants]"""
    kills = as_kills(kills)
    counted = np.ones(kills.shape[1], bool) if equivalent is None else ~np.asarray(equivalent, bool)
    return float(np.extract(counted, kills.any(axis=0)).mean()) if counted.any() else float("nan")


def greedy_minimal_suite(kills: Kills) -> list[int]:
    """Indices of few tests that reject all that the whole suite rejects: greedy set cover (at most ln(wrong) + 1 times the optimum).

    The test that rejects most of what is left comes first; of equal ones the earlier.
    """
    kills = as_kills(kills)
    left: NDArray[np.bool_] = np.atleast_1d(kills.any(axis=0))
    chosen: list[int] = []
    while left.any():
        gains = (kills & left).sum(axis=1)
        best = int(gains.argmax())
        chosen.append(best)
        left = left & ~kills[best, :]
    return chosen


def audit_rows(rows: Iterable[Mapping[str, Any]], **options: Any) -> list[SuiteRecord]:
    """One record per row `{"id", "code", "tests", "wrong"?, "right"?}`; see `filters.suite_audit`, which runs the programs."""
    from filters.suite_audit import audit_suites

    return audit_suites(rows, **options)
