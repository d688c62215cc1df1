"""The measures against the paper's worked example, closed forms and brute force; the audit against planted suites."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import UserError
from filters import suites
from filters.mutants import mutants
from filters.near_inputs import near_calls
from filters.sandbox import levels
from filters.suite_audit import suite_table

matrices = st.integers(1, 6).flatmap(
    lambda n: st.integers(1, 6).flatmap(lambda w: st.lists(st.lists(st.booleans(), min_size=w, max_size=w), min_size=n, max_size=n))
)


def test_the_worked_example_of_saga() -> None:
    """reference/papers.md 2.3: four tests, three wrong solutions."""
    kills = suites.as_kills([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]])
    assert suites.detection_rate(kills) == pytest.approx(2 / 3)
    assert suites.verifier_accuracy(kills) == 0
    assert suites.depc(kills) == 2
    assert suites.depc_ratio(kills) == 0.5
    assert suites.auc_at_n([0.2, 0.4, 0.5]) == pytest.approx(0.375)
    assert suites.greedy_minimal_suite(kills) == [0, 2]
    assert suites.mean_kill_rate(kills) == pytest.approx(3 / 12)


def test_saturation_has_its_limits() -> None:
    assert suites.saturation_bound(0.5, 0.5) == pytest.approx(0.75)
    assert suites.saturation_bound(0.5, 0.0) == 1.0 and suites.saturation_bound(0.0, 0.0) == 0.0
    assert suites.saturation_bound(0.643, 1.0) == pytest.approx(0.643)  # one test over and over
    for rho in (0.1, 0.3, 0.9):  # the bound is what n_eff of ever more tests tends to
        assert 1 - (1 - 0.3) ** suites.effective_tests(10**9, rho) == pytest.approx(suites.saturation_bound(0.3, rho), abs=1e-6)
    assert suites.effective_tests(7, 0.0) == 7 and suites.effective_tests(7, 1.0) == 1


@given(matrices)
def test_the_curves_equal_brute_force_over_all_subsets(matrix: list[list[bool]]) -> None:
    kills = suites.as_kills(matrix)
    n = len(kills)
    curve = suites.detection_curve(kills)
    for k in range(1, n + 1):
        subsets = [kills[list(chosen)].any(axis=0) for chosen in itertools.combinations(range(n), k)]
        assert curve[k - 1] == pytest.approx(np.mean([s.mean() for s in subsets]))
    accuracy = suites.accuracy_curve([kills], draws=8)
    assert (np.diff(accuracy) >= 0).all() and accuracy[-1] == suites.verifier_accuracy(kills)
    assert suites.detection_rate(kills) == pytest.approx(curve[-1])


def test_the_accuracy_curve_estimates_the_share_of_subsets() -> None:
    kills = suites.as_kills([[1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 1]])
    exact = [np.mean([kills[list(c)].any(axis=0).all() for c in itertools.combinations(range(4), k)]) for k in range(1, 5)]
    assert suites.accuracy_curve([kills], draws=4000) == pytest.approx(exact, abs=0.03)
    assert suites.accuracy_curve([kills, suites.as_kills(np.ones((4, 2)))], draws=4000) == pytest.approx([(e + 1) / 2 for e in exact], abs=0.03)


@given(matrices)
def test_a_minimal_suite_rejects_what_the_whole_one_does(matrix: list[list[bool]]) -> None:
    kills = suites.as_kills(matrix)
    chosen = suites.greedy_minimal_suite(kills)
    assert len(set(chosen)) == len(chosen) <= suites.depc(kills)
    assert (kills[chosen].any(axis=0) == kills.any(axis=0)).all()
    subsets = (c for k in range(len(kills) + 1) for c in itertools.combinations(range(len(kills)), k))
    smallest = len(next(c for c in subsets if (kills[list(c)].any(axis=0) == kills.any(axis=0)).all()))
    assert len(chosen) <= max(1, math.ceil(smallest * (math.log(max(kills.shape[1], 1)) + 1)))


def test_equivalent_mutants_leave_the_score() -> None:
    kills = suites.as_kills([[1, 0, 0, 0], [1, 1, 0, 0]])
    assert suites.mutation_score(kills) == 0.5
    assert suites.mutation_score(kills, [False, False, False, True]) == pytest.approx(2 / 3)
    assert math.isnan(suites.mutation_score(kills[:, :0]))
    assert math.isnan(suites.detection_rate(kills[:, :0])) and suites.depc(kills[:, :0]) == 0


def test_correlated_tests_are_seen() -> None:
    same = suites.as_kills([[1, 0, 1, 0]] * 5)
    assert suites.kill_correlation(same) == pytest.approx(1.0)
    opposed = suites.as_kills([[1, 0, 1, 0], [0, 1, 0, 1]])
    assert suites.kill_correlation(opposed) == pytest.approx(-1.0)
    assert suites.kill_correlation(suites.as_kills([[1, 1], [0, 0]])) == 0.0


CLAMP = "def clamp(x, low, high):\n    if x < low:\n        return low\n    if x > high:\n        return high\n    return x\n"


def test_mutants_differ_in_one_place_and_repeat() -> None:
    made = mutants(CLAMP)
    assert len({m.code for m in made}) == len(made) == 9
    assert all(m.code != CLAMP.strip() for m in made)
    assert {"Lt to LtE", "Gt to Lt", "condition turned round", "result forgotten"} & {m.change for m in made}
    assert all(sum(a != b for a, b in zip(m.code.splitlines(), CLAMP.splitlines())) == 1 for m in made)
    assert mutants(CLAMP, 5, key="a") == mutants(CLAMP, 5, key="a") != mutants(CLAMP, 5, key="b")
    assert mutants("def f(:") == [] and mutants("") == []


def test_near_calls_are_new_keyed_and_of_the_same_types() -> None:
    calls = near_calls(["f([1, 2], 'ab', 0.5, (True, {'k': 1}))", "f(x)", "1 + 1"], 40, key="k")
    assert len(set(calls)) == 40 and calls == near_calls(["f([1, 2], 'ab', 0.5, (True, {'k': 1}))", "f(x)", "1 + 1"], 40, key="k")
    for call in calls:
        import ast

        numbers, text, number, pair = (ast.literal_eval(a) for a in ast.parse(call, mode="eval").body.args)  # type: ignore[attr-defined]
        assert isinstance(numbers, list) and isinstance(text, str) and isinstance(number, float) and isinstance(pair, tuple)
    assert near_calls(["f()"], 5) == []


needs_sandbox = pytest.mark.skipif(levels.best().level < "L2", reason="this host's sandbox is below L2")


@needs_sandbox
def test_the_audit_of_a_suite_finds_what_was_planted() -> None:
    row = {
        "id": "clamp",
        "code": CLAMP,
        "tests": [{"call": "clamp(5, 0, 3)", "expected": 3}, {"script": "assert clamp(1, 0, 3) == 1"}, {"call": "clamp(9, 0, 3)", "expected": 3}],
        "right": ["def clamp(x, low, high):\n    return max(low, min(x, high))", "def clamp(x, low, high):\n    return sorted((low, x, high))[1]"],
        "wrong": [
            "def clamp(x, low, high):\n    return min(x, high)",  # no test is below low: never noticed
            "def clamp(x, low, high):\n    return x",
            "def clamp(x, low, high):\n    return high",
            "def clamp(x, low, high):\n    while x > high: pass\n    return x",
        ],
    }
    further = [{"call": "clamp(-1, 0, 3)", "expected": 0}, {"call": "clamp(2, 2, 1)", "expected": 1}]
    full = {**row, "tests": [*row["tests"], *further], "right": []}  # type: ignore[misc]
    broken = {**row, "tests": [{"call": "clamp(5, 0, 3)", "expected": 4}], "wrong": [], "right": []}
    partial, whole, refused = suites.audit_rows([row, full, broken])
    assert (partial.detected, partial.wrong, partial.detection_rate, partial.verifier_accuracy) == (3, 4, 0.75, 0.0)
    assert not partial.passed and "1 of 4 wrong programs are accepted" in partial.reason
    assert (partial.right_accepted, partial.right, partial.depc, partial.minimal) == (2, 2, 2, (0, 1))
    assert partial.depc_ratio == pytest.approx(2 / 3)
    assert partial.mutation_score < 1 and partial.mutants_equivalent == 1  # `x >= high` for `x > high` is the same function
    assert whole.passed and whole.detection_rate == whole.verifier_accuracy == 1.0
    assert whole.mutation_score == 1.0 and whole.mutants_equivalent == partial.mutants_equivalent
    assert not refused.reference_accepted and "the reference fails its own tests" in refused.reason
    table = suite_table([partial, whole, refused]).row(0, named=True)
    assert (table["problems"], table["passed"], table["reference_refused"]) == (3, 1, 1)
    assert table["right_accepted"] == 1.0 and table["detection_rate_pooled"] == pytest.approx(7 / 8) and table["verifier_accuracy"] == 0.5


@needs_sandbox
def test_a_row_without_tests_is_the_users_error() -> None:
    for row in ({"code": CLAMP}, {"code": CLAMP, "tests": []}, {"code": 3, "tests": [1]}, {"code": CLAMP, "tests": [{"call": "x"}]}):
        with pytest.raises(UserError, match="row 1"):
            suites.audit_rows([row])
