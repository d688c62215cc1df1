"""Adapters, bfloat16, gradient checkpointing, and the limits that stop a run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from grpo_ranks import make_groups
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

from data.errors import SynthError, UserError
from data.records import Group
from pipelines.grpo.config import GRPOConfig
from pipelines.grpo.trainer import GRPOTrainer

LORA = GRPOConfig(learning_rate=1e-2, lora_rank=2, overrides={"kl_coef": 0.1})
SIZE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("precision")
    Qwen3ForCausalLM(Qwen3Config(vocab_size=40, max_position_embeddings=64, tie_word_embeddings=True, **SIZE)).save_pretrained(path)
    return path


def gradient(policy: Path, groups: list[Group], **settings: object) -> dict[str, torch.Tensor]:
    trainer = GRPOTrainer(policy, GRPOConfig(max_grad_norm=1e9, **settings))  # type: ignore[arg-type]
    seen: dict[str, torch.Tensor] = {}
    trainer.optimizer.step = lambda: seen.update({n: p.grad.clone() for n, p in trainer.parameters})  # type: ignore[assignment,union-attr,misc]
    trainer.step(groups)
    return seen


def test_adapters_train_alone_and_the_base_is_the_reference(policy: Path, tmp_path: Path) -> None:
    trainer = GRPOTrainer(policy, LORA)
    assert all("lora_" in n for n, _ in trainer.parameters) and len(trainer.parameters) == 2 * 7 * 2
    frozen = {n: p.detach().clone() for n, p in trainer.policy.model.named_parameters() if "lora_" not in n}
    first = trainer.step(make_groups(0))
    second = trainer.step(make_groups(1))
    assert abs(first["kl"]) < 1e-9 < second["kl"]  # zero at first: the policy starts as its base
    assert all(torch.equal(p, frozen[n]) for n, p in trainer.policy.model.named_parameters() if n in frozen)
    trainer.save(tmp_path / "out")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    tokens = torch.arange(12)[None] % 40
    with torch.no_grad():
        trainer.policy.model.set_attn_implementation("sdpa")
        torch.testing.assert_close(merged(tokens).logits, trainer.policy.model(tokens).logits, atol=1e-5, rtol=0)
        with trainer.policy.as_base():
            base = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32).eval()
            torch.testing.assert_close(trainer.policy.model(tokens).logits, base(tokens).logits, atol=1e-6, rtol=0)
    assert load_file(tmp_path / "out/model.safetensors").keys() == load_file(policy / "model.safetensors").keys()


def test_adapters_resume_bit_for_bit(policy: Path, tmp_path: Path) -> None:
    straight, hashes = GRPOTrainer(policy, LORA), []
    for step in range(3):
        straight.save(tmp_path / f"at{step}")
        straight.step(make_groups(step))
        hashes.append(straight.weights_hash())
    for start in range(3):
        trainer = GRPOTrainer.resume(tmp_path / f"at{start}", LORA)
        for step in range(start, 3):
            trainer.step(make_groups(step))
            assert trainer.weights_hash() == hashes[step]
    with pytest.raises(UserError, match="with lora_rank"):
        GRPOTrainer.resume(tmp_path / "at1", GRPOConfig())
    with pytest.raises(UserError, match="do not make"):
        GRPOTrainer.resume(tmp_path / "at1", replace(LORA, lora_rank=3))


def test_targets_that_are_not_there_are_refused(policy: Path) -> None:
    with pytest.raises(UserError, match="lora_targets"):
        GRPOTrainer(policy, replace(LORA, lora_targets="q_prj"))
    only = GRPOTrainer(policy, replace(LORA, lora_targets="q_proj, v_proj"))
    assert len(only.parameters) == 2 * 2 * 2


def test_gradient_checkpointing_changes_no_gradient(policy: Path) -> None:
    plain, again = (gradient(policy, make_groups(0), gradient_checkpointing=on, micro_tokens=60) for on in (False, True))
    assert plain.keys() == again.keys()
    for name, value in plain.items():
        torch.testing.assert_close(again[name], value, atol=1e-7, rtol=0)


def test_gradient_checkpointing_recomputes_layers(policy: Path) -> None:
    """Each layer runs twice: once forward, once more in backward."""
    counts = {}
    for on in (False, True):
        trainer = GRPOTrainer(policy, GRPOConfig(gradient_checkpointing=on))
        calls = [0]
        trainer.policy.model.base_model.layers[0].self_attn.register_forward_hook(lambda *a, calls=calls: calls.__setitem__(0, calls[0] + 1))
        trainer.step(make_groups(0))
        counts[on] = calls[0]
    assert counts[True] == 2 * counts[False]


def test_bfloat16_keeps_master_weights_and_comes_close(policy: Path) -> None:
    trainer = GRPOTrainer(policy, GRPOConfig(precision="bf16"))
    seen = []
    trainer.policy.model.base_model.layers[0].mlp.down_proj.register_forward_hook(lambda m, i, out: seen.append(out.dtype))
    metrics = trainer.step(make_groups(0))
    assert seen[0] == torch.bfloat16
    assert all(p.dtype == torch.float32 for _, p in trainer.parameters)
    assert all(v.dtype == torch.float32 for state in trainer.optimizer.state.values() for v in state.values())
    exact = GRPOTrainer(policy, GRPOConfig()).step(make_groups(0))
    assert metrics["entropy"] == pytest.approx(exact["entropy"], rel=1e-2) and metrics["grad_norm"] == pytest.approx(exact["grad_norm"], rel=5e-2)
    half, full = (gradient(policy, make_groups(0), precision=p) for p in ("bf16", "fp32"))
    both = [torch.cat([g.flatten() for g in x.values()]) for x in (half, full)]
    assert torch.cosine_similarity(*both, dim=0) > 0.99 and not torch.equal(*both)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"stop_entropy": 5.0}, "the mean entropy is .*, below grpo.stop_entropy = 5.0"),
        ({"stop_mismatch": 0.1}, "the log-prob gap to the sampler is .*, above grpo.stop_mismatch = 0.1"),
        ({"stop_grad_norm": 1e-6}, "the gradient norm is .*, above grpo.stop_grad_norm = 1e-06"),
    ],
)
def test_limits_stop_a_run_before_its_weights_move(policy: Path, settings: dict[str, float], says: str) -> None:
    trainer = GRPOTrainer(policy, GRPOConfig(**settings))  # type: ignore[arg-type]
    before = trainer.weights_hash()
    with pytest.raises(SynthError, match=f"step 0: {says}; training has diverged"):
        trainer.step(make_groups(0))
    assert trainer.weights_hash() == before and trainer.step_count == 0


def test_the_kl_limit_needs_a_reference(policy: Path) -> None:
    with pytest.raises(UserError, match="kl_coef"):
        GRPOConfig(stop_kl=0.1)
    trainer = GRPOTrainer(policy, GRPOConfig(learning_rate=0.1, stop_kl=0.01, overrides={"kl_coef": 1e-4}))
    trainer.step(make_groups(0))
    with pytest.raises(SynthError, match="the KL is"):
        for step in range(1, 9):
            trainer.step(make_groups(step))


def test_stale_rows_are_compared_with_the_sampler(policy: Path) -> None:
    """One-step-off rollouts: the ratio is against their own log-probs, the others' against the weights at the start."""
    groups = make_groups(0)
    fresh = GRPOTrainer(policy, GRPOConfig()).step(groups)
    one = GRPOTrainer(policy, GRPOConfig()).step(groups, stale={groups[0].id})
    every = GRPOTrainer(policy, GRPOConfig(proximal="behavior")).step(groups)
    by_name = GRPOTrainer(policy, GRPOConfig()).step(groups, stale={g.id for g in groups})
    assert fresh["ratio_mean"] == 1 > one["ratio_mean"] > every["ratio_mean"] == by_name["ratio_mean"]  # the sampler claimed e^-3 everywhere
    silent = replace(groups[0].rollouts[0], logp=np.full_like(groups[0].rollouts[0].logp, np.nan))
    muted = replace(groups[0], rollouts=(silent, *groups[0].rollouts[1:]))
    assert GRPOTrainer(policy, GRPOConfig()).step([muted, *groups[1:]], stale={muted.id})["rows_dropped"] == 1
    with pytest.raises(UserError, match="twice"):
        GRPOConfig(proximal="behavior", overrides={"tis_cap": 2.0})
