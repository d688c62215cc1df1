"""What every engine, verifier, world and offline strategy must keep; the fakes and the shipped ones pass the same checks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from conformance_fakes import AdditionWorld, CountVerifier, FakeEngine, HardCells, image_hash, token_logp

from data.ledger import Ledger
from data.records import PolicyVersion, Problem, Request, Sampling
from data.text import storable
from filters.verifiers.base import Verifier, get_verifier, register_verifier, verify_all
from generators.engines.base import Batched, Engine
from generators.engines.ledgered import LedgeredEngine
from generators.engines.replay import ReplayEngine
from generators.strategies.base import RoundContext, Strategy
from generators.strategies.frontier import Frontier
from generators.worlds.base import World
from generators.worlds.registry import get_world

SAMPLING = Sampling(max_tokens=64)


def requests(n: int = 30) -> list[Request]:
    """Prompts, chats, token prefixes and images, two samples of each."""
    made = []
    for i in range(n // 2):
        for index in range(2):
            common = {"policy_id": "p", "sampling": SAMPLING, "seed": 1000 + 2 * i + index, "index": index}
            if i % 4 == 0:
                made.append(Request(prompt=f"question {i}", **common))
            elif i % 4 == 1:
                made.append(Request(messages=({"role": "user", "content": f"question {i}"},), **common))
            elif i % 4 == 2:
                made.append(Request(tokens=(i, 65, 66), **common))
            else:
                made.append(Request(prompt="what is on it?", media=(image_hash(bytes([i])),), **common))
    return made


def say(request: Request, prompt: str) -> str:
    return f"{prompt[-12:]} {request.seed} {len(request.media)}"


def fails(request: Request) -> str:
    return "out of memory" if request.seed % 7 == 0 else ""


def check_engine(engine: Engine, weights: str = "nowhere") -> None:
    """Every request answered exactly once; tokens, log-probs and text agree; a failure is an answer."""
    assert isinstance(engine, Engine)
    asked = requests()
    answers = list(engine.generate(iter(asked)))
    assert sorted(a.key for a in answers) == sorted(r.key for r in asked)
    by_key = {r.key: r for r in asked}
    for a in answers:
        request = by_key[a.key]
        assert a.policy_id == request.policy_id
        assert a.tokens.dtype == np.int32 and a.prompt_tokens.dtype == np.int32 and a.logp.dtype == np.float32
        assert len(a.tokens) == len(a.logp) <= request.sampling.max_tokens
        assert bool(a.error) == (a.finish == "error")
        if a.finish == "error":
            assert len(a.tokens) == 0
        else:
            assert storable(engine.decode(a.tokens.tolist())) == storable(a.text)
            assert (a.logp <= 0).all()
        if request.tokens:
            assert a.prompt_tokens.tolist() == list(request.tokens)
    assert list(engine.generate([])) == []
    scored = {s.key: s.logp for s in engine.score([("a", [1, 2, 3]), ("b", [4])])}
    assert set(scored) == {"a", "b"}
    assert len(scored["a"]) == 3 and np.isnan(scored["a"][0]) and not np.isnan(scored["a"][1:]).any()
    assert engine.embed(["x", "y z"]).shape[0] == 2
    assert engine.decode(engine.encode("żółw 5")) == "żółw 5"
    engine.update(PolicyVersion("next", weights))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "ledger.sqlite") as opened:
        yield opened


@pytest.mark.parametrize("order", [0, 1, 2])
def test_the_fake_engine_conforms_and_streams_out_of_order(order: int) -> None:
    engine = FakeEngine(say, order=order, fails=fails)
    check_engine(engine)
    assert not isinstance(engine, Batched)
    asked = requests()
    source = iter(asked)
    stream = FakeEngine(say, order=order).generate(source)
    first = next(stream)
    assert next(source, None) is not None  # answered while its input was still open
    assert [first.key, *(a.key for a in stream)] != [r.key for r in asked]


@pytest.mark.parametrize("window", [4, 7, 1024])
def test_an_engine_behind_the_ledger_conforms_and_generates_nothing_twice(ledger: Ledger, window: int) -> None:
    inner = FakeEngine(say, fails=fails)
    engine = LedgeredEngine(inner, ledger, window=window)
    check_engine(engine)
    assert len(inner.asked) == len(requests())
    once = {a.key: a for a in engine.generate(requests())}
    failed = {r.key for r in requests() if fails(r)}
    again = [r.key for r in inner.asked[len(requests()) :]]
    assert sorted(again) == sorted(failed)  # only failures are asked again
    assert all(once[k].text == a.text for k, a in ((a.key, a) for a in FakeEngine(say, fails=fails).generate(requests())))
    other_order = LedgeredEngine(FakeEngine(say, order=5), ledger)
    assert {a.key: a.text for a in other_order.generate(requests()) if a.key not in failed} == {k: a.text for k, a in once.items() if k not in failed}


def test_replay_conforms_and_repeats_what_was_recorded(ledger: Ledger) -> None:
    recorded = {a.key: a for a in LedgeredEngine(FakeEngine(say, fails=fails), ledger).generate(requests())}
    fallback = FakeEngine(lambda r, p: "something else")
    engine = ReplayEngine(ledger, fallback)
    check_engine(engine)
    assert fallback.asked == []
    for a in engine.generate(reversed(requests())):
        assert (a.text, a.finish, a.error, a.tokens.tolist()) == (
            recorded[a.key].text,
            recorded[a.key].finish,
            recorded[a.key].error,
            recorded[a.key].tokens.tolist(),
        )
        assert np.array_equal(a.logp, recorded[a.key].logp)


def test_the_embedded_engine_conforms_alone_and_behind_the_ledger(tmp_path: Path, ledger: Ledger) -> None:
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from generators.engines.local import LocalEngine
    from pipelines.tokenizer import train_tokenizer

    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["question 12", "what is on it?"], 300, 256)
    tokenizer.save_pretrained(tmp_path / "policy")
    shape = {"vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    config = Qwen3Config(**shape, **ends, num_key_value_heads=1, head_dim=8, max_position_embeddings=256)
    Qwen3ForCausalLM(config).save_pretrained(tmp_path / "policy")
    engine = LocalEngine(tmp_path / "policy", policy_id="p")
    assert isinstance(engine, Batched)
    want = {a.key: a for a in engine.generate(requests())}
    assert {a.error for a in want.values() if a.finish == "error"} == {"this engine reads no images"}
    got = {a.key: a for a in LedgeredEngine(engine, ledger).generate(requests())}
    assert {k: a.tokens.tolist() for k, a in got.items()} == {k: a.tokens.tolist() for k, a in want.items()}
    check_engine(LedgeredEngine(LocalEngine(tmp_path / "policy", policy_id="p"), ledger), str(tmp_path / "policy"))
    check_engine(engine, str(tmp_path / "policy"))


def test_images_are_part_of_what_is_asked() -> None:
    one, other = (Request("p", SAMPLING, 1, prompt="what?", media=(image_hash(c),)) for c in (b"1", b"2"))
    plain = Request("p", SAMPLING, 1, prompt="what?")
    assert len({one.key, other.key, plain.key}) == len({one.input_key, other.input_key, plain.input_key}) == 3
    (refused,) = FakeEngine(say, images=False).generate([one])
    assert (refused.finish, refused.error) == ("error", "this engine takes no images")


def test_logprobs_of_sampled_tokens_equal_their_score() -> None:
    engine = FakeEngine(say)
    for a in engine.generate(requests(8)):
        (scored,) = engine.score([("s", [*a.prompt_tokens.tolist(), *a.tokens.tolist()])])
        assert np.array_equal(scored.logp[len(a.prompt_tokens) :], a.logp)
    assert np.array_equal(token_logp([1, 8]), token_logp([1, 1]))


def check_verifier(verifier: Verifier, problem: Problem, right: str, wrong: str) -> None:
    assert verifier.check_problem(problem) == ""
    assert get_verifier(verifier.name).name == verifier.name
    accepted, refused = verify_all([(problem, right), (problem, wrong)])
    assert (accepted.outcome, accepted.reward) == ("pass", 1.0)
    assert (refused.outcome, refused.reward) == ("fail", 0.0)
    for verdict in verify_all([(problem, text) for text in ("", "\x00", "!", "?", "x" * 100_000, wrong + right, "\ud800")]):
        assert verdict.outcome in ("pass", "fail", "unknown")
        assert 0.0 <= verdict.reward <= 1.0
        assert verdict.reward == 0.0 or verdict.outcome != "unknown"
        assert verdict.reason and verdict.verifier == verifier.name


def test_verifiers_conform_and_a_judge_that_breaks_is_unknown() -> None:
    register_verifier("fake-count", CountVerifier)
    problem = Problem("q", "7", "fake-count")
    check_verifier(CountVerifier(), problem, "so #7", "so #8")
    broken, abstained = verify_all([(problem, "#7!"), (problem, "#7?")])
    assert (broken.outcome, broken.reward) == ("unknown", 0.0)
    assert "RuntimeError" in broken.reason
    assert abstained.outcome == "unknown"
    check_verifier(get_verifier("math"), Problem("q", "7"), "#### 7", "#### 8")


def check_world(world: World, per_cell: int = 6) -> None:
    """Pure in its arguments, splits disjoint, demonstrations right, rewrites answer-preserving."""
    texts: dict[str, set[str]] = {"train": set(), "heldout": set()}
    for family in world.families():
        assert world.concepts(family)
        for level in world.levels():
            for split in ("train", "heldout"):
                for index in range(per_cell):
                    for seed in (1, 2):
                        problem = world.make(family, level, index, seed=seed, split=split)
                        assert problem == world.make(family, level, index, seed=seed, split=split)
                        assert (problem.domain, problem.level, problem.split, problem.source) == (family, level, split, "world")
                        assert problem.concepts
                        texts[split].add(problem.prompt)
                        judge = get_verifier(problem.verifier)
                        assert judge.check_problem(problem) == ""
                        assert judge.verify(problem, world.demonstration(problem)).outcome == "pass", problem
                        rewrite = world.paraphrase(problem, index)
                        if rewrite is not None:
                            assert (rewrite.reference, rewrite.split) == (problem.reference, split)
                            assert rewrite == world.paraphrase(problem, index)
    assert not texts["train"] & texts["heldout"]
    assert len(texts["train"]) > len(world.families()) * len(world.levels()) * per_cell
    assert world.paraphrase(Problem("not of this world", "1"), 0) is None
    assert world.check_chain(Problem("not of this world", "1"), "#### 1") is None


def test_worlds_conform() -> None:
    check_world(AdditionWorld())
    check_world(get_world("arithmetic"), per_cell=3)


def round_context(world: World, budget: int) -> RoundContext:
    problems = [world.make(world.families()[i % 2], world.levels()[0], i, seed=3, split="train") for i in range(6)]
    difficulty = pl.DataFrame(
        [
            {"problem_id": p.id, "domain": p.domain, "level": p.level, "concepts": list(p.concepts), "passes": 4, "n": 8}
            | {"pass_rate": 0.5, "policy_id": "p", "round": 0}
            for p in problems
        ]
    )
    engine = FakeEngine(say)
    return RoundContext(0, 11, budget, difficulty, {p.id: p for p in problems}, (0.25, 0.75), 8, "p", SAMPLING, engine.generate, world=world)


def check_offline(make: type, world: World) -> None:
    """At most the budget, every candidate distinct and traceable, the same again; state is JSON."""
    for budget in (0, 3):
        strategy: Strategy = make()
        ctx = round_context(world, budget)
        candidates = list(strategy.propose(ctx))
        assert len(candidates) == budget
        assert len({c.id for c in candidates}) == len({c.problem.id for c in candidates}) == len(candidates)
        for c in candidates:
            assert (c.strategy, c.round) == (strategy.name, 0)
            assert c.parents and set(c.parents) <= set(ctx.problems)
            assert c.problem.split == "train"
            assert get_verifier(c.problem.verifier).check_problem(c.problem) == ""
        assert [c.id for c in make().propose(ctx)] == [c.id for c in candidates]
        state = json.loads(json.dumps(strategy.state_dict()))
        resumed = make()
        resumed.load_state_dict(state)
        assert resumed.state_dict() == strategy.state_dict()
        assert [c.id for c in resumed.propose(ctx)] == [c.id for c in strategy.propose(ctx)]


def test_offline_strategies_conform() -> None:
    check_offline(HardCells, AdditionWorld())
    check_offline(Frontier, get_world("arithmetic"))
