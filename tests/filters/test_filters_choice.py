"""Multiple choice: every way to say one option, and no way to say two."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.records import Problem
from filters.verifiers.base import get_verifier
from filters.verifiers.choice import chosen

OPTIONS = {"options": ["red", "blue", "red, white and blue", "A dog"]}


def verdict(reference: str, response: str, **spec: object) -> str:
    return get_verifier("choice").verify(Problem("q", reference, "choice", {**OPTIONS, **spec}), response).outcome


@pytest.mark.parametrize(
    "response",
    ["B", "b", "(B)", "The answer is (B).", "\\boxed{B}", "\\boxed{\\text{B}}", "#### B", "**Answer: B**", "B) blue", "Answer: B. blue",
     "<answer>blue</answer>", "The correct answer is option B.", "The answer is B because the sky is.", "A is wrong.\nThe answer is Blue."],
)  # fmt: skip
def test_ways_to_say_b(response: str) -> None:
    assert verdict("B", response) == verdict("blue", response) == "pass"
    assert verdict("A", response) == verdict("C", response) == "fail"


@pytest.mark.parametrize(
    "response",
    ["", "A or B", "\\boxed{A, B}", "(A) blue", "(B) red", "\\boxed{AB}", "The answer is A. The answer is B.", "blue or red", "E", "B C",
     "I think it is blue, but who knows", "The answer is not (B)", "Answer: (B) or (A)", "ABCD"],
)  # fmt: skip
def test_no_way_to_say_two_or_none(response: str) -> None:
    assert verdict("B", response) == "fail"


def test_an_option_with_commas_and_one_that_begins_with_an_article() -> None:
    assert verdict("C", "The answer is red, white and blue.") == verdict("C", "\\boxed{C) red, white and blue}") == "pass"
    assert verdict("D", "The answer is A dog.") == "pass"
    assert verdict("A", "The answer is A dog.") == "fail"


def test_several_right_options_are_all_named_or_it_fails() -> None:
    for said in ("\\boxed{A, C}", "\\boxed{C and A}", "The answer is A, C", "<answer>(A), (C)</answer>"):
        assert verdict("A, C", said, several=True) == "pass"
    for said in ("\\boxed{A}", "\\boxed{A, B, C}", "\\boxed{A, B}"):
        assert verdict("A, C", said, several=True) == "fail"


@given(st.permutations("ABCD"), st.sampled_from("ABCD"))
def test_letters_follow_their_texts(order: list[str], letter: str) -> None:
    texts = dict(zip("ABCD", ("ash", "birch", "cedar", "elm"), strict=True))
    options = {new: texts[old] for new, old in zip("ABCD", order, strict=True)}
    assert chosen(texts[letter], options) == chosen(f"({'ABCD'[order.index(letter)]})", options)


def test_equal_answers_are_one_vote() -> None:
    verifier, problem = get_verifier("choice"), Problem("q", "B", "choice", OPTIONS)
    assert [verifier.answer_key(problem, r) for r in ("The answer is (B).", "<answer>blue</answer>", "(A)", "A or B", "")] == ["B", "B", "A", "", ""]
    names = get_verifier("answer"), Problem("q", "Paris", "answer")
    assert names[0].answer_key(names[1], "<answer>The  Beatles.</answer>") == names[0].answer_key(names[1], "beatles") == "beatles"
