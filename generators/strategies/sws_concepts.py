"""Which concepts a new problem is made of: one by frequency among the failures, the others by what goes with it.

Source: SwS (arXiv 2506.08989, section 2.3): Score(c) = Co(c) + Sim(c), P = softmax(Score / tau) over the concepts not chosen yet. The
released sampler loses the ids of its nearest neighbours and so adds similarities to the wrong concepts; here it is a dense product.
Co is a count while Sim lies in [-1, 1]: at tau = 0.2 the count decides nearly alone. `cooccurrence="log"` (log(1 + Co)) is the milder option.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Cooccurrence = Literal["count", "log"]


@dataclass(frozen=True)
class ConceptPool:
    """The concepts of one category's failures. counts int64[k], together int64[k, k] symmetric with an empty diagonal, similarity float64[k, k]."""

    concepts: tuple[str, ...]
    counts: NDArray[np.int64]
    together: NDArray[np.int64]
    similarity: NDArray[np.float64]


def pool_of(lists: Sequence[Sequence[str]], vectors: Mapping[str, NDArray[np.float32]] | None = None) -> ConceptPool:
    """`lists`: the concepts of each failing problem. Without `vectors` (float32[d] by concept) no two concepts are alike."""
    counted = Counter(concept for concepts in lists for concept in set(concepts))
    names = tuple(sorted(counted))
    place = {name: i for i, name in enumerate(names)}
    together = np.zeros((len(names), len(names)), np.int64)
    for concepts in lists:
        for one, other in combinations(sorted(set(concepts)), 2):
            together[place[one], place[other]] += 1
            together[place[other], place[one]] += 1
    return ConceptPool(names, np.array([counted[name] for name in names], np.int64), together, _dots(names, vectors))


def _dots(names: Sequence[str], vectors: Mapping[str, NDArray[np.float32]] | None) -> NDArray[np.float64]:
    """Dot products of unit vectors; cos(e_c, mean of e_s) follows from them alone."""
    if not vectors or not names:
        return np.zeros((len(names), len(names)))
    stacked = np.stack([np.asarray(vectors[name], np.float64) for name in names])
    length = np.linalg.norm(stacked, axis=1, keepdims=True)
    unit = np.divide(stacked, length, out=np.zeros_like(stacked), where=length > 0)
    dots: NDArray[np.float64] = unit @ unit.T
    return dots


def scores(pool: ConceptPool, chosen: Sequence[int], cooccurrence: Cooccurrence = "count") -> NDArray[np.float64]:
    """Co + Sim of every concept given those chosen, float64[k]; -inf for the chosen ones."""
    co = pool.together[:, list(chosen)].sum(1).astype(np.float64)
    if cooccurrence == "log":
        co = np.log1p(co)
    towards = pool.similarity[:, list(chosen)].mean(1)
    length = float(np.sqrt(max(0.0, pool.similarity[np.ix_(list(chosen), list(chosen))].mean())))  # norm of the mean of unit vectors
    total = co + (towards / length if length > 0 else 0.0)
    total[list(chosen)] = -np.inf
    return total


def softmax(values: NDArray[np.float64], tau: float) -> NDArray[np.float64]:
    shifted = np.exp((values - values.max()) / tau)
    return shifted / shifted.sum()


def draw_concepts(
    rng: np.random.Generator, pool: ConceptPool, size: int = 5, tau: float = 0.2, cooccurrence: Cooccurrence = "count"
) -> tuple[str, ...]:
    """`size` different concepts in drawn order; all of them where the category has fewer. () for an empty pool."""
    if not pool.concepts:
        return ()
    chosen = [int(rng.choice(len(pool.concepts), p=pool.counts / pool.counts.sum()))]
    while len(chosen) < min(size, len(pool.concepts)):
        chosen.append(int(rng.choice(len(pool.concepts), p=softmax(scores(pool, chosen, cooccurrence), tau))))
    return tuple(pool.concepts[i] for i in chosen)
