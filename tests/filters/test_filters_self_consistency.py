import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.records import Problem
from filters.self_consistency import answer_key, majority_passes


@pytest.mark.parametrize(
    ("keys", "passed", "value"),
    [
        (["4", "4", "5"], [True, True, False], 1.0),
        (["4", "5", "5"], [True, False, False], 0.0),
        (["4", "5"], [True, False], 0.5),  # a tie is broken at random
        (["4", "5", "", ""], [True, False, False, False], 0.5),  # no answer, no vote
        (["", ""], [False, False], 0.0),
        (["4", "4"], [True, False], 0.5),  # one answer, two verdicts (one was refused for its form)
        ([], [], 0.0),
    ],
)
def test_majority_by_hand(keys, passed, value):
    assert majority_passes(keys, passed) == value


@given(st.lists(st.sampled_from(["a", "b", "c", ""]), max_size=12), st.randoms())
def test_the_order_of_answers_does_not_matter(keys, random):
    passed = [k == "a" for k in keys]
    pairs = list(zip(keys, passed, strict=True))
    random.shuffle(pairs)
    assert majority_passes(keys, passed) == majority_passes([k for k, _ in pairs], [p for _, p in pairs])


def test_equal_answers_have_one_key_however_they_are_written():
    problem = Problem("?", "1/2")
    same = ["#### 1/2", "so \\boxed{0.5}", "#### 0.50", "The answer is 1/2."]
    assert len({answer_key(problem, text) for text in same}) == 1
    assert answer_key(problem, "#### 2") != answer_key(problem, "#### 1/2")
    assert answer_key(problem, "I do not know\nreally") == ""


def test_one_verdict_per_answer():
    with pytest.raises(ValueError, match="one verdict per answer"):
        majority_passes(["1"], [])
