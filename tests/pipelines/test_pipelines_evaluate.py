from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.evaluate import mean_with_interval, paired_difference, pass_at_k


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


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        rates = rng.binomial(4, 0.4, 100) / 4
        estimate = mean_with_interval(rates, key=("cover", trial), resamples=400)
        hits += estimate.low <= 0.4 <= estimate.high
    assert 0.90 <= hits / 200 <= 0.99  # nominal 0.95


def test_the_same_key_gives_the_same_interval():
    rates = np.linspace(0, 1, 50)
    assert mean_with_interval(rates, key=("a",)) == mean_with_interval(rates, key=("a",))
    assert mean_with_interval(rates, key=("a",)) != mean_with_interval(rates, key=("b",))


def test_pairing_cancels_the_problems_own_spread():
    rng = np.random.default_rng(1)
    hard = rng.random(300)
    before, after = hard * 0.9, hard * 0.9 + 0.05
    gain = paired_difference(before, after)
    assert gain.value == pytest.approx(0.05)
    assert gain.high - gain.low < 1e-6
    alone = mean_with_interval(after)
    assert alone.high - alone.low > 0.05
    with pytest.raises(ValueError, match="same problems"):
        paired_difference(before, after[:-1])


def test_agreement_of_all_problems_is_not_certainty():
    assert mean_with_interval(np.zeros(60)) == (0.0, 0.0, 0.05)
    assert mean_with_interval(np.ones(60)) == (1.0, 0.95, 1.0)
    assert paired_difference(np.zeros(60), np.zeros(60)) == (0.0, 0.0, 0.0)


def test_no_problem_says_nothing():
    assert mean_with_interval(np.zeros(0)) == (0.0, 0.0, 1.0)
