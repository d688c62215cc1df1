"""The whole step: against a naive GRPO written out by hand, and under changes that must not change anything."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from data.errors import SynthError
from data.records import Group, Problem, Sampling, Trajectory, Verdict
from pipelines.grpo import learner as module
from pipelines.grpo.config import GRPOConfig
from pipelines.grpo.trainer import GRPOTrainer

VOCAB = 40


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return build(tmp_path_factory.mktemp("policy"))


def build(path: Path, tied: bool = True, hidden: int = 32) -> Path:
    torch.manual_seed(0)
    size = {
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": hidden // 4,
    }
    Qwen3ForCausalLM(Qwen3Config(vocab_size=VOCAB, max_position_embeddings=64, tie_word_embeddings=tied, **size)).save_pretrained(path)
    return path


def rollout(problem: Problem, tokens: np.ndarray, mask: np.ndarray, index: int, logp: float = -3.0, temperature: float = 1.0) -> Trajectory:
    behavior = np.where(mask, logp, np.nan).astype(np.float32)
    sampling = Sampling(temperature=temperature, max_tokens=16)
    return Trajectory(problem.id, "v0", tokens.astype(np.int32), mask.astype(np.uint8), behavior, sampling, index, index, "stop", "")


def make_group(name: str, rewards: list[float], seed: int, outcome: str = "", **kwargs: object) -> Group:
    """Ragged rollouts on one prompt; every other one has an untrained observation inside."""
    rng = np.random.default_rng(seed)
    problem = Problem(name)
    prompt = rng.integers(0, VOCAB, 3 + seed % 4)
    rows = []
    for i in range(len(rewards)):
        response = rng.integers(0, VOCAB, int(rng.integers(3, 10)))
        mask = np.r_[np.zeros(len(prompt)), np.ones(len(response))]
        if i % 2:
            mask[len(prompt) + 1] = 0
        rows.append(rollout(problem, np.r_[prompt, response], mask, i))
    verdicts = tuple(Verdict(outcome or ("pass" if r == 1 else "fail"), r, "", "test") for r in rewards)  # type: ignore[arg-type]
    return Group(name, problem, tuple(rows), verdicts, np.array(rewards, np.float32), **kwargs)  # type: ignore[arg-type]


def step_groups() -> list[Group]:
    return [
        make_group("a", [1, 0, 0, 1], 0),
        make_group("b", [0, 0, 1], 1, stream="extra", estimator="rloo", coef=0.5),
        make_group("c", [1, 1, 1], 2),
        make_group("d", [0.25, -0.5], 3, estimator="reinforce", stream="proposer", coef=2.0),
        make_group("e", [0, 1, 0, 0, 0.5], 4),
    ]


def gradient(policy: Path, groups: list[Group], factors: dict[str, float] | None = None, **settings: object) -> dict[str, torch.Tensor]:
    """The gradient that the optimizer would have seen."""
    trainer = GRPOTrainer(policy, GRPOConfig(max_grad_norm=1e9, **settings))  # type: ignore[arg-type]
    seen: dict[str, torch.Tensor] = {}
    trainer.optimizer.step = lambda: seen.update({n: p.grad.clone() for n, p in trainer.parameters})  # type: ignore[assignment,union-attr,misc]
    trainer.step(groups, factors or {})
    return seen


def assert_same(got: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], atol: float = 1e-6) -> None:
    assert got.keys() == wanted.keys() and wanted
    assert max(g.abs().max().item() for g in wanted.values()) > 100 * atol
    for name, value in wanted.items():
        torch.testing.assert_close(got[name], value, atol=atol, rtol=0)


def naive_gradient(policy: Path, groups: list[Group], factors: dict[str, float], aggregation: str) -> dict[str, torch.Tensor]:
    """GRPO by hand at ratio 1: sum over tokens of -advantage x log-prob x weight, one plain forward per trajectory."""
    model = Qwen3ForCausalLM.from_pretrained(policy, dtype=torch.float32)
    rows = [(g, i) for g in groups for i in range(len(g.rewards)) if g.coef != 0]
    total = sum(g.rollouts[i].response_length for g, i in rows)
    loss = torch.zeros(())
    for g, i in rows:
        r, t = g.rewards.astype(float), g.rollouts[i]
        if g.estimator == "reinforce":
            advantage = r[i]
        elif g.estimator == "rloo":
            advantage = r[i] - np.delete(r, i).mean()
        else:
            advantage = (r[i] - r.mean()) / (r.std(ddof=1) + 1e-6)
        tokens = torch.from_numpy(t.tokens.astype(np.int64))
        temperature = t.sampling.temperature
        logp = (model(tokens[None]).logits[0, :-1] / temperature).log_softmax(-1).gather(1, tokens[1:, None])[:, 0]
        own = (logp * torch.from_numpy(t.loss_mask[1:].astype(np.float32))).sum()
        weight = {"token_mean": 1 / total, "seq_mean_token_mean": 1 / (len(rows) * t.response_length), "sum_over_const": 1 / (len(rows) * 16)}[
            aggregation
        ]
        loss = loss - own * float(advantage) * factors.get(g.id, 1.0) * g.coef * weight
    loss.backward()
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("aggregation", ["token_mean", "seq_mean_token_mean", "sum_over_const"])
def test_equals_grpo_written_out_by_hand(policy: Path, aggregation: str) -> None:
    groups, factors = step_groups(), {"a": 0.5, "e": 2.0}
    assert_same(gradient(policy, groups, factors, overrides={"aggregation": aggregation}), naive_gradient(policy, groups, factors, aggregation))


def test_rows_are_scored_at_the_temperature_they_were_sampled_at(policy: Path) -> None:
    (group,) = [make_group("a", [1, 0, 0, 1], 0)]
    warm = replace(group, rollouts=tuple(replace(t, sampling=Sampling(temperature=0.5 + i % 2)) for i, t in enumerate(group.rollouts)))
    assert_same(gradient(policy, [warm], overrides={"aggregation": "token_mean"}), naive_gradient(policy, [warm], {}, "token_mean"))


def test_micro_batches_prefix_sharing_and_order_do_not_change_the_gradient(policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = step_groups()
    wanted = gradient(policy, groups)
    for budget in (1, 17, 40):
        assert_same(gradient(policy, groups, micro_tokens=budget), wanted)
    turned = [
        replace(g, rollouts=g.rollouts[::-1], verdicts=g.verdicts[::-1], rewards=g.rewards[::-1].copy()) for g in (groups[i] for i in (3, 0, 4, 2, 1))
    ]
    assert_same(gradient(policy, turned, micro_tokens=30), wanted)
    monkeypatch.setattr(module, "micro_batches", lambda rows, budget, whole=False: _micro_batches(rows, budget, False, whole))
    assert_same(gradient(policy, groups, micro_tokens=30), wanted)


_micro_batches = module.micro_batches


@pytest.mark.parametrize("preset", ["gspo", "cispo", "dcpo", "reinforce_pp", "entropy_20", "w_reinforce"])
def test_no_preset_sees_how_a_step_is_cut(policy: Path, preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Micro-batches, order, prefix sharing: batch statistics (whitening, quantiles) are of the whole step."""
    groups = [replace(g, estimator="group", stream="main", coef=1.0) for g in step_groups()]
    settings: dict = {"preset": preset, "overrides": {"denominator": "stream"}}
    wanted = gradient(policy, groups, **settings)
    turned = [replace(g, rollouts=g.rollouts[::-1], verdicts=g.verdicts[::-1], rewards=g.rewards[::-1].copy()) for g in groups[::-1]]
    assert_same(gradient(policy, turned, micro_tokens=17, **settings), wanted)
    monkeypatch.setattr(module, "micro_batches", lambda rows, budget, whole=False: _micro_batches(rows, budget, False, whole))
    assert_same(gradient(policy, groups, micro_tokens=30, **settings), wanted)


def test_what_follows_the_last_trained_token_and_masked_log_probs_do_not_matter(policy: Path) -> None:
    """Padding, in this layout: trailing observations are not even forwarded."""
    groups = step_groups()
    junk = [replace(g, rollouts=tuple(_with_junk(t) for t in g.rollouts)) for g in groups]
    assert_same(gradient(policy, junk, overrides={"aggregation": "token_mean"}), gradient(policy, groups, overrides={"aggregation": "token_mean"}))


def _with_junk(t: Trajectory) -> Trajectory:
    return replace(
        t, tokens=np.r_[t.tokens, 7, 7].astype(np.int32), loss_mask=np.r_[t.loss_mask, 0, 0].astype(np.uint8), logp=np.r_[t.logp, 5, np.inf]
    )


def test_a_zero_variance_group_counts_in_the_denominator_and_gives_no_gradient(policy: Path) -> None:
    mixed, flat = make_group("a", [1, 0, 0, 1], 0), make_group("c", [1, 1, 1, 1], 2)
    alone, both = (gradient(policy, g) for g in ([mixed], [mixed, flat]))
    assert_same({n: 2 * g for n, g in both.items()}, alone)


def test_a_stream_of_coefficient_zero_changes_no_bit(policy: Path) -> None:
    main, extra = make_group("a", [1, 0, 0, 1], 0), make_group("x", [1, 0, 1], 5, stream="extra", coef=0.0)
    for denominator in ("batch", "stream"):
        hashes = []
        for groups in ([main], [main, extra], [extra, main]):
            trainer = GRPOTrainer(policy, GRPOConfig(overrides={"denominator": denominator}))
            trainer.step(groups)
            hashes.append(trainer.weights_hash())
        assert len(set(hashes)) == 1


def test_the_same_step_twice_gives_the_same_bits(policy: Path) -> None:
    hashes = []
    for _ in range(2):
        trainer = GRPOTrainer(policy, GRPOConfig(micro_tokens=60, threads=1))
        trainer.step(step_groups())
        hashes.append(trainer.weights_hash())
    assert hashes[0] == hashes[1]


def test_no_gradient_is_a_legal_step(policy: Path) -> None:
    trainer = GRPOTrainer(policy, GRPOConfig(weight_decay=0.1))
    before = trainer.weights_hash()
    for groups in ([], [make_group("c", [1, 1, 1], 2)], [make_group("u", [0, 0], 3, outcome="unknown")]):
        metrics = trainer.step(groups)
        assert metrics["updates"] == 0 and metrics["grad_norm"] == 0 and metrics["learning_rate"] == 0
        assert all(np.isfinite(v) for v in metrics.values())
    assert trainer.step_count == 3 and trainer.weights_hash() == before and not trainer.optimizer.state


def test_metrics_say_what_happened(policy: Path) -> None:
    groups = step_groups()
    metrics = GRPOTrainer(policy, GRPOConfig(warmup_steps=2)).step(groups)
    trained = [t for g in groups if g.id != "c" for t in g.rollouts]
    assert metrics["groups"] == 5 and metrics["rows"] == 17 and metrics["updates"] == 1 and metrics["rows_dropped"] == 0
    assert metrics["reward_mean"] == pytest.approx(np.mean([r for g in groups for r in g.rewards]))
    assert metrics["pass_rate"] == pytest.approx(7 / 17) and metrics["zero_variance"] == pytest.approx(0.2)
    assert metrics["tokens"] == sum(t.response_length for t in trained)
    assert metrics["ratio_mean"] == 1 and metrics["ratio_max"] == 1 and metrics["clip_share"] == 0
    assert 0 < metrics["mismatch_mean"] <= metrics["mismatch_max"] < 3
    assert 0 < metrics["entropy"] <= np.log(VOCAB) + 1e-5 and metrics["learning_rate"] == pytest.approx(2.5e-5)
    assert metrics["response_length_max"] == max(t.response_length for g in groups for t in g.rollouts)


def test_rows_without_a_judgement_or_a_finite_reward_are_left_out_of_loss_and_baseline(policy: Path) -> None:
    whole = make_group("a", [1, 0, 0, 1], 0)
    more = make_group("a", [1, 0, 0, 1, np.nan, 0], 0)
    unknown = replace(more, verdicts=(*more.verdicts[:5], replace(more.verdicts[5], outcome="unknown")))
    assert_same(gradient(policy, [unknown]), gradient(policy, [whole]))
    assert GRPOTrainer(policy, GRPOConfig()).step([unknown])["rows_dropped"] == 2


def test_a_row_without_finite_log_probs_is_dropped_and_the_rest_learns(tmp_path: Path) -> None:
    """One embedding is broken: only the row that reads that token is lost, and no nan reaches the weights."""
    path = build(tmp_path / "untied", tied=False)
    group = make_group("a", [1, 0, 0, 1], 0)
    poison = int(group.rollouts[2].tokens[-2])
    if any(poison in t.tokens[:-1] for i, t in enumerate(group.rollouts) if i != 2):
        pytest.fail("choose another seed: the poisoned token must be read by one row only")
    trainer = GRPOTrainer(path, GRPOConfig())
    with torch.no_grad():
        trainer.policy.model.get_input_embeddings().weight[poison] = float("nan")
    metrics = trainer.step([group])
    assert metrics["rows_dropped"] == 1 and metrics["updates"] == 1 and np.isfinite(metrics["grad_norm"])
    assert all(torch.isfinite(p).all() for n, p in trainer.parameters if "embed" not in n)


def test_divergence_stops_loudly_and_leaves_the_weights_alone(policy: Path) -> None:
    trainer = GRPOTrainer(policy, GRPOConfig())
    with torch.no_grad():
        trainer.policy.model.model.norm.weight[0] = float("nan")
    before = trainer.weights_hash()
    with pytest.raises(SynthError, match="step 0: no row"):
        trainer.step(step_groups())
    assert trainer.weights_hash() == before
    trainer = GRPOTrainer(policy, GRPOConfig())
    with pytest.raises(SynthError, match="diverged"):
        trainer.step([make_group("a", [1, 0], 0, coef=float("inf"))])


def test_several_updates_per_batch_use_the_old_policy_as_proximal(policy: Path) -> None:
    groups = [make_group(f"g{i}", [1, 0, 0, 1], i) for i in range(4)]
    metrics = GRPOTrainer(policy, GRPOConfig(minibatches=2, learning_rate=5e-3)).step(groups)
    assert (
        metrics["updates"] == 2 and metrics["ratio_max"] > 1.001 and metrics["tokens"] == sum(t.response_length for g in groups for t in g.rollouts)
    )
    assert GRPOTrainer(policy, GRPOConfig(minibatches=9)).step(groups)["updates"] == 4


def test_kl_pulls_back_to_where_training_started(policy: Path) -> None:
    config = GRPOConfig(learning_rate=1e-2, overrides={"kl_coef": 1.0})
    trainer = GRPOTrainer(policy, config)
    first = trainer.step(step_groups())
    second = trainer.step(step_groups())
    assert abs(first["kl"]) < 1e-6 < second["kl"]
    flat = [make_group("c", [1, 1, 1], 2)]  # nothing but the KL has a gradient here
    for _ in range(15):
        last = trainer.step(flat)
    assert last["updates"] == 1 and last["kl"] < second["kl"] / 2


def test_truncated_importance_needs_behaviour_log_probs(policy: Path) -> None:
    group = make_group("a", [1, 0, 0, 1], 0)
    silent = replace(group, rollouts=(replace(group.rollouts[0], logp=np.full_like(group.rollouts[0].logp, np.nan)), *group.rollouts[1:]))
    settings = GRPOConfig(overrides={"tis_cap": 2.0})
    assert GRPOTrainer(policy, settings).step([silent])["rows_dropped"] == 1
    assert GRPOTrainer(policy, GRPOConfig()).step([silent])["rows_dropped"] == 0


def test_a_bandit_learns(tmp_path: Path) -> None:
    """Reward = share of digits (4 of 40 tokens) in what plain torch sampling draws: .10 -> at least .20 in 6 steps."""
    torch.manual_seed(1)
    trainer = GRPOTrainer(build(tmp_path / "bandit", hidden=64), GRPOConfig(learning_rate=2e-3, preset="dapo", overrides={"overlong_share": 0.0}))
    problems = [Problem(str(i)) for i in range(24)]
    rewards = []
    for step in range(7):
        groups = []
        for p, problem in enumerate(problems):
            prompt = np.random.default_rng(p).integers(0, VOCAB, 8)
            tokens = torch.from_numpy(prompt).repeat(8, 1)
            with torch.no_grad():
                trainer.policy.model.set_attn_implementation("sdpa")
                past = None
                for _ in range(16):
                    out = trainer.policy.model(input_ids=tokens if past is None else tokens[:, -1:], past_key_values=past, use_cache=True)
                    past = out.past_key_values
                    tokens = torch.cat([tokens, torch.multinomial(out.logits[:, -1].softmax(-1), 1)], 1)
                trainer.policy.model.set_attn_implementation("synth_packed")
            mask = np.r_[np.zeros(8), np.ones(16)]
            rows = tuple(rollout(problem, t, mask, i) for i, t in enumerate(tokens.numpy()))
            score = (tokens[:, 8:] < 4).float().mean(1).numpy()
            groups.append(Group(f"{step}.{p}", problem, rows, tuple(Verdict("pass", float(s), "", "digits") for s in score), score))
        rewards.append(float(np.mean([g.rewards.mean() for g in groups])))
        if step < 6:
            trainer.step(groups)
    assert rewards[0] < 0.13 and rewards[-1] >= 0.2, rewards


def test_the_learning_rate_warms_up_and_falls_linearly():
    config = GRPOConfig(learning_rate=1.0, warmup_steps=2, decay_steps=10, final_share=0.2)
    assert [round(config.learning_rate_at(s), 6) for s in (0, 1, 5, 10, 99)] == [0.5, 0.92, 0.6, 0.2, 0.2]
    assert GRPOConfig(learning_rate=1.0).learning_rate_at(50) == 1.0
