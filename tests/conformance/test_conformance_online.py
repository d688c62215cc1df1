"""The step scheduler and the rollouts under strategies as entangled as the papers' (SvS, PEARL), with fakes for everything below."""

from __future__ import annotations

import json
import queue
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conformance_fakes import (
    IMAGE,
    Calculator,
    Continues,
    CountVerifier,
    DropsUnasked,
    FakeEngine,
    Gate,
    Variants,
    group_facts,
    image_hash,
    token_logp,
)

from data.errors import SynthError
from data.ledger import Ledger
from data.records import Completion, Group, GroupEdit, Problem, Request, RolloutSpec, Sampling, Verdict
from filters.verifiers.base import register_verifier
from generators.engines.ledgered import LedgeredEngine
from generators.engines.replay import ReplayEngine
from generators.strategies.base import BaseStrategy, Online, StepContext, Strategy
from pipelines.grpo.advantage import group_advantages
from pipelines.grpo.objective import Objective
from pipelines.grpo.plan import plan_step, with_advantages
from pipelines.grpo.presets import preset_named
from pipelines.grpo.recompose import StepInfo, apply_edits
from pipelines.online import StepRollouts, sample_step
from pipelines.rollout import Rollouts, make_groups
from pipelines.rollout_stream import RolloutStream

register_verifier("fake-count", CountVerifier)
SAMPLING = Sampling(max_tokens=48)


def rollouts(engine: FakeEngine | LedgeredEngine | ReplayEngine, **changes: object) -> Rollouts:
    made = Rollouts(
        engine=engine,
        policy_id="policy",
        model="fake",
        render=lambda template, problem: f"{template}: {problem.prompt}",
        dialect="compact",
        seed=5,
        key=(0, "train"),
        purpose="train",
        environments=lambda name: {"fake-calculator": Calculator()}[name],
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def skilled(request: Request, prompt: str) -> str:
    """A policy whose skill at problem `q<k>` is k of 8 by sample index; rewrites are right for even k."""
    if prompt.startswith("rewrite:"):
        return f"again {prompt.split()[-1]} v{request.index}"
    k = int("".join(c for c in prompt.split("q")[-1][:1] if c.isdigit()) or 0)
    if "again" in prompt:
        return "#7" if k % 2 == 0 and request.index == 0 else "#8"
    return "#7" if request.index < k else "#8"


def main_specs(names: Sequence[str] = ("q0", "q3", "q4", "q7", "q8"), n: int = 8) -> list[RolloutSpec]:
    return [RolloutSpec(Problem(f"solve {name}", "7", "fake-count"), n, SAMPLING, key=(1, i)) for i, name in enumerate(names)]


def step(strategies: Sequence[Strategy], main: Sequence[RolloutSpec], engine: FakeEngine | LedgeredEngine | ReplayEngine) -> StepRollouts:
    contexts = {s.name: StepContext(0, 1, 5, main, SAMPLING, "policy") for s in strategies}
    made = rollouts(engine)
    if not made.streams:
        return sample_step(strategies, contexts, main, made.sample)
    with RolloutStream(made) as stream:
        return sample_step(strategies, contexts, main, made.sample, streaming=stream)


def by_name(groups: Sequence[Group]) -> dict[str, Group]:
    return {g.problem.prompt.split()[-1]: g for g in groups if g.stream == "main"}


def facts(made: StepRollouts) -> list[object]:
    edits = [(e.kind, e.group_id, e.factor, None if e.rewards is None else e.rewards.tolist(), e.reason) for e in made.edits]
    return [[group_facts(g) for g in made.main], edits]


def test_no_strategy_gives_the_main_groups_in_order() -> None:
    main = main_specs()
    made = step([], main, FakeEngine(skilled))
    assert [g.id for g in made.main] == [s.group_id for s in main]
    assert [g.passes for g in made.main] == [0, 3, 4, 7, 8]
    assert [len(g.rollouts) for g in made.main] == [8] * 5
    assert made.edits == []


class Asks(BaseStrategy):
    """Asks for the step's first main group, changed."""

    def __init__(self, name: str, **changes: object) -> None:
        self.name, self.changes = name, changes

    def online(self, ctx: StepContext) -> Online:
        yield [replace(ctx.main[0], **self.changes)]  # type: ignore[arg-type]
        return []


@pytest.mark.parametrize(
    ("changes", "other"),
    [
        ({"n": 4}, {}), ({"sampling": Sampling(max_tokens=9)}, {}), ({"coef": 0.5}, {}), ({"kl": 0.0}, {}), ({"estimator": "binary"}, {}),
        ({"keeps_unknown": True}, {}), ({"refs": ("x",)}, {}), ({"structured": {"type": "object"}}, {}), ({"environment": "fake-calculator"}, {}),
        ({"stream": "mine", "n": 4}, {"stream": "mine", "n": 5}),
    ],
)  # fmt: skip
def test_one_group_asked_for_in_two_ways_is_an_error_that_names_both(changes: dict[str, object], other: dict[str, object]) -> None:
    """Whoever was answered first would decide what the other gets. With the stage itself, and between two strategies."""
    name = next(k for k in changes if k != "stream")
    strategies = [Asks("first", **changes), *([Asks("second", **other)] if other else [])]
    with pytest.raises(SynthError, match=rf"strategy '{'second' if other else 'first'}' asks for group \w+ .*with {name} = .*different keys") as told:
        step(strategies, main_specs(), FakeEngine(skilled))
    assert ("strategy 'first' with" if other else "the step itself with") in str(told.value)


def test_one_group_asked_for_alike_is_made_once_for_all() -> None:
    engine = FakeEngine(skilled)
    made = step([Asks("first"), Asks("second"), Asks("third", asked_by="somebody")], main_specs(), engine)
    assert len(engine.asked) == 5 * 8 and [g.passes for g in made.main] == [0, 3, 4, 7, 8]


def test_groups_that_depend_on_finished_main_groups_with_another_estimator() -> None:
    engine = FakeEngine(skilled)
    made = step([Variants()], main_specs(), engine)
    assert Counter(r.purpose for r in engine.asked) == {"train": 5 * 8, "fake-variants": 3 * 2 + 6 * 2}  # main once, then two waves
    waves = [("rewrite:" in (r.prompt or ""), "again" in (r.prompt or "")) for r in engine.asked]
    assert waves == [(False, False)] * 40 + [(True, False)] * 6 + [(False, True)] * 12
    groups, factors = apply_edits(made.main, made.edits)
    assert factors == {}
    streams = Counter((g.stream, g.estimator, g.coef) for g in groups)
    assert streams == {("main", "group", 1.0): 5, ("rewrite", "reinforce", 0.5): 3, ("solve-rewrite", "group", 1.0): 2}
    rewrites = {g.problem.prompt.split()[-1]: g for g in groups if g.stream == "rewrite"}
    assert {name: g.rewards.tolist() for name, g in rewrites.items()} == {"q3": [0.0, 0.0], "q4": [1.0, 1.0], "q7": [0.0, 0.0]}
    mains = by_name(groups)
    assert all(g.refs == (mains[name].id,) for name, g in rewrites.items())

    valid = [np.ones(len(g.rollouts), bool) for g in groups]
    found = group_advantages(groups, Objective(preset_named("grpo")).estimate, valid)
    advantages = {g.id: np.array([row[0] for row in rows]) for g, rows in zip(groups, found, strict=True)}
    assert advantages[rewrites["q4"].id].tolist() == [1.0, 1.0]  # reinforce: the reward itself
    assert advantages[mains["q4"].id].sum() == pytest.approx(0)  # group: centred
    assert advantages[mains["q4"].id][0] > 0


def test_a_gate_drops_main_groups_before_they_are_sampled_and_scales_others() -> None:
    engine = FakeEngine(skilled)
    main = main_specs()
    made = step([Gate()], main, engine)
    hopeless = main[0]
    assert sum(r.problem_id == hopeless.problem.id for r in engine.asked) == 1  # the probe, nothing else
    assert sorted(by_name(made.main)) == ["q3", "q4", "q7", "q8"]
    groups, factors = apply_edits(made.main, made.edits)
    assert len(groups) == 4
    mains = by_name(groups)
    assert factors == {mains["q7"].id: 0.5, mains["q8"].id: 0.5}
    objective = Objective(preset_named("grpo"))
    plan = plan_step(groups, objective, StepInfo(0, 0), 0.0, False)
    plain, scaled = (with_advantages(plan, objective, f, {}) for f in ({}, factors))
    assert len(plain) == sum(len(g.rollouts) for g in groups)
    for before, after in zip(plain, scaled, strict=True):
        assert np.array_equal(after.advantage, before.advantage * factors.get(groups[after.family[0]].id, 1.0))


def test_a_gate_that_returns_at_once_still_keeps_what_it_drops_from_being_sampled() -> None:
    engine = FakeEngine(skilled)
    main = main_specs(("q3", "marked-q4", "q7"))
    made = step([DropsUnasked()], main, engine)
    assert [g.id for g in made.main] == [main[0].group_id, main[2].group_id]
    assert all("marked" not in (r.prompt or "") for r in engine.asked)
    assert len(apply_edits(made.main, made.edits)[0]) == 2


def test_all_strategies_side_by_side_share_the_main_groups() -> None:
    engine = FakeEngine(skilled)
    main = main_specs()
    made = step([Variants(), Gate(), Continues(), DropsUnasked()], main, engine)
    per_main = Counter(r.key for r in engine.asked)
    assert max(per_main.values()) == 1  # nothing is asked twice, however many wait for it
    assert sorted(by_name(made.main)) == ["q3", "q4", "q7", "q8"]
    groups, factors = apply_edits(made.main, made.edits)
    assert Counter(g.stream for g in groups) == {"main": 4, "rewrite": 3, "solve-rewrite": 2, "branch": 3}
    assert len(factors) == 2


@pytest.mark.parametrize("order", range(1, 6))
def test_the_order_of_completion_changes_nothing(order: int) -> None:
    strategies = [Variants, Gate, Continues]
    want = step([s() for s in strategies], main_specs(), FakeEngine(skilled))
    got = step([s() for s in reversed(strategies)], main_specs(), FakeEngine(skilled, order=order, window=order))
    assert facts(got) == facts(want)
    assert [v.rollout_id for v in got.verdicts] == [v.rollout_id for v in want.verdicts]


def test_a_killed_step_replays_from_the_ledger_and_regenerates_nothing(tmp_path: Path) -> None:
    strategies = [Variants, Gate, Continues]
    want = step([s() for s in strategies], main_specs(), FakeEngine(skilled))
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:

        class Killed(FakeEngine):
            def _complete(self, request: Request) -> Completion:
                if len(self.asked) > 50:
                    raise KeyboardInterrupt
                return super()._complete(request)

        with pytest.raises(KeyboardInterrupt):
            step([s() for s in strategies], main_specs(), LedgeredEngine(Killed(skilled), ledger, window=8))
        recorded = ledger.counts()["done"]
        assert 0 < recorded < sum(len(t) for t in want.trajectories.values())
        rest = FakeEngine(skilled, order=3)
        got = step([s() for s in strategies], main_specs(), LedgeredEngine(rest, ledger, window=8))
        assert facts(got) == facts(want)
        assert len(rest.asked) == sum(len(t) for t in want.trajectories.values()) - recorded
        replayed = step([s() for s in strategies], main_specs(), ReplayEngine(ledger, FakeEngine(lambda r, p: "never asked")))
        assert facts(replayed) == facts(want)


class Restless(FakeEngine):
    """Answers after delays of its own, several at once, in whatever order they end."""

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        done: queue.SimpleQueue[Completion] = queue.SimpleQueue()
        delays, timers, ended = random.Random(self.order), [], threading.Event()

        def feed() -> None:
            for request in requests:
                self.asked.append(request)
                timers.append(threading.Timer(delays.expovariate(200), lambda r=request: done.put(self._complete(r))))  # type: ignore[misc]
                timers[-1].start()
            ended.set()

        threading.Thread(target=feed, daemon=True).start()
        given = 0
        while not (ended.is_set() and given == len(timers)):
            try:
                yield done.get(timeout=0.05)
                given += 1
            except queue.Empty:
                pass


def slow_judge(self: CountVerifier, problem: Problem, response: str, verify: Callable[..., Verdict] = CountVerifier.verify) -> Verdict:
    time.sleep(0.0005)
    return verify(self, problem, response)


@pytest.mark.parametrize("order", range(4))
def test_a_step_without_waves_is_the_step_in_waves_whatever_the_order(order: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strategies that ask again, a gate, multi-turn rollouts and one that waits for what a gate dropped, over answers in random order."""
    strategies = [Variants, Gate, Continues, Stubborn]
    want = step([s() for s in strategies], main_specs(), FakeEngine(skilled))
    monkeypatch.setattr(CountVerifier, "verify", slow_judge)
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        engine = LedgeredEngine(Restless(skilled, order=order), ledger, window=16)
        assert engine.streams
        got = step([s() for s in strategies], main_specs(), engine)
        assert facts(got) == facts(want)
        assert {i: [r.id for r in made] for i, made in got.trajectories.items()} == {i: [r.id for r in made] for i, made in want.trajectories.items()}
        assert sorted(v.rollout_id for v in got.verdicts) == sorted(v.rollout_id for v in want.verdicts)
        again = step([s() for s in strategies], main_specs(), LedgeredEngine(ReplayEngine(ledger, strict=True), ledger))
        assert facts(again) == facts(want)
        assert [v.rollout_id for v in again.verdicts] == [v.rollout_id for v in got.verdicts]  # the order, too, is nobody's speed
        assert ledger.counts()["attempts"] == ledger.counts()["done"]


def test_a_strategy_goes_on_and_groups_are_judged_while_others_are_still_written(tmp_path: Path) -> None:
    """One main group's answers are held back until a variant of another group was asked for: waves would wait for ever."""
    released, order = threading.Event(), []

    class Holding(Restless):
        def _complete(self, request: Request) -> Completion:
            text = request.prompt or ""
            order.append(text)
            if text.startswith("rewrite:"):
                released.set()
            if "q8" in text:
                assert released.wait(20), "nothing went on while this group was being written"
            return super()._complete(request)

    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        got = step([Early()], main_specs(), LedgeredEngine(Holding(skilled), ledger))
    assert facts(got) == facts(step([Early()], main_specs(), FakeEngine(skilled)))
    assert any(text.startswith("rewrite:") for text in order)


class Early(BaseStrategy):
    """Waits for one main group only, then asks for a variant of it."""

    name = "fake-early"

    def online(self, ctx: StepContext) -> Online:
        groups = yield [ctx.main[1]]
        variant = RolloutSpec(ctx.main[1].problem, 2, ctx.sampling, stream="rewrite", prompt=f"rewrite: q{groups[0].passes}")
        made = yield [variant]
        return [GroupEdit.add(made[0])]


class Stubborn(BaseStrategy):
    """Asks for a main group that a gate drops, and for the same extra group twice."""

    name = "fake-stubborn"
    saw: list[int]

    def online(self, ctx: StepContext) -> Online:
        groups = yield list(ctx.main)
        self.saw = [len(g.rollouts) for g in groups]
        extra = RolloutSpec(ctx.main[-1].problem, 2, ctx.sampling, stream="extra")
        first = yield [extra]
        again = yield [extra]
        assert first == again
        nothing = yield []
        assert nothing == []
        return [GroupEdit.add(first[0])]


def test_waiting_for_what_a_gate_dropped_answers_with_an_empty_group_and_never_hangs() -> None:
    engine = FakeEngine(skilled)
    strategy = Stubborn()
    made = step([strategy, Gate()], main_specs(), engine)
    assert strategy.saw == [0, 8, 8, 8, 8]
    assert sum(r.index == 0 and r.problem_id == made.main[-1].problem.id for r in engine.asked) == 3  # probe, main, extra: each once
    assert len(apply_edits(made.main, made.edits)[0]) == 5


def test_failed_and_abstained_rollouts_leave_the_group_but_keep_their_verdict() -> None:
    def answer(request: Request, prompt: str) -> str:
        return ["#7", "#8", "#7?", "#7!"][request.index % 4]

    main = main_specs(("q1",))
    made = step([], main, FakeEngine(answer, fails=lambda r: "out of memory" if r.index >= 6 else ""))
    (group,) = made.main
    assert group.rewards.tolist() == [1.0, 0.0, 1.0, 0.0]
    assert [r.index for r in group.rollouts] == [0, 1, 4, 5]
    assert len(made.trajectories[group.id]) == 8
    outcomes = Counter((v.outcome, v.reward) for v in made.verdicts)
    assert outcomes == {("pass", 1.0): 2, ("fail", 0.0): 2, ("unknown", 0.0): 4}
    assert {v.rollout_id for v in made.verdicts} == {t.id for t in made.trajectories[group.id]}
    assert sum("out of memory" in v.reason for v in made.verdicts) == 2


def test_a_multi_turn_rollout_masks_what_the_policy_did_not_write() -> None:
    def answer(request: Request, prompt: str) -> str:
        if "= 46" in prompt:
            return "#46"
        if "= 35" in prompt:
            return "then calc(35 + 11)"
        return "first calc(12 + 23)"

    engine = FakeEngine(answer)
    spec = RolloutSpec(Problem("12 + 23 + 11", "46", "fake-count"), 3, Sampling(max_tokens=200), environment="fake-calculator")
    made = rollouts(engine).sample([spec])[spec.group_id]
    assert len(engine.asked) == 9
    for t in made:
        assert [turn.role for turn in t.turns] == ["prompt", "policy", "observation", "policy", "observation", "policy"]
        assert [turn.text for turn in t.turns if turn.role == "observation"] == ["\n= 35\n", "\n= 46\n"]
        assert [(a.end, b.start) for a, b in zip(t.turns, t.turns[1:])] == [(a.end, a.end) for a in t.turns[:-1]]
        for turn in t.turns:
            inside = slice(turn.start, turn.end)
            wrote = turn.role == "policy"
            assert (t.loss_mask[inside] == wrote).all()
            assert (np.isnan(t.logp[inside]) != wrote).all()
            if wrote:
                assert np.array_equal(t.logp[inside], token_logp(t.tokens[inside]))
        assert t.version_spans == tuple(("policy", turn.start, turn.end) for turn in t.turns if turn.role == "policy")
        assert t.text == "#46"
        assert len(t.request_keys) == len(set(t.request_keys)) == 3
        assert engine.decode(t.tokens.tolist()).replace("\n", " ") == "solve: 12 + 23 + 11first calc(12 + 23) = 35 then calc(35 + 11) = 46 #46"
    (group,), _ = make_groups([spec], {spec.group_id: made})
    assert group.passes == 3
    assert len({r.seed for r in engine.asked}) == 9  # every turn of every rollout draws its own numbers


def test_the_token_budget_and_the_turns_of_an_environment_are_bounded() -> None:
    engine = FakeEngine(lambda r, p: "calc(1 + 1)")
    problem = Problem("for ever", "2", "fake-count")
    long = RolloutSpec(problem, 1, Sampling(max_tokens=1000), environment="fake-calculator")
    (t,) = rollouts(engine).sample([long])[long.group_id]
    assert sum(turn.role == "policy" for turn in t.turns) == Calculator.max_turns
    assert t.turns[-1].role == "policy"
    short = RolloutSpec(problem, 1, Sampling(max_tokens=20), environment="fake-calculator")
    (t,) = rollouts(engine).sample([short])[short.group_id]
    assert t.response_length == 20
    assert t.finish == "length"


def test_a_failure_in_a_later_turn_makes_the_rollout_unknown_and_keeps_its_tokens() -> None:
    def fails(request: Request) -> str:
        return "gone" if request.tokens else ""

    spec = RolloutSpec(Problem("1 + 1", "2", "fake-count"), 1, SAMPLING, environment="fake-calculator")
    made = rollouts(FakeEngine(lambda r, p: "calc(1 + 1)", fails=fails)).sample([spec])
    (t,) = made[spec.group_id]
    assert t.finish == "error"
    assert [turn.role for turn in t.turns] == ["prompt", "policy", "observation"]
    (group,), (verdict,) = make_groups([spec], made)
    assert (len(group.rollouts), verdict.outcome) == (0, "unknown")


def test_a_rollout_continues_its_parent() -> None:
    engine = FakeEngine(lambda r, p: "#7" if p.endswith("#") else "let me see #8")
    root = RolloutSpec(Problem("q", "7", "fake-count"), 1, SAMPLING)
    (parent,) = rollouts(engine).sample([root])[root.group_id]
    offset = parent.prompt_length + len("let me see ")
    branch = RolloutSpec(root.problem, 2, SAMPLING, stream="branch", parent=parent, offset=offset)
    other = RolloutSpec(root.problem, 2, SAMPLING, stream="branch", parent=parent, offset=offset + 1)
    made = rollouts(engine).sample([branch, other])
    for spec in (branch, other):
        for t in made[spec.group_id]:
            assert t.parent == (parent.id, spec.offset)
            assert np.array_equal(t.tokens[: spec.offset], parent.tokens[: spec.offset])
            assert t.prompt_length == spec.offset
            assert not t.loss_mask[: spec.offset].any() and t.loss_mask[spec.offset :].all()
            assert np.isnan(t.logp[: spec.offset]).all() and not np.isnan(t.logp[spec.offset :]).any()
    assert {t.text for t in made[branch.group_id]} == {"let me see #8"}
    assert {t.text for t in made[other.group_id]} == {"#7"}  # it went on behind the "#"
    ids = [t.id for spec in (root, branch, other) for t in ([parent] if spec is root else made[spec.group_id])]
    assert len(set(ids)) == 5


def test_an_image_travels_from_the_problem_to_the_request_and_the_trajectory() -> None:
    pictures = [image_hash(b"cat"), image_hash(b"dog")]
    names = dict(zip(pictures, ("cat", "dog"), strict=True))
    engine = FakeEngine(lambda r, p: f"#{names[r.media[0]]}")
    specs = [RolloutSpec(Problem("what is it?", names[h], "fake-count", media=(h,)), 2, SAMPLING) for h in pictures]
    assert len({s.group_id for s in specs} | {s.problem.id for s in specs}) == 4
    made = rollouts(engine).sample(specs)
    groups, _ = make_groups(specs, made)
    assert [g.passes for g in groups] == [2, 2]
    for spec, h in zip(specs, pictures, strict=True):
        for t in made[spec.group_id]:
            assert t.media == ((h, 0, t.prompt_length),)
            assert t.tokens[0] == IMAGE
    blind = rollouts(FakeEngine(lambda r, p: "#cat", images=False)).sample(specs)
    assert [g.rollouts for g in make_groups(specs, blind)[0]] == [(), ()]  # refused, so unknown: never judged by a guess


def test_images_stay_with_a_conversation_through_its_turns() -> None:
    engine = FakeEngine(lambda r, p: "#3" if "= 3" in p else "calc(1 + 2)")
    spec = RolloutSpec(Problem("count", "3", "fake-count", media=(image_hash(b"x"),)), 1, SAMPLING, environment="fake-calculator")
    rollouts(engine).sample([spec])
    assert [r.media for r in engine.asked] == [spec.problem.media] * 2


@pytest.mark.parametrize("dialect", ["compact", "instruct"])
def test_a_strategy_may_write_its_own_prompt_in_either_dialect(dialect: str) -> None:
    engine = FakeEngine(lambda r, p: "#7")
    specs = [RolloutSpec(Problem("q", "7", "fake-count"), 1, SAMPLING), RolloutSpec(Problem("q", "7", "fake-count"), 1, SAMPLING, prompt="own words")]
    rollouts(engine, dialect=dialect).sample(specs)
    texts = {(r.prompt if dialect == "compact" else r.messages[0]["content"]) for r in engine.asked}
    assert texts == {"solve: q", "own words"}


def test_strategy_state_goes_through_json() -> None:
    for strategy in (Variants(), Gate(), Continues(), DropsUnasked()):
        type(strategy)().load_state_dict(json.loads(json.dumps(strategy.state_dict())))
    with pytest.raises(ValueError, match="keeps no state"):
        Gate().load_state_dict({"x": 1})


class AddsTwice(BaseStrategy):
    """Adds its own group, again, and a main group as if it were new."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def online(self, ctx: StepContext) -> Online:
        (main,) = yield [ctx.main[0]]
        (extra,) = yield [replace(ctx.main[0], stream="extra")]
        return [GroupEdit.add(extra), GroupEdit.add(extra, "again"), GroupEdit.add(main)]


def test_a_group_joins_a_step_once_whoever_adds_it() -> None:
    specs = [RolloutSpec(Problem("q4", "4", verifier="fake-count"), 4, SAMPLING)]
    strategies = [AddsTwice("one"), AddsTwice("two")]
    context = StepContext(round=0, step=1, seed=0, main=specs, sampling=SAMPLING, policy_id="policy")
    step = sample_step(strategies, {s.name: context for s in strategies}, specs, rollouts(FakeEngine(skilled)).sample)
    groups, _ = apply_edits(step.main, step.edits)
    assert [g.stream for g in groups] == ["main", "extra"]
    assert step.edits[0].reason == ""
