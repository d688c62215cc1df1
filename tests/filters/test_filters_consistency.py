"""Agreement: Co-Reward's cross vote with its golden values, ACRE's shuffle with a scripted policy."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_model import scripted

from data.records import Problem
from filters.verifiers.base import get_verifier, verify_all
from filters.verifiers.consistency import derangement, names_letters, same_answer
from filters.verifiers.votes import cross_vote, plurality


def test_golden_values_of_co_reward() -> None:
    assert cross_vote(["4", "4", "5", ""], ["4", "5", "5", "5"]) == ([0, 0, 1, 0], [1, 0, 0, 0])


@given(st.lists(st.sampled_from(["1", "2", "3", ""]), max_size=8), st.lists(st.sampled_from(["1", "2", "3", ""]), max_size=8), st.randoms())
def test_the_vote_does_not_depend_on_the_order_of_samples(one: list[str], other: list[str], random) -> None:
    rewards, swapped = cross_vote(one, other), cross_vote(other, one)
    assert rewards == swapped[::-1]
    mixed = other[:]
    random.shuffle(mixed)
    assert cross_vote(one, mixed)[0] == rewards[0]


def test_ties_and_silence_earn_nothing() -> None:
    assert plurality(["4", "5"]) is None and plurality(["", ""]) is None
    assert cross_vote(["4"], ["4", "5"]) == ([0.0], [1.0, 0.0])
    assert plurality(["1/2", "0.5", "3"], same_answer) == "1/2" and plurality(["1/2", "0.5", "3"]) is None  # strings know no equal numbers


def test_an_answer_is_held_against_the_vote() -> None:
    verifier = get_verifier("consistency")
    problem = Problem("q", "", "consistency", {"answers": ["0.5", "1/2", "3", ""]})
    assert verifier.verify(problem, "\\boxed{1/2}").outcome == "pass"
    assert verifier.verify(problem, "\\boxed{3}").outcome == "fail"
    tie = Problem("q", "", "consistency", {"answers": ["4", "5"]})
    assert verifier.verify(tie, "\\boxed{4}").outcome == "unknown" and "tie" in verifier.check_problem(tie)


@given(st.integers(2, 8), st.integers(0, 10_000))
def test_a_derangement_leaves_no_letter_in_its_place(n: int, seed: int) -> None:
    letters = "ABCDEFGH"[:n]
    move = derangement(letters, seed)
    assert sorted(move) == sorted(move.values()) == list(letters)
    assert all(a != b for a, b in move.items())


def test_one_option_has_no_derangement() -> None:
    with pytest.raises(ValueError, match="elsewhere"):
        derangement("A", 0)


OPTIONS = {"A": "ash", "B": "birch", "C": "cedar"}


def shuffled(say, response: str):
    problem = Problem("Which tree?", "B", "consistency", {"mode": "option_shuffle", "options": OPTIONS, "shuffles": 2})
    return verify_all([(problem, response)], scripted(lambda prompt, index: say(prompt)))[0]


def follows(text: str):
    def say(prompt: str) -> str:
        (letter,) = re.findall(rf"^\(([A-C])\) {text}$", prompt, re.M)
        return f"The answer is ({letter})."

    return say


def test_the_four_classes_of_the_shuffle() -> None:
    assert (shuffled(follows("birch"), "It has white bark. The answer is (B).").outcome) == "pass"
    assert shuffled(follows("birch"), "The answer is (B).").reward == 1.0
    assert shuffled(lambda prompt: "The answer is (B).", "The answer is (B).").reward == 0.5  # stays with the letter
    assert shuffled(follows("birch"), "The answer is (A).").reward == 0.25
    assert shuffled(follows("cedar"), "The answer is (A).").reward == 0.0
    assert shuffled(lambda prompt: "I cannot tell", "The answer is (B).").outcome == "unknown"


def test_the_old_answer_is_not_told_and_letters_in_the_reasoning_are_reported() -> None:
    seen: list[str] = []

    def say(prompt: str) -> str:
        seen.append(prompt)
        return "The answer is (A)."

    got = shuffled(say, "Option B has white bark.\nThe answer is (B).")
    assert "names letters" in got.reason
    assert all("Option B has white bark." in p and "answer is (B)" not in p for p in seen)
    assert names_letters("so (C) it is") and not names_letters("A tree with white bark")
