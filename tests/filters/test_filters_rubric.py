"""Rubrics: the papers' arithmetic with its golden values, and verdicts of a scripted judge."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_model import fence, scripted, shown

from data.records import Problem, Request
from filters.verifiers.base import verify_all
from filters.verifiers.rubric_score import anchored_score, central_quantile, group_ratio, rubric_score, scaffold, score_bounds, step_ratio

shares = st.floats(0, 1)


def test_golden_values_of_ruscarl() -> None:
    assert [round(group_ratio(i, 8), 4) for i in range(8)] == [1.0, 0.8571, 0.7143, 0.5714, 0.4286, 0.2857, 0.1429, 0.0]
    assert [round(step_ratio(x, start=0.2, steepness=125), 4) for x in (0.19, 0.2, 0.21)] == [0.7773, 0.5, 0.2227]
    assert rubric_score([5, 3, -4], [True, False, True]) == 0.125
    assert rubric_score([-4, -1], [True, False]) == 0.0
    assert rubric_score([1, -4], [True, True]) == -3.0  # not clipped
    assert group_ratio(0, 1) == 1.0
    assert [group_ratio(i, 4, shape="binary", full=2) for i in range(4)] == [1, 1, 0, 0]
    assert step_ratio(0.25, shape="linear") == 0.75 and step_ratio(0.5, shape="power", power=3) == 0.125


def test_scaffolds_are_drawn_by_key_and_rounded() -> None:
    assert scaffold([1, 1, 1], 0.0, 1) == [] and scaffold([1, 1, 1], 1.0, 1) == [0, 1, 2]
    assert len(scaffold([1] * 7, 0.5, 3)) == 4  # round(3.5) up
    assert scaffold([1] * 50, 0.5, 3) == scaffold([1] * 50, 0.5, 3) != scaffold([1] * 50, 0.5, 4)


def test_what_was_not_judged_stays_open_and_is_no_reward() -> None:
    """RuscaRL's code takes a failed judgement for "not met", which rewards the unreadable on negative criteria."""
    assert score_bounds([4, -4], [True, None]) == (0.0, 1.0)
    assert score_bounds([4, -4], [None, False]) == (0.0, 1.0)


@given(st.lists(st.tuples(shares, st.floats(0.1, 5)), min_size=2, max_size=6), shares, st.floats(0, 0.9), shares, st.randoms())
def test_properties_of_anchored_scores(dims: list, cap: float, rho: float, floor: float, random) -> None:
    scores, weights = [s for s, _ in dims], [w for _, w in dims]
    base = sum(s * w for s, w in dims) / sum(weights)
    assert anchored_score(scores, weights) == pytest.approx(base)  # nothing set: the weighted mean
    assert anchored_score(scores, weights, interactions={(0, 1): 0.0}) == pytest.approx(base)
    assert anchored_score(scores, weights, veto={0: scores[0] + 0.1}, floor=floor) <= floor + 1e-12  # a veto dominates
    assert anchored_score(scores, weights, veto={0: scores[0]}, floor=0.0) == pytest.approx(base)  # at the bound there is none
    raised = [min(1.0, scores[0] + 0.1), *scores[1:]]
    caps = {0: cap}
    assert anchored_score(raised, weights, caps=caps, rho=rho) >= anchored_score(scores, weights, caps=caps, rho=rho) - 1e-12  # monotone
    order = list(range(len(dims)))
    random.shuffle(order)
    assert anchored_score([scores[i] for i in order], [weights[i] for i in order]) == pytest.approx(base)


@given(shares, shares, st.floats(0, 1), shares)
def test_saturation_is_concave(a: float, b: float, rho: float, cap: float) -> None:
    one = anchored_score([a], [1], caps={0: cap}, rho=rho)
    other = anchored_score([b], [1], caps={0: cap}, rho=rho)
    assert anchored_score([(a + b) / 2], [1], caps={0: cap}, rho=rho) >= (one + other) / 2 - 1e-9


def test_central_quantile() -> None:
    assert central_quantile([0.9, 0.1, 0.5, 0.4, 0.6]).tolist() == [2, 3, 4]
    assert central_quantile([]).tolist() == []


def by_words(prompt: str, index: int) -> str:
    """Meets a criterion "says X" exactly if the response holds X."""
    wanted = prompt.split("Criterion:\nsays ")[1].split("\n")[0]
    return "so:\n" + json.dumps({"explanation": "x", "criteria_met": wanted in shown(prompt), "fence": fence(prompt)})


RUBRICS = [{"criterion": "says why", "points": 5}, {"criterion": "says how", "points": 3}, {"criterion": "says sorry", "points": -4}]


def test_points_are_weighed_and_clipped_in_the_verdict() -> None:
    problem = Problem("explain", "", "rubric", {"rubrics": RUBRICS, "threshold": 0.6})
    got = verify_all([(problem, r) for r in ("why and how", "why, sorry", "why", "how, sorry", "", "nothing")], scripted(by_words))
    assert [v.outcome for v in got] == ["pass", "fail", "pass", "fail", "fail", "fail"]
    assert [v.reward for v in got] == [1.0, 0.125, 0.625, 0.0, 0.0, 0.0]


def test_an_unreadable_judgement_is_asked_again_and_unknown_in_the_end() -> None:
    asked: list[Request] = []

    def moody(prompt: str, index: int) -> str:
        return by_words(prompt, index) if len(asked) > 3 else "I'd say true"

    problem = Problem("explain", "", "rubric", {"rubrics": RUBRICS})
    assert verify_all([(problem, "why and how")], scripted(moody, asked))[0].outcome == "pass"
    assert len({r.key for r in asked}) == len(asked) == 6  # three criteria, three again with other seeds
    got = verify_all([(problem, "why and how")], scripted(lambda prompt, index: '{"criteria_met": "true"}'))[0]
    assert got.outcome == "unknown" and "could not be judged" in got.reason


def test_criteria_that_a_program_can_check_ask_nobody() -> None:
    rule = {"criterion": "The result is 5", "points": 2, "tags": ["verifier:rule", "function:math_verify", "parameters:5"]}
    short = {"criterion": "Short", "points": 1, "tags": ["verifier:rule", "function:max_words", "parameters:6"]}
    form = {"criterion": "No comma", "points": -1, "tags": ["verifier:rule", "function:instruction", 'parameters:{"id": "punctuation:no_comma"}']}
    problem = Problem("2+3", "", "rubric", {"rubrics": [rule, short, form], "threshold": 0.9})
    got = verify_all([(problem, r) for r in ("So, #### 5", "so #### 5", "#### 4, no", "so, you see, it really must be #### 5")])
    assert [(v.outcome, round(v.reward, 3)) for v in got] == [("pass", 1.0), ("fail", 0.667), ("fail", 0.333), ("fail", 0.667)]
    one = Problem("2+3", "", "rubric", {"rubrics": [rule]})  # RuscaRL's code reads rubric_items[-2] and breaks here
    assert verify_all([(one, "#### 5")])[0].outcome == "pass"


def test_tiers_with_veto_and_cap() -> None:
    def tier(prompt: str, index: int) -> str:
        named = prompt.split("Dimension: ")[1].split("\n")[0]
        said = shown(prompt)
        return json.dumps({"tier": int(said[said.index(named) + len(named) + 1]), "fence": fence(prompt)})

    dims = [{"criterion": "clarity", "tiers": ["a", "b", "c"], "weight": 3}, {"criterion": "honesty", "tiers": ["lies", "honest"], "veto_below": 1}]
    problem = Problem("q", "", "rubric", {"dimensions": dims, "floor": 0.1})
    got = verify_all(
        [(problem, r) for r in ("clarity 2 honesty 1", "clarity 1 honesty 1", "clarity 2 honesty 0", "clarity 9 honesty 1")], scripted(tier)
    )
    assert [(v.outcome, round(v.reward, 4)) for v in got] == [("pass", 1.0), ("pass", 0.625), ("fail", 0.1), ("unknown", 0.0)]
    assert "vetoed by 'honesty'" in got[2].reason
    assert math.isclose(got[1].reward, (3 * 0.5 + 1) / 4)
