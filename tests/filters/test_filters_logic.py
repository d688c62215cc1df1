"""Puzzles: our evaluator and truth against independent ones, and what no answer may be."""

import itertools
import operator
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.records import Problem
from filters.verifiers.arithmetic import Evaluated, claims, evaluate
from filters.verifiers.base import get_verifier
from filters.verifiers.countdown import solve
from filters.verifiers.proposition import Formula, models, parse_formula, truth

OPS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
trees = st.recursive(
    st.integers(0, 99).map(lambda n: (str(n), Fraction(n), (n,))),
    lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(
        lambda t: (
            (
                f"({t[0][0]} {t[1]} {t[2][0]})",
                t[0][1] and t[2][1] and OPS[t[1]](t[0][1], t[2][1]) if t[1] == "/" else OPS[t[1]](t[0][1], t[2][1]),
                (*t[0][2], *t[2][2]),
            )
            if t[1] != "/" or t[2][1]
            else t[0]
        )
    ),
    max_leaves=8,
)


@given(trees)
def test_arithmetic_is_exact(tree) -> None:
    text, value, numbers = tree
    read = evaluate(text)
    assert isinstance(read, Evaluated)
    assert read.value == value and read.numbers == numbers


@pytest.mark.parametrize(
    "text",
    ["", "2**8", "2^8", "9//2", "5%3", "abs(1)", "__import__('os')", "1,2", "1 if 1 else 2", "(1", "1)", "1/0", "1/(2-2)", "(" * 200 + "1" + ")" * 200,  # noqa: E501
     "-" * 300 + "1", "1" * 30, "9" * 500, "1e5", "0x10", "1_000", "True", "[1][0]", "010", "1\x00", "1+\u0665"],
)  # fmt: skip
def test_what_is_no_plain_arithmetic_has_no_value(text: str) -> None:
    assert isinstance(evaluate(text), str)


def countdown(answer: str, **changes: object) -> str:
    spec = {"kind": "countdown", "numbers": [3, 8, 8, 3], "target": 24, **changes}
    return get_verifier("logic").verify(Problem("q", "", "logic", spec), answer).outcome


def test_countdown() -> None:
    assert countdown("\\boxed{8/(3-8/3)}") == countdown("<answer>8 ÷ (3 - 8 ÷ 3) = 24</answer>") == "pass"
    assert countdown("\\boxed{\\frac{16}{2} * 3}", numbers=[16, 2, 3]) == "pass"
    for wrong in ("3*8", "8*3 + 8 - 8", "24", "8/(3-8/3) = 25", "8/(3-8/3)+0", "83-38-21", "8*3", "", "8/(3-8/3) or 3*8"):
        assert countdown(f"\\boxed{{{wrong}}}") == "fail", wrong
    assert countdown("\\boxed{3*8}", use_all=False) == "pass"


@given(st.lists(st.integers(1, 12), min_size=2, max_size=4), st.integers(0, 40), st.booleans())
@settings(max_examples=60)
def test_solutions_found_by_search_pass(numbers: list[int], target: int, use_all: bool) -> None:
    found = solve(numbers, target, use_all=use_all)
    if found is not None:
        assert countdown(f"<answer>{found}</answer>", numbers=numbers, target=target, use_all=use_all) == "pass"
        assert countdown(f"<answer>{found}</answer>", numbers=numbers, target=target + 1, use_all=use_all) == "fail"


formulas = st.recursive(
    st.sampled_from("pqr"),
    lambda inner: (
        st.tuples(inner, st.sampled_from(["and", "or", "->", "<->", "xor"]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})")
        | inner.map(lambda f: f"not {f}")
    ),
    max_leaves=10,
)
TABLE = {
    "&": lambda a, b: a and b, "|": lambda a, b: a or b, ">": lambda a, b: b or not a, "=": lambda a, b: a == b, "#": lambda a, b: a != b,
}  # fmt: skip


def independent(text: str, model: dict[str, bool]) -> bool:
    """Truth by rewriting one bracket at a time, in no way our parser's."""
    for word, sign in (("not ", "~"), (" and ", "&"), (" xor ", "#"), (" or ", "|"), (" <-> ", "="), (" -> ", ">")):
        text = text.replace(word, sign)
    for name, value in model.items():
        text = text.replace(name, "T" if value else "F")
    for _ in range(200):
        text = text.replace("~T", "F").replace("~F", "T")
        for a, b in itertools.product("TF", repeat=2):
            for op, fn in TABLE.items():
                text = text.replace(f"({a}{op}{b})", "T" if fn(a == "T", b == "T") else "F")
    assert len(text) == 1, text
    return text == "T"


@given(formulas)
@settings(max_examples=80)
def test_truth_agrees_with_an_independent_rewriting(text: str) -> None:
    formula = parse_formula(text)
    assert isinstance(formula, Formula)
    for model in models("pqr"):
        assert truth(formula, model) == independent(text, model)


def test_precedence_and_refusals() -> None:
    assert parse_formula("a -> b -> c") == parse_formula("a -> (b -> c)")
    assert parse_formula("not a & b | c") == parse_formula("((not a) & b) | c")
    assert parse_formula("a ↔ ¬b ∨ c") == parse_formula("a iff (not b or c)")
    for wrong in ("", "a &", "(a", "a b", "a $ b", "~" * 200 + "a", "(" * 100 + "a" + ")" * 100):
        assert isinstance(parse_formula(wrong), str)


def test_knights_and_knaves() -> None:
    spec = {"kind": "knights", "statements": {"Ann": "not Bob", "Bob": "Ann <-> Bob"}}
    verifier = get_verifier("logic")
    problem = Problem("q", "", "logic", spec)
    for right in (
        "Ann is a knight and Bob is a knave",
        "Bob: knave, Ann: knight",
        "(Ann, knight), (Bob, knave)",
        "Ann is a knight, Bob is not a knight",
    ):
        assert verifier.verify(problem, f"<answer>{right}</answer>").outcome == "pass", right
    for wrong in ("Ann is a knave and Bob is a knight", "Ann is a knight", "Ann is a knight, Ann is a knave, Bob is a knave", "both", ""):
        assert verifier.verify(problem, f"<answer>{wrong}</answer>").outcome == "fail", wrong
    assert verifier.verify(problem, verifier.oracle(problem)).outcome == "pass"
    assert "0 assignments" in verifier.check_problem(Problem("q", "", "logic", {"kind": "knights", "statements": {"Ann": "not Ann"}}))


def test_satisfaction_and_entailment() -> None:
    verifier = get_verifier("logic")

    def said(answer: str, formula: str, *premises: str) -> str:
        return verifier.verify(
            Problem("q", "", "logic", {"kind": "propositional", "formula": formula, "premises": premises}), f"\\boxed{{{answer}}}"
        ).outcome

    assert said("p = false, q = true", "(p or q) and not p") == "pass"
    assert said("p = true, q = true", "(p or q) and not p") == said("q = true", "(p or q) and not p") == said("unsat", "p or q") == "fail"
    assert said("unsatisfiable", "p and not p") == "pass"
    assert said("yes", "q", "p -> q", "p") == "pass" and said("no", "q", "p -> q", "p") == said("maybe", "q", "p -> q", "p") == "fail"
    assert said("no", "p", "p -> q", "q") == "pass"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("so 3 * 4 = 12 apples", [True]),
        ("<<48/2=24>>24 clips", [True]),
        ("3 + 4 = 8", [False]),
        ("2 * 3 = 6 = 1 + 4", [True, False]),
        ("10/3 = 3.33", [True]),
        ("10/3 = 3.5", [False]),
        ("20% of 50 * 2 = 20", []),
        ("at 6:00+48=6:48", []),
        ("2x + 3 = 7", []),
        ("5 = 5", []),
        ("$2,000 + $500 = $2,500", [True]),
    ],
)
def test_claims(line: str, found: list[bool]) -> None:
    assert [c.holds for c in claims(line)] == found
