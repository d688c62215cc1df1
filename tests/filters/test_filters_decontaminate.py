"""Planted leaks are all found, honest problems are left alone; a plain Python search of every window is the oracle."""

import random
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.problems.readers import read_problems
from data.records import Problem
from filters.decontaminate import COMMON, GRAM, HeldoutIndex, HeldoutSet
from filters.dedup import normalise_texts

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_gsm8k = pytest.mark.skipif(not (SHARED / "gsm8k_test.jsonl.gz").is_file(), reason="the GSM8K files are not here")


def index(*prompts: str, grams: bool = True) -> HeldoutIndex:
    return HeldoutIndex([HeldoutSet("held", [Problem(p, str(n)) for n, p in enumerate(prompts)], grams)])


def words_of(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", text).lower())


def slow_hits(texts: list[str], heldout: list[str]) -> list[bool]:
    """What the module's docstring says, one window at a time."""
    grams: dict[tuple[str, ...], set[int]] = {}
    for number, text in enumerate(heldout):
        words = words_of(text)
        for at in range(len(words) - GRAM + 1):
            grams.setdefault(tuple(words[at : at + GRAM]), set()).add(number)
    whole = set(normalise_texts(heldout)) - {""}

    def hit(text: str, normal: str) -> bool:
        words = words_of(text)
        runs = (tuple(words[at : at + GRAM]) for at in range(len(words) - GRAM + 1))
        return normal in whole or any(0 < len(grams.get(run, ())) <= COMMON for run in runs)

    return [hit(text, normal) for text, normal in zip(texts, normalise_texts(texts), strict=True)]


some_words = st.lists(st.sampled_from(["a", "b", "c", "7", "Zoë", "$x$,"]), max_size=30).map(" ".join)


@settings(max_examples=150, deadline=None)
@given(st.lists(some_words, max_size=6), st.lists(some_words, max_size=6))
def test_hits_are_those_of_a_search_through_every_window(texts: list[str], heldout: list[str]) -> None:
    found = index(*heldout).hits(texts)
    assert [hit is not None for hit in found] == slow_hits(texts, heldout)
    for text, hit in zip(texts, found, strict=True):
        if hit is not None and hit.rule == "gram":
            assert hit.gram in " ".join(words_of(text))
            owner = next(p for n, p in enumerate(heldout) if Problem(p, str(n)).id == hit.problem_id)
            assert hit.gram in " ".join(words_of(owner))


def test_numbers_are_words_of_the_gram() -> None:
    held = "A train leaves at noon and travels 60 miles an hour for 3 hours before it stops."
    assert index(held).hits([held.replace("60", "75")]) == [None]
    assert index(held).hits([f"Read this. {held} Where is it?"])[0].rule == "gram"


def test_short_texts_match_as_a_whole_only() -> None:
    inside = "Tell me, what is 17 + 25? It is not hard at all, I should think, for you."
    found = index("What is 17 + 25?").hits(["what is 17 + 25", inside, "What is 17 - 25?"])
    assert [hit and hit.rule for hit in found] == ["text", None, None]


def test_an_idiom_of_the_set_is_no_leak() -> None:
    idiom = "can be written as m/n where m and n are relatively prime positive integers. Find m + n."
    heldout = [f"The chance that {thing} {idiom}" for thing in ("a red ball is drawn twice", "it rains on Monday", "the frog comes home")]
    assert index(*heldout).hits([f"The area of the quarter circle {idiom}"]) == [None]
    assert index(*heldout[:2]).hits([f"The area of the quarter circle {idiom}"])[0].rule == "gram"
    assert index(*heldout).hits(["Say: " + heldout[0]])[0].problem_id == Problem(heldout[0], "0").id


def test_a_set_by_text_alone_and_a_set_by_grams_side_by_side() -> None:
    text = "Kate has 12 boxes with 5 candles in each box and she gives 7 candles to Tom."
    longer = f"{text} How many candles are left?"
    assert index(text, grams=False).hits([longer, text.upper()])[0] is None
    both = HeldoutIndex([HeldoutSet("world", [Problem(text, "1")], grams=False), HeldoutSet("file", [Problem(text, "2")])])
    assert [hit and (hit.benchmark, hit.rule) for hit in both.hits([longer, text])] == [("file", "gram"), ("world", "text")]


def test_nothing_in_nothing_out() -> None:
    assert index().hits(["a"]) == [None]
    assert index("", "...").hits(["", "...", "a"]) == [None, None, None]
    assert index("a b").hits([]) == []


def leaks_of(heldout: list[Problem], seed: int) -> list[str]:
    """Every way in which a problem gets into training data: as it is, dressed up, with words around it, in part."""
    rng, planted = random.Random(seed), []
    for number, problem in enumerate(heldout):
        text = problem.prompt
        words = text.split()
        part = " ".join(words[: max(GRAM + 4, 2 * len(words) // 3)])
        planted.append(
            [
                text,
                text.upper(),
                "  " + text.replace(" ", "  ").replace(".", " .") + "\n",
                unicodedata.normalize("NFD", text).replace("'", "’"),
                f"Solve the following problem step by step.\n\nProblem {rng.randrange(100)}: {text}\nAnswer:",
                f"{part} What can you say?",
            ][number % 6]
        )
    return planted


@needs_gsm8k
def test_every_planted_leak_of_gsm8k_is_found_and_nothing_else() -> None:
    heldout, train = read_problems(SHARED / "gsm8k_test.jsonl.gz"), read_problems(SHARED / "gsm8k_train.jsonl.gz")
    found = HeldoutIndex([HeldoutSet("gsm8k", heldout)])
    planted = leaks_of(heldout, 5)
    hits = found.hits(planted)
    assert [n for n, hit in enumerate(hits) if hit is None] == []
    wrong = [n for n, (hit, p) in enumerate(zip(hits, heldout, strict=True)) if hit is not None and hit.problem_id != p.id]
    assert len(wrong) <= 4  # the few problems of the set that share a gram with another
    assert sum(hit is not None for hit in found.hits([p.prompt for p in train])) == 4
