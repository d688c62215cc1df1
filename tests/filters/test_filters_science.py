"""The science verifier: labelled quantities, options, parts, tolerance, and answers that are none."""

import sys
import time
from pathlib import Path

import pytest

from data.records import Problem
from filters.verifiers.quantities import Quantity, parse_quantity, unit_of
from filters.verifiers.science import ScienceVerifier, degenerate_answer, judge

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import math_pairs

PAIRS = [
    (line[0] == "+", *line[2:].split(" ## "))
    for line in (Path(__file__).parent / "science_pairs.txt").read_text(encoding="utf-8").splitlines()
    if line.startswith(("+ ", "- "))
]


@pytest.mark.parametrize("form", ["\\boxed{{{}}}", "<answer>{}</answer>"])
def test_every_labelled_quantity_is_judged_as_labelled(form: str) -> None:
    assert len(PAIRS) >= 95
    assert [(r, a) for equal, r, a in PAIRS if (judge(r, form.format(a))[0] == "pass") != equal] == []


def test_a_wrong_unit_never_passes_as_a_missing_one() -> None:
    for unit in ("kg", "s", "m^2", "J", "m/s^2", "K", "mol"):
        assert judge("3.5 m", f"\\boxed{{3.5 {unit}}}")[0] == "fail", unit
    assert judge("3.5 m", "\\boxed{3.5}")[0] == "pass"


def test_options_by_letter_or_content() -> None:
    spec = {"options": {"A": "5 m", "B": "10 m", "C": "15 m"}}
    for answer, outcome in (
        ("B", "pass"),
        ("(B)", "pass"),
        ("10 m", "pass"),
        ("1000 cm", "pass"),
        ("B. 10 m", "pass"),
        ("B. 5 m", "fail"),
        ("A", "fail"),
        ("15 m", "fail"),
    ):
        assert judge("B", f"\\boxed{{{answer}}}", spec)[0] == outcome, answer
    assert judge("B", "\\boxed{12 m}", spec)[0] != "pass"


def test_tolerance_is_what_the_spec_says() -> None:
    assert judge("9.81 m/s^2", "\\boxed{10 m/s^2}", {"rel_tol": 0.05})[0] == "pass"
    assert judge("9.81 m/s^2", "\\boxed{10.6 m/s^2}", {"rel_tol": 0.05})[0] == "fail"
    assert judge("17", "\\boxed{17.2}")[0] == "fail"
    assert judge("5", "\\boxed{500 cm}", {"unit": "m"})[0] == "pass"
    assert judge("5", "\\boxed{5 s}", {"unit": "m"})[0] == "fail"


def test_degenerate_answers() -> None:
    assert degenerate_answer("F = ")
    assert degenerate_answer("the force is 5 N " * 10)
    assert degenerate_answer("9.81 m/s^2") == ""
    assert judge("5 N", "\\boxed{5 N \\times}")[0] == "fail"


def test_unit_texts_cannot_make_pint_compute() -> None:
    for text in ("m^10^10^10", "10**10**10", "m**99999999", "__import__('os')", "m" * 5_000, "(" * 500 + "m", "m/" * 500):
        assert unit_of(text) is None, text[:40]
    assert isinstance(parse_quantity("5 m^{999999}"), str) or parse_quantity("5 m^{999999}").unit is None


def test_significant_figures_as_written() -> None:
    figures = {"0.050 m": 2, "1.20e3 m": 3, "9.81": 3, "-3.2 V": 2}
    for text, expected in figures.items():
        read = parse_quantity(text)
        assert isinstance(read, Quantity)
        assert read.figures == expected, text


def test_problems_that_cannot_be_judged() -> None:
    verifier = ScienceVerifier()
    for problem in (
        Problem("q", ""),
        Problem("q", "5 m", spec={"unit": "blorps"}),
        Problem("q", "5 m", spec={"rel_tol": 2}),
        Problem("q", "5", spec={"extract": "x"}),
    ):
        assert verifier.check_problem(problem)
        assert verifier.verify(problem, "\\boxed{5}").outcome == "unknown"
    assert verifier.check_problem(Problem("q", "5 m", spec={"unit": "m", "rel_tol": 0.01})) == ""


def test_hostile_and_fuzzed_answers_are_bounded() -> None:
    """Letters without end must not make a pattern backtrack; nothing raises."""
    slow = "The answer is k is an integer\\equiv\\equivwhere\\infty,\\sinz\\equivc wherec6\\int7\\sin"
    references = ("9.81 m/s^2", "5 cm", "(a) 5 m; (b) 3 s", "12.5 %", "x^2")
    judge("5 m", "\\boxed{5 m}")  # makes the registry of units
    answers = [slow, "abc" * 300, "5 " + "k" * 900, *math_pairs.PATHOLOGICAL]
    for i, text in enumerate([*answers, *(response for _, response in math_pairs.fuzzed(2_000))]):
        start = time.thread_time()
        assert judge(references[i % len(references)], text if i % 2 else f"\\boxed{{{text}}}")[0] in ("pass", "fail", "unknown")
        assert time.thread_time() - start < 2.0, text[:100]
