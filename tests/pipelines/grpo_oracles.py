"""How to ask other people's GRPO losses: TRL 1.16 (unbound, on a stub), verl 0.9.1 (core_algos without its package), Liger 0.8.5.

Fixed float64 tensors in, loss and d loss / d logp [rows, tokens] out. Test-only dependencies; `available` says which are here.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import types
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

os.environ.setdefault("HF_HUB_OFFLINE", "1")
D = torch.float64
Fixture = dict[str, Tensor]


def available(name: str) -> bool:
    return importlib.util.find_spec({"liger": "liger_kernel"}.get(name, name)) is not None


def fixture(seed: int, rows: int = 6, width: int = 7, spread: float = 0.35) -> Fixture:
    """Ragged rows of log-probs under four policies, centred rewards in groups of three, entropies."""
    draw = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=draw, dtype=D)  # noqa: E731
    lengths = torch.randint(1, width + 1, (rows,), generator=draw)
    old = -normal(rows, width).abs() - 0.1
    reward = torch.rand(rows // 3, 3, generator=draw, dtype=D).round(decimals=1)
    advantage = ((reward - reward.mean(1, keepdim=True)) / (reward.std(1, keepdim=True) + 1e-4)).view(-1)
    return {
        "logp": old + spread * normal(rows, width),
        "old": old,
        "ref": old + 0.2 * normal(rows, width),
        "behavior": old + 0.3 * normal(rows, width),
        "advantage": advantage,
        "mask": (torch.arange(width)[None] < lengths[:, None]).to(D),
        "entropy": normal(rows, width).abs().float().double(),  # TRL takes its quantile in float32
    }


def trl_loss(
    f: Fixture, loss_type: str, *, level: str = "token", low: float = 0.2, high: float = 0.2, beta: float = 0.0, delta: float | None = None,
    ratio: Tensor | None = None, entropy_share: float = 1.0, off_policy: float | None = None, kl_unbiased: bool = False, const: int = 16,
) -> tuple[float, Tensor]:  # fmt: skip
    """`GRPOTrainer._compute_loss`, called on a stub whose forward returns our tensors."""
    from trl import GRPOTrainer

    logp = f["logp"].clone().requires_grad_(True)
    same = lambda x, *_, **__: x  # noqa: E731
    accelerator = types.SimpleNamespace(
        num_processes=1, sync_gradients=True, gather=same, reduce=same, pad_across_processes=same, gather_for_metrics=same
    )
    args = types.SimpleNamespace(
        delta=delta, use_bias_correction_kl=kl_unbiased, sapo_temperature_pos=1.0, sapo_temperature_neg=1.05, vespo_k_pos=2.0, vespo_lambda_pos=3.0,
        vespo_k_neg=3.0, vespo_lambda_neg=2.0, steps_per_generation=1,
    )  # fmt: skip
    stub: Any = types.SimpleNamespace(
        accelerator=accelerator, args=args, model=types.SimpleNamespace(training=True), aux_loss_enabled=False, top_entropy_quantile=entropy_share,
        off_policy_mask_threshold=off_policy, importance_sampling_level=level, beta=beta, loss_type=loss_type, epsilon_low=low, epsilon_high=high,
        use_vllm=ratio is not None, vllm_importance_sampling_correction=True, current_gradient_accumulation_steps=1, max_completion_length=const,
        entropy_coef=0.0, _entropy_bonus_enabled=False, use_adaptive_entropy=False, _metrics={"train": defaultdict(list), "eval": defaultdict(list)},
        _get_per_token_logps_and_entropies=lambda *a, **k: (logp, f["entropy"], None),
    )  # fmt: skip
    for name in ("get_off_policy_mask", "get_gamma_weights"):
        setattr(stub, name, getattr(GRPOTrainer, name))
    stub.get_high_entropy_mask = types.MethodType(GRPOTrainer.get_high_entropy_mask, stub)
    zeros = torch.zeros(logp.shape, dtype=torch.long)
    inputs = {
        "prompt_ids": zeros[:, :1], "prompt_mask": zeros[:, :1] + 1, "completion_ids": zeros, "completion_mask": f["mask"],
        "advantages": f["advantage"], "old_per_token_logps": f["old"], "ref_per_token_logps": f["ref"], "sampling_per_token_logps": f["behavior"],
        "num_items_in_batch": f["mask"].sum(),
    }  # fmt: skip
    if ratio is not None:
        inputs["importance_sampling_ratio"] = ratio
    loss = GRPOTrainer._compute_loss(stub, None, inputs)
    loss.backward()
    return loss.item(), logp.grad * f["mask"]  # type: ignore[operator]


@cache
def verl() -> Any:
    """verl.trainer.ppo.core_algos; its package's own imports (Ray and more) are stood in for."""
    spec = importlib.util.find_spec("verl")
    assert spec is not None and spec.submodule_search_locations is not None
    root = Path(spec.submodule_search_locations[0])

    def stand_in(name: str, path: Path | None = None, **content: Any) -> None:
        module = types.ModuleType(name)
        module.__path__ = [str(path)] if path else []
        module.__dict__.update(content)
        sys.modules[name] = module

    class AlgoConfig(dict):  # type: ignore[type-arg]
        pass

    class ActorConfig(types.SimpleNamespace):
        def get(self, key: str, default: Any = None) -> Any:
            return getattr(self, key, default)

    for name, path in (
        ("verl", root),
        ("verl.utils", root / "utils"),
        ("verl.trainer", root / "trainer"),
        ("verl.trainer.ppo", root / "trainer/ppo"),
    ):
        stand_in(name, path)
    stand_in("verl.trainer.config", AlgoConfig=AlgoConfig)
    stand_in("verl.workers", root / "workers")
    stand_in("verl.workers.config", ActorConfig=ActorConfig)
    stand_in("verl.utils.device", get_device_name=lambda: "cpu", get_torch_device=lambda: torch.cpu)
    groupwise = importlib.import_module("verl.utils.groupwise")
    sys.modules["verl.utils"].as_torch_index = groupwise.as_torch_index  # type: ignore[attr-defined]
    sys.modules["verl.utils"].group_mean_std = groupwise.group_mean_std  # type: ignore[attr-defined]
    core = importlib.import_module("verl.trainer.ppo.core_algos")
    core.ActorConfig = ActorConfig  # type: ignore[attr-defined]
    return core


def verl_loss(
    f: Fixture,
    name: str,
    *,
    mean: str = "token-mean",
    low: float = 0.2,
    high: float = 0.2,
    dual: float = 1e9,
    weights: Tensor | None = None,
    **more: Any,
) -> tuple[float, Tensor]:
    core = verl()
    logp = f["logp"].clone().requires_grad_(True)
    settings = {
        "clip_ratio": low,
        "clip_ratio_low": low,
        "clip_ratio_high": high,
        "clip_ratio_c": dual,
        "global_batch_info": {},
        "loss_agg_mode": mean,
    }
    config = core.ActorConfig(**{**settings, **more})
    loss, _ = core.get_policy_loss_fn(name)(
        old_log_prob=f["old"], log_prob=logp, advantages=f["advantage"][:, None].expand_as(logp), response_mask=f["mask"], loss_agg_mode=mean,
        config=config, rollout_is_weights=weights,
    )  # fmt: skip
    loss.backward()
    return loss.item(), logp.grad  # type: ignore[return-value]


def liger_loss(
    f: Fixture, loss_type: str, *, level: str = "token", low: float = 0.2, high: float = 0.2, beta: float = 0.0, **more: Any
) -> tuple[float, Tensor]:
    """Liger's GRPO loss function on log-probs; its fused chain from hidden states sums in float32 and is asked by `liger_chain`."""
    from liger_kernel.chunked_loss.grpo_loss import LigerFusedLinearGRPOFunction

    logp = f["logp"].clone().requires_grad_(True)
    loss, _ = LigerFusedLinearGRPOFunction.ppo_loss_fn(
        logp, f["mask"], f["advantage"], f["mask"], f["ref"], f["old"], low, high, beta, loss_type, 16, level, **more
    )
    loss.backward()
    return loss.item(), logp.grad  # type: ignore[return-value]


def liger_chain(hidden: Tensor, weight: Tensor, ids: Tensor, f: Fixture, loss_type: str, high: float, beta: float) -> tuple[float, Tensor]:
    """From hidden states [rows, tokens, d] through the head to the loss with the unbiased KL, and d loss / d hidden."""
    from liger_kernel.chunked_loss.grpo_loss import LigerFusedLinearGRPOFunction

    own = hidden.clone().requires_grad_(True)
    out = LigerFusedLinearGRPOFunction.apply(
        own, weight, ids, f["mask"].long(), f["advantage"], None, f["ref"], f["old"], None, None, None, beta, 0.2, high, loss_type, 16, "token",
        1.0, 1.05, 1.0, False, True, 1, None, None, True,
    )  # fmt: skip
    out[0].backward()
    return out[0].item(), own.grad  # type: ignore[return-value]
