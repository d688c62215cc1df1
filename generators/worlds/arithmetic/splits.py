"""Which split a problem belongs to: a hash of its family and the numbers it tells, whatever their order, names or wording.

Two problems of one family with the same numbers are always on the same side, so neither a seed, nor a renaming,
nor another template can carry a held-out problem into training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from generators.worlds.base import Split

HELDOUT_SHARE = 0.25
_BOUND = int(HELDOUT_SHARE * 2**64)


def told(numbers: Mapping[str, int]) -> list[int]:
    """The numbers a story tells, sorted: `3 + 5` and `5 + 3` are one problem to the split."""
    return sorted(value for name, value in numbers.items() if name[0] != "_")


def split_of(family: str, numbers: Mapping[str, int]) -> Split:
    raw = hashlib.blake2b(f"{family}:{told(numbers)}".encode(), digest_size=8).digest()
    return "heldout" if int.from_bytes(raw, "big") < _BOUND else "train"
