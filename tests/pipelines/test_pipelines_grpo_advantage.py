"""Estimators against the catalogue's numbers, and the invariants that hold for any rewards."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import UserError
from data.records import Group, Problem, Sampling, Trajectory, Verdict
from pipelines.grpo.advantage import ESTIMATORS, EstimatorOptions, estimator_named, group_advantages

R = np.array([1.0, 0, 0, 0])
ONE = np.array([0, 4])


def group(name: str, rewards: list[float], estimator: str = "group") -> Group:
    problem = Problem(name)
    tokens = np.array([1, 2], np.int32)
    rows = tuple(
        Trajectory(problem.id, "p", tokens, np.array([0, 1], np.uint8), np.zeros(2, np.float32), Sampling(), i, i, "stop", "")
        for i in range(len(rewards))
    )
    verdicts = tuple(Verdict("pass" if r else "fail", r, "", "test") for r in rewards)
    return Group(name, problem, rows, verdicts, np.array(rewards, np.float32), estimator=estimator)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("group_norm", EstimatorOptions(1, 1e-6), [1.5, -0.5, -0.5, -0.5]),
        ("group_norm", EstimatorOptions(0, 1e-6), [1.73205, -0.57735, -0.57735, -0.57735]),
        ("group_center", EstimatorOptions(), [0.75, -0.25, -0.25, -0.25]),
        ("rloo", EstimatorOptions(), [1, -1 / 3, -1 / 3, -1 / 3]),
        ("reinforce", EstimatorOptions(), [1, 0, 0, 0]),
    ],
)
def test_oracle_rows(name: str, options: EstimatorOptions, expected: list[float]) -> None:
    np.testing.assert_allclose(ESTIMATORS[name](R, ONE, options), expected, atol=1e-5)


def test_trl_fixture_advantages() -> None:
    """grpo_oracle's batch: two groups of three, ddof 1, eps 1e-4."""
    rewards = np.array([1.0, 0.0, 0.5, 0.0, 0.0, 1.0])
    expected = [0.9998000399920016, -0.9998000399920016, 0.0, -0.5772502865071343, -0.5772502865071343, 1.1545005730142688]
    np.testing.assert_allclose(ESTIMATORS["group_norm"](rewards, np.array([0, 3, 6]), EstimatorOptions(1, 1e-4)), expected, atol=1e-15)


groups = st.lists(st.lists(st.integers(0, 8), min_size=0, max_size=7), min_size=1, max_size=6)


@given(groups)
def test_baselines_sum_to_zero_and_groups_do_not_see_one_another(values: list[list[int]]) -> None:
    rewards = np.array([v / 8 for g in values for v in g])
    bounds = np.concatenate([[0], np.cumsum([len(g) for g in values])]).astype(np.int64)
    for name in ("group_norm", "group_center", "rloo"):
        whole = ESTIMATORS[name](rewards, bounds, EstimatorOptions())
        for start, end in itertools.pairwise(bounds):
            alone = ESTIMATORS[name](rewards[start:end], np.array([0, end - start]), EstimatorOptions())
            np.testing.assert_allclose(whole[start:end], alone, atol=1e-12)
            assert abs(alone.sum()) < 1e-9
            if len(set(rewards[start:end])) < 2:
                assert (alone == 0).all()


@given(st.lists(st.integers(0, 5), min_size=2, max_size=8), st.floats(0.1, 50), st.randoms())
def test_scaling_and_permutation(values: list[int], factor: float, random: object) -> None:
    rewards, bounds, options = np.array(values, float), np.array([0, len(values)]), EstimatorOptions(1, 0.0)
    if len(set(values)) > 1:
        norm = ESTIMATORS["group_norm"](rewards, bounds, options)
        np.testing.assert_allclose(ESTIMATORS["group_norm"](rewards * factor, bounds, options), norm, atol=1e-9)
    order = list(range(len(values)))
    random.shuffle(order)  # type: ignore[attr-defined]
    for name, estimator in ESTIMATORS.items():
        if name != "group_norm":
            np.testing.assert_allclose(estimator(rewards[order], bounds, options), estimator(rewards, bounds, options)[order], atol=1e-12)
    n = len(values)
    np.testing.assert_allclose(
        ESTIMATORS["rloo"](rewards, bounds, options), ESTIMATORS["group_center"](rewards, bounds, options) * n / (n - 1), atol=1e-12
    )


def test_equal_rewards_that_round_badly_give_exact_zero() -> None:
    """The mean of three 0.1f is not 0.1f in floating point; divided by eps the rest would be a gradient out of nothing."""
    rewards = np.full(3, np.float32(0.1)).astype(np.float64)
    assert (ESTIMATORS["group_norm"](rewards, np.array([0, 3]), EstimatorOptions()) == 0).all()


def test_own_estimator_factor_and_valid_rows() -> None:
    members = [group("a", [1, 0, 0, 0]), group("b", [0.5, -1], "reinforce"), group("c", [1, 0, 0, 0, 7], "rloo")]
    valid = [np.ones(4, bool), np.ones(2, bool), np.array([1, 1, 1, 1, 0], bool)]
    got = group_advantages(members, "group_norm", EstimatorOptions(), {"a": 2.0, "b": -1.0, "elsewhere": 9.0}, valid)
    np.testing.assert_allclose(got[0], [3, -1, -1, -1], atol=1e-4)
    np.testing.assert_allclose(got[1], [-0.5, 1])
    np.testing.assert_allclose(got[2], [1, -1 / 3, -1 / 3, -1 / 3, 0])


def test_unknown_estimator_names_the_nearest() -> None:
    with pytest.raises(UserError, match="'group_norm'"):
        estimator_named("grup_norm")
