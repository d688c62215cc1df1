"""Problems read out of what a model wrote: recorded and mangled outputs, the rules, and a fuzz of every form."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.records import Problem
from filters.verifiers.base import get_verifier, verify_all
from filters.written import FORMS, MAX_CHARS, grams, jaccard, plan_before, read_problem, states_answer

TEXT = "A baker fills 4 trays with 9 rolls each. How many rolls is that?"

READABLE = {
    "text block": ("fenced", f"I turn it around.\n```text\n{TEXT}\n```\n"),
    "text block beside another": ("fenced", f"```python\nprint(36)\n```\nand\n```text\n{TEXT}\n```"),
    "any block": ("fenced", f"Here:\n```\n{TEXT}\n```"),
    "marker": ("fenced", f"Let me see.\n**Reconstructed Question:**\n{TEXT}"),
    "malformed marker of the released code": ("fenced", f"****Reconstructed Question:**** {TEXT}".replace("****", "**")),
    "another heading": ("fenced", f"### New problem:\n{TEXT}"),
    "behind the thought": ("fenced", f"<think>```text\nWrong one, not this, no no?\n```</think>\n```text\n{TEXT}\n```"),
    "the same block twice": ("fenced", f"```text\n{TEXT}\n```\nOnce more:\n```text\n{TEXT}\n```"),
    "json": ("json", json.dumps({"problem": TEXT})),
    "json in a block": ("json", f"<think>hm</think>```json\n{json.dumps({'problem': TEXT})}\n```"),
    "line": ("line", f" {TEXT}"),
    "line with blanks behind": ("line", f"{TEXT}\n\n "),
}
UNREADABLE = {
    "nothing": ("fenced", ""),
    "the literal None": ("fenced", "```text\nNone\n```"),
    "prose": ("fenced", "I could not come up with a question, sorry about that."),
    "open block": ("fenced", f"```text\n{TEXT}"),
    "open thought": ("fenced", f"<think>```text\n{TEXT}\n```"),
    "two problems": ("fenced", f"```text\n{TEXT}\n```\n```text\nAnother one with quite different words?\n```"),
    "two blocks of no kind": ("fenced", f"```\n{TEXT}\n```\n```\nAnother one with quite different words?\n```"),
    "empty marker": ("fenced", "**Reconstructed Question:**\n"),
    "markup inside": ("line", "How many? #### 12 is the answer here"),
    "signs only": ("fenced", "```text\n1 + 2 + 3 + 4\n```"),
    "far too long": ("fenced", f"```text\n{'very ' * MAX_CHARS}long?\n```"),
    "no json": ("json", TEXT),
    "json list": ("json", json.dumps([TEXT])),
    "json with more": ("json", json.dumps({"problem": TEXT, "answer": "36"})),
    "json number": ("json", json.dumps({"problem": 36})),
    "deep json": ("json", "[" * 100_000),
    "two lines": ("line", f"{TEXT}\nA: 36"),
}


@pytest.mark.parametrize("name", READABLE)
def test_a_problem_is_read_out_of_what_models_write(name: str) -> None:
    form, said = READABLE[name]
    assert read_problem(said, form) == (TEXT, "")


@pytest.mark.parametrize("name", UNREADABLE)
def test_whatever_does_not_fit_the_grammar_is_no_problem(name: str) -> None:
    form, said = UNREADABLE[name]
    text, why = read_problem(said, form)
    assert text == "" and why


def test_a_failure_after_a_success_does_not_give_the_earlier_text() -> None:
    """The released code has no final `else`: an answer that cannot be read is given the text of the one before."""
    said = [READABLE["text block"][1], UNREADABLE["prose"][1], READABLE["marker"][1], UNREADABLE["open block"][1]]
    assert [read_problem(s)[0] for s in said] == [TEXT, "", TEXT, ""]


PIECES = st.lists(
    st.sampled_from(
        ["```", "```text\n", "\n```\n", "</think>", "<think>", "**New problem:**", '{"problem": "', '"}', "\n", TEXT, "\x00", "\ud800", "####"]
    )
    | st.text(max_size=20),
    max_size=12,
).map("".join)  # fmt: skip


@settings(deadline=None)  # the first call pays for what is loaded late
@given(PIECES, st.sampled_from(FORMS))
def test_no_answer_breaks_the_parsers_and_what_they_read_is_in_the_answer(said: str, form: str) -> None:
    text, why = read_problem(said, form)
    assert bool(text) != bool(why)
    if text and form != "json":
        assert text in said.replace("\x00", "\ufffd").replace("\ud800", "\ufffd")
    assert "```" not in text and "\x00" not in text
    verdict = get_verifier("written").verify(Problem("task", verifier="written", spec={"form": form}), said)
    assert (verdict.outcome, verdict.reward) == ("pass" if text else "fail", 0.0)


def test_the_verifier_refuses_a_form_that_it_does_not_know() -> None:
    (verdict,) = verify_all([(Problem("task", verifier="written", spec={"form": "xml"}), TEXT)])
    assert verdict.outcome == "unknown" and "form" in verdict.reason


@given(st.text(max_size=60), st.text(max_size=60), st.integers(1, 4))
def test_jaccard_is_a_similarity(one: str, other: str, n: int) -> None:
    assert jaccard(one, other, n) == jaccard(other, one, n)
    assert 0.0 <= jaccard(one, other, n) <= 1.0
    assert jaccard(one, one, n) == 1.0


def test_grams_by_hand() -> None:
    assert grams("The cat, the CAT sat!", 2) == {("the", "cat"), ("cat", "the"), ("cat", "sat")}
    assert grams("One", 3) == {("one",)}
    assert jaccard("a b c d", "a b c e", 3) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("text", "reference", "source", "leaks"),
    [
        ("The answer is 7. Which number is it?", "7", "", True),  # stated as the answer: small or not
        ("Find x. #### 7", "7", "", True),
        (r"Show that it equals \boxed{7}.", "7", "", True),
        ("What is the answer to 70 minus 1?", "7", "", False),
        ("Ann has 7 pens and loses 2. How many are left?", "7", "", False),  # small integers are everywhere
        ("Ann has 36 pens and loses 0. How many are left?", "36", "", True),
        ("Ann has 1,036 pens and loses 0. How many are left?", "1036", "", True),
        ("Ann has 136 pens and loses 100. How many are left?", "36", "", False),
        ("Ann has 36 pens, loses 5 and finds 5. How many has she?", "36", "He had 36 boxes.", False),  # the source tells it, too
        ("A rod is 0.5 m long. How long is it?", "0.5", "", True),
        ("It is -7 degrees, then 3 more. What now?", "-7", "", False),
        ("It is 0.5 m and 7.5 m long.", "5", "", False),
        ("Who wrote it: Jane Austen or another?", "Jane Austen", "", True),
        ("Who wrote it?", "Jane Austen", "", False),
        ("Is it so or not?", "so", "", False),  # too short to mean anything
        ("Anything", "", "", False),
    ],
)
def test_what_gives_an_answer_away(text: str, reference: str, source: str, leaks: bool) -> None:
    assert bool(states_answer(text, reference, source)) is leaks


@given(st.text(max_size=200), st.text(max_size=20), st.text(max_size=60))
def test_no_reference_breaks_the_leak_rule(text: str, reference: str, source: str) -> None:
    assert isinstance(states_answer(text, reference, source), str)


@pytest.mark.parametrize(
    ("said", "form", "text", "plan"),
    [
        (" 12*3=36 Q: How many pens are in 12 boxes?", "line", "How many pens are in 12 boxes?", "12*3=36"),
        (" How many pens are in 12 boxes?", "line", "How many pens are in 12 boxes?", ""),
        ("<think>1+1=3</think>Take two.\n```text\nWhat is the sum of two twos?\n```", "fenced", "What is the sum of two twos?", "Take two."),
        ('{"problem": "What is the sum of two twos?"}', "json", "What is the sum of two twos?", ""),
    ],
)
def test_a_plan_stands_before_the_problem(said: str, form: str, text: str, plan: str) -> None:
    assert (read_problem(said, form), plan_before(said, form)) == ((text, ""), plan)  # type: ignore[arg-type]
