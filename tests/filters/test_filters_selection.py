from collections import Counter
from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.difficulty import PRESETS
from filters.selection import largest_remainder, select


def pool(n: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "problem_id": [f"p{i:03d}" for i in range(n)],
            "passes": [i % 9 for i in range(n)],
            "n": [8 if i % 10 else 0 for i in range(n)],
            "domain": ["a" if i % 5 else "b" for i in range(n)],
        }
    ).with_columns(passes=pl.min_horizontal("passes", "n"))


def test_every_row_gets_a_decision_and_the_order_of_arrival_does_not_matter() -> None:
    chosen = select(pool(200), PRESETS["sws"], run_seed=1, key=(0, "select"), limit=30)
    assert chosen.height == 200
    assert chosen["kept"].sum() == 30
    assert Counter(chosen["rule"]) == {"selected": 30, "unjudged": 20, "band": 80, "budget": 70}
    assert chosen["reason"].null_count() == 0
    assert chosen.filter("kept").select(PRESETS["sws"].expr().all()).item()
    shuffled = select(pool(200).sample(fraction=1.0, shuffle=True, seed=9), PRESETS["sws"], run_seed=1, key=(0, "select"), limit=30)
    assert shuffled.sort("problem_id").equals(chosen.sort("problem_id"))
    other_key = select(pool(200), PRESETS["sws"], run_seed=1, key=(1, "select"), limit=30)
    assert set(other_key.filter("kept")["problem_id"]) != set(chosen.filter("kept")["problem_id"])


def test_positions_number_the_kept_rows() -> None:
    chosen = select(pool(100), PRESETS["dapo"], run_seed=1, limit=12)
    assert sorted(chosen.filter("kept")["position"]) == list(range(12))
    assert chosen.filter(~pl.col("kept"))["position"].null_count() == 88


def test_a_smaller_limit_is_a_prefix() -> None:
    few, many = (set(select(pool(200), PRESETS["sws"], run_seed=4, limit=n).filter("kept")["problem_id"]) for n in (10, 40))
    assert few < many


def test_balance_gives_domains_equal_shares_and_passes_on_what_one_lacks() -> None:
    even = select(pool(200), PRESETS["sws"], run_seed=1, limit=20, balance=True).filter("kept")
    assert Counter(even["domain"]) == {"a": 10, "b": 10}
    scarce = select(pool(200), PRESETS["sws"], run_seed=1, limit=60, balance=True).filter("kept")
    available = select(pool(200), PRESETS["sws"], run_seed=1).filter("kept")
    assert Counter(scarce["domain"]) == {"a": 60 - Counter(available["domain"])["b"], "b": Counter(available["domain"])["b"]}


def test_one_problem_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        select(pl.concat([pool(3), pool(3)]), PRESETS["sws"], run_seed=0)


def test_empty_pool() -> None:
    assert select(pool(0), PRESETS["sws"], run_seed=0, limit=5, balance=True).height == 0


def test_largest_remainder_on_the_sws_category_weights() -> None:
    # SwS's released failure rates (32B), reference budget of 1,000 problems.
    rates = {"Algebra": 0.0785, "Counting": 0.1427, "Geometry": 0.1509, "IntermAlg": 0.0587, "NumTheory": 0.1108, "Prealg": 0.0369, "Precalc": 0.0752}
    shares = largest_remainder(1000, rates)
    assert sum(shares.values()) == 1000
    assert shares == {"Algebra": 120, "Counting": 218, "Geometry": 231, "IntermAlg": 90, "NumTheory": 170, "Prealg": 56, "Precalc": 115}


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 500),
    st.dictionaries(st.text("abcdef", min_size=1, max_size=2), st.tuples(st.integers(0, 20), st.integers(0, 60)), max_size=8),
)
def test_largest_remainder_invariants(total: int, table: dict[str, tuple[int, int]]) -> None:
    weights = {k: w for k, (w, _) in table.items()}
    caps = {k: c for k, (_, c) in table.items()}
    shares = largest_remainder(total, weights, caps)
    assert sum(shares.values()) == min(total, sum(caps[k] for k in table if weights[k] > 0))
    assert all(0 <= shares[k] <= caps[k] for k in table)
    assert all(shares[k] == 0 for k in table if weights[k] == 0)
    free = largest_remainder(total, weights)
    weight_sum = sum(weights.values())
    assert all(abs(free[k] - Fraction(total * w, weight_sum)) < 1 for k, w in weights.items() if weight_sum)
