"""Decontamination: which texts are a held-out problem's, or share a piece of one that is too long to be chance.

Two rules, and a set says which it wants:
- *text*: equal once both are normalised as for deduplication (`filters.dedup`). For sets that are cut from the same cloth as the
  training problems: a world's held-out problems share their templates with the training ones by construction, and are told
  apart by their numbers alone, so that shared words prove nothing.
- *gram*: also a shared run of 13 words (GPT-3, arXiv 2005.14165, appendix C; WirelessMathBench-XL audits with the same 13).
  Words are runs of letters, marks and digits, NFKC and case folded: numbers are words of the gram, signs and LaTeX dress are not.
  A text of fewer than 13 words has no gram and is matched as a whole. A gram that stands in more than `COMMON` problems of
  one set is that set's idiom ("… where m and n are relatively prime positive integers, find m + n"), not a leak, and is not
  looked for: a problem that did leak is betrayed by its other grams, and one that has no others by the text rule.

Everything is vectorised: words are hashed once, grams are polynomials of 13 hashes, the held-out ones a sorted array. What the
hashes claim is checked on the words themselves, so a collision can hide nothing and accuse nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from data.records import Problem
from filters.dedup import normalise_texts

GRAM = 13
COMMON = 2
_BASE = np.uint64(0x9E3779B97F4A7C15)
_BITS = 22  # of the table that says "certainly not there" before the search: 4 MB


@dataclass(frozen=True)
class Hit:
    """A text that may not be trained on, and the held-out problem that says so."""

    benchmark: str
    problem_id: str
    rule: str  # text | gram | side
    gram: str  # the shared words, empty under the rule text; under the rule side, why

    @property
    def reason(self) -> str:
        if self.rule == "text":
            return f"its text is that of {self.benchmark} problem {self.problem_id}"
        if self.rule == "side":
            return self.gram
        return f"shares {GRAM} words with {self.benchmark} problem {self.problem_id}: {self.gram}"


@dataclass(frozen=True)
class Words:
    """The words of several texts in a row. `at` int64[texts + 1] are the offsets, `code` uint64[words] the hashes."""

    words: pl.Series
    code: NDArray[np.uint64]
    at: NDArray[np.int64]

    @classmethod
    def of(cls, texts: Sequence[str]) -> Words:
        folded = pl.Series("text", texts, pl.String).str.normalize("NFKC").str.to_lowercase()
        listed = folded.str.extract_all(r"[\p{L}\p{M}\p{N}]+")
        at = np.zeros(len(texts) + 1, np.int64)
        np.cumsum(listed.list.len().to_numpy(), out=at[1:])
        words = listed.explode(empty_as_null=False)
        return cls(words, words.hash(seed=0).to_numpy().astype(np.uint64), at)

    def grams(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """(hash, position of the first word) of every run of 13 words inside one text."""
        count = len(self.code) - GRAM + 1
        if count <= 0:
            return np.zeros(0, np.uint64), np.zeros(0, np.int64)
        text = np.repeat(np.arange(len(self.at) - 1), np.diff(self.at))
        inside = np.flatnonzero(text[:count] == text[GRAM - 1 :])
        value = np.zeros(count, np.uint64)
        with np.errstate(over="ignore"):
            for k in range(GRAM):
                value = value * _BASE + self.code[k : k + count]
        return value[inside], inside

    def run(self, position: int) -> list[str]:
        return self.words.slice(position, GRAM).to_list()

    def text_of(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64: which text each word position lies in."""
        return np.searchsorted(self.at, positions, side="right") - 1


@dataclass(frozen=True)
class HeldoutSet:
    """Problems that no text may give away; `grams`: by the 13-gram rule too, else by the text rule alone."""

    name: str
    problems: Sequence[Problem]
    grams: bool = True


class HeldoutIndex:
    """Held-out sets, ready to be asked about any number of texts.

    `side`: a world's own word on a text that belongs to its held-out side although no problem was made with it ("" where it does not):
    what a policy writes can be a held-out problem that nobody has drawn yet.
    """

    def __init__(self, sets: Sequence[HeldoutSet], side: Callable[[str], str] | None = None) -> None:
        self._side = side
        self._owners: list[tuple[str, str]] = []
        self._texts: dict[str, int] = {}
        prompts: list[str] = []
        kinds: list[int] = []
        for number, one in enumerate(sets):
            for problem, text in zip(one.problems, normalise_texts([p.prompt for p in one.problems]), strict=True):
                if text:
                    self._texts.setdefault(text, len(self._owners))
                self._owners.append((one.name, problem.id))
                prompts.append(problem.prompt if one.grams else "")
                kinds.append(number)
        self._words = Words.of(prompts)
        self._gram, self._at = _rare(self._words, np.asarray(kinds, np.int64))
        self._maybe = np.zeros(1 << _BITS, bool)
        self._maybe[self._gram >> np.uint64(64 - _BITS)] = True

    def __len__(self) -> int:
        return len(self._owners)

    def hits(self, texts: Sequence[str]) -> list[Hit | None]:
        """For each text the held-out problem that it gives away, None where there is none; the first shared gram is named."""
        found: list[Hit | None] = [None] * len(texts)
        if self._side is not None:
            found = [Hit("heldout", "", "side", why) if (why := self._side(text)) else None for text in texts]
        if not self._owners:
            return found
        for place, text in enumerate(normalise_texts(texts)):
            owner = self._texts.get(text)
            if owner is not None:
                found[place] = Hit(*self._owners[owner], "text", "")
        if len(self._gram):
            words = Words.of(texts)
            for place, hit in self._gram_hits(words):
                found[place] = found[place] or hit
        return found

    def _gram_hits(self, words: Words) -> Iterable[tuple[int, Hit]]:
        value, position = words.grams()
        likely = np.flatnonzero(self._maybe[value >> np.uint64(64 - _BITS)])
        value, position = value[likely], position[likely]
        left = np.searchsorted(self._gram, value, side="left")
        equal = self._gram[np.minimum(left, len(self._gram) - 1)] == value
        value, position = value[equal], position[equal]
        done = -1
        for place, gram, start in zip(words.text_of(position).tolist(), value, position.tolist(), strict=True):
            if place == done:
                continue
            run = words.run(start)
            low, high = np.searchsorted(self._gram, gram, "left"), np.searchsorted(self._gram, gram, "right")
            for there in self._at[low:high].tolist():  # one held-out place, a few where a set repeats itself
                if self._words.run(there) == run:
                    owner = int(self._words.text_of(np.asarray([there]))[0])
                    yield place, Hit(*self._owners[owner], "gram", " ".join(run))
                    done = place
                    break


def _rare(words: Words, kinds: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """(hash, first word) of the grams to look for, sorted by hash: those in at most `COMMON` problems of their set."""
    value, position = words.grams()
    text = words.text_of(position)
    frame = pl.DataFrame({"gram": value, "at": position, "text": text, "set": kinds[text] if len(text) else text})
    rare = frame.filter(pl.col("text").n_unique().over("set", "gram") <= COMMON)
    kept = rare.unique(["gram", "text"], keep="first", maintain_order=True).sort("gram", "at")
    return kept["gram"].to_numpy(), kept["at"].to_numpy()
