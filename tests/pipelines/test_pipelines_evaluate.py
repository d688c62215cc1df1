from itertools import combinations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.evaluate import chain_holds, ks, pass_at_k, pass_at_k_rates, score_of, scores


@given(st.integers(1, 9), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_pass(n, data):
    passes = data.draw(st.integers(0, n))
    k = data.draw(st.integers(1, n))
    answers = [True] * passes + [False] * (n - passes)
    subsets = list(combinations(answers, k))
    assert pass_at_k(n, passes, k) == pytest.approx(sum(any(s) for s in subsets) / len(subsets))


def test_pass_at_k_refuses_nonsense():
    for n, passes, k in ((4, 5, 1), (4, -1, 1), (4, 2, 0), (4, 2, 5)):
        with pytest.raises(ValueError, match="pass@k needs"):
            pass_at_k(n, passes, k)


def test_rates_are_pass_at_k_of_each():
    n, passes = np.array([4, 8, 4, 4]), np.array([0, 3, 4, 1])
    assert pass_at_k_rates(n, passes, 2).tolist() == [pass_at_k(int(m), int(c), 2) for m, c in zip(n, passes, strict=True)]


def test_ks():
    assert [ks(n) for n in (1, 2, 4, 6, 16)] == [(1,), (1, 2), (1, 2, 4), (1, 2, 4, 6), (1, 2, 4, 8, 16)]


@pytest.mark.parametrize(
    ("votes", "holds"),
    [([True, True, True], (1, 1, 1)), ([True, True, False], (1, 0, 1)), ([True, False], (1, 0, 0)), ([False], (0, 0, 0)), ([], (0, 0, 0))],
)
def test_votes_on_a_chain(votes, holds):
    """Any, all, majority; half is no majority, and without a vote nothing holds."""
    assert tuple(chain_holds(votes, rule) for rule in ("any", "all", "majority")) == tuple(map(bool, holds))


def evals(**columns):
    size = len(columns["passes"])
    return pl.DataFrame({"round": [0] * size, "benchmark": ["heldout"] * size, "n": [4] * size} | columns)


def test_scores_by_hand():
    table = scores(evals(passes=[4, 2, 0, 0], majority=[1.0, 0.5, 0.0, 0.0], chain_passes=[4, 1, 0, 0]))
    value = {m: score_of(table, m).value for m in table["metric"]}
    assert list(value) == ["pass@1", "pass@2", "pass@4", "avg@4", "majority@4", "cot-pass@1", "cot-pass@2", "cot-pass@4"]
    assert value["pass@1"] == value["avg@4"] == pytest.approx((1 + 0.5) / 4)
    assert value["pass@2"] == pytest.approx((1 + 5 / 6) / 4)
    assert value["pass@4"] == 0.5
    assert value["majority@4"] == pytest.approx(1.5 / 4)
    assert value["cot-pass@1"] == pytest.approx(1.25 / 4)
    assert all(e.low <= e.value <= e.high for e in (score_of(table, m) for m in value))


def test_what_was_not_judged_is_not_shown():
    table = scores(evals(passes=[4, 2], majority=[None, None], chain_passes=pl.Series([None, None], dtype=pl.Int32)))
    assert table["metric"].to_list() == ["pass@1", "pass@2", "pass@4", "avg@4"]
    assert score_of(table, "majority@4") is None


def test_scores_are_per_round_and_benchmark_and_a_problem_without_answers_does_not_count():
    frame = pl.concat([evals(passes=[4, 0]), evals(passes=[2, 2]).with_columns(round=pl.lit(1), benchmark=pl.lit("gsm8k"))], how="vertical_relaxed")
    frame = pl.concat([frame, evals(passes=[0]).with_columns(n=pl.lit(0))], how="vertical_relaxed")
    first = scores(frame).filter(pl.col("metric") == "pass@1").rows(named=True)
    assert [(r["round"], r["benchmark"], r["value"], r["problems"]) for r in first] == [(0, "heldout", 0.5, 2), (1, "gsm8k", 0.5, 2)]
    assert scores(frame.clear()).is_empty()
