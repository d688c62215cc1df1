"""Every component against the catalogue's numeric oracles (`objectives_oracles.json`), and what must hold for any input."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data.records import Group, Problem, Sampling, Trajectory, Verdict
from pipelines.grpo.advantage import Judged, negative_only, positive_only, return_to_go, weighted_signs
from pipelines.grpo.component import REGISTRY, SLOTS
from pipelines.grpo.objective import Objective, Tally
from pipelines.grpo.presets import PRESETS, preset_named
from pipelines.grpo.recompose import StepInfo
from pipelines.grpo.regularizer import kl_estimate
from pipelines.grpo.replay import Replay, group_from_json, group_to_json
from pipelines.grpo.schedule import Adaptive, schedule_from
from pipelines.grpo.smooth import SmoothStandardization
from pipelines.grpo.surrogate import Bounds, adaptive, capped, cispo, sapo, sequence, sequence_token
from pipelines.grpo.tokens import TokenBatch
from pipelines.grpo.transform import StepTokens, bounded_bonus, entropy_advantage, good_group_scale, whiten
from pipelines.grpo.weights import entropy_mask, masked_importance, off_policy_mask, overlong_mask, rejection, truncated_importance

D = torch.float64


def tokens(logp: list[float], old: list[float] | None = None, behavior: list[float] | None = None, advantage: list[float] | None = None,
           lengths: list[int] | None = None) -> TokenBatch:  # fmt: skip
    each = lambda x, default: torch.tensor(x if x is not None else default, dtype=D)  # noqa: E731
    n = len(logp)
    now = torch.tensor(logp, dtype=D, requires_grad=True)
    old_logp = each(old, [0.0] * n)
    behavior_logp = each(behavior, old_logp.tolist())
    return TokenBatch(now, old_logp, behavior_logp, each(advantage, [1.0] * n), torch.ones(n, dtype=D), torch.tensor(lengths or [n]))


def step_tokens(advantage: list[float], lengths: list[int], group: list[int] | None = None, entropy: list[float] | None = None) -> StepTokens:
    n = len(lengths)
    return StepTokens(
        np.array(advantage, float),
        np.array(lengths),
        np.array(group or range(n)),
        np.zeros(n),
        np.arange(n) % 2 == 1,
        np.array(entropy) if entropy else None,
    )


# ------------------------------------------------------------------------------------------------------------ advantages


def test_reinforce_pp_baseline_is_centring_and_whitening_over_tokens() -> None:
    centred = np.repeat([0.75, -0.25, -0.25, -0.25], [1, 2, 1, 1])
    np.testing.assert_allclose(whiten(step_tokens(centred, [1, 2, 1, 1])), [1.78885, *[-0.44721] * 4], atol=1e-5)
    assert (whiten(step_tokens([0.1, 0.1, 0.1], [2, 1])) == 0).all()


def test_return_to_go() -> None:
    judged = Judged.of([[1.0, -1.0]], lengths=[3, 2])
    np.testing.assert_allclose(return_to_go(judged, gamma=0.5), [0.25, 0.5, 1, -0.5, -1])
    assert return_to_go(judged).tolist() == [1, 1, 1, -1, -1]


def test_negative_and_positive_reinforcement() -> None:
    judged = Judged.of([[1.0, 0.0]])
    assert weighted_signs(judged).tolist() == [0.1, -1]
    assert negative_only(judged).tolist() == [0, -1] and positive_only(judged).tolist() == [1, 0]
    logits = torch.tensor([0.5, 0.3, 0.2], dtype=D).log().requires_grad_(True)
    batch = tokens([0.0])
    logp = logits.log_softmax(0)[:1]
    loss = Objective(preset_named("nsr")).loss(TokenBatch(logp, logp.detach(), logp.detach(), -batch.weight, batch.weight, batch.lengths), Tally())
    (grad,) = torch.autograd.grad(loss, logits)
    np.testing.assert_allclose(-grad, [-0.5, 0.3, 0.2], atol=1e-12)  # mass goes back in proportion to the model's own prior


def test_smooth_standardization_over_visits() -> None:
    """DCPO's worked example: visits, cumulative mean and deviation, and a saturated group that still learns."""
    first, second, full = [1.0, 0, 0, 0], [1.0, 1, 0, 0], [1.0, 1, 1, 1]
    sas = SmoothStandardization()
    visit = lambda rewards: sas(Judged.of([rewards], problems=["p"]), eps=0.0)  # noqa: E731
    np.testing.assert_allclose(visit(first), [1.5, -0.5, -0.5, -0.5])
    state = sas.state_dict()["seen"]["p"]
    np.testing.assert_allclose(visit(second), [0.99675, 0.99675, -0.77125, -0.77125], atol=1e-5)
    np.testing.assert_allclose(np.array(sas.seen["p"])[[1, 2]], [0.375, 0.55434**2], atol=1e-5)
    sas.load_state_dict({"seen": {"p": state}})
    for mean, deviation, expected in ((0.625, 0.51539, 0.3638), (0.75, 0.45644, 0.18257)):
        np.testing.assert_allclose(visit(full), [expected] * 4, atol=1e-5)
        np.testing.assert_allclose(sas.seen["p"][1:], [mean, deviation**2], atol=1e-5)
    assert (SmoothStandardization()(Judged.of([full], problems=["p"])) == 0).all()  # nothing to compare with yet


@given(st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=6), min_size=1, max_size=5))
def test_smooth_standardization_remembers_the_pooled_moments(visits: list[list[int]]) -> None:
    """With ddof 0 the running mean and variance are those of all visits put together, each visit weighing the same."""
    sas = SmoothStandardization()
    for rewards in visits:
        sas(Judged.of([np.array(rewards, float)], problems=["p"]), ddof=0)
    means, squares = [np.mean(v) for v in visits], [np.mean(np.square(v)) for v in visits]
    np.testing.assert_allclose(sas.seen["p"], [len(visits), np.mean(means), np.mean(squares) - np.mean(means) ** 2], atol=1e-9)


def test_good_group_scale() -> None:
    """Fathom: groups [1,0,0,0], four 1s, four 0s, [1,1,0,0]; population deviation; half of the groups are good."""
    advantage = [1.73205, *[-0.57735] * 3, *[0.0] * 8, 1, 1, -1, -1]
    scaled = good_group_scale(step_tokens(advantage, [1] * 16, [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4))
    np.testing.assert_allclose(scaled[[0, 1, 12, 14]], [3.4641, -1.1547, 2, -2], atol=1e-4)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=9), st.floats(0, 3), st.floats(1.01, 9), st.floats(0, 9))
def test_a_bounded_bonus_flips_no_sign(values: list[float], alpha: float, kappa: float, signal: float) -> None:
    a = np.array(values)
    out = bounded_bonus(a, np.full(len(a), signal), alpha, kappa)
    assert (np.sign(out) == np.sign(a)).all() and (out >= a).all()
    assert bounded_bonus(np.array([1.0]), np.array([2.0]), 0.4, 2).tolist() == [1.5]
    assert entropy_advantage(step_tokens([1.0, -0.2], [2], entropy=[2.0, 2.0]), entropy_bonus=0.4).tolist() == [1.5, -0.1]


# ------------------------------------------------------------------------------------------------- ratio, clip, surrogate


def test_the_sequence_ratio_is_the_rows_geometric_mean() -> None:
    batch = tokens([0.1, -0.3, 0.5, 2.0], lengths=[3, 1])
    assert sequence(batch).exp().tolist() == pytest.approx([1.10517] * 3 + [math.e**2], abs=1e-5)
    assert sequence_token(batch).tolist() == pytest.approx(sequence(batch).tolist())
    (whole,) = torch.autograd.grad(sequence(batch)[0], batch.logp, retain_graph=True)
    (own,) = torch.autograd.grad(sequence_token(batch)[0], batch.logp)
    np.testing.assert_allclose(whole, [1 / 3] * 3 + [0])
    assert own.tolist() == [1, 0, 0, 0]


def test_adaptive_bounds_of_dcpo() -> None:
    q = [0.9, 0.5, 0.01, 1.0]
    bounds = adaptive(tokens([0.0] * 4, old=np.log(q).tolist()))
    np.testing.assert_allclose(bounds.low, [0.76874, 0.5, 0.5, 0.8], atol=1e-5)
    np.testing.assert_allclose(bounds.high, [1.18718, 1.30623, 5.0, 1.17082], atol=1e-5)


@given(st.floats(1e-4, 1.0), st.floats(0.01, 0.3), st.floats(0.01, 0.5))
def test_adaptive_bounds_solve_their_equations(q: float, low: float, high: float) -> None:
    bounds = adaptive(tokens([0.0], old=[math.log(q)]), clip_low=low, clip_high=high, dual_clip=10.0)
    up, down = float(bounds.high), float(bounds.low)
    assert up == 10 or up * (up - 1) * q == pytest.approx(high)
    assert down == 0.5 if 4 * low >= q else down * (1 - down) * q == pytest.approx(low)


def test_cispo_never_silences_a_token() -> None:
    batch = tokens([math.log(7)])
    loss = cispo(batch, batch.logp - batch.old_logp, capped(batch, ratio_max=5.0))
    (grad,) = torch.autograd.grad(loss.sum(), batch.logp)
    assert grad.tolist() == [-5]


def test_sapo_gate() -> None:
    batch = tokens([math.log(1.5)] * 2, advantage=[1.0, -1.0])
    out = sapo(batch, batch.logp, Bounds(0.0, math.inf, 0.0))
    assert out.tolist() == pytest.approx([-2.48984, 2.39359], abs=1e-5)


# --------------------------------------------------------------------------------------------------------------- weights


def test_truncated_and_masked_importance() -> None:
    batch = tokens([0.0, 0.0], old=[math.log(3), -math.log(2)], behavior=[0.0, 0.0])
    assert truncated_importance(batch, tis_cap=2.0).tolist() == pytest.approx([2, 0.5])
    assert truncated_importance(batch, tis_cap=2.0, tis_level="sequence").tolist() == pytest.approx([1.5, 1.5])
    assert masked_importance(batch, mis_low=0.5, mis_high=2.0).tolist() == pytest.approx([1.5, 1.5])
    assert masked_importance(batch, mis_low=0.5, mis_high=1.4).tolist() == [0, 0]
    assert masked_importance(batch, mis_low=0.6, mis_high=4.0, mis_level="token").tolist() == pytest.approx([3, 0])
    assert rejection(batch, reject_low=0.5, reject_high=2.0).tolist() == [1, 1]  # geometric mean sqrt(1.5)
    assert rejection(batch, reject_low=0.5, reject_high=1.2).tolist() == [0, 0]


def test_the_sampler_in_agreement_weighs_one() -> None:
    batch = tokens([-1.0, -2.0], old=[-1.5, -2.5])
    for weight in (truncated_importance(batch, tis_cap=2.0), masked_importance(batch, mis_high=2.0), rejection(batch, reject_high=2.0)):
        assert weight.tolist() == [1, 1]


def test_off_policy_rows_of_negative_advantage_are_dropped() -> None:
    """Row means of behaviour - current: 0.5, 0.5, 0.1."""
    batch = tokens([-1.0, -1.0, -1.0, -1.0], behavior=[-0.2, -0.8, -0.5, -0.9], advantage=[-1.0, -1.0, 1.0, -1.0], lengths=[2, 1, 1])
    assert off_policy_mask(batch, off_policy_limit=0.4).tolist() == [0, 0, 1, 1]


def test_entropy_masks_by_batch_and_by_row() -> None:
    one = step_tokens([1.0] * 5, [5], entropy=[0.1, 0.2, 0.3, 0.4, 2.0])
    assert entropy_mask(one, entropy_share=0.2).tolist() == [0, 0, 0, 0, 1]
    two = step_tokens([1.0] * 10, [5, 5], entropy=[1, 2, 3, 4, 5, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert entropy_mask(two, entropy_share=0.2).tolist() == [0, 0, 0, 1, 1, 0, 0, 0, 0, 0]
    assert entropy_mask(two, entropy_share=0.2, entropy_scope="row").tolist() == [0, 0, 0, 0, 1] * 2


def test_overlong_rows_are_masked() -> None:
    assert overlong_mask(step_tokens([1.0] * 3, [2, 1])).tolist() == [1, 1, 0]  # the second was cut off


# ----------------------------------------------------------------------------------------- regularizers and auxiliary losses


def test_straight_through_kl_has_one_value_and_anothers_gradient() -> None:
    ref = torch.tensor([-1.0, -0.5], dtype=D)
    for name in ("k1+", "k3+"):
        logp = torch.tensor([-0.5, -1.5], dtype=D, requires_grad=True)
        found = kl_estimate(name, logp, ref)
        torch.testing.assert_close(found, kl_estimate(name[:2], logp, ref))
        (grad,) = torch.autograd.grad(found.sum(), logp)
        torch.testing.assert_close(grad, logp.detach() - ref)


def test_positive_nll_has_its_own_rows_and_denominator() -> None:
    objective = Objective(preset_named("grpo", {"nll_coef": 0.5}))
    rows = objective.aux_rows(np.array([1.0, 0.0]))["PositiveNLL"]
    assert rows.tolist() == [1, 0]
    batch = tokens([-1.0, -2.0, -4.0], old=[-1.0, -2.0, -4.0], advantage=[0.0] * 3, lengths=[2, 1])
    full = TokenBatch(**{**batch.__dict__, "aux": {"PositiveNLL": torch.tensor([0.5, 0.5, 0.0], dtype=D)}})
    loss = objective.loss(full, Tally())
    assert loss.item() == pytest.approx(0.5 * 1.5)
    (grad,) = torch.autograd.grad(loss, batch.logp)
    assert grad.tolist() == pytest.approx([-0.25, -0.25, 0])


def test_an_entropy_bonus_is_the_gradient_of_entropy() -> None:
    entropy = torch.tensor([0.7, 0.2], dtype=D, requires_grad=True)
    batch = TokenBatch(**{**tokens([-1.0, -1.0], advantage=[0.0, 0.0]).__dict__, "entropy": entropy})
    (grad,) = torch.autograd.grad(Objective(preset_named("grpo", {"entropy_coef": 0.01})).loss(batch, Tally()), entropy)
    assert grad.tolist() == pytest.approx([-0.01, -0.01])


# ------------------------------------------------------------------------------------------------------ schedules, memory


def test_schedules_give_any_number_a_course() -> None:
    table = {"schedule": "linear", "start": 1.0, "end": 0.0, "steps": 4}
    assert [schedule_from(table, "k").value(s) for s in (0, 1, 4, 9)] == [1, 0.75, 0, 0]
    cosine = schedule_from({"schedule": "cosine", "start": 1.0, "end": 0.0, "steps": 2, "cycles": 2}, "k")
    assert [cosine.value(s) for s in range(5)] == pytest.approx([1, 0.5, 1, 0.5, 0])
    steps = schedule_from({"schedule": "piecewise", "at": [0, 3], "values": [0.1, 0.2]}, "k")
    assert [steps.value(s) for s in (0, 2, 3)] == [0.1, 0.1, 0.2]
    controller = Adaptive(0.1, target=1.0, gain=0.1)
    controller.observe({"kl": 3.0})
    assert controller.value(0) == pytest.approx(0.102)  # Ziegler: +20 % of the error at most, times the gain
    objective = Objective(preset_named("grpo", {"kl_coef": table, "clip_high": {**table, "end": 0.5}}))
    assert objective.numbers["kl_coef"] == 1.0
    objective.step_to(2)
    assert objective.numbers["kl_coef"] == 0.5 and objective.numbers["clip_high"] == 0.75


def group(name: str, rewards: list[float], seed: int = 0) -> Group:
    problem, rng = Problem(name, media=("aa",), spec={"tolerance": 0.1}), np.random.default_rng(seed)
    rows = []
    for i in range(len(rewards)):
        logp = np.r_[np.nan, rng.normal(size=3)].astype(np.float32)
        sampling = Sampling(stop=("x",))
        rows.append(
            Trajectory(problem.id, "v", rng.integers(0, 9, 4).astype(np.int32), np.array([0, 1, 1, 1], np.uint8), logp, sampling, i, i, "stop", "t")
        )
    return Group(name, problem, tuple(rows), tuple(Verdict("pass", r, "", "t") for r in rewards), np.array(rewards, np.float32))


def test_replay_remembers_whole_groups_and_marks_them_stale() -> None:
    replay, info = Replay(), StepInfo(0, 7)
    assert [g.id for g in replay([group("a", [1, 0]), group("b", [1, 1])], info, replay_share=1.0)] == ["a", "b"]
    later = StepInfo(1, 7)
    joined = replay([group("c", [0, 1]), group("d", [0, 1])], later, replay_share=0.5)
    assert [g.id for g in joined] == ["c", "d", "a~1.0"] and later.stale == {"a~1.0"}
    twin = Replay()
    twin.load_state_dict(replay.state_dict())
    assert [g.id for g in twin.kept] == ["a", "c", "d"]
    assert replay([], StepInfo(2, 7), replay_share=0.5, replay_capacity=2) == [] and [g.id for g in replay.kept] == ["c", "d"]


def test_a_group_survives_json_bit_for_bit() -> None:
    import json

    before = group("a", [1, 0, 0.1], 3)
    after = group_from_json(json.loads(json.dumps(group_to_json(before), allow_nan=False)))
    assert after.problem == before.problem and after.verdicts == before.verdicts and after.rewards.tobytes() == before.rewards.tobytes()
    for a, b in zip(after.rollouts, before.rollouts, strict=True):
        assert a.id == b.id and a.logp.tobytes() == b.logp.tobytes() and a.tokens.tolist() == b.tokens.tolist() and a.turns == b.turns


# ------------------------------------------------------------------------------------------------------------ the registry


def test_every_component_is_documented_and_in_reach() -> None:
    for slot, parts in REGISTRY.items():
        assert parts, slot
        for part in parts.values():
            assert part.summary.endswith(".") and part.paper, (slot, part.name)
            assert part.switch == "" or part.switch in part.options
    used = {(slot, name) for p in PRESETS.values() for slot in SLOTS for name in p.parts[slot]}
    switched = {(c.slot, c.name) for parts in REGISTRY.values() for c in parts.values() if c.switch}
    alone = {(slot, c.name) for slot, parts in REGISTRY.items() for c in parts.values()} - used - switched
    assert alone == {("estimator", "reinforce"), ("transforms", "good_group_scale")}
