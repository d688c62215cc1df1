"""Verifiers of MR-RLVR's and RLPT's tasks: fill, reorder, segment; oracles by enumeration, mangled answers, fuzz."""

from __future__ import annotations

import json
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_model import scripted

from data.records import Problem
from filters.audit import audit_problem
from filters.verifiers.base import check_spec, get_verifier, verify_all
from filters.verifiers.fill import read_pieces
from filters.verifiers.reorder import places_right, read_order
from filters.verifiers.segment import is_prefix, read_segment

FILL = Problem("fill", verifier="fill", spec={"masks": {"m1": "36", "m2": "0.5", "m3": "the baker"}})
CHAIN = Problem("order", verifier="reorder", spec={"order": [2, 3, 1]})
DIAMOND = Problem("order", verifier="reorder", spec={"order": [1, 2, 3, 4], "needs": {"2": [1], "3": [1], "4": [2, 3]}})
TEXT = Problem("next", verifier="segment", spec={"following": ["It costs 1,200 euros in all.", "She pays at once."]})


@pytest.mark.parametrize(
    ("said", "reward"),
    [
        ("<m1>36</m1><m2>1/2</m2><m3>The Baker.</m3>", 1.0),
        ("<m3>the baker</m3> <m1>36.0</m1>", 2 / 3),  # by id, and divided by the number of masks
        ("<m1>36</m1>", 1 / 3),
        ("<m1>36</m1><m1>37</m1><m2>.5</m2>", 1 / 3),  # two values are none
        ("<m1>36</m1><m1>36</m1>", 1 / 3),
        ("<m9>36</m9>", 0.0),
        ("36, 0.5, the baker", 0.0),
        ("<think><m1>36</m1></think>", 0.0),
        (json.dumps({"m1": 36, "m2": "0.5", "m3": "the baker"}), 1.0),
        (json.dumps({"m1": True}), 0.0),
        ("", 0.0),
    ],
)
def test_pieces_by_id(said: str, reward: float) -> None:
    (verdict,) = verify_all([(FILL, said)])
    assert verdict.reward == pytest.approx(reward) and verdict.outcome == ("pass" if reward == 1 else "fail")


def test_identity_solves_everything_and_chance_one_place_in_n() -> None:
    """Positions of a random permutation: one place in n is right on average, whatever n."""
    for n in range(2, 7):
        before = {k: tuple(range(1, k)) for k in range(1, n + 1)}
        rights = [places_right(p, before) for p in permutations(range(1, n + 1))]
        assert max(rights) == n and sum(rights) == len(rights)


@given(st.integers(2, 6), st.data())
def test_places_against_all_orders_that_respect_the_needs(n: int, data: st.DataObject) -> None:
    before = {k: tuple(data.draw(st.sets(st.integers(1, k - 1)))) if k > 1 else () for k in range(1, n + 1)}
    valid = [p for p in permutations(range(1, n + 1)) if all(p.index(b) < p.index(k) for k, bs in before.items() for b in bs)]
    said = data.draw(st.permutations(range(1, n + 1)))
    right = places_right(said, before)
    assert right == max(sum(a == b for a, b in zip(said, p, strict=True)) for p in valid)
    assert (right == n) == (tuple(said) in valid)


def test_steps_that_commute_count_as_right_in_either_order() -> None:
    said = {"<order>1 2 3 4</order>": 1.0, "<order>1, 3, 2, 4</order>": 1.0, "1 3 2 4": 1.0, '{"order": [1, 3, 2, 4]}': 1.0}
    said["<order>2 1 3 4</order>"] = 0.5
    for response, reward in said.items():
        assert verify_all([(DIAMOND, response)])[0].reward == reward, response
    assert verify_all([(CHAIN, "<order>2 3 1</order>")])[0].outcome == "pass"
    assert verify_all([(CHAIN, "<order>1 2 3</order>")])[0].reward == 0.0


NO_ORDER = [
    "", "<order>1 2</order>", "<order>1 1 2</order>", "<order>1 2 3 4</order>", "<order>a</order>", "first 2 then 3 then 1", '{"order": "231"}',
    '{"order": [2.0, 3, 1]}', "[" * 9999,
]  # fmt: skip


@pytest.mark.parametrize("said", NO_ORDER)
def test_what_is_no_permutation_is_worth_nothing(said: str) -> None:
    assert verify_all([(CHAIN, said)])[0].reward == 0.0 and verify_all([(CHAIN, said)])[0].outcome == "fail"


@pytest.mark.parametrize(
    ("prediction", "right"),
    [
        ("It costs 1,200 euros in all.", True),
        ("it costs 1200", True),
        ("It costs 1200 euros in all. She pays", True),
        ("It costs", False),  # too short to say anything
        ("It costs 1,300 euros", False),
        ("In all it costs 1,200 euros", False),
        ("It costs 1,200 euros in all. She pays at once. The end.", False),  # more than anybody can check
        ("", False),
    ],
)
def test_a_prefix_of_what_follows(prediction: str, right: bool) -> None:
    assert is_prefix(prediction, TEXT.spec["following"]) is right
    assert (verify_all([(TEXT, f"I guess <segment>{prediction}</segment>")])[0].outcome == "pass") is right


def test_meaning_is_a_models_business_and_unknown_without_one() -> None:
    problem = Problem("next", verifier="segment", spec={**TEXT.spec, "match": "meaning"})
    said = "<segment>The whole price is 1,200 euros.</segment>"
    assert verify_all([(problem, said)])[0].outcome == "unknown"
    fence = 'fence="'

    def answer(word: str):  # type: ignore[no-untyped-def]
        return scripted(lambda prompt, index: f'<verdict fence="{prompt.split(fence)[1].split(chr(34))[0]}">{word}</verdict>')

    assert verify_all([(problem, said)], answer("yes"))[0].outcome == "pass"
    assert verify_all([(problem, said)], answer("no"))[0].outcome == "fail"
    assert verify_all([(problem, said)], scripted(lambda prompt, index: "well"))[0].outcome == "unknown"
    assert verify_all([(problem, "no tag")], answer("yes"))[0].outcome == "fail"


@pytest.mark.parametrize("problem", [FILL, CHAIN, DIAMOND, TEXT])
def test_each_passes_the_generic_audits(problem: Problem) -> None:
    others = [p for p in (FILL, CHAIN, DIAMOND, TEXT) if p is not problem]
    assert audit_problem(problem, others).reason == ""


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("fill", {}),
        ("fill", {"masks": {}}),
        ("reorder", {"order": [1, 1]}),
        ("reorder", {"order": [1, 3]}),
        ("reorder", {"order": [2, 1], "needs": {"2": [1]}}),
        ("reorder", {"order": list(range(1, 20))}),
        ("segment", {"following": []}),
        ("segment", {"following": ["a"], "match": "vibes"}),
    ],
)
def test_wrong_specs_are_refused(name: str, spec: dict) -> None:
    assert check_spec(name, spec).startswith("spec")
    assert get_verifier(name).verify(Problem("q", verifier=name, spec=spec), "x").outcome == "unknown"


BITS = ["<m1>", "</m1>", "<order>", "</order>", "<segment>", "</segment>", "1 2 3", "36", "</think>", '{"order": [', "]}", "\x00", "\ud800"]
PIECES = st.lists(st.sampled_from(BITS) | st.text(max_size=8), max_size=10).map("".join)


@given(PIECES)
def test_no_answer_breaks_them(said: str) -> None:
    for problem in (FILL, CHAIN, DIAMOND, TEXT):
        verdict = get_verifier(problem.verifier).verify(problem, said)
        assert verdict.outcome in ("pass", "fail") and 0 <= verdict.reward <= 1
    read_pieces(said), read_order(said), read_segment(said)
