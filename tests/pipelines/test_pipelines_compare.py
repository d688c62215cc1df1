import numpy as np
import polars as pl
import pytest

from pipelines.compare import compare


def table(rates, benchmark="heldout", first=0):
    return pl.DataFrame(
        {"benchmark": benchmark, "problem_id": [f"p{first + i}" for i in range(len(rates))], "n": 4, "passes": [int(4 * r) for r in rates]},
        schema_overrides={"n": pl.Int64, "passes": pl.Int64},
    )


def test_by_hand():
    (found,) = compare(table([0.5, 1.0, 0.0, 0.25]), table([1.0, 1.0, 0.0, 0.0]))
    assert (found.a, found.b) == (0.4375, 0.5)
    assert found.difference.value == pytest.approx(0.0625)
    assert (found.problems, found.unpaired, found.better, found.worse) == (4, 0, 1, 1)


def test_only_shared_problems_count_and_their_order_does_not():
    a, b = table([1.0, 0.0, 0.5]), table([0.0, 0.5, 1.0], first=1)
    (found,) = compare(a, b.sample(fraction=1.0, shuffle=True, seed=1))
    assert (found.problems, found.unpaired) == (2, 2)
    assert (found.a, found.b) == (0.25, 0.25)
    assert compare(table([1.0]), table([1.0], first=5)) == []
    assert compare(table([1.0]), table([1.0], benchmark="other")) == []


def test_the_paired_interval_holds_a_planted_difference_and_tells_it_from_none():
    rng = np.random.default_rng(2)
    hard = rng.beta(0.5, 0.5, 600)
    draw = lambda p: table(rng.binomial(4, p) / 4)  # noqa: E731
    (same,) = compare(draw(hard), draw(hard))
    assert same.difference.low < 0 < same.difference.high
    (better,) = compare(draw(hard), draw(np.clip(hard + 0.1, 0, 1)))
    assert better.difference.low > 0
    truth = float((np.clip(hard + 0.1, 0, 1) - hard).mean())
    assert better.difference.low < truth < better.difference.high
