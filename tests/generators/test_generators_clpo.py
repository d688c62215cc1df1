"""CLPO's buckets and order, Co-Reward's votes, with the papers' and the released code's own numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import UserError
from data.records import Group, Problem
from filters.verifiers.votes import cross_vote
from generators.strategies.clpo import bucket, in_order
from generators.strategies.co_reward import boxed, co_rewards, vote_of
from generators.strategies.registry import make_strategy

GOLDEN = Path(__file__).parents[3] / "shared" / "reference" / "papers_golden.json"


def test_the_buckets_of_clpo() -> None:
    """acc <= .3 hard, .3 to .7 medium with its upper end, above easy; n = 4 in the paper's script."""
    assert [bucket(k, 10, 10) for k in range(11)] == ["hard"] * 4 + ["medium"] * 4 + ["easy"] * 3
    assert [bucket(k, 4, 4) for k in range(5)] == ["hard", "hard", "medium", "easy", "easy"]


@given(st.integers(1, 32), st.data())
def test_unknown_verdicts_never_move_a_problem_into_another_bucket(n: int, data: st.DataObject) -> None:
    passes = data.draw(st.integers(0, n))
    hidden = data.draw(st.integers(0, n))
    lost = data.draw(st.integers(max(0, hidden - (n - passes)), min(hidden, passes)))
    assert bucket(passes - lost, n - hidden, n) in (None, bucket(passes, n, n))


def test_hard_comes_first_and_rewrites_before_originals() -> None:
    def group(name: str) -> Group:
        return Group(name, Problem(name), (), (), [])  # type: ignore[arg-type]

    groups = [group(n) for n in ("easy", "medium", "hard", "diverse", "simple")]
    order = in_order(groups, {"easy": "easy", "medium": "medium", "hard": "hard"}, {"diverse": "medium", "simple": "hard"})
    assert order == ["simple", "diverse", "hard", "medium", "easy"]


def test_co_rewards_golden_values() -> None:
    one, two = ["4", "4", "5", ""], ["4", "5", "5", "5"]
    assert co_rewards(one, two) == ([0, 0, 1, 0], [1, 0, 0, 0])
    assert cross_vote(one, two) == co_rewards(one, two, "none")
    if GOLDEN.is_file():
        assert [list(r) for r in co_rewards(one, two)] == json.loads(GOLDEN.read_text())["co_reward [4,4,5,''] [4,5,5,5]"]


def test_ties_go_to_the_first_seen_or_to_nobody() -> None:
    assert vote_of(["", "7", "8", "8", "7"]) == "7" and vote_of(["", "7", "8", "8", "7"], "none") == ""
    assert vote_of(["", ""]) == "" == vote_of([])
    assert co_rewards(["1"], ["", ""]) == ([0.0], [0.0, 0.0])


ANSWERS = st.lists(st.sampled_from(["", "1", "2", "3"]), max_size=9)


@given(ANSWERS, ANSWERS, st.sampled_from(["first", "none"]))
def test_swapping_the_wordings_swaps_the_rewards(one: list[str], two: list[str], ties: str) -> None:
    a, b = co_rewards(one, two, ties)  # type: ignore[arg-type]
    assert co_rewards(two, one, ties) == (b, a)  # type: ignore[arg-type]
    assert all(r == 0 for r, answer in zip(a, one, strict=True) if not answer)
    assert len({answer for r, answer in zip(a, one, strict=True) if r}) <= 1  # one answer is right


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"so \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed{1} or \boxed{ 0.5 }", "0.5"),
        (r"\boxed{1", ""),
        ("1", ""),
        (r"\boxed{}", ""),
    ],
)
def test_the_last_box(text: str, found: str) -> None:
    assert boxed(text) == found


@given(st.text(st.sampled_from("\\boxed{}12 "), max_size=60))
def test_no_text_breaks_the_box(text: str) -> None:
    assert boxed(text) in text


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("clpo", {"hard": 0.8}, "strategies.clpo: hard (0.8) is above medium (0.7); give hard <= medium"),
        ("clpo", {"klhard": 1}, "strategies.clpo.klhard: unknown setting; did you mean 'kl_hard'?"),
        ("co_reward", {"ties": "last"}, "strategies.co_reward.ties: input should be 'first' or 'none' (got 'last')"),
        ("mr_rlvr", {"most": 40}, "strategies.mr_rlvr.most: input should be less than or equal to 12 (got 40)"),
        ("rlpt", {}, "strategies.rlpt.file: field required"),
    ],
)
def test_wrong_settings_are_one_sentence(name: str, settings: dict, said: str) -> None:
    with pytest.raises(UserError) as error:
        make_strategy(name, settings)
    assert str(error.value) == said
