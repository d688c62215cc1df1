"""Keyed random numbers: every draw names what it is for, none is "the next number of a global generator".

A run that is killed and resumed, or whose work arrives in another order, therefore draws the same numbers.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.ids import canonical_json

_MASK = 0xFFFFFFFFFFFFFFFF
_GAMMA = 0x9E3779B97F4A7C15  # splitmix64's increment, the golden ratio in 64 bits


def keyed_seed(run_seed: int, *key: Any) -> int:
    """63-bit seed = hash(run seed, round, stage, item id, index, …); any JSON-able key parts, order matters."""
    raw = hashlib.blake2b(canonical_json([run_seed, *key]).encode(), digest_size=8).digest()
    return int.from_bytes(raw, "big") >> 1


def keyed_rng(run_seed: int, *key: Any) -> np.random.Generator:
    """A counter-based generator (Philox) of its own for this key."""
    return np.random.Generator(np.random.Philox(key=keyed_seed(run_seed, *key)))


def keyed_order(run_seed: int, ids: list[str], *key: Any) -> list[str]:
    """`ids` in a keyed shuffle: depends on the set of ids and the key, never on the order they arrived in."""
    return sorted(ids, key=lambda i: (keyed_seed(run_seed, *key, i), i))


def uniforms(seeds: NDArray[np.uint64], step: int) -> NDArray[np.float64]:
    """One uniform in [0, 1) per row: splitmix64 of (seed, step), vectorised; seeds uint64[rows] -> float64[rows].

    A row's number depends on its own seed and position only, so it is the same in any batch.
    Source: Steele, Lea & Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    with np.errstate(over="ignore"):
        z = seeds.astype(np.uint64) + np.uint64(((step + 1) * _GAMMA) & _MASK)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53
