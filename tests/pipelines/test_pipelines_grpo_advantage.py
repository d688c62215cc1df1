"""Estimators against the catalogue's numbers, and the invariants that hold for any rewards."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import UserError
from data.records import Group, Problem, Sampling, Trajectory, Verdict
from pipelines.grpo.advantage import Judged, group_advantages, group_center, group_norm, rloo
from pipelines.grpo.component import REGISTRY, component_named
from pipelines.grpo.objective import Objective
from pipelines.grpo.presets import preset_named

ONE = Judged.of([[1.0, 0, 0, 0]])
CENTRED = (group_norm, group_center, rloo)


def estimate(name: str, judged: Judged, **options: float) -> np.ndarray:
    """An estimator, made afresh where it has a memory."""
    made = REGISTRY["estimator"][name].make
    return (made() if isinstance(made, type) else made)(judged, **options)


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
        ("group_norm", {"ddof": 1, "eps": 1e-6}, [1.5, -0.5, -0.5, -0.5]),
        ("group_norm", {"ddof": 0}, [1.73205, -0.57735, -0.57735, -0.57735]),
        ("group_center", {}, [0.75, -0.25, -0.25, -0.25]),
        ("rloo", {}, [1, -1 / 3, -1 / 3, -1 / 3]),
        ("reinforce", {}, [1, 0, 0, 0]),
    ],
)
def test_oracle_rows(name: str, options: dict, expected: list[float]) -> None:
    np.testing.assert_allclose(estimate(name, ONE, **options), expected, atol=1e-5)


def test_trl_fixture_advantages() -> None:
    """grpo_oracle's batch: two groups of three, ddof 1, eps 1e-4."""
    judged = Judged.of([[1.0, 0.0, 0.5], [0.0, 0.0, 1.0]])
    expected = [0.9998000399920016, -0.9998000399920016, 0.0, -0.5772502865071343, -0.5772502865071343, 1.1545005730142688]
    np.testing.assert_allclose(group_norm(judged, ddof=1, eps=1e-4), expected, atol=1e-15)


groups = st.lists(st.lists(st.integers(0, 8), min_size=0, max_size=7), min_size=1, max_size=6)


@given(groups)
def test_baselines_sum_to_zero_and_groups_do_not_see_one_another(values: list[list[int]]) -> None:
    judged = Judged.of([[v / 8 for v in g] for g in values])
    for estimator in CENTRED:
        whole = estimator(judged)
        for start, end in itertools.pairwise(judged.bounds):
            alone = estimator(Judged.of([judged.rewards[start:end]]))
            np.testing.assert_allclose(whole[start:end], alone, atol=1e-12)
            assert abs(alone.sum()) < 1e-9
            if len(set(judged.rewards[start:end])) < 2:
                assert (alone == 0).all()


@given(st.lists(st.integers(0, 5), min_size=2, max_size=8), st.floats(0.1, 50), st.randoms())
def test_scaling_and_permutation(values: list[int], factor: float, random: object) -> None:
    rewards, n = np.array(values, float), len(values)
    judged = Judged.of([rewards], problems=["p"])
    if len(set(values)) > 1:
        np.testing.assert_allclose(group_norm(Judged.of([rewards * factor]), eps=0.0), group_norm(judged, eps=0.0), atol=1e-9)
    order = list(range(n))
    random.shuffle(order)  # type: ignore[attr-defined]
    for name in REGISTRY["estimator"]:
        np.testing.assert_allclose(estimate(name, Judged.of([rewards[order]], problems=["p"])), estimate(name, judged)[order], atol=1e-8)
    np.testing.assert_allclose(rloo(judged), group_center(judged) * n / (n - 1), atol=1e-12)


def test_equal_rewards_that_round_badly_give_exact_zero() -> None:
    """The mean of three 0.1f is not 0.1f in floating point; divided by eps the rest would be a gradient out of nothing."""
    rewards = np.full(3, np.float32(0.1)).astype(np.float64)
    assert (group_norm(Judged.of([rewards])) == 0).all()


def test_own_estimator_and_valid_rows() -> None:
    members = [group("a", [1, 0, 0, 0]), group("b", [0.5, -1], "reinforce"), group("c", [1, 0, 0, 0, 7], "rloo")]
    valid = [np.ones(4, bool), np.ones(2, bool), np.array([1, 1, 1, 1, 0], bool)]
    got = [np.concatenate(rows) for rows in group_advantages(members, Objective(preset_named("grpo")).estimate, valid)]
    np.testing.assert_allclose(got[0], [1.5, -0.5, -0.5, -0.5], atol=1e-4)
    np.testing.assert_allclose(got[1], [0.5, -1])
    np.testing.assert_allclose(got[2], [1, -1 / 3, -1 / 3, -1 / 3, 0])


def test_unknown_estimator_names_the_nearest() -> None:
    with pytest.raises(UserError, match="'group_norm'"):
        component_named("estimator", "grup_norm")
