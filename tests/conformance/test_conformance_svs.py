"""SvS through the step's scheduler: counts, buffer, order of completion, failures; a policy whose skill is written into the problems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from conformance_fakes import FakeEngine, Gate, group_facts

from data.records import Group, Problem, Request, RolloutSpec, Sampling
from generators.strategies.base import StepContext
from generators.strategies.svs import SOLVE, WRITE, Svs
from pipelines.grpo.recompose import apply_edits, drop_zero_variance
from pipelines.online import StepRollouts, sample_step
from pipelines.rollout import Rollouts
from pipelines.stages.online_rows import online_tables, trained_rewards

SAMPLING = Sampling(max_tokens=64)
ANSWER = "36"


def rollouts(engine: FakeEngine) -> Rollouts:
    def render(template: str, **values: Any) -> str:
        return f"R: {values['response']}" if template == "rewrite" else values["problem"].prompt

    return Rollouts(engine, "policy", "fake", render, "compact", 5, (0, "train"), "train")


def mains(skills: Sequence[int], n: int = 8) -> list[RolloutSpec]:
    return [RolloutSpec(Problem(f"Problem {i}: skill {k} needs four words", ANSWER), n, SAMPLING, key=(1, i)) for i, k in enumerate(skills)]


def policy(variant: Callable[[int], str]) -> Callable[[Request, str], str]:
    """Right in the first `skill k` samples; writes what `variant(sample)` says."""

    def say(request: Request, prompt: str) -> str:
        if prompt.startswith("R: "):
            return variant(request.index)
        skill = int(prompt.split("skill ")[1][0])
        return f"way {request.index} #### {ANSWER if request.index < skill else 35}"

    return say


def play(
    specs: list[RolloutSpec], engine: FakeEngine, settings: dict | None = None, extra: Sequence[Any] = (), **context: Any
) -> tuple[StepRollouts, StepContext]:
    made = rollouts(engine)
    ctx = StepContext(0, 1, 7, specs, SAMPLING, "policy", render=made.render, dialect="compact", **context)
    strategies = [Svs(settings), *extra]
    return sample_step(strategies, {s.name: ctx for s in strategies}, specs, made.sample), ctx


def buffer(step: StepRollouts) -> list[Group]:
    groups, _ = apply_edits(step.main, step.edits)
    return drop_zero_variance(groups)


def by_stream(groups: Sequence[Group]) -> dict[str, int]:
    return dict(Counter(g.stream for g in groups))


def test_writers_who_write_the_same_share_its_solvers() -> None:
    """One variant per source and normalised text: the second writer's eight texts are the first one's, and are worth the same."""
    step, ctx = play(mains([2]), FakeEngine(policy(lambda i: f"Variant {i}: skill {i} has some words")))
    assert Counter(spec.stream for spec in step.specs.values()) == {"main": 1, WRITE: 2, SOLVE: 8}
    assert [g.rewards.tolist() for g in buffer(step) if g.stream == WRITE] == [[0, 1, 1, 1, 1, 1, 0, 0]] * 2
    assert Counter(d.rule for d in ctx.decided) == {"band": 8, "mixed": 8, "duplicate": 8}


def test_two_right_answers_make_16_variants_and_128_solves() -> None:
    """16 variants, 128 answers; uids: one group per right answer, one per variant."""
    serial = iter(range(1000))
    texts: dict[str, str] = {}

    def say(request: Request, prompt: str) -> str:
        if prompt.startswith("R: "):
            return texts.setdefault(request.key, f"Variant {next(serial)}: skill {request.index} of some words")
        return policy(lambda i: "")(request, prompt)

    step, ctx = play(mains([2]), FakeEngine(say))
    asked = Counter(spec.stream for spec in step.specs.values())
    assert asked == {"main": 1, WRITE: 2, SOLVE: 16}
    assert sum(len(t) for i, t in step.trajectories.items() if step.specs[i].stream == SOLVE) == 128
    groups = buffer(step)
    assert by_stream(groups) == {"main": 1, WRITE: 2, SOLVE: 14}  # of skills 0..7, 0 of 8 is not mixed
    for group in groups:
        if group.stream == WRITE:
            assert group.rewards.tolist() == [0, 1, 1, 1, 1, 1, 0, 0]  # the band 1..5 of 8
        assert all(p.reference == ANSWER for p in [group.problem])
    assert Counter((d.rule, d.kept) for d in ctx.decided) == {("band", True): 10, ("band", False): 6, ("mixed", True): 14, ("mixed", False): 2}


def test_the_buffer_is_exact_whatever_the_order_of_completion() -> None:
    specs = mains([0, 1, 4, 5, 8])
    texts = ["Variant: skill 3 and some words", "Variant: skill 9 nobody can", "sorry", "Variant: skill 0 and some words"]
    engines = [FakeEngine(policy(lambda i: texts[i % 4].replace("9", "8")), order=o, window=w) for o, w in ((0, 4), (3, 11))]
    steps = [play(specs, e)[0] for e in engines]
    facts = [[group_facts(g) for g in buffer(s)] for s in steps]
    assert facts[0] == facts[1]
    groups = buffer(steps[0])
    # main: the mixed ones; sources are 1 and 4 of 8, with 1 + 4 right answers; each source has 2 distinct solvable texts that are not mixed but one
    assert by_stream(groups) == {"main": 3, WRITE: 5, SOLVE: 2}
    for group in groups:
        if group.stream == WRITE:
            assert group.rewards.tolist() == [1, 0, 0, 0, 1, 0, 0, 0]  # duplicates share the worth of the first, "sorry" is worth nothing
    assert sum(1 for s in steps[0].specs.values() if s.stream == SOLVE) == 6  # 3 texts of 2 sources


def test_nothing_under_performing_skips_no_step() -> None:
    step, ctx = play(mains([6, 7, 8]), FakeEngine(policy(lambda i: "")))
    assert by_stream(buffer(step)) == {"main": 2} and not ctx.decided
    assert {s.stream for s in step.specs.values()} == {"main"}


def test_an_unreadable_writing_is_worth_nothing_and_costs_nothing() -> None:
    step, ctx = play(mains([1]), FakeEngine(policy(lambda i: "Variant: skill 2 of some words" if i == 0 else "?")))
    assert Counter(s.stream for s in step.specs.values()) == {"main": 1, WRITE: 1, SOLVE: 1}
    (written,) = [g for g in buffer(step) if g.stream == WRITE]
    assert written.rewards.tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
    rows = online_tables(step.specs.values(), ctx.decided, {s.problem.id for s in mains([1])}, round=1, step=4)
    assert Counter((r["rule"], r["kept"]) for r in rows["decisions"]) == {("unreadable", False): 7, ("band", True): 1, ("mixed", True): 1}
    assert {r["split"] for r in rows["problems"]} == {"online"} and len(rows["problems"]) == 2  # the task and the variant
    assert all(r["reason"] for r in rows["decisions"])
    rewards = trained_rewards(step.edits, {i: [r.id for r in g.rollouts] for i, g in step.sampled.items()})
    assert [rewards[r.id] for r in written.rollouts] == written.rewards.tolist()


def test_no_positive_no_group_of_writings_and_all_unreadable_no_solver() -> None:
    step, _ = play(mains([1]), FakeEngine(policy(lambda i: "?")))
    assert by_stream(buffer(step)) == {"main": 1} and {s.stream for s in step.specs.values()} == {"main", WRITE}
    step, _ = play(mains([1]), FakeEngine(policy(lambda i: f"Variant {i}: skill 7 of some words")))
    assert by_stream(buffer(step)) == {"main": 1, SOLVE: 8}  # too easy: answers are trained on, the writing is not


def test_a_failing_engine_makes_nothing_wrong() -> None:
    """Solvers that fail are unknown: a variant that they decide is in no group of writings."""
    fails = lambda r: "down" if r.prompt and r.prompt.startswith("Variant 1") and r.index >= 5 else ""  # noqa: E731
    step, ctx = play(mains([1]), FakeEngine(policy(lambda i: f"Variant {i}: skill 5 of some words"), fails=fails))
    (written,) = [g for g in step.edits if g.group is not None and g.group.stream == WRITE]
    assert written.group is not None and written.group.rewards.tolist() == [1] * 7
    assert [(d.rule, d.kept) for d in ctx.decided if "could not be judged" in d.reason] == [("unjudged", False)]
    step, ctx = play(mains([1]), FakeEngine(policy(lambda i: "Variant: skill 2 of some words"), fails=lambda r: "down"))
    assert not buffer(step) and not ctx.decided


def test_a_variant_that_gives_a_heldout_problem_away_is_refused_before_it_is_solved() -> None:
    refuse = lambda texts: ["its text is that of heldout problem x" if "Variant 3" in t else "" for t in texts]  # noqa: E731
    step, ctx = play(mains([1]), FakeEngine(policy(lambda i: f"Variant {i}: skill 3 of some words")), heldout=refuse)
    assert Counter(s.stream for s in step.specs.values())[SOLVE] == 7
    assert [d.rule for d in ctx.decided if "heldout" in d.reason] == ["heldout"]


def test_limits_are_keyed_and_beside_a_gate_nothing_breaks() -> None:
    engine = FakeEngine(policy(lambda i: f"Variant {i}: skill 2 of some words"))
    step, _ = play(mains([4, 3, 2, 0]), engine, {"sources": 2, "answers": 1, "variants": 3, "solvers": 4, "write_share": 0.5})
    counts = Counter(s.stream for s in step.specs.values())
    assert counts == {"main": 4, WRITE: 2, SOLVE: 6}
    assert {s.n for s in step.specs.values() if s.stream == SOLVE} == {4}
    written = [e.group for e in step.edits if e.group is not None and e.group.stream == WRITE]
    assert [g.rewards.tolist() for g in written] == [[1, 1, 1]]  # half of the two groups of writers; 2 of 4 is in the band
    gated, _ = play(mains([4, 0, 2]), FakeEngine(policy(lambda i: f"Variant {i}: skill 2 of some words")), extra=[Gate()])
    assert "main" in by_stream(buffer(gated))


@pytest.mark.parametrize("n", [4, 16])
def test_other_group_sizes(n: int) -> None:
    step, _ = play(mains([2], n), FakeEngine(policy(lambda i: f"Variant {i}: skill {min(i, 9)} of some words")))
    (written,) = [g for g in buffer(step) if g.stream == WRITE][:1]
    inside = {4: {1, 2}, 16: set(range(2, 10))}[n]
    assert written.rewards.tolist() == [float(min(i, 9) in inside) for i in range(n)]


def test_replaced_specs_share_nothing_between_steps() -> None:
    one, two = mains([1]), [replace(s, key=(2, 0)) for s in mains([1])]
    engine = FakeEngine(policy(lambda i: f"Variant {i}: skill 2 of some words"))
    ids = [{s.group_id for s in play(specs, engine)[0].specs.values()} for specs in (one, two)]
    assert not ids[0] & ids[1]
