"""Low-rank adapters (LoRA, arXiv 2106.09685) through peft, which is asked for only where a recipe wants them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from data.errors import UserError
from pipelines.grpo.sharding import whole

if TYPE_CHECKING:
    from pipelines.grpo.policy import PolicySettings


def inject_adapters(model: Any, settings: PolicySettings) -> None:
    """Puts adapters into the model's linear layers and freezes everything else. Zero at first: the policy starts as its base."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise UserError("lora_rank needs peft: pip install 'synth[lora]' (or set lora_rank = 0)") from None

    targets: Any = settings.lora_targets
    if targets == "all-linear":
        head = model.get_output_embeddings()
        targets = sorted({n.rsplit(".", 1)[-1] for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and m is not head})
    else:
        targets = [t.strip() for t in targets.split(",")]
    alpha: Any = settings.lora_alpha or 2 * settings.lora_rank
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        try:
            inject_adapter_in_model(LoraConfig(r=settings.lora_rank, lora_alpha=alpha, target_modules=targets, lora_dropout=0.0), model)
        except ValueError as error:
            raise UserError(f"lora_targets: {error}") from error
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)


def _adapted(model: Any) -> list[tuple[str, Any]]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [(n, m) for n, m in model.named_modules() if isinstance(m, BaseTunerLayer)]


def switch_adapters(model: Any, on: bool) -> None:
    """Adapters take part or not. Not through `enable_adapters`, which also thaws and freezes parameters, to which FSDP2 is not indifferent."""
    for _, module in _adapted(model):
        module._disable_adapters = not on


def merged_weights(model: Any) -> dict[str, Tensor]:
    """All weights under their plain names, each adapted one with its adapter added (whole on every rank)."""
    adapted = dict(_adapted(model))
    out: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            continue
        owner, _, kind = name.rpartition(".base_layer.")
        weight = whole(parameter.detach())
        if owner in adapted and kind == "weight":
            layer = adapted[owner]
            a, b = (whole(getattr(layer, part)["default"].weight.detach()) for part in ("lora_A", "lora_B"))
            weight = weight + (b @ a) * layer.scaling["default"]
        out[f"{owner}.{kind}" if owner else name] = weight
    return out
