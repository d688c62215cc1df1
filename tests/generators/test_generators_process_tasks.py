"""Process tasks and segments out of text: steps, what they need, masks, shuffles, sentences; and the strategies that propose them."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import UserError
from data.records import Sampling
from data.render import Renderer
from filters.audit import audit_problem
from filters.verifiers.base import get_verifier
from generators.strategies.base import RoundContext
from generators.strategies.mr_rlvr import MrRlvr
from generators.strategies.process_tasks import linear, mask_pieces, needs_of, numbers, result_of, shuffle_steps, steps_of
from generators.strategies.rlpt import Rlpt
from generators.strategies.segments import read_documents, segments, sentences, without_private
from generators.worlds.registry import get_world

PROMPTS = Path(__file__).parents[2] / "generators" / "prompts"
TOLD = "A baker fills 4 trays with 9 rolls and 5 trays with 7 buns. How many pieces?"
CHAIN = " 4*9=36, 5*7=35, 36+35=71 #### 71"


@pytest.mark.parametrize(
    ("solution", "steps"),
    [
        (CHAIN, ["4*9=36", "5*7=35", "36+35=71"]),
        ("<think>4*9=30</think>First 4*9 = 36.\nThen 36+1 = 37.\nSo \\boxed{37}", ["First 4*9 = 36.", "Then 36+1 = 37.", "So"]),
        ("We add, then divide. The sum is 8. Half is 4.", ["We add, then divide.", "The sum is 8.", "Half is 4."]),
        ("#### 4", []),
        ("", []),
    ],
)
def test_steps(solution: str, steps: list[str]) -> None:
    assert steps_of(solution) == steps


def test_a_step_needs_those_whose_results_it_uses() -> None:
    steps = steps_of(CHAIN)
    assert [result_of(s) for s in steps] == [36, 35, 71]
    assert needs_of(steps, TOLD) == {0: (), 1: (), 2: (0, 1)}
    assert needs_of(["4*9=36", "36+1=37"], "He has 4 of 9 and 36.") == {0: (), 1: ()}  # told anyway
    assert needs_of(["2*3=6", "1+5=6", "6*2=12"], "") == {0: (), 1: (), 2: (1,)}
    assert needs_of(["We add.", "We divide.", "Done."], "") == {0: (), 1: (0,), 2: (1,)}
    assert numbers("1,200 and 0.5 but not x2") == [1200, pytest.approx(0.5)]


@given(st.integers(0, 2**40))
def test_shuffled_steps_are_the_steps_and_never_right_as_shown(seed: int) -> None:
    steps = steps_of(CHAIN)
    made = shuffle_steps(steps, TOLD, seed)
    assert made is not None and [made.steps[n - 1] for n in made.order] == steps
    assert linear(made.needs, made.order) and not linear(made.needs, [1, 2, 3])
    assert shuffle_steps(steps, TOLD, seed) == made
    assert shuffle_steps(steps[:2], TOLD, seed) is None  # they commute: no order is wrong
    assert shuffle_steps(["1+1=2", "1+1=2"], "", seed) is None


@given(st.integers(0, 2**40), st.floats(0.01, 1), st.integers(1, 4))
def test_masks_put_back_give_the_solution(seed: int, share: float, most: int) -> None:
    steps = steps_of(CHAIN)
    made = mask_pieces(steps, share, most, seed)
    assert made is not None and 1 <= len(made.masks) <= min(most, 3)
    text = made.text
    for ident, piece in made.masks.items():
        assert text.count(f"[{ident}]") == 1
        text = text.replace(f"[{ident}]", piece)
    assert text == "\n".join(steps)
    assert mask_pieces(["We add."], share, most, seed) is None


def context(**changes: object) -> RoundContext:
    world = get_world("arithmetic")
    made = [world.make(f, level, i, seed=3, split="train") for f in world.families() for level in (2, 4) for i in range(3)]
    given = {
        "round": 1, "seed": 5, "budget": 40, "difficulty": pl.DataFrame(), "problems": {p.id: p for p in made}, "band": (0.1, 0.9), "group_size": 8,
        "policy_id": "p", "sampling": Sampling(), "generate": lambda requests: iter(()), "world": world,
        "render": Renderer([PROMPTS], "instruct").render,
    }  # fmt: skip
    return RoundContext(**{**given, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("dialect", ["compact", "instruct"])
def test_mr_rlvr_proposes_tasks_that_their_own_oracle_solves(dialect: str) -> None:
    ctx = context(render=Renderer([PROMPTS], dialect).render)
    found = list(MrRlvr({"budget": 40}).propose(ctx))
    kinds = {c.problem.verifier for c in found}
    assert len(found) == 40 and kinds == {"fill", "reorder"} and len({c.problem.id for c in found}) == 40
    for c in found:
        verifier = get_verifier(c.problem.verifier)
        assert verifier.check_problem(c.problem) == ""
        assert verifier.verify(c.problem, verifier.oracle(c.problem)).reward == 1.0  # type: ignore[attr-defined]
        assert audit_problem(c.problem, [o.problem for o in found[:3] if o is not c]).reason == ""
    assert [c.id for c in MrRlvr({"budget": 40}).propose(ctx)] == [c.id for c in found]
    only = {c.problem.verifier for c in MrRlvr({"reorder_share": 0}).propose(ctx)}
    assert only == {"fill"}


def test_mr_rlvr_takes_the_policys_right_answers_for_problems_from_elsewhere() -> None:
    ctx = context(world=None, solutions=lambda ids: {sorted(ids)[0]: CHAIN})
    (one,) = MrRlvr({"reorder_share": 0, "mask_share": 0.01}).propose(ctx)
    assert one.parents == (sorted(ctx.problems)[0],) and len(one.problem.spec["masks"]) == 1
    assert not list(MrRlvr().propose(context(world=None)))


TEXT = "Mr. Smith bakes 3.5 kg of bread each day. He sells it at 4 euros per kg! Short one. How much does he earn? He earns 14 euros every day."


def test_sentences_and_segments() -> None:
    listed = sentences(TEXT)
    assert listed == [
        "Mr. Smith bakes 3.5 kg of bread each day.", "He sells it at 4 euros per kg!", "How much does he earn?", "He earns 14 euros every day.",
    ]  # fmt: skip
    asr, msr = (list(segments(listed, 0, task)) for task in ("asr", "msr"))
    assert [(s.before, s.following[0]) for s in asr] == [(" ".join(listed[:i]), listed[i]) for i in (1, 2, 3)]
    assert [(s.following[0], s.after) for s in msr] == [(listed[1], listed[2]), (listed[2], listed[3])]
    assert all(s.after == "" for s in asr)
    assert [s.before for s in segments(listed, 0, "asr", context=40)] == listed[:3]  # whole sentences, the last ones


def test_private_data_is_masked_and_numbers_stay() -> None:
    assert without_private("Write to ann.b@mail.example.org or call +44 020 7946 0958.") == "Write to <email> or call <phone>."
    assert without_private("1,200 + 350 = 1,550 and 3.14159 in 2024-2025") == "1,200 + 350 = 1,550 and 3.14159 in 2024-2025"


@given(st.text(max_size=300))
def test_no_text_breaks_the_segmenter(text: str) -> None:
    listed = sentences(text)
    assert all(len(s.split()) >= 4 for s in listed)
    assert len(list(segments(listed, 0, "asr"))) == max(0, len(listed) - 1)


@pytest.mark.parametrize("dialect", ["compact", "instruct"])
def test_rlpt_proposes_both_tasks_once_a_sentence(tmp_path: Path, dialect: str) -> None:
    file = tmp_path / "text.jsonl"
    file.write_text("\n".join(json.dumps({"text": f"{TEXT} Number {i} follows here today. And the day {i} ends."}) for i in range(10)), "utf-8")
    ctx = context(world=None, budget=30, render=Renderer([PROMPTS], dialect).render)
    found = list(Rlpt({"file": str(file), "budget": 30}).propose(ctx))
    assert len(found) == 30 and {c.problem.meta["task"] for c in found} == {"asr", "msr"}
    places = [(c.problem.meta["document"], c.problem.meta["sentence"]) for c in found]
    assert len(set(places)) == 30
    for c in found:
        assert audit_problem(c.problem, []).reason == "" and c.problem.reference not in c.problem.prompt
    lone = {c.problem.meta["task"] for c in Rlpt({"file": str(file), "msr_share": 0}).propose(ctx)}
    assert lone == {"asr"}


def test_a_wrong_file_is_one_sentence(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "fine"}\n{"txt": 1}\n', "utf-8")
    with pytest.raises(UserError, match=r'bad.jsonl, line 2: not an object with a text under "text"'):
        list(read_documents(bad))
    with pytest.raises(UserError, match="no such file"):
        list(read_documents(tmp_path / "none.txt"))
    plain = tmp_path / "plain.txt"
    plain.write_text("One.\n\nStill one.\n---\nTwo.\n", "utf-8")
    assert list(read_documents(plain)) == ["One.\n\nStill one.", "Two."]
