"""Process rewards: golden values of the papers, and first errors found by arithmetic and by votes."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_model import scripted, verdict

from data.records import Problem
from filters.verifiers.base import get_verifier, verify_all
from filters.verifiers.process import first_false_claim, steps_of
from filters.verifiers.process_score import (
    answerable,
    consistency,
    first_error,
    flagged,
    flaw_detector_reward,
    flawed_positive,
    length_reward,
    most_varied,
    opv_reward,
    prof_counts,
    prof_filter,
    query_set,
    r3,
    r3_propagated,
    renorm,
)

SHARED = Path(__file__).parents[3] / "shared" / "data"


def test_golden_values_of_opv() -> None:
    assert [opv_reward(*pair) for pair in ((-1, -1), (2, -1), (-1, 2), (2, 2), (1, 3))] == [1.0, -1.0, -1.0, 1.0, 0.25]
    assert consistency([2, 2, -1, 2]) == 0.75
    assert consistency([2, None, None, None]) == 0.25 and consistency([]) == 0.0
    assert first_error([2, 2, -1]) == 2 and first_error([2, -1]) is None and first_error([None]) is None
    assert flagged([1, 2, 3, 0, 0, 1, -1, -1]) and not flagged([1, 2, 3, 0, 0, -1, -1, -1])


def test_the_annotation_queue_takes_the_unsure_first_and_a_keyed_share_of_the_others() -> None:
    listed = {f"p{i}": 1.0 for i in range(40)} | {"a": 0.5, "b": 0.25}
    asked = query_set(listed, 0.7, keep_share=0.1, seed=3)
    assert asked[:2] == ["b", "a"] and len(asked) == 2 + 4
    assert asked == query_set(dict(reversed(listed.items())), 0.7, keep_share=0.1, seed=3) != query_set(listed, 0.7, keep_share=0.1, seed=4)


def test_golden_values_of_fapo_and_prof() -> None:
    assert [flawed_positive(True, 3), flawed_positive(True, -1), flawed_positive(False, -1)] == [0.0, 1.0, -1.0]
    rewards = np.array([flawed_positive(*x) for x in ((True, -1), (True, 2), (False, -1), (False, 1))])
    advantages = (rewards - rewards.mean()) / rewards.std(ddof=1)
    assert advantages.round(5).tolist() == [1.30558, 0.26112, -0.78335, -0.78335]
    assert [flaw_detector_reward(*x) for x in ((-1, -1, 5), (2, -1, 5), (-1, 2, 5), (1, 3, 4), (None, 1, 4))] == [1.0, -1.0, -1.0, 0.5, -1.0]
    assert [prof_counts(n, m, 4) for n, m in ((5, 3), (8, 0), (1, 7), (2, 6))] == [(3, 1), (4, 0), (0, 4), (0, 4)]
    kept = prof_filter([True, True, False, False], [[0.9], [0.1, 0.3], [0.9], [0.1]], 2)
    assert kept == [0, 3]  # of the right the worst reasoned goes, of the wrong the best


@given(st.integers(0, 20), st.integers(0, 20), st.data())
def test_prof_keeps_what_it_should(right: int, wrong: int, data) -> None:
    keep = data.draw(st.integers(0, right + wrong))
    from_right, from_wrong = prof_counts(right, wrong, keep)
    assert 0 <= from_right <= right and 0 <= from_wrong <= wrong
    assert right + wrong - from_right - from_wrong == keep


def test_golden_values_of_renorm_and_why_a_shift_alone_changes_nothing() -> None:
    assert renorm([0.2, 0.9], 1.0) == pytest.approx([0.2, 0.9])
    assert renorm([0.2, 0.9], 0.0) == pytest.approx([-0.8, -0.1])
    assert [renorm([0.7], o)[0] for o in (0.0, 1.0)] == pytest.approx([-0.3, 0.7])
    for mu in (0.0, 1.0, 5.0):  # under group-mean-centred advantages mu drops out
        group = np.array([renorm([r], o, mu)[0] for r, o in ((0.2, 1), (0.9, 1), (0.4, 0))])
        assert group - group.mean() == pytest.approx([0.0333333, 0.7333333, -0.7666667], abs=1e-6)
    assert sum(renorm([0.5, 0.5], 0.0, 1.0)) == -1.0 != sum(renorm([0.5], 0.0, 1.0))  # un-centred returns feel it


def test_golden_values_of_dro() -> None:
    logp = np.array([[-1.0, -0.2, -1.0], [-1.0, -2.0, -1.0]])
    assert r3(logp, np.array([-3.0, -2.0, -0.5])) == pytest.approx([1.8, 0.0])
    assert r3(np.full((2, 3), -1.0), np.zeros(3)).tolist() == [0.0, 0.0]
    assert length_reward(80, 100) == pytest.approx(0.8)
    spread = r3_propagated(np.array([0.2, 0.8]), 1.0)
    assert spread[0, 0] == pytest.approx(0.2) and spread[0, 1] == pytest.approx(0.2 + 0.8 * (1 - np.exp(-1)))
    assert answerable(np.array([[0, 0, 90], [0, 0, 3]]), 0.3, 5) and not answerable(np.array([[0, 0, 90], [0, 0, 8]]), 0.3, 5)
    assert most_varied([np.array([0.1, 0.9]), np.array([0.2]), np.array([0.5])], 0.34) == [0, 2]


def test_a_false_equality_is_the_first_error() -> None:
    verifier, problem = get_verifier("process"), Problem("q", "", "process")
    assert verifier.verify(problem, "3 * 4 = 12\nso 12 + 5 = 17\n#### 17").outcome == "pass"
    got = verifier.verify(problem, "3 * 4 = 12\nso 12 + 5 = 18\n18 - 1 = 17")
    assert got.outcome == "fail" and got.reason == "step 1: 12 + 5 = 18 is false"
    assert verifier.verify(problem, "It is clearly 17.").outcome == "unknown"


@pytest.mark.parametrize("name", ["gsm8k_train.jsonl.gz", "gsm8k_test.jsonl.gz"])
def test_few_steps_of_human_solutions_are_called_false(name: str) -> None:
    """Precision on 8,792 solutions by people; what is left are slips of theirs (192*100=$1920) and loose notation."""
    if not (SHARED / name).exists():
        pytest.skip(f"{name} is not on this machine")
    with gzip.open(SHARED / name, "rt", encoding="utf-8") as stream:
        told = [first_false_claim(steps_of(json.loads(line)["answer"])) for line in stream]
    assert sum(index >= 0 for index, _, _ in told) <= 0.002 * len(told)
    assert sum(checked > 0 for _, _, checked in told) >= 0.95 * len(told)


def test_votes_find_the_first_error_or_send_it_to_people() -> None:
    steps = "Let x be 3.\nThen x is even.\nSo x + 1 is odd."
    problem = Problem("q", "", "process", {"mode": "model", "votes": 8, "consistency": 0.75})

    def judged(say) -> object:
        return verify_all([(problem, steps)], scripted(lambda prompt, index: verdict(prompt, str(say(index)))))[0]

    assert judged(lambda i: 1).reason.startswith("step 1 is wrong: 1.00")
    assert judged(lambda i: -1).outcome == "pass"
    assert judged(lambda i: 1 if i < 6 else -1).outcome == "fail"
    for unsure in (lambda i: i % 2, lambda i: 7, lambda i: "none", lambda i: 1 if i < 5 else -1):
        got = judged(unsure)
        assert got.outcome == "unknown" and got.reason.startswith("to annotate")
    said = verify_all([(problem, "3 + 4 = 8\nso what")], scripted(lambda prompt, index: verdict(prompt, "-1")))[0]
    assert said.outcome == "fail" and "3 + 4 = 8" in said.reason  # arithmetic comes before any vote


def test_a_judgement_of_steps_is_itself_judged() -> None:
    verifier = get_verifier("process")

    def reward(true: str, said: str):
        got = verifier.verify(Problem("steps", true, "process", {"mode": "index"}), f"because …\n\\boxed{{{said}}}")
        return got.outcome, got.reward

    assert reward("2", "2") == ("pass", 1.0) and reward("-1", "-1") == ("pass", 1.0)
    assert reward("3", "1") == ("fail", 0.25) and reward("-1", "2") == reward("2", "-1") == ("fail", 0.0)
    assert "true index" in verifier.check_problem(Problem("steps", "two", "process", {"mode": "index"}))
