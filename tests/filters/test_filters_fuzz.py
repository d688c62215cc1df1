"""Hostile and random responses for every verifier: no exception, nothing executed, an answer in bounded time.

A few hundred per verifier in the ordinary run, 10,000 in the slow one.
"""

import contextlib
import random
import time
from collections.abc import Iterator

import pytest
from scripted_model import scripted

from data.records import Problem
from filters.audit import JUNK, audit_problem
from filters.audit_execution import canary_file, executions, payloads
from filters.verifiers.base import SHIPPED, Tools, bound, get_verifier, register_verifier, verifier_names

TABLES = {"tables": "CREATE TABLE t(a INTEGER, b TEXT)", "databases": ["INSERT INTO t VALUES (1, 'x'), (2, 'y')"]}
RUBRIC = {
    "rubrics": [{"criterion": "c", "points": 1}, {"criterion": "d", "points": -1, "tags": ["verifier:rule", "function:contains", "parameters:x"]}]
}
KNIGHTS = {"kind": "knights", "statements": {"Ann": "not Bob", "Bob": "Ann <-> Bob"}}
EVERY = [
    {"id": "language:response_language", "kwargs": {"language": "en"}},
    {"id": "length_constraints:number_sentences", "kwargs": {"relation": "less than", "num_sentences": 3}},
    {"id": "detectable_content:number_placeholders", "kwargs": {"num_placeholders": 1}},
    {"id": "detectable_format:json_format"},
    {"id": "words:odd_even_syllables"},
    {"id": "format:emoji"},
    {"id": "custom:mcq_count_length"},
]
PROBLEMS: dict[str, list[Problem]] = {
    "math": [Problem("q", "1/2"), Problem("q", "x^2")],
    "choice": [
        Problem("q", "B", "choice", {"options": ["red", "blue"]}),
        Problem("q", "A, B", "choice", {"options": ["a", "b", "c"], "several": True}),
    ],
    "answer": [Problem("q", "12 March 1990", "answer"), Problem("q", "Paris", "answer"), Problem("q", "five", "answer")],
    "instruction": [Problem("q", "", "instruction", {"instructions": EVERY, "loose": loose}) for loose in (False, True)],
    "sql": [Problem("q", "SELECT a FROM t ORDER BY a", "sql", TABLES)],
    "logic": [
        Problem("q", "", "logic", {"kind": "countdown", "numbers": [3, 8, 8, 3], "target": 24}),
        Problem("q", "", "logic", KNIGHTS),
        Problem("q", "", "logic", {"kind": "propositional", "formula": "p and not q"}),
    ],
    "rubric": [Problem("q", "", "rubric", RUBRIC)],
    "judge": [Problem("q", "42", "judge", {"votes": 1})],
    "process": [
        Problem("q", "", "process"),
        Problem("q", "2", "process", {"mode": "index"}),
        Problem("q", "", "process", {"mode": "model", "votes": 1}),
    ],
    "consistency": [
        Problem("q", "", "consistency", {"answers": ["4", "4"]}),
        Problem("q", "B", "consistency", {"mode": "option_shuffle", "options": ["red", "blue"]}),
    ],
    "fill": [Problem("q", "", "fill", {"masks": {"m1": "36", "m2": "the rest"}})],
    "reorder": [
        Problem("q", "", "reorder", {"order": [2, 1, 3]}),
        Problem("q", "", "reorder", {"order": [3, 1, 2, 4], "needs": {"4": [1, 2], "1": [3]}}),
    ],
    "segment": [
        Problem("q", "", "segment", {"following": ["so we take 12 of them", "and add 3"]}),
        Problem("q", "", "segment", {"following": ["the sum is even"], "match": "meaning", "votes": 1}),
    ],
    "written": [Problem("q", "", "written", {"form": form}) for form in ("fenced", "json")],
}
PIECES = (
    "\\boxed{", "}", "<answer>", "</answer>", "####", "The answer is ",
    "A", "(B)", "42", "-1", "1/2", "²", "\u0665", "$", "\\frac{1}{2}", "SELECT a FROM t",
    "WITH", "```sql\n", "```", "(", ")", "[", "]", "{", "~",
    "->", "and", "Ann is a knight", "Bob", "*", "**", "\n", "\n\n", "<<", ">>", " = ", "3 * 4 = 12",
    "<think>", "</think>", "\x00", "\ud800", "\u200b", "é", "日本",
    "😀", "12 March 1990", "yes", "no", "8/(3-8/3)", '"', "'", "P.S.", "e" * 50, "9" * 80,
    "10^10^10", "x" * 500, "((((((((", "\\" * 9, " " * 300, "-" * 200, ". " * 80, "1,000",
    "LIKE '%a%a%a%'", '{"criteria_met": true}', "%", "__import__('os')",
)  # fmt: skip


def responses(count: int, seed: int) -> Iterator[str]:
    rng = random.Random(seed)
    yield from JUNK
    for i in range(count - len(JUNK)):
        text = "".join(rng.choice(PIECES) for _ in range(rng.randint(1, 14)))
        if i % 50 == 0:
            text = rng.choice(PIECES) * rng.randint(100, 3_000)
        yield text if i % 7 else text[::-1]


def garbling(prompt: str, index: int) -> str:
    """A judge as bad as can be, the same for the same prompt."""
    rng = random.Random(len(prompt) + index)
    return "".join(rng.choice(PIECES) for _ in range(6))


def fuzz(name: str, count: int, tools: Tools) -> None:
    verifier = bound(get_verifier(name), tools)
    with canary_file() as canary:
        hostile = payloads(canary)
        for problem in PROBLEMS[name]:
            assert verifier.check_problem(problem) == ""
            slowest = 0.0
            with executions(canary) as heard:
                for response in (*responses(count // len(PROBLEMS[name]), seed=len(name)), *hostile):
                    start = time.thread_time()
                    verdict = verifier.verify(problem, response)
                    slowest = max(slowest, time.thread_time() - start)
                    assert verdict.outcome in ("pass", "fail", "unknown") and 0.0 <= verdict.reward <= 1.0
                    assert verdict.reason and not (verdict.reward and verdict.outcome == "unknown")
                    verdict.reason.encode()
            assert not canary.exists() and heard == []
            assert slowest < 2.0


@pytest.mark.parametrize("name", sorted(PROBLEMS))
def test_fuzzed_responses(name: str) -> None:
    fuzz(name, 400, scripted(garbling))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PROBLEMS))
def test_ten_thousand_fuzzed_responses(name: str) -> None:
    fuzz(name, 10_000, scripted(garbling))


def test_every_shipped_verifier_is_fuzzed_here_or_says_where() -> None:
    elsewhere = {"code", "science"}  # tests of the sandbox and of quantities
    assert set(SHIPPED) & set(verifier_names()) - elsewhere == set(PROBLEMS)


@pytest.mark.parametrize("name", sorted(PROBLEMS))
def test_every_verifier_passes_the_generic_audits(name: str) -> None:
    for problem in PROBLEMS[name]:
        record = audit_problem(problem, PROBLEMS[name], execution=True)
        assert record.passed, record.reason
        assert record.junk_tried > 0


class Executing:
    """The fault that the execution audit is there for."""

    name = "executing"

    def check_problem(self, problem: Problem) -> str:
        return ""

    def verify(self, problem: Problem, response: str):
        from data.records import Verdict

        with contextlib.suppress(BaseException):
            eval(response.removeprefix("#### "))
        return Verdict("pass" if response == "#### 4" else "fail", 0.0, "evaluated", self.name)


def test_a_verifier_that_executes_is_found() -> None:
    register_verifier("executing", Executing)
    record = audit_problem(Problem("q", "4", "executing"), execution=True)
    assert not record.passed and record.executed > 3 and "a response was executed" in record.reason
