from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.records import Problem
from generators.worlds.registry import get_world

WORLD = get_world("arithmetic")


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(WORLD.families()), st.sampled_from(WORLD.levels()), st.integers(0, 10_000))
def test_the_worlds_own_solutions_are_right_chains(family, level, index):
    problem = WORLD.make(family, level, index, seed=3, split="train")
    shown = WORLD.demonstration(problem)
    assert WORLD.check_chain(problem, shown) is True
    assert WORLD.check_chain(problem, shown.rpartition("####")[0]) is False  # states no answer
    assert WORLD.check_chain(problem, f" #### {problem.reference}") is False  # the right answer out of nowhere
    first, _, rest = shown.partition("=")
    result, comma, tail = rest.partition(",") if "," in rest else (*rest.partition(" ####")[:1], "", " ####" + rest.partition("####")[2])
    assert WORLD.check_chain(problem, f"{first}={result.strip()}1{comma}{tail}") is False  # a wrong first result


@pytest.mark.parametrize(
    ("chain", "right"),
    [
        (" 12*3=36, 36+4=40 #### 40", True),
        (" 12 * 3 = 36, 36 + 4 = 40 #### 40", True),
        (" 3*12=36, 4+36=40 #### 40", True),  # another order is as right
        (" 12*3=36, 36+4=40 #### 41", False),  # states another answer
        (" 12*3=35, 35+5=40 #### 40", False),  # two wrongs
        (" 12*3=36, 36+5=41, 41-1=40 #### 40", False),  # 5 and 1 come from nowhere
        (" 20*2=40 #### 40", False),
        (" 12/0=36 #### 36", False),
        ("#### 40", False),
        ("", False),
        ("= = = #### = 40", False),
        (" 12*3=36," * 10_000 + " #### 36", False),
    ],
)
def test_chains_by_hand(chain, right):
    from generators.worlds.arithmetic.chain import chain_is_right
    from generators.worlds.arithmetic.steps import parse_steps

    assert chain_is_right(chain, [12, 3, 4], parse_steps("a * b; r1 + c")) is right


def test_a_problem_from_elsewhere_has_no_judge():
    assert WORLD.check_chain(Problem("2 + 2?", "4"), " 2+2=4 #### 4") is None
    made = WORLD.make("ages", 1, 0, seed=0, split="train")
    assert WORLD.check_chain(replace(made, meta={}), "x") is None
