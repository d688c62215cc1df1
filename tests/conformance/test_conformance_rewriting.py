"""CLPO and Co-Reward through the step's scheduler and the trainer's plan: what is asked, what joins, what it weighs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from conformance_fakes import FakeEngine

from data.records import Group, Problem, Request, RolloutSpec, Sampling
from generators.strategies.base import BaseStrategy, StepContext
from generators.strategies.clpo import STREAM, WRITE, Clpo
from generators.strategies.co_reward import ORIGINAL, PARAPHRASE, CoReward
from pipelines.grpo.objective import Objective
from pipelines.grpo.plan import plan_step, with_advantages
from pipelines.grpo.presets import preset_named
from pipelines.grpo.recompose import StepInfo, apply_edits, drop_zero_variance
from pipelines.grpo.regularizer import kl_to_reference
from pipelines.grpo.tokens import TokenBatch
from pipelines.online import StepRollouts, sample_step
from pipelines.rollout import Rollouts

SAMPLING = Sampling(max_tokens=64)


def play(strategy: BaseStrategy, specs: list[RolloutSpec], say: Callable[[Request, str], str], **context: Any) -> tuple[StepRollouts, StepContext]:
    def render(template: str, **values: Any) -> str:
        return f"{template} {values.get('mode', '')}: {values['problem'].prompt}"

    made = Rollouts(FakeEngine(say), "policy", "fake", render, "compact", 5, (0, "train"), "train")
    ctx = StepContext(0, 1, 7, specs, SAMPLING, "policy", render=render, dialect="compact", **context)
    return sample_step([strategy], {strategy.name: ctx}, specs, made.sample), ctx


def groups_of(step: StepRollouts) -> list[Group]:
    return drop_zero_variance(apply_edits(step.main, step.edits)[0])


def mains(skills: tuple[int, ...], n: int = 10, reference: str = "36") -> list[RolloutSpec]:
    return [RolloutSpec(Problem(f"Main {i}: skill {k} needs four words", reference), n, SAMPLING, key=(1, i)) for i, k in enumerate(skills)]


def clpo_policy(request: Request, prompt: str) -> str:
    if prompt.startswith("paraphrase"):
        mode, name = prompt.split()[1].strip(":"), prompt.split("Main ")[1][0]
        return f"Other words {mode} {name}: skill {5 if mode == 'simplify' else 9} of them"
    return f"#### {36 if request.index < int(prompt.split('skill ')[1][0]) else 35}"


def test_clpo_simplifies_the_hard_and_diversifies_the_medium() -> None:
    step, ctx = play(Clpo({"kl_hard": 0.5}), mains((0, 2, 5, 8)), clpo_policy)
    assert Counter(s.stream for s in step.specs.values()) == {"main": 4, WRITE: 3, STREAM: 3}
    prompts = sorted(s.prompt.split(":")[0] for s in step.specs.values() if s.prompt)
    assert prompts == ["paraphrase diversify", "paraphrase simplify", "paraphrase simplify"]
    assert not any("36" in (s.prompt or "") for s in step.specs.values())  # the answer is in no prompt
    groups = groups_of(step)
    assert Counter(g.stream for g in groups) == {"main": 3, STREAM: 3}  # 0 of 10 is flat; the rewriter is not trained
    assert {g.problem.meta["mode"]: g.kl for g in groups if g.stream == STREAM} == {"simplify": 0.5, "diversify": 1.0}
    assert Counter((d.rule, d.kept) for d in ctx.decided) == {("mixed", True): 3}
    capped, _ = play(Clpo({"most": 3}), mains((0, 2, 5, 8)), clpo_policy)
    assert [g.problem.meta["mode"] for g in groups_of(capped)] == ["simplify", "simplify", "diversify"]


def test_clpo_refuses_a_rewrite_that_leaks_copies_or_says_nothing() -> None:
    said = {"0": "There are 36 of them, how many is that?", "1": "Main 1: skill 2 needs four words", "2": "no"}

    def say(request: Request, prompt: str) -> str:
        return said[prompt.split("Main ")[1][0]] if prompt.startswith("paraphrase") else clpo_policy(request, prompt)

    step, ctx = play(Clpo(), mains((1, 2, 3)), say)
    assert [d.rule for d in ctx.decided] == ["leak", "copy", "unreadable"]
    assert {s.stream for s in step.specs.values()} == {"main", WRITE} and {g.stream for g in groups_of(step)} == {"main"}


def test_a_groups_share_of_the_kl_coefficient_reaches_the_loss() -> None:
    step, _ = play(Clpo({"kl_hard": 0.25}), mains((2,)), clpo_policy)
    groups = groups_of(step)
    objective = Objective(preset_named("grpo", {"kl_coef": 0.001}))
    rows = with_advantages(plan_step(groups, objective, StepInfo(0, 0), 0.0, False), objective, {}, {})
    assert Counter(r.kl for r in rows) == {1.0: 10, 0.25: 10}
    logp, ref = torch.tensor([-1.0, -1.0]), torch.tensor([-2.0, -2.0])
    batch = TokenBatch(logp, logp, logp, torch.zeros(2), torch.ones(2), torch.tensor([1, 1]), ref_logp=ref, kl=torch.tensor([1.0, 0.25]))
    whole, quarter = kl_to_reference(batch, kl_coef=0.001).tolist()
    assert quarter == pytest.approx(whole / 4) and whole == pytest.approx(0.001 * (np.exp(-1.0) + 1 - 1))


def co_policy(request: Request, prompt: str) -> str:
    """The original's answers 4 4 5 and none, the paraphrase's 4 5 5 5."""
    if prompt.startswith("paraphrase"):
        return "The other wording of a problem"
    said = (["4", "4", "5", ""] if "Main" in prompt else ["4", "5", "5", "5"])[request.index]
    return f"so \\boxed{{{said}}}" if said else "I cannot say"


@pytest.mark.parametrize("reference", ["5", ""])
@pytest.mark.parametrize("vote", ["exact", "equivalent"])
def test_co_reward_judges_each_wording_by_the_other_with_or_without_a_reference(reference: str, vote: str) -> None:
    step, ctx = play(CoReward({"vote": vote}), mains((1,), 4, reference), co_policy)
    assert not step.main and {s.stream for s in step.specs.values()} == {"co_reward.write", ORIGINAL, PARAPHRASE}
    found = {g.stream: g for g in groups_of(step)}
    assert found[ORIGINAL].rewards.tolist() == [0, 0, 1, 0] and found[PARAPHRASE].rewards.tolist() == [1, 0, 0, 0]
    rows = plan_step(list(found.values()), Objective(preset_named("grpo", {})), StepInfo(0, 0), 0.0, False).rows
    assert len(rows) == 8  # an answer that the vote calls wrong is trained on, though its own verifier knows nothing
    assert [d.rule for d in ctx.decided] == ["paired"]
    assert {v.outcome for v in step.verdicts if v.verifier == "math"} == ({"unknown"} if not reference else {"pass", "fail"})


def test_a_problem_without_a_readable_paraphrase_is_left_out() -> None:
    step, ctx = play(CoReward(), mains((1, 2), 4), lambda r, p: "no" if p.startswith("paraphrase") and "Main 0" in p else co_policy(r, p))
    assert Counter(s.stream for s in step.specs.values()) == {"co_reward.write": 2, ORIGINAL: 1, PARAPHRASE: 1}
    assert [d.rule for d in ctx.decided] == ["unreadable", "paired"]
    nothing, _ = play(CoReward(), mains((1,), 4), lambda r, p: "no")
    assert not groups_of(nothing)


def test_equivalent_votes_count_a_half_and_point_five_as_one_answer() -> None:
    def say(request: Request, prompt: str) -> str:
        if prompt.startswith("paraphrase"):
            return "The other wording of a problem"
        return "\\boxed{" + ["\\frac{1}{2}", "0.5", "3", "3"][request.index % 4] + "}" if request.index < 3 else "none"

    exact, same = (groups_of(play(CoReward({"vote": v, "ties": "none"}), mains((1,), 4), say)[0]) for v in ("exact", "equivalent"))
    assert not exact  # three answers, three votes
    assert [g.rewards.tolist() for g in same] == [[1, 1, 0, 0]] * 2
