"""The registry: names, typed settings, batches, tools; and that whatever breaks is unknown."""

import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from scripted_model import scripted

from data.errors import UserError
from data.records import Problem, Verdict
from filters.verifiers import base
from filters.verifiers.base import Tools, check_spec, get_verifier, register_verifier, verifier_names, verify_all

SHIPPED = ("answer", "choice", "consistency", "instruction", "judge", "logic", "math", "process", "rubric", "sql")


class Batching:
    """Counts the batches it is given; breaks, lies or answers as the response says."""

    name = "batching"
    batches: list[int] = []

    def __init__(self, tools: Tools = base.NO_TOOLS) -> None:
        self.tools = tools

    def bind(self, tools: Tools) -> "Batching":
        return Batching(tools)

    def check_problem(self, problem: Problem) -> str:
        return ""

    def verify(self, problem: Problem, response: str) -> Verdict:
        return self.verify_batch([(problem, response)])[0]

    def verify_batch(self, pairs: Sequence[tuple[Problem, str]]) -> list[Verdict]:
        self.batches.append(len(pairs))
        if any(r == "break" for _, r in pairs):
            raise ZeroDivisionError("1/0")
        reward = {"nan": math.nan, "two": 2.0}
        outcome = {"odd": "maybe", "unsure": "unknown"}
        return [Verdict(outcome.get(r, "pass"), reward.get(r, 1.0), "with tools" if self.tools.generate else "alone", self.name) for _, r in pairs]


def test_the_family_is_there_and_each_member_knows_its_name() -> None:
    assert set(SHIPPED) <= set(verifier_names())
    for name in SHIPPED:
        assert get_verifier(name).name == name
        assert get_verifier(name) is get_verifier(name)


def test_an_unknown_name_says_the_nearest() -> None:
    with pytest.raises(UserError, match=r"no verifier named 'chioce'; did you mean 'choice'\? there are: answer, .*choice"):
        get_verifier("chioce")


def test_a_verifier_is_imported_when_it_is_asked_for() -> None:
    code = """import sys, filters.verifiers.base as b
b.verifier_names()
print([m for m in sys.modules if m.startswith("filters.verifiers.") and m != "filters.verifiers.base"], "pydantic" in sys.modules)
b.get_verifier("choice")
print("filters.verifiers.choice" in sys.modules, "filters.verifiers.sql" in sys.modules, "filters.verifiers.judge" in sys.modules)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True)
    assert done.stdout.split("\n")[:2] == ["[] False", "True False False"]


@pytest.mark.parametrize(
    ("name", "spec", "said"),
    [
        ("choice", {"options": ["a", "b"]}, ""),
        ("choice", {}, "spec.options: is missing"),
        ("choice", {"options": ["a"]}, "spec.options: give at least two options"),
        ("choice", {"options": ["a", "A."]}, "spec.options: two options say the same"),
        ("choice", {"option": ["a", "b"], "options": ["a", "b"]}, "spec.option: no such setting; did you mean 'options'?"),
        ("judge", {"votes": 0}, "spec.votes: input should be greater than or equal to 1 (got 0)"),
        ("logic", {"kind": "sudoku"}, "spec.kind: input should be 'countdown', 'knights' or 'propositional' (got \"sudoku\")"),
        ("logic", {"kind": "knights", "statements": {"Ann": "Bob &"}}, "spec: formula 'Bob &': it ends too early"),
        ("instruction", {"instructions": [{"id": "punctuation:no_coma"}]}, "spec.instructions.0: no instruction kind 'punctuation:no_coma'"),
        ("instruction", {"instructions": [{"id": "length_constraints:number_words", "kwargs": {"relation": "at least"}}]}, "kwargs.num_words"),
        ("rubric", {}, "spec: give either rubrics or dimensions"),
        ("sql", {"tables": "CREATE TABLE t(x)", "steps": 5}, "spec.steps: input should be greater than or equal to 1000 (got 5)"),
    ],
)
def test_wrong_settings_are_one_clear_sentence(name: str, spec: dict, said: str) -> None:
    got = check_spec(name, spec)
    assert ((got == "") == (said == "") and got.startswith(said)) or said in got
    if said:
        verdict = get_verifier(name).verify(Problem("q", "A", name, spec), "A")
        assert (verdict.outcome, verdict.reward) == ("unknown", 0.0) and verdict.reason == got


def test_a_batch_goes_out_as_one_and_only_what_breaks_it_is_unknown() -> None:
    register_verifier("batching", Batching)
    problem = Problem("q", "1", "batching")
    Batching.batches.clear()
    assert [v.outcome for v in verify_all([(problem, "a"), (Problem("q", "7"), "#### 7"), (problem, "b")])] == ["pass"] * 3
    assert Batching.batches == [2]
    verdicts = verify_all([(problem, r) for r in ("a", "break", "b", "nan", "two", "odd", "unsure")])
    assert [v.outcome for v in verdicts] == ["pass", "unknown", "pass", "unknown", "unknown", "unknown", "unknown"]
    assert [v.reward for v in verdicts] == [1.0, 0, 1.0, 0, 0, 0, 0]
    assert "ZeroDivisionError: 1/0" in verdicts[1].reason


def test_tools_are_handed_to_those_that_can_use_them() -> None:
    register_verifier("batching", Batching)
    pairs = [(Problem("q", "1", "batching"), "a"), (Problem("q", "7"), "#### 7")]
    assert next(v.reason for v in verify_all(pairs)) == "alone"
    told = verify_all(pairs, scripted(lambda prompt, index: "x"))
    assert told[0].reason == "with tools" and told[1].outcome == "pass"
