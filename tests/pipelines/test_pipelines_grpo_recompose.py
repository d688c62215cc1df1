"""Composers: edits in order, refusals in sentences, DAPO's length punishment."""

from dataclasses import replace

import numpy as np
import pytest

from data.records import Group, GroupEdit, Problem, Sampling, Trajectory, Verdict
from pipelines.grpo.recompose import apply_edits, drop_zero_variance, overlong, overlong_penalty


def group(name: str, rewards: list[float], lengths: list[int] | None = None, max_tokens: int = 256, **kwargs: object) -> Group:
    problem = Problem(name)
    rows = []
    for i, length in enumerate(lengths or [1] * len(rewards)):
        mask = np.r_[0, np.ones(length)].astype(np.uint8)
        zeros = np.zeros(length + 1)
        rows.append(
            Trajectory(problem.id, "p", zeros.astype(np.int32), mask, zeros.astype(np.float32), Sampling(max_tokens=max_tokens), i, i, "stop", "")
        )
    verdicts = tuple(Verdict("pass" if r else "fail", r, "", "test") for r in rewards)
    return Group(name, problem, tuple(rows), verdicts, np.array(rewards, np.float32), **kwargs)  # type: ignore[arg-type]


A, B = group("a", [1, 0]), group("b", [1, 1, 0])


def test_dynamic_sampling_truth_table() -> None:
    """DAPO keeps 0 < correct < G: of 8, with 0, 1, 7 and 8 correct."""
    groups = [group(str(c), [1.0] * c + [0.0] * (8 - c)) for c in (0, 1, 7, 8)]
    assert [g.id for g in drop_zero_variance(groups)] == ["1", "7"]
    assert drop_zero_variance([group("r", [1, 1], estimator="reinforce"), group("z", [0, 0], estimator="reinforce")])[0].id == "r"


def test_edits_apply_in_order() -> None:
    extra = replace(group("c", [0, 1]), stream="extra", estimator="rloo", coef=0.5)
    edits = [GroupEdit.add(extra), GroupEdit.scale("a", 2), GroupEdit.scale("a", 0.25), GroupEdit.set_reward("b", [0, 0, 1]), GroupEdit.scale("c", 3)]
    groups, factors = apply_edits([A, B], edits)
    assert [g.id for g in groups] == ["a", "b", "c"] and factors == {"a": 0.5, "c": 3.0}
    assert groups[1].rewards.tolist() == [0, 0, 1] and B.rewards.tolist() == [1, 1, 0]
    assert groups[2].stream == "extra"


def test_a_dropped_group_stays_dropped_and_loses_its_factor() -> None:
    edits = [GroupEdit.scale("a", 2), GroupEdit.drop("a"), GroupEdit.scale("a", 3), GroupEdit.drop("a"), GroupEdit.set_reward("a", [1, 1])]
    groups, factors = apply_edits([A, B], edits)
    assert [g.id for g in groups] == ["b"] and factors == {}


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (GroupEdit.drop("x"), "drop group x"),
        (GroupEdit.scale("x", 1), "scale group x"),
        (GroupEdit.set_reward("x", [1]), "set_reward group x"),
        (GroupEdit.set_reward("a", [1]), "1 rewards on group a, which has 2"),
        (GroupEdit.scale("a", float("nan")), "finite"),
        (GroupEdit.add(B), "already has"),
        (GroupEdit("add", "y"), "carries no group"),
    ],
)
def test_wrong_edits_are_refused_with_a_sentence(edit: GroupEdit, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        apply_edits([A, B], [edit])


def test_doubled_ids_are_refused() -> None:
    with pytest.raises(ValueError, match="two groups"):
        apply_edits([A, A], [])


@pytest.mark.parametrize(("length", "expected"), [(16384, 0), (18432, -0.5), (20480, -1), (30000, -1), (3, 0)])
def test_overlong_oracle(length: int, expected: float) -> None:
    assert overlong_penalty(length, 20480, 4096) == expected


def test_overlong_shapes_by_each_rollouts_own_budget() -> None:
    (shaped,) = overlong([group("a", [1, 1, 0], [80, 90, 100], max_tokens=100)], overlong_share=0.2)
    np.testing.assert_allclose(shaped.rewards, [1, 0.5, -1])
    (free,) = overlong([A], overlong_share=0.0)
    assert free.rewards.tolist() == A.rewards.tolist()
