import numpy as np
import pytest

from pipelines.evaluate import pass_at_k_rates
from pipelines.intervals import mean_with_interval, paired_difference, t_quantile

POPULATIONS = {
    "uniform": lambda rng, m: rng.uniform(0, 1, m),
    "all or nothing": lambda rng, m: rng.beta(0.5, 0.5, m),
    "hard": lambda rng, m: rng.beta(0.3, 3, m),
    "easy": lambda rng, m: rng.beta(5, 0.5, m),
    "seven in ten never": lambda rng, m: np.where(rng.random(m) < 0.7, 0, rng.uniform(0, 1, m)),
}


def covered(population: str, problems: int, n: int, k: int, trials: int) -> float:
    """Share of trials whose interval holds the population's true mean pass@k."""
    rng = np.random.default_rng(7)
    draw = POPULATIONS[population]
    truth = float((1 - (1 - draw(rng, 1_000_000)) ** k).mean())
    hits = 0
    for _ in range(trials):
        passes = rng.binomial(n, draw(rng, problems))
        estimate = mean_with_interval(pass_at_k_rates(np.full(problems, n), passes, k))
        hits += estimate.low <= truth <= estimate.high
    return hits / trials


CASES = [(p, n, k) for p in POPULATIONS for n, k in ((1, 1), (4, 1), (8, 4))]


@pytest.mark.parametrize(("population", "n", "k"), CASES)
def test_95_percent_intervals_hold_the_truth_93_to_97_times_in_100(population, n, k):
    """3,000 trials: the share itself is known to about 0.8 points, which is what the bounds leave on either side."""
    assert 0.93 - 0.008 <= covered(population, 200, n, k, 3_000) <= 0.97 + 0.008


@pytest.mark.parametrize("population", ["uniform", "hard", "all or nothing"])
def test_sixteen_problems_are_enough_for_an_honest_interval(population):
    assert covered(population, 16, 4, 1, 2_000) >= 0.93


def test_student_t_against_its_table():
    table = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 10: 2.228, 30: 2.042, 120: 1.980}
    for df, value in table.items():
        assert t_quantile(df) == pytest.approx(value, rel=2e-3)


def test_with_one_answer_a_problem_it_is_wilsons_interval():
    """Wilson's own example form: 20 of 100; textbook limits with z = 1.96 are 0.1334 and 0.2888, Student's t widens them a little."""
    value, low, high = mean_with_interval(np.repeat([1.0, 0.0], [20, 80]))
    assert (value, low, high) == pytest.approx((0.2, 0.1334, 0.2888), abs=4e-3)
    assert low < 0.1334
    assert high > 0.2888


def test_agreement_of_all_problems_is_not_certainty():
    zeros, ones = mean_with_interval(np.zeros(60)), mean_with_interval(np.ones(60))
    assert zeros.value == zeros.low == 0.0
    assert 0.04 < zeros.high < 0.08
    assert ones == pytest.approx((1.0, 1 - zeros.high, 1.0))
    assert paired_difference(np.zeros(60), np.zeros(60)) == (0.0, -0.05, 0.05)


def test_no_problem_says_nothing_and_one_says_little():
    assert mean_with_interval(np.zeros(0)) == (0.0, 0.0, 1.0)
    assert mean_with_interval(np.ones(1)) == (1.0, 0.0, 1.0)


def test_the_interval_holds_its_value_and_stays_in_range():
    rng = np.random.default_rng(3)
    for _ in range(300):
        rates = np.clip(rng.normal(rng.random(), 0.3, rng.integers(2, 40)), 0, 1)
        value, low, high = mean_with_interval(rates)
        assert 0 <= low <= value <= high <= 1


def test_pairing_cancels_the_problems_own_spread():
    rng = np.random.default_rng(1)
    hard = rng.random(300)
    before, after = hard * 0.9, hard * 0.9 + 0.05 + rng.normal(0, 1e-4, 300)
    gain = paired_difference(before, after)
    assert gain.value == pytest.approx(0.05, abs=1e-4)
    assert gain.high - gain.low < 1e-3
    assert gain == paired_difference(before, after)  # keyed: the same each time
    alone = mean_with_interval(after)
    assert alone.high - alone.low > 0.05
    with pytest.raises(ValueError, match="same problems"):
        paired_difference(before, after[:-1])
    assert paired_difference(before[:0], after[:0]) == (0.0, 0.0, 0.0)
