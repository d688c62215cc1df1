"""Scripts become calls that the judge compares, wherever they can; where they cannot, the right kind of script remains."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from data.errors import UserError
from filters.sandbox.asserts import split_script
from filters.sandbox.checks import Check, read_checks
from filters.sandbox.compare import ATOL, RTOL

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def split(script: str, entry: str = "") -> list[Check]:
    return split_script(script, entry=entry, rtol=RTOL, atol=ATOL)


@pytest.mark.parametrize(
    ("script", "text", "op", "expected"),
    [
        ("assert f(1, 2) == 3", "f(1, 2)", "==", 3),
        ("assert 3 == f(1)", "f(1)", "==", 3),
        ("assert f(1) != -2.5", "f(1)", "!=", -2.5),
        ("assert 2 < f(1)", "f(1)", ">", 2),
        ("assert f(1) in (1, 2), 'message'", "f(1)", "in", (1, 2)),
        ("assert f([1]) is None", "f([1])", "is", None),
        ("assert f(1) == True", "f(1)", "==", True),
        ("assert not f('x')", "f('x')", "false", None),
        ("assert f(x=1)", "f(x=1)", "true", None),
        ("assert f() == set((1, 2))", "f()", "==", {1, 2}),
        ("assert f() == [0] * 3 + [10**20]", "f()", "==", [0, 0, 0, 10**20]),
        ("assert f() == {'a': (1, [2])}", "f()", "==", {"a": (1, [2])}),
        ("assert f() == float('inf')", "f()", "==", float("inf")),
        ("assert sorted(f(1)) == [1]", "sorted(f(1))", "==", [1]),
        ("assert round(f(1), 2) == 0.5", "round(f(1), 2)", "==", 0.5),
        ("assert f(1)[0] == 1", "f(1)[0]", "==", 1),
        ("assert Solution().two([1], 2) == 1", "Solution().two([1], 2)", "==", 1),
        ("assert f([Pair(1, 2)], lambda x: x) == 1", "f([Pair(1, 2)], lambda x: x)", "==", 1),
        ("assert decode(encode('a')) == 'a'", "decode(encode('a'))", "==", "a"),
        ("assert sum(10, 15) == 6", "sum(10, 15)", "==", 6),
        ("def check(candidate):\n    assert candidate(1) == 2\n", "f(1)", "==", 2),
        ("METADATA = {'a': 1}\ndef check(g):\n    'doc'\n    assert g(1) == 2, 'x'\n    assert True\ncheck(f)", "f(1)", "==", 2),
    ],
)
def test_an_assert_becomes_a_call_a_relation_and_a_value(script: str, text: str, op: str, expected: object) -> None:
    (check,) = split(script, entry="f" if "check(" in script else "")
    assert (check.kind, check.text, check.op, check.expected) == ("call", text, op, expected)


def test_tolerances_are_read_from_the_assert_and_the_value_stays_with_the_judge() -> None:
    for script, rtol, atol in (
        ("assert abs(f(1) - 2.5) < 1e-6", 0.0, 1e-6),
        ("import math\nassert math.fabs(2.5 - f(1)) <= 0.01", 0.0, 0.01),
        ("import math\nassert math.isclose(f(1), 2.5, rel_tol=0.001)", 0.001, 0.0),
        ("from math import isclose\nassert isclose(2.5, f(1))", 1e-9, 0.0),
    ):
        (check,) = split(script)
        assert (check.kind, check.text, check.expected, check.rtol, check.atol) == ("call", "f(1)", 2.5, rtol, atol)
        assert "2.5" not in check.text + check.setup


def test_conjunctions_and_several_asserts_become_several_checks() -> None:
    checks = split("import math\nassert f(1) == 1 and f(2) == 2\nassert f(math.pi)")
    assert [(c.kind, c.text) for c in checks] == [("call", "f(1)"), ("call", "f(2)"), ("call", "f(math.pi)")]
    assert checks[2].setup == "import math"


@pytest.mark.parametrize(
    "script",
    [
        "for i in range(3):\n    assert f(i) == i",
        "x = [1]\nf(x)\nassert x == [2]",
        "assert f(1) == 1 == g(1)",
        "assert all(f(i) for i in range(3))",
        "assert isinstance(f(1), int)",
        "assert f(1) == 1 or f(1) == 2",
        "assert f(1) == g(2)",
        "assert f(1) == 10 ** 10 ** 10",
        "try:\n    f(1)\n    assert False\nexcept ValueError:\n    pass",
        "import random\nrng = random.Random(1)\nassert f(rng.randint(0, 3)) >= 0",
        "with open('x') as file:\n    assert f(file.read())",
    ],
)
def test_what_cannot_be_turned_is_judged_from_another_process(script: str) -> None:
    checks = split(script)
    assert [c.kind for c in checks] == ["judge"]
    assert "f" in checks[0].names


@pytest.mark.parametrize(
    "script",
    [
        "n = Node(1)\nn.left = Node(2)\nassert depth(n) == 2",
        "s = Stack()\ns.push(1)\nassert s.pop() == 1",
        "for x in (1, 2):\n    assert apply(lambda y: y + 1, x) == x + 1",
        "def g(x):\n    return x\nassert apply(g, 1) == 1",
        "m = LIMIT + 1\nassert f(m) == 1",
    ],
)
def test_scripts_that_handle_the_programs_objects_run_beside_it(script: str) -> None:
    assert [c.kind for c in split(script)] == ["beside"]


def test_a_script_is_not_taken_apart_where_an_earlier_call_may_matter() -> None:
    assert [c.kind for c in split("reset()\nassert f(1) == 1")] == ["judge"]
    assert [c.kind for c in split("x = f(1)\nassert f(2) == 2\nassert x == 1")] == ["call", "judge"]


def test_a_script_that_is_no_python_is_the_users_error() -> None:
    with pytest.raises(UserError, match=r"tests\[1\] is not Python"):
        read_checks([{"call": "f()", "expected": 1}, {"script": "assert f(1) ="}])
    for tests, said in (
        ([3], r"tests\[0\] is int"),
        ([{"call": "f()"}], 'neither "expected" nor "raises"'),
        ([{"input": "1"}], 'no "expected"'),
        ([{}], "nothing"),
        ([{"call": "f()", "expected": {"$py": "f("}}], "Python literal"),
    ):
        with pytest.raises(UserError, match=said):
            read_checks(tests)  # type: ignore[arg-type]


def test_python_literals_can_be_expected() -> None:
    (check,) = read_checks([{"call": "f()", "expected": {"$py": "({1, 2}, (3,))"}}])[0]
    assert check.expected == ({1, 2}, (3,)) and not check.from_json


def rows(name: str) -> list[dict[str, object]]:
    if not (DATA / name).exists():
        pytest.skip(f"{name} is not there")
    with gzip.open(DATA / name, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def test_nearly_all_asserts_of_humaneval_and_mbpp_are_turned() -> None:
    """None has to run beside the program; the few judged from another process have loops, random inputs or a round trip."""
    kinds = Counter(c.kind for r in rows("HumanEval.jsonl.gz") for c in split(str(r["test"]), entry=str(r["entry_point"])))
    assert kinds["call"] > 1100 and kinds["judge"] <= 8 and kinds["beside"] == 0
    kinds = Counter(c.kind for r in rows("mbpp.jsonl.gz") for t in r["test_list"] for c in split(str(t)))  # type: ignore[attr-defined]
    assert kinds["call"] > 2900 and kinds["judge"] <= 3 and kinds["beside"] == 0
