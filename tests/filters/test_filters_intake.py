"""The first look at a file, and which verifier a problem gets."""

import pytest

from data.errors import UserError
from data.problems.rows import problem_from_row
from data.records import Problem
from filters.decontaminate import HeldoutIndex, HeldoutSet
from filters.intake import BATCH, as_json, summarise
from filters.verifier_choice import _known, choose_verifier, fitting, listed_options


def read(**row) -> Problem:
    return problem_from_row({"prompt": "Which?", **row}, "f, line 1", choose=choose_verifier)


@pytest.mark.parametrize(
    ("row", "verifier", "reason"),
    [
        ({"answer": 42}, "math", "a number"),
        ({"answer": "-1/3"}, "math", "a number"),
        ({"answer": "12 km"}, "math", "a number with a unit"),
        ({"answer": "25 %"}, "math", "a percentage"),
        ({"answer": "\\frac{\\sqrt{3}}{2}"}, "math", "a mathematical expression"),
        ({"answer": "x^2 + 1"}, "math", "a mathematical expression"),
        ({"answer": "(3, 4)"}, "math", "a mathematical expression"),
        ({"answer": "B", "choices": ["one", "two"]}, "choice", "the row has choices"),
        ({"answer": "B", "prompt": "Which? A) one B) two"}, "choice", "the problem lists choices"),
        ({"answer": "(C)", "prompt": "Which?\n(A) one\n(B) two\n(C) three"}, "choice", "the problem lists choices"),
        ({"answer": "B", "prompt": "Which letter follows A?"}, "math", "a mathematical expression"),
        ({"answer": "the Treaty of Versailles"}, "answer", "a short text"),
        ({"answer": "Paris"}, "answer", "a short text"),
        ({"answer": "on 4 May 1904"}, "answer", "a short text"),
        ({"answer": "word " * 60}, "math", "a long text"),
        ({"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{"n": None}]}, "instruction", "the row lists instructions"),
        ({"tests": [{"call": "f(1)", "expected": 2}]}, "code", "the row has tests"),
    ],
)
def test_the_verifier_fits_the_answer(row: dict, verifier: str, reason: str) -> None:
    bare = problem_from_row({"prompt": "Which?", **row}, "f, line 1")
    found, why = fitting(bare)
    assert found == verifier
    assert reason in why
    chosen = read(**row)
    assert chosen.verifier in _known()  # what is not there falls back to math and says so
    assert chosen.verifier == verifier or (chosen.verifier == "math" and repr(verifier) in chosen.meta["verifier_reason"])
    assert reason in chosen.meta["verifier_reason"]


def test_options_are_read_from_the_prompt() -> None:
    wanted = {"A": "one", "B": "two, or so", "C": "three"}
    assert listed_options("Which? (A) one (B) two, or so (C) three") == wanted
    assert listed_options("Which?\nA) one\nB) two, or so\nC) three\n") == wanted
    assert listed_options("Plan A: wait. Which is it?\nA. one\nB. two, or so\nC. three") == wanted
    assert listed_options("Grade A. Then nothing.") == {}
    assert listed_options("Let A. and C. be towns") == {}


def test_instructions_of_ifeval_are_read() -> None:
    found = read(instruction_id_list=["a:b", "c:d"], kwargs=[{"n": 3, "m": None}, None])
    assert found.spec == {"instruction_id_list": ["a:b", "c:d"], "kwargs": [{"n": 3}, {}]}
    with pytest.raises(UserError, match="field 'kwargs' must be a list of objects, one for each of the 2"):
        read(instruction_id_list=["a:b", "c:d"], kwargs=[{}])


def test_a_named_verifier_is_taken_and_a_wrong_name_is_said() -> None:
    assert read(answer="B", verifier="math").meta["verifier_reason"] == "named in the row"
    with pytest.raises(UserError, match="f, line 1: field 'verifier': no verifier named 'maths'; did you mean 'math'"):
        read(answer="B", verifier="maths")


def test_the_id_of_a_problem_does_not_depend_on_how_its_verifier_was_found() -> None:
    assert read(answer="42").id == read(answer="42", verifier="math").id == Problem("Which?", "42").id


def test_the_summary_counts_what_a_run_would() -> None:
    rows = [{"prompt": f"What is {n} plus {n}?", "answer": 2 * n, "domain": "sums"} for n in range(BATCH + 10)]  # more than a batch
    rows += [{"prompt": "WHAT IS 3 PLUS 3 ?", "answer": 6}, {"prompt": "what is 4  plus 4", "answer": 9}]  # a double; a contradiction
    rows += [{"prompt": "Sing.", "answer": "la " * 2000, "licence": "MIT"}, {"prompt": "How far is it to the sea?", "answer": "12 km"}]
    placed = [(f"f, line {n}", problem_from_row(row, "f", choose=choose_verifier)) for n, row in enumerate(rows, start=1)]
    heldout = HeldoutIndex([HeldoutSet("held", [Problem("How far is it to the sea", "")])])
    found = summarise(placed, heldout)
    assert (found.rows, found.distinct, found.duplicates, found.conflicting, found.unjudgeable) == (BATCH + 14, BATCH + 12, 2, 1, 1)
    assert found.unjudgeable_examples[0]["where"] == f"f, line {BATCH + 13}"
    assert "longer than" in found.unjudgeable_examples[0]["reason"]
    assert found.leaks == {"held": 1}
    assert found.leak_examples[0]["where"] == f"f, line {BATCH + 14}"
    assert found.answer_kinds["number"] == BATCH + 12
    assert found.answer_kinds["quantity"] == 1
    assert found.domains == {"sums": BATCH + 10, "": 4}
    assert found.licences == {"": BATCH + 13, "MIT": 1}
    assert found.words == {"p5": 5, "p50": 5, "p95": 5, "p100": 7}
    assert as_json(found)["usable"] == BATCH + 10


def test_nothing_is_summarised_as_nothing() -> None:
    assert summarise([]).rows == 0
