"""Every shipped seed is right: answers against formulas worked out anew, reference functions run on every test."""

import json
import subprocess
import sys
from datetime import datetime
from fractions import Fraction
from itertools import combinations, permutations, product
from pathlib import Path
from typing import Any

import pytest
import sympy

from data.problems_io import read_problems
from data.records import Problem
from filters.verifiers.base import get_verifier

SEEDS = Path(__file__).parents[2] / "data" / "seeds"
X, Y = sympy.symbols("x y")


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (SEEDS / name).read_text().splitlines()]


MATH: dict[str, Any] = {
    "01": 14 + 9,
    "02": 18 * 7,
    "03": Fraction(60, 4),
    "04": Fraction(15, 100) * 240,
    "05": 2 * 12 + 3 * 6,
    "06": (datetime(2000, 1, 1, 13, 15) - datetime(2000, 1, 1, 9, 40)).seconds // 60,
    "07": Fraction(5, 10) * 120,
    "08": Fraction(80 * 100, 80),
    "09": 5 * 14 - (10 + 12 + 16 + 20),
    "10": 1 / (Fraction(1, 6) + Fraction(1, 3)),
    "11": sum(range(41)),
    "12": Fraction(3, 8),
    "13": Fraction(2, 3) + Fraction(3, 4),
    "14": sympy.solve(38 + X - 3 * (8 + X), X)[0],
    "15": sympy.solve(5 * X - 7 - 2 * X - 14, X)[0],
    "16": sympy.solve([X + Y - 31, X - Y - 9], [X, Y])[X],
    "17": max(sympy.solve(X**2 - 5 * X - 24, X)),
    "18": sympy.gcd(84, 126),
    "19": 7**20 % 5,
    "20": len(sympy.divisors(72)),
    "21": (lambda w: w * (w + 3))(sympy.solve(4 * X + 6 - 34, X)[0]),
    "22": sympy.sqrt(9**2 + 12**2),
    "23": 180 - 47 - 68,
    "24": sympy.sqrt(sympy.Rational(150, 6)) ** 3,
    "25": len(list(permutations(range(5)))),
    "26": len(list(combinations(range(12), 2))),
    "27": Fraction(sum(a + b == 7 for a, b in product(range(1, 7), repeat=2)), 36),
    "28": Fraction(sum(max(pair) < 4 for pair in combinations(range(10), 2)), 45),
    "29": Fraction(6 * 350, 100),
    "30": 1000 * Fraction(11, 10) ** 3,
    "31": sympy.solve([2 * (X + Y) - 24, 3 * (X - Y) - 24], [X, Y])[Y],
    "32": sympy.solve(X + X + 2 + X + 4 - 117, X)[0],
}


def test_math_seeds_are_right() -> None:
    seeds = rows("math.jsonl")
    assert [row["id"] for row in seeds] == [f"math-{key}" for key in sorted(MATH)]
    for row in seeds:
        assert Fraction(row["answer"]) == Fraction(str(MATH[row["id"][5:]])), row
        assert row["domain"] and row["concepts"] and 1 <= row["level"] <= 5
    assert len({row["prompt"] for row in seeds}) == len(seeds) >= 30


def test_math_seeds_load_and_their_answers_pass_the_verifier() -> None:
    problems = read_problems(SEEDS / "math.jsonl")
    verifier = get_verifier("math")
    assert len(problems) == len(rows("math.jsonl"))
    for position, problem in enumerate(problems):
        assert verifier.check_problem(problem) == ""
        assert verifier.verify(problem, f"So it is #### {problem.reference}").outcome == "pass"
        other: Problem = problems[position - 1]
        if Fraction(other.reference) != Fraction(problem.reference):
            assert verifier.verify(problem, f"So it is #### {other.reference}").outcome != "pass"


@pytest.mark.parametrize("row", rows("functions.jsonl"), ids=lambda row: row["id"])
def test_reference_functions_pass_their_tests(row: dict[str, Any]) -> None:
    assert set(row) == {"id", "prompt", "code", "tests"} and len(row["tests"]) >= 3
    name = row["prompt"].split("`")[1].split("(")[0]
    assert f"def {name}(" in row["code"] and all(test["call"].startswith(f"{name}(") for test in row["tests"])
    calls = ", ".join(test["call"] for test in row["tests"])
    script = f"{row['code']}\nimport json\nprint(json.dumps([{calls}]))\n"
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, timeout=20, check=True)
    assert json.loads(done.stdout) == [test["expected"] for test in row["tests"]]


def test_there_are_functions_enough() -> None:
    seeds = rows("functions.jsonl")
    assert len({row["prompt"] for row in seeds}) == len(seeds) >= 15
