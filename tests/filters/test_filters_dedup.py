import random

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from filters.dedup import exact_dedup, mark_duplicates, matches_heldout, normalise_texts


def test_dress_is_folded_and_meaning_is_kept() -> None:
    same = ["What is  3 + 4?", "WHAT IS 3 + 4", "“what is 3 + 4.”", "What is ３ + ４ ?"]
    assert len(set(normalise_texts(same))) == 1
    different = ["3 + 4", "3 - 4", "3 * 4", "34", "3 4", "3.4", "5", "5!", "50%", "50", "$50", "x^2", "x2", "1,2", "12", "1.2", "1,000,000"]
    assert len(set(normalise_texts(different))) == len(different)
    assert normalise_texts(["Well-known, isn't it?! 1,000. (No.)"]) == ["well known isn t it 1,000 no"]


@given(st.lists(st.sampled_from("aBé 15.,!?-+()'\n"), max_size=20).map("".join), st.sampled_from([" ", "  ", "\n", "\t "]))
def test_blanks_and_case_never_count(text: str, blank: str) -> None:
    assert len(set(normalise_texts([text, text.upper(), f" {text} ", text.replace(" ", blank)]))) == 1


@given(st.lists(st.text("abc +-12", min_size=1, max_size=8).map(str.strip).filter(bool), max_size=10))
def test_dedup_keeps_one_of_each_and_loses_none(prompts: list[str]) -> None:
    rows = pl.DataFrame(
        {"round": [0] * len(prompts), "id": [f"{i:02d}" for i in range(len(prompts))], "prompt": prompts}, schema_overrides={"prompt": pl.String}
    )
    kept = exact_dedup(rows)["prompt"].to_list()
    assert len(set(normalise_texts(kept))) == len(kept)
    assert set(normalise_texts(kept)) == set(normalise_texts(prompts))


def test_first_in_round_and_id_order_is_kept_whatever_the_order_of_rows() -> None:
    rows = [
        {"round": 1, "id": "a", "prompt": "One?"},
        {"round": 0, "id": "z", "prompt": "one"},
        {"round": 0, "id": "y", "prompt": "ONE."},
        {"round": 0, "id": "x", "prompt": "two"},
    ]
    for seed in range(5):
        random.Random(seed).shuffle(rows)
        marked = mark_duplicates(pl.DataFrame(rows))
        assert marked["id"].to_list() == [r["id"] for r in rows]
        assert dict(zip(marked["id"], marked["duplicate_of"])) == {"a": "y", "z": "y", "y": None, "x": None}
        assert set(exact_dedup(pl.DataFrame(rows))["id"]) == {"y", "x"}


def test_heldout_matches() -> None:
    assert matches_heldout(["A  b?", "c", "", "..."], ["a B", ""]) == [True, False, False, False]
    assert matches_heldout([], ["a"]) == []
