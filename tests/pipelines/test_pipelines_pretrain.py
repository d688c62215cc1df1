"""Pretraining: batches keep to their budget and to the train split, the loss is the one it claims, a build repeats bit by bit."""

import math
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from data.errors import UserError
from data.render import Renderer
from generators.worlds.arithmetic import ArithmeticWorld
from pipelines.lessons import TASKS, Own, Syllabus, lessons
from pipelines.own_texts import own_texts
from pipelines.plans import PLANS, Phase, Plan, plan_of
from pipelines.policy_card import CARD, PROMPTS, describe_policy, heldout_problems, measure_policy, weights_hash
from pipelines.pretrain import _examples, _new_model, batches, build_policy, learning_rate, loss_of, token_weights
from pipelines.tokenizer import END, train_tokenizer

WORLD = ArithmeticWorld()
TINY = Plan(
    "arithmetic",
    400,
    128,
    hidden=32,
    layers=2,
    heads=2,
    kv_heads=1,
    head_dim=16,
    mlp=48,
    steps=6,
    decay_steps=6,
    batch_tokens=512,
    warmup=2,
    card_problems=65,
    card_samples=2,
)
SHIPPED = Path(__file__).parents[2] / "data" / "policies" / "arithmetic"
WRITER = SHIPPED.parent / "writer"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    build_policy("arithmetic", folder, plan=TINY, threads=1)
    return folder


def small_tokenizer():  # type: ignore[no-untyped-def]
    texts = [WORLD.make(f, 1, i, seed=0, split="train").prompt for f in WORLD.families() for i in range(20)]
    return train_tokenizer(texts, 400, 128)


def test_batches_keep_to_the_budget_and_are_keyed() -> None:
    tokenizer = small_tokenizer()
    first = list(islice(batches(WORLD, tokenizer, TINY, 3), 12))
    assert first == list(islice(batches(WORLD, tokenizer, TINY, 3), 12)) != list(islice(batches(WORLD, tokenizer, TINY, 4), 12))
    for batch in first:
        assert len(batch) * max(len(ids) for ids, _ in batch) <= TINY.batch_tokens
        for ids, prompt in batch:
            text = tokenizer.decode(ids[:prompt])
            assert text.startswith("Q: ") and text.endswith("\nA:") and tokenizer.decode(ids[prompt:]).endswith(END)


def test_loss_is_the_weighted_mean_of_token_losses() -> None:
    tokenizer = small_tokenizer()
    torch.manual_seed(0)
    model = _new_model(TINY, tokenizer).double()
    batch = next(batches(WORLD, tokenizer, TINY, 0))[:3]
    total = weight = 0.0
    for ids, prompt in batch:  # row by row, without padding: the mean must not see the padding
        logp = torch.log_softmax(model(torch.tensor([ids])).logits[0, :-1], -1)
        for position, target in enumerate(ids[1:]):
            w = 1.0 if position + 1 >= prompt else 0.25
            total, weight = total - w * logp[position, target].item(), weight + w
    assert loss_of(model, batch, 0.25).item() == pytest.approx(total / weight, rel=1e-9)


def test_learning_rate_warms_up_and_decays() -> None:
    rates = [learning_rate(step, TINY) for step in range(TINY.steps)]
    assert rates[0] == TINY.learning_rate / 2 and max(rates) == TINY.learning_rate == rates[1]
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert learning_rate(TINY.decay_steps, TINY) == pytest.approx(TINY.learning_rate / 10)


def test_a_build_repeats_bit_by_bit(built: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    torch.manual_seed(123)  # a build must not depend on the caller's generator, nor disturb it
    before = torch.random.get_rng_state()
    card = build_policy("arithmetic", tmp_path / "again", plan=TINY, threads=1, progress=lambda done, total, loss, note: seen.append((done, total)))
    assert card["weights_hash"] == weights_hash(built)
    assert (tmp_path / "again" / "tokenizer.json").read_bytes() == (built / "tokenizer.json").read_bytes()
    assert torch.equal(before, torch.random.get_rng_state())
    assert seen == [(step, 6) for step in range(1, 7)]
    other = build_policy("arithmetic", tmp_path / "other", plan=replace(TINY, card_problems=65), threads=1, seed=1)
    assert other["weights_hash"] != card["weights_hash"]


def test_the_card_tells_what_it_is(built: Path) -> None:
    card = describe_policy(built)
    assert card["card_matches"] and card["trained_on"]["split"] == "train" and card["trained_on"]["plan"]["steps"] == 6
    assert card["heldout"]["problems"] == 65 == len(card["heldout"]["cells"])
    from transformers import AutoModelForCausalLM

    assert card["parameters"] == sum(p.numel() for p in AutoModelForCausalLM.from_pretrained(built, local_files_only=True).parameters())


def test_changed_weights_are_noticed(built: Path, tmp_path: Path) -> None:
    for file in built.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = bytearray((tmp_path / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(weights)
    assert describe_policy(tmp_path)["card_matches"] is False
    (tmp_path / CARD).unlink()
    assert "heldout" not in describe_policy(tmp_path)


def test_bad_input(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for wrong, words in (
        (lambda: build_policy("poetry", tmp_path / "p"), "there are: arithmetic"),
        (lambda: build_policy("arithmetic", tmp_path / "p", steps=0), "at least 1 step"),
        (lambda: build_policy("arithmetic", tmp_path), "holds no policy"),
        (lambda: build_policy("arithmetic", tmp_path / "notes.txt"), "is a file"),
        (lambda: describe_policy(tmp_path), "no config.json"),
    ):
        with pytest.raises(UserError, match=words):
            wrong()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes.txt"]


def test_heldout_problems_cover_every_cell_and_are_heldout() -> None:
    problems = heldout_problems(WORLD, 130, seed=0)
    assert len(problems) == 130 and all(p.split == "heldout" for p in problems)
    assert {(p.domain, p.level) for p in problems} == {(f, level) for f in WORLD.families() for level in WORLD.levels()}


def test_shipped_policy_is_what_its_card_says() -> None:
    card = describe_policy(SHIPPED)
    assert card["card_matches"] and card["architecture"] == "Qwen3ForCausalLM" and card["dialect"] == "compact"
    assert 0.5e6 <= card["parameters"] <= 1.5e6 and card["vocabulary"] <= 768
    assert card["trained_on"]["split"] == "train" and plan_of(card["trained_on"]["plan"]) == PLANS["arithmetic"]
    assert 0.40 <= card["heldout"]["pass@1"] <= 0.60 and card["heldout"]["pass@8"] >= card["heldout"]["pass@1"] + 0.15


@pytest.mark.skipif(not (WRITER / "card.json").is_file(), reason="the writer policy is not here")
def test_the_writer_is_what_its_card_says_and_writes_better_than_it_errs() -> None:
    card = describe_policy(WRITER)
    assert card["card_matches"] and card["dialect"] == "compact" and plan_of(card["trained_on"]["plan"]) == PLANS["writer"]
    tasks = {of["task"]: of for of in card["writing"]["tasks"]}
    assert set(tasks) | {"solve", "doubt"} == set(TASKS)
    assert all(of["readable"]["share"] > 0.5 for of in tasks.values() if "readable" in of)
    assert tasks["rewrite"]["right"]["share"] > 0.7 and tasks["rewrite"]["temperature"] == 1.0
    assert 0.2 <= card["heldout"]["pass@1"] <= 0.65 and card["heldout"]["pass@8"] >= card["heldout"]["pass@1"] + 0.15
    assert (WRITER / "model.safetensors").stat().st_size < 5e6


def test_the_teacher_is_what_its_card_says_and_better_than_the_writer_where_it_was_taught() -> None:
    folder = SHIPPED.parent / "teacher"
    card, writer = describe_policy(folder), describe_policy(WRITER)
    assert card["card_matches"] and plan_of(card["trained_on"]["plan"]) == PLANS["teacher"]
    assert {c["level"] for c in card["heldout"]["cells"]} == {1, 2, 3}
    solved = {(c["family"], c["level"]): c["pass@1"] for c in writer["heldout"]["cells"]}
    better = [c["pass@1"] - solved[c["family"], c["level"]] for c in card["heldout"]["cells"]]
    assert sum(better) / len(better) > 0.0 and (folder / "model.safetensors").stat().st_size < 5e6


def test_what_a_policy_writes_of_its_own_is_what_its_judge_learns_from(tmp_path: Path) -> None:
    found = own_texts(SHIPPED.parent / "teacher", WORLD, 104, WORLD.families(), (1, 2), 3)
    assert 50 < len(found) <= 104 and found == own_texts(SHIPPED.parent / "teacher", WORLD, 104, WORLD.families(), (1, 2), 3)
    assert all((one.read is None) == (WORLD.read(one.text) is None) and "Q:" not in one.text for one in found)
    assert not [one for one in found if one.read is not None and one.read.split == "heldout"]
    slips = [Own("ages", ("age",), 1, "Tom is 4 years old. How old is Tom?", None), next(one for one in found if one.read is not None)]
    syllabus = Syllabus(WORLD.families(), (1,), own=slips)
    drawn = list(islice(lessons(WORLD, {"sws_judge": 0.5, "doubt": 0.5}, syllabus, Renderer([PROMPTS], "compact"), 1), 400))
    judged = {one.answer for one in drawn if one.task == "sws_judge" and slips[0].text in one.prompt}
    doubted = {one.answer for one in drawn if one.task == "doubt" and slips[0].text in one.prompt}
    assert judged == {" bad"} and doubted == {" #### none"}
    assert {one.answer for one in drawn if one.task == "sws_judge" and slips[1].text in one.prompt} <= {" perfect", " acceptable"}
    phase = Phase(2, 2, 1e-3, (("sws_judge", 1.0),), levels=(1,), own=13)
    plan = replace(TINY, steps=1, card_samples=1, tasks=(("sws_write", 1.0),), then=(phase,))
    assert build_policy("writer", tmp_path / "w", plan=plan, threads=1)["writing"]["problems"] == 26


def test_a_build_without_a_family_knows_its_words_and_none_of_its_problems(tmp_path: Path) -> None:
    plan = replace(TINY, steps=2, card_problems=65, card_samples=1, tasks=(("solve", 0.5), ("sws_write", 0.5)), prompt_weight=0.3, word_weight=4.0)
    card = build_policy("writer", tmp_path / "w", plan=plan, threads=1, without=["ages"])
    assert card["name"] == "writer without ages" and card["trained_on"]["plan"]["without"] == ["ages"]
    assert [of["task"] for of in card["writing"]["tasks"]] == ["rewrite", "paraphrase", "sws_write", "sws_judge", "sws_concepts"]
    left = [problem.domain for problem, _, _ in islice(_examples(WORLD, replace(plan, without=("ages",)), 0), 300)]
    assert "ages" not in left and len(set(left)) == len(WORLD.families()) - 1
    with pytest.raises(UserError, match="--without age: world arithmetic has no such family"):
        build_policy("writer", tmp_path / "x", plan=plan, without=["age"])


def test_a_later_phase_goes_on_from_the_one_before_and_can_be_made_alone(tmp_path: Path) -> None:
    again = Phase(3, 3, 1e-3, (("solve", 0.5), ("doubt", 0.5)), levels=(1,), last_rate=0.0)
    plan = replace(TINY, steps=2, card_samples=1)
    told: list[tuple[int, int]] = []
    build_policy("arithmetic", tmp_path / "first", plan=plan, threads=1)
    whole = build_policy(
        "arithmetic", tmp_path / "whole", plan=replace(plan, then=(again,)), threads=1, progress=lambda d, n, loss, note: told.append((d, n))
    )
    rest = build_policy("arithmetic", tmp_path / "rest", plan=replace(plan, then=(again,)), threads=1, begin=tmp_path / "first")
    assert whole["weights_hash"] == rest["weights_hash"] != describe_policy(tmp_path / "first")["weights_hash"]
    assert told == [(done, 5) for done in range(1, 6)]
    assert plan_of(whole["trained_on"]["plan"]) == replace(plan, then=(again,))
    phase = replace(plan, then=(again,)).phases()[1]
    assert learning_rate(0, phase) == 1e-3 / 50 and {p.level for p, _, _ in islice(_examples(WORLD, phase, 1), 40)} == {1}
    for begin, wrong in ((tmp_path / "none", "no policy there"), (SHIPPED, "another shape")):
        with pytest.raises(UserError, match=wrong):
            build_policy("arithmetic", tmp_path / "x", plan=replace(plan, then=(again,)), begin=begin)
    with pytest.raises(UserError, match="nothing to go on with"):
        build_policy("arithmetic", tmp_path / "x", plan=plan, begin=tmp_path / "first")


def test_names_and_things_weigh_more_where_the_plan_says_so() -> None:
    tokenizer = small_tokenizer()
    assert token_weights(tokenizer, 1.0) is None
    weights = token_weights(tokenizer, 4.0)
    assert weights is not None and set(weights.tolist()) == {1.0, 4.0}
    assert all(weights[tokenizer(f" {word}")["input_ids"]].min() == 4.0 for word in ("Tom", "pens", "She"))
    assert weights[tokenizer("12+3")["input_ids"]].max() == 1.0
    model = _new_model(TINY, tokenizer)
    batch = next(iter(batches(WORLD, tokenizer, TINY, 0)))
    assert loss_of(model, batch, 0.1, torch.full((len(tokenizer),), 4.0)).item() == pytest.approx(loss_of(model, batch, 0.1).item(), rel=1e-5)


def test_shipped_policy_has_room_on_both_sides() -> None:
    cells = [cell["pass@1"] for cell in describe_policy(SHIPPED)["heldout"]["cells"]]
    assert (
        sum(0.2 <= c <= 0.8 for c in cells) >= len(cells) // 3
        and sum(c >= 0.9 for c in cells) >= 1
        and sum(c < 0.05 for c in cells) <= len(cells) // 5
    )


def test_shipped_policy_solves_what_its_card_says_when_asked_again() -> None:
    measured = measure_policy(SHIPPED, WORLD, problems=260, samples=1, seed=99)
    figure = describe_policy(SHIPPED)["heldout"]["pass@1"]
    assert abs(measured["pass@1"] - figure) < 4 * math.sqrt(0.25 / 260)


def test_shipped_policy_loads_with_plain_transformers() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(SHIPPED, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(SHIPPED, local_files_only=True)
    problem = WORLD.make("totals", 1, 0, seed=0, split="heldout")
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": problem.prompt}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.no_grad():
        answer = model.generate(**asked, do_sample=False, max_new_tokens=48)[0, asked["input_ids"].shape[1] :]
    assert answer[-1] == tokenizer.eos_token_id == model.generation_config.eos_token_id
    assert "####" in tokenizer.decode(answer)
