"""SvS's decisions with the paper's own numbers (arXiv 2508.14029v4, Alg. 1, Fig. 4), and what unknown verdicts may and may not do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import UserError
from generators.strategies.registry import make_strategy
from generators.strategies.svs_decisions import SOURCE, VARIANT, is_source, is_trained, read_variants, settle, writing_reward

SOURCE_TEXT = "A baker fills 4 trays with 9 rolls each. How many rolls is that?"


@pytest.mark.parametrize(("answers", "reward"), [([0, 1, 1, 1, 0, 1, 0, 1], 1.0), ([1, 1, 1, 0, 1, 1, 1, 1], 0.0), ([0] * 8, 0.0)])
def test_the_variants_of_figure_4(answers: list[int], reward: float) -> None:
    assert writing_reward(sum(answers), 8, 8) == reward


@pytest.mark.parametrize(("accuracy", "reward"), zip((0, 0.125, 0.5, 0.625, 0.75), (0, 1, 1, 1, 0), strict=True))
def test_the_golden_rewards(accuracy: float, reward: int) -> None:
    assert writing_reward(int(accuracy * 8), 8, 8) == reward


def test_the_bands_of_eight_and_of_other_sizes() -> None:
    assert [k for k in range(9) if is_source(k, 8, 8)] == [1, 2, 3, 4]
    assert [k for k in range(9) if writing_reward(k, 8, 8)] == [1, 2, 3, 4, 5]
    assert [k for k in range(17) if is_source(k, 16, 16)] == list(range(2, 9))
    assert [k for k in range(17) if writing_reward(k, 16, 16)] == list(range(2, 11))
    assert [k for k in range(5) if writing_reward(k, 4, 4)] == [1, 2]


@given(st.integers(1, 64), st.data())
def test_known_verdicts_decide_as_the_band_does_and_fewer_never_decide_otherwise(n: int, data: st.DataObject) -> None:
    passes = data.draw(st.integers(0, n))
    for band in (SOURCE, VARIANT):
        assert settle(passes, n, n, band) is band.contains(passes, n)
        hidden = data.draw(st.integers(0, n))  # that many verdicts are unknown
        lost = data.draw(st.integers(max(0, hidden - (n - passes)), min(hidden, passes)))  # of them so many were passes
        assert settle(passes - lost, n - hidden, n, band) in (None, band.contains(passes, n))


def test_what_nobody_could_judge_is_no_verdict() -> None:
    assert writing_reward(0, 0, 8) is None and not is_source(0, 0, 8)  # a gate kept the group from being made
    assert writing_reward(5, 7, 8) is None  # the eighth decides between 5 and 6
    assert writing_reward(3, 6, 8) == 1.0  # 3, 4 or 5: worth 1 in any case
    assert writing_reward(7, 7, 8) == 0.0
    assert not is_source(0, 7, 8) and not is_source(4, 7, 8)


def test_a_group_of_writings_needs_one_positive() -> None:
    assert is_trained([0, 0, 1]) and not is_trained([0, 0]) and not is_trained([])


def test_the_rules_in_order() -> None:
    answers = [
        ("Four trays of nine rolls leave the oven. What is their count?", False),
        ("**sorry**", False),
        ("four trays of NINE rolls leave the oven: what is their count?", False),  # the first again
        (SOURCE_TEXT.replace("baker", "cook"), False),
        (SOURCE_TEXT, False),
        ("There are 36 rolls on 4 trays. How many rolls is that?", False),
        ("A farmer plants 4 rows of 9 trees and wants", True),
        ("A farmer plants 4 rows of 9 trees. How many trees are there?", False),
    ]
    found = read_variants(answers, SOURCE_TEXT, "36", "line")
    assert [w.rule for w in found] == ["", "unreadable", "duplicate", "", "copy", "leak", "unreadable", ""]
    assert found[2].same_as == 0 and found[6].reason == "cut off by the token limit"
    assert not found[1].text and not found[6].text  # never the text of the one before
    assert [w.rule for w in read_variants(answers[3:4], SOURCE_TEXT, "36", "line", overlap=0.5)] == ["copy"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"varants": 4}, "strategies.svs.varants: unknown setting; did you mean 'variants'?"),
        ({"variants": -1}, "strategies.svs.variants: input should be greater than or equal to 0 (got -1)"),
        ({"band": [0.7, 0.2]}, "strategies.svs.band: give low <= high, both in [0, 1], not [0.7, 0.2]"),
        ({"form": "xml"}, "strategies.svs.form: input should be 'auto', 'fenced', 'json' or 'line'"),
    ],
)
def test_wrong_settings_are_one_sentence(settings: dict, said: str) -> None:
    with pytest.raises(UserError) as error:
        make_strategy("svs", settings)
    assert said in str(error.value)
