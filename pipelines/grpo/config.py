"""The trainer's settings: a plain dataclass, readable without torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from data.errors import UserError
from pipelines.grpo.component import SLOTS, known_options, nearest
from pipelines.grpo.presets import Preset, preset_named


@dataclass(frozen=True)
class GRPOConfig:
    """How one optimizer step is made.

    `overrides` change the preset key by key. `temperature` 0 = each rollout's own sampling temperature. `micro_tokens`: forwarded
    tokens per micro-batch. `minibatches`: parts that a step's groups are dealt to, one optimizer update each; `epochs`: how often
    (above 1 update, old log-probs are computed first). `proximal`: what the ratio is against, the weights at the start of the step
    ("current") or the sampler's own log-probs ("behavior": off-policy rollouts are then corrected by the clip itself).
    `decay_steps`: the rate falls linearly to `final_share` of itself over so many steps (0 = stays).
    `reference`: folder of the KL reference, "" = the weights the trainer started from. `threads` 0 = leave torch's.
    `device`: "auto" (a GPU where there is one, else the CPU), "cpu", "cuda" or "cuda:N".
    `precision`, `gradient_checkpointing`, `lora_*`: `policy.PolicySettings`. `stop_*`: training stops loudly, weights untouched, when an
    update's mean entropy falls below, or its mean KL, mean |behaviour - trainer| log-prob gap or gradient norm rises above (0 = never).
    """

    preset: str = "grpo"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    learning_rate: float = 5e-5
    warmup_steps: int = 0
    decay_steps: int = 0
    final_share: float = 0.1
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.95)
    adam_eps: float = 1e-8
    max_grad_norm: float = 1.0
    minibatches: int = 1
    epochs: int = 1
    proximal: str = "current"
    micro_tokens: int = 4096
    temperature: float = 0.0
    reference: str = ""
    device: str = "auto"
    precision: str = "fp32"
    gradient_checkpointing: bool = False
    lora_rank: int = 0
    lora_alpha: float = 0.0
    lora_targets: str = "all-linear"
    stop_entropy: float = 0.0
    stop_kl: float = 0.0
    stop_mismatch: float = 0.0
    stop_grad_norm: float = 0.0
    seed: int = 0
    threads: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))
        zero_or_more = (
            "learning_rate",
            "warmup_steps",
            "decay_steps",
            "final_share",
            "weight_decay",
            "temperature",
            "threads",
            "lora_rank",
            "lora_alpha",
        )
        for key in (*zero_or_more, "stop_entropy", "stop_kl", "stop_mismatch", "stop_grad_norm"):
            if not 0 <= getattr(self, key) < float("inf"):
                raise UserError(f"grpo.{key} must be a finite number of 0 or more, got {getattr(self, key)}")
        for key in ("minibatches", "epochs", "micro_tokens"):
            if getattr(self, key) < 1:
                raise UserError(f"grpo.{key} must be 1 or more, got {getattr(self, key)}")
        for key in ("adam_eps", "max_grad_norm"):
            if not getattr(self, key) > 0:
                raise UserError(f"grpo.{key} must be above 0, got {getattr(self, key)}")
        if len(self.betas) != 2 or not all(0 <= b < 1 for b in self.betas):
            raise UserError(f"grpo.betas must be two numbers in [0, 1), got {list(self.betas)}")
        if self.proximal not in ("current", "behavior"):
            raise UserError(f"grpo.proximal must be current or behavior, got {self.proximal!r}")
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise UserError(f"grpo.device must be auto, cpu, cuda or cuda:N, got {self.device!r}")
        if self.precision not in ("fp32", "bf16"):
            raise UserError(f"grpo.precision must be fp32 or bf16, got {self.precision!r}")
        if self.stop_kl and "ref_logp" not in self.objective().needs:
            raise UserError("grpo.stop_kl watches the KL to the reference, which this objective does not compute; set kl_coef above 0")
        corrected = set(self.objective().parts["weights"]) & {"truncated_importance", "masked_importance"}
        if self.proximal == "behavior" and corrected:
            raise UserError(
                f"grpo.proximal = 'behavior' already divides by the sampler's probability; {corrected.pop()} would do so twice: switch one off"
            )

    def objective(self) -> Preset:
        """The preset with its overrides; UserError naming the nearest key where one is unknown."""
        return preset_named(self.preset, self.overrides)

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up over `warmup_steps`, times a linear fall over `decay_steps`; `step` counts from 0. Stateless, so resume cannot shift it."""
        warm = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        fallen = min(1.0, step / self.decay_steps) if self.decay_steps else 0.0
        return self.learning_rate * warm * (1.0 - (1.0 - self.final_share) * fallen)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**asdict(self), "overrides": dict(self.overrides), "betas": list(self.betas)}

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any]) -> GRPOConfig:
        """From one flat table of a recipe: the trainer's own keys and the preset's side by side; an unknown key is a UserError."""
        own = {f.name for f in fields(cls)}
        objective = known_options() | set(SLOTS)
        mine: dict[str, Any] = {}
        overrides: dict[str, Any] = dict(settings.get("overrides", {}))
        for key, value in settings.items():
            if key == "overrides":
                continue
            if key not in own | objective:
                raise UserError(f"grpo has no key {key!r}; did you mean {nearest(key, own | objective)!r}?")
            (mine if key in own else overrides)[key] = value
        return cls(overrides=overrides, **mine)


SETTINGS = {
    "minibatches": "parts that a step's groups are dealt to, one optimizer update each",
    "epochs": "how often a step's rollouts are learned from",
    "proximal": "what the ratio is against: the weights at the start of the step (current) or the sampler's log-probs (behavior)",
    "temperature": "of the trainer's log-probs; 0 = each rollout's own",
    "device": "auto (a GPU where there is one, else the CPU), cpu, cuda or cuda:N",
    "precision": "fp32, or bf16: matrix products in bfloat16; weights, optimizer and log-probs stay float32",
    "gradient_checkpointing": "activations are computed again in the backward pass: less memory, about a third more time",
    "lora_rank": "above 0 only low-rank adapters train, and the frozen base is the KL reference",
    "lora_alpha": "scale of the adapters; 0 = 2 x lora_rank",
    "lora_targets": "all-linear, or names of modules, comma separated",
    "betas": "AdamW's",
    "adam_eps": "AdamW's",
    "weight_decay": "AdamW's",
    "stop_entropy": "training stops when an update's mean entropy falls below; 0 = never",
    "stop_kl": "training stops when the mean KL to the reference rises above; 0 = never",
    "stop_mismatch": "training stops when the mean gap to the sampler's log-probs rises above; 0 = never",
    "stop_grad_norm": "training stops when the gradient norm rises above; 0 = never",
}
"""What `train.trainer` takes, a sentence each."""

OF_RECIPE = {
    **{key: f"train.{key}" for key in ("preset", "learning_rate", "warmup_steps", "max_grad_norm", "micro_tokens")},
    **{"overrides": "train.objective", "final_share": "train.final_rate", "decay_steps": "train.steps", "reference": "policy.path"},
    **{"threads": "engine.threads", "seed": "seed"},
}
"""Settings that a recipe gives elsewhere."""


def trainer_settings(preset: str, objective: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's `train.trainer` table, checked together with the objective it is for; UserError naming the key."""
    known = {f.name for f in fields(GRPOConfig)} - set(OF_RECIPE)
    for key in settings:
        if key in OF_RECIPE:
            raise UserError(f"train.trainer has no key {key!r}: give {OF_RECIPE[key]}")
        if key not in known:
            raise UserError(f"train.trainer has no key {key!r}; did you mean {nearest(key, known)!r}?")
        default = getattr(GRPOConfig, key, None)
        kind = (int, float) if isinstance(default, float) else (list, tuple) if key == "betas" else type(default)
        if not isinstance(settings[key], kind) or (isinstance(settings[key], bool) and not isinstance(default, bool)):
            raise UserError(f"train.trainer.{key} takes {type(default).__name__}, got {settings[key]!r}")
    GRPOConfig(preset=preset, overrides=dict(objective), **settings)
    return dict(settings)
