"""What came in: a first look at the user's problems before anything runs, in one pass and in memory that grows by some bytes a row.

Counted as the run will treat them: two problems are one where their normalised texts are equal, a problem is refused where its verifier
cannot judge it or where it gives a held-out problem away.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from data.records import Problem
from filters.decontaminate import HeldoutIndex
from filters.dedup import normalise_texts
from filters.verifiers.base import get_verifier
from filters.verifiers.math import reference_kind

BATCH = 4096
EXAMPLES = 5
PERCENTILES = (5, 50, 95, 100)
T = TypeVar("T")


@dataclass
class Summary:
    """`conflicting` rows have the text of another row and another answer; `words` are percentiles of the prompts' lengths in words."""

    rows: int = 0
    distinct: int = 0
    duplicates: int = 0
    conflicting: int = 0
    unjudgeable: int = 0
    unjudgeable_examples: list[dict[str, str]] = field(default_factory=list)
    leaks: dict[str, int] = field(default_factory=dict)  # per held-out set
    leak_examples: list[dict[str, str]] = field(default_factory=list)
    answer_kinds: dict[str, int] = field(default_factory=dict)
    verifiers: dict[str, dict[str, int]] = field(default_factory=dict)  # verifier -> reason -> rows
    domains: dict[str, int] = field(default_factory=dict)
    licences: dict[str, int] = field(default_factory=dict)
    words: dict[str, int] = field(default_factory=dict)  # p5, p50, p95, p100

    @property
    def usable(self) -> int:
        """Rows that are left to learn from, at most: a row may be refused for two reasons."""
        return max(0, self.distinct - self.unjudgeable - sum(self.leaks.values()))


def summarise(problems: Iterable[tuple[str, Problem]], heldout: HeldoutIndex | None = None) -> Summary:
    """Counts over (where, problem) pairs; `heldout` are the sets that none of them may give away."""
    found = Summary()
    counts: dict[str, Counter[str]] = {name: Counter() for name in ("kinds", "domains", "licences", "leaks")}
    verifiers: Counter[tuple[str, str]] = Counter()
    texts: list[NDArray[np.uint64]] = []
    answers: list[NDArray[np.uint64]] = []
    lengths: list[NDArray[np.int32]] = []
    for batch in batched(problems, BATCH):
        listed = [p for _, p in batch]
        found.rows += len(listed)
        prompts = [p.prompt for p in listed]
        texts.append(_hashes(normalise_texts(prompts)))
        answers.append(_hashes([p.reference for p in listed]))
        lengths.append(np.fromiter((len(p.split()) for p in prompts), np.int32, len(prompts)))
        for where, problem in batch:
            verifiers[problem.verifier, str(problem.meta.get("verifier_reason", "named in the row"))] += 1
            counts["kinds"][_kind(problem)] += 1
            counts["domains"][problem.domain] += 1
            counts["licences"][str(problem.meta.get("licence", ""))] += 1
            if why := get_verifier(problem.verifier).check_problem(problem):
                found.unjudgeable += 1
                if len(found.unjudgeable_examples) < EXAMPLES:
                    found.unjudgeable_examples.append({"where": where, "answer": problem.reference[:80], "reason": why})
        if heldout is not None:
            for (where, _), hit in zip(batch, heldout.hits(prompts), strict=True):
                if hit is not None:
                    counts["leaks"][hit.benchmark] += 1
                    if len(found.leak_examples) < EXAMPLES:
                        found.leak_examples.append({"where": where, "reason": hit.reason})
    if not found.rows:
        return found
    text, answer = np.concatenate(texts), np.concatenate(answers)
    found.distinct = len(np.unique(text))
    found.duplicates = found.rows - found.distinct
    found.conflicting = pl.DataFrame({"t": text, "a": answer}).unique().height - found.distinct
    found.answer_kinds, found.domains, found.licences = (_by_count(counts[name]) for name in ("kinds", "domains", "licences"))
    found.leaks = _by_count(counts["leaks"])
    for (name, reason), rows in sorted(verifiers.items(), key=lambda item: (-item[1], item[0])):
        found.verifiers.setdefault(name, {})[reason] = rows
    length = np.concatenate(lengths)
    found.words = {f"p{p}": int(np.percentile(length, p, method="nearest")) for p in PERCENTILES}
    return found


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _kind(problem: Problem) -> str:
    if not problem.reference:
        return "none"
    return "letter" if problem.verifier == "choice" else reference_kind(problem.reference)


def _hashes(texts: list[str]) -> NDArray[np.uint64]:
    """For counting only: 64 bits, a million texts collide once in 37 million runs."""
    return pl.Series(texts, dtype=pl.String).hash(seed=0).to_numpy().astype(np.uint64)


def _by_count(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def as_json(summary: Summary) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(summary), "usable": summary.usable}
