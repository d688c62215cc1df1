"""A file's rows judged by their texts alone, as a stream: which repeat an earlier row, which give a held-out problem away."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from data.problems.rows import prompt_of
from filters.decontaminate import HeldoutIndex
from filters.dedup import normalise_texts
from filters.intake import BATCH, batched

Placed = tuple[str, dict[str, Any]]
"""where, row"""


@dataclass(frozen=True)
class Verdict:
    """`reason` says why the row is to go, '' where it may stay."""

    where: str
    row: Mapping[str, Any]
    reason: str = ""
    other: str = ""  # the row or the held-out problem that it repeats
    gram: str = ""  # the words they share, where it is not the whole text


def find_duplicates(rows: Iterable[Placed], fields: Mapping[str, str]) -> Iterator[Verdict]:
    """The first row of each normalised text stays. Memory: 16 bytes of hash and the place of the first row, per distinct text."""
    first: dict[bytes, str] = {}
    for batch in batched(rows, BATCH):
        for (where, row), text in zip(batch, normalise_texts([prompt_of(row, where, fields) for where, row in batch]), strict=True):
            earlier = first.setdefault(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest(), where)
            yield Verdict(where, row) if earlier == where else Verdict(where, row, f"the same text as {earlier}", earlier)


def find_leaks(rows: Iterable[Placed], fields: Mapping[str, str], heldout: HeldoutIndex) -> Iterator[Verdict]:
    """Rows that give away none of the held-out problems stay."""
    for batch in batched(rows, BATCH):
        for (where, row), hit in zip(batch, heldout.hits([prompt_of(row, where, fields) for where, row in batch]), strict=True):
            yield Verdict(where, row) if hit is None else Verdict(where, row, hit.reason, f"{hit.benchmark} {hit.problem_id}", hit.gram)
