"""The audits must find the faults they exist for, so each is shown a verifier that has it."""

import time
from collections.abc import Callable

import pytest

from data.records import Problem, Verdict
from filters.audit import audit_problem, audit_problems, audit_table
from filters.verifiers.base import register_verifier


class Judge:
    name = "audited"

    def __init__(self, rule: Callable[[Problem, str], bool]) -> None:
        self.rule = rule

    def verify(self, problem: Problem, response: str) -> Verdict:
        accepted = self.rule(problem, response)
        return Verdict("pass" if accepted else "fail", float(accepted), "rule", self.name)

    def check_problem(self, problem: Problem) -> str:
        return "no reference" if not problem.reference else ""


def raises(problem: Problem, response: str) -> bool:
    return int(response.removeprefix("#### ")) == int(problem.reference)


def slow(problem: Problem, response: str) -> bool:
    if not response:
        start = time.thread_time()
        while time.thread_time() - start < 0.06:
            pass
    return response == f"#### {problem.reference}"


@pytest.mark.parametrize(
    ("rule", "finding"),
    [
        (lambda p, r: bool(r.strip()), "junk accepted"),  # reasoning-gym's game_of_life_halting
        (lambda p, r: False, "the reference itself gets fail"),
        (lambda p, r: p.reference.startswith(r.removeprefix("#### ")) and r.startswith("#### ") and r > "#### ", "another problem's answer accepted"),
        (raises, "the verifier broke"),
        (slow, "a verdict took"),
    ],
)
def test_each_audit_finds_its_fault(rule: Callable[[Problem, str], bool], finding: str) -> None:
    register_verifier("audited", lambda: Judge(rule))
    record = audit_problem(Problem("q?", "42", "audited"), [Problem("r?", "4", "audited")], time_limit_ms=40)
    assert not record.passed
    assert finding in record.reason


def test_the_math_verifier_passes_its_audit() -> None:
    problems = [Problem(f"{i} times {i}?", str(i * i)) for i in range(20)] + [
        Problem("half?", "1/2"),
        Problem("again?", "0.5"),
        Problem("day?", "Monday"),
    ]
    records = audit_problems(problems)
    assert [r.reason for r in records] == [""] * len(problems)
    assert all(r.junk_tried >= 15 and r.others_tried >= 3 for r in records)
    table = audit_table(records)
    assert table.select("verifier", "problems", "passed", "exceptions").rows() == [("math", 23, 23, 0)]


def test_a_problem_without_reference_is_found() -> None:
    record = audit_problem(Problem("q", ""))
    assert not record.judged
    assert "no reference answer" in record.reason
    assert audit_table([]).height == 0
