"""Difficulty: counts, intervals against mpmath and closed forms, bands on integers."""

from collections import Counter
from fractions import Fraction

import mpmath
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.beta import FEWEST, UNIFORM, beta_binomial, beta_cdf, credible_interval, fit_prior
from filters.difficulty import DIFFICULTY_SCHEMA, PRESETS, Band, estimate


def test_interval_closed_forms() -> None:
    assert credible_interval(0, 0) == pytest.approx((0.025, 0.975), abs=1e-12)
    for n in (1, 8, 100):
        low, high = credible_interval(n, n)  # Beta(n + 1, 1): x ** (n + 1)
        assert low == pytest.approx(0.025 ** (1 / (n + 1)), abs=1e-12)
        assert high == pytest.approx(0.975 ** (1 / (n + 1)), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.floats(0.001, 0.999))
def test_incomplete_beta_equals_mpmath(a: int, b: int, x: float) -> None:
    assert beta_cdf(x, a, b) == pytest.approx(float(mpmath.betainc(a, b, 0, x, regularized=True)), abs=1e-11)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_interval_holds_its_mass_and_mirrors(counts: tuple[int, int]) -> None:
    k, n = counts
    low, high = credible_interval(k, n)
    assert 0 < low < (k + 1) / (n + 2) < high < 1
    assert float(mpmath.betainc(k + 1, n - k + 1, low, high, regularized=True)) == pytest.approx(0.95, abs=1e-9)
    assert credible_interval(n - k, n) == pytest.approx((1 - high, 1 - low), abs=1e-9)


def test_estimate_counts_unknowns_apart() -> None:
    verdicts = pl.DataFrame(
        {
            "problem_id": ["a"] * 5 + ["b"] * 2 + ["a"],
            "policy_id": ["p"] * 7 + ["q"],
            "outcome": ["pass", "pass", "fail", "fail", "unknown", "unknown", "unknown", "pass"],
        }
    )
    problems = pl.DataFrame({"problem_id": ["a"], "domain": ["algebra"], "level": [3], "concepts": [["x"]]})
    table = estimate(verdicts, problems)
    assert table.schema == pl.Schema(DIFFICULTY_SCHEMA)
    assert table.select("problem_id", "policy_id", "passes", "fails", "unknowns", "n", "pass_rate").rows() == [
        ("a", "p", 2, 2, 1, 4, 0.5),
        ("a", "q", 1, 0, 0, 1, 1.0),
        ("b", "p", 0, 0, 2, 0, None),
    ]
    assert table["domain"].to_list() == ["algebra", "algebra", None]
    assert table["posterior_mean"].to_list() == [3 / 6, 2 / 3, 1 / 2]
    assert estimate(verdicts.sample(fraction=1.0, shuffle=True, seed=3), problems).equals(table)
    assert estimate(verdicts.clear()).height == 0


def test_presets_of_eight() -> None:
    inside = {name: [k for k in range(9) if band.contains(k, 8)] for name, band in PRESETS.items()}
    assert inside.pop("medvlthinker") == [1, 2, 3]
    assert [k for k in (0, 1, 7, 8, 16) if PRESETS["medvlthinker"].contains(k, 16)] == [1, 7]  # keep 1..7 of 16
    assert inside == {
        "dapo": list(range(1, 8)),
        "sws": [2, 3, 4, 5, 6],
        "sws_training": list(range(1, 8)),
        "svs_source": [1, 2, 3, 4],
        "svs_variant": [1, 2, 3, 4, 5],
    }
    assert not any(band.contains(0, 0) for band in PRESETS.values())


def test_band_ends_are_exact_decimals() -> None:
    assert Band.of(0.1, 0.3).contains(1, 10)
    assert Band.of(0.1, 0.3).contains(3, 10)  # 3 * 0.1 > 0.3 in floats
    assert not Band.of(0.1, 0.3).contains(4, 10)
    with pytest.raises(ValueError, match="lo <= hi"):
        Band.of(0.7, 0.3)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 64).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.integers(0, 100), st.integers(0, 100), st.booleans())
def test_band_of_columns_equals_band_of_counts(counts: tuple[int, int], one: int, other: int, mixed: bool) -> None:
    k, n = counts
    band = Band.of(Fraction(min(one, other), 100), Fraction(max(one, other), 100), mixed=mixed)
    want = n > 0 and band.lo <= Fraction(k, n) <= band.hi and (not mixed or 0 < k < n)
    assert band.contains(k, n) == want
    assert pl.DataFrame({"passes": [k], "n": [n]}).select(band.expr()).item() == want


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 80), st.floats(0.05, 30), st.floats(0.05, 30))
def test_beta_binomial_is_a_distribution_with_the_known_moments(n: int, a: float, b: float) -> None:
    chances = beta_binomial(n, a, b)
    assert chances.sum() == pytest.approx(1, abs=1e-9)
    assert sum(k * c for k, c in enumerate(chances)) == pytest.approx(n * a / (a + b), abs=1e-8)


def planted(rng: np.random.Generator, a: float, b: float, problems: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    rates = rng.beta(a, b, problems)
    return rates, rng.binomial(n, rates)


@pytest.mark.parametrize(("a", "b"), [(0.5, 0.5), (1.0, 1.0), (0.3, 2.0), (6.0, 3.0)])
def test_the_planted_prior_is_found(a: float, b: float) -> None:
    _, passes = planted(np.random.default_rng(5), a, b, 5_000, 8)
    found = fit_prior(Counter((int(k), 8) for k in passes))
    assert found.a / (found.a + found.b) == pytest.approx(a / (a + b), abs=0.03)
    assert found.a + found.b == pytest.approx(a + b, rel=0.25)


def test_too_few_problems_fit_no_prior() -> None:
    assert fit_prior({(0, 8): FEWEST - 1, (0, 0): 500}) == UNIFORM
    assert fit_prior({(0, 8): FEWEST}) != UNIFORM
    assert fit_prior({}) == UNIFORM


@pytest.mark.parametrize(("a", "b"), [(0.5, 0.5), (1.0, 1.0), (0.3, 2.0), (6.0, 3.0)])
@pytest.mark.parametrize("n", [8, 16])
def test_credible_intervals_hold_the_true_rates_93_to_97_times_in_100(a: float, b: float, n: int) -> None:
    """What a user reads off ci_low and ci_high, over 20,000 problems; a fixed uniform prior covers 88 % to 96 % of these."""
    rates, passes = planted(np.random.default_rng(11), a, b, 20_000, n)
    prior = fit_prior(Counter((int(k), n) for k in passes))
    bounds = np.array([credible_interval(k, n, prior=prior) for k in range(n + 1)])[passes]
    assert 0.93 <= ((bounds[:, 0] <= rates) & (rates <= bounds[:, 1])).mean() <= 0.97
