"""Who learns in the train stage: a trainer in this process, or one process a rank; opened where the newest committed policy stands."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from data.records import Group
from pipelines.grpo.callbacks import Callback, TensorBoard
from pipelines.grpo.config import GRPOConfig
from pipelines.run import Run


class Trainer(Protocol):
    """What the train stage needs of `GRPOTrainer`, which learns here, and of `RemoteTrainer`, whose ranks learn elsewhere."""

    config: GRPOConfig
    seconds: float
    extra: dict[str, Any]

    @property
    def size(self) -> int: ...
    def step(self, groups: Sequence[Group], factors: Mapping[str, float] | None = None, *, stale: Collection[str] = ()) -> dict[str, float]: ...
    def save(self, folder: Path, *, extra: Mapping[str, Any] | None = None) -> str: ...
    def cancel(self) -> None: ...
    def close(self) -> None: ...


def config_of(run: Run) -> GRPOConfig:
    part = run.recipe.train
    settings = dict(part.trainer)
    if part.devices and run.trainer_ranks == 1:
        settings["device"] = f"cuda:{part.devices[0]}"
    return GRPOConfig(
        preset=part.preset,
        overrides=dict(part.objective),
        learning_rate=part.learning_rate,
        warmup_steps=part.warmup_steps,
        decay_steps=part.steps * run.recipe.rounds,
        final_share=part.final_rate,
        max_grad_norm=part.max_grad_norm,
        micro_tokens=part.micro_tokens,
        reference="" if part.trainer.get("lora_rank") else str(run.base_policy),  # adapters have their base as reference
        threads=run.threads,
        **settings,
    )


def open_trainer(run: Run) -> Trainer:
    """At the newest committed policy, with its optimizer state; strategies get their state back, too."""
    policy = run.policy()
    begins = policy.path == str(run.base_policy)
    watching: list[Callback] = [TensorBoard(run.dir / "tensorboard")] if run.recipe.train.tensorboard else []
    trainer = _opened(run, Path(policy.path), begins, watching)
    states = trainer.extra.get("strategies", {})
    for strategy in run.strategies:
        if strategy.name in states:
            strategy.load_state_dict(states[strategy.name])
    return trainer


def _opened(run: Run, path: Path, begins: bool, watching: list[Callback]) -> Trainer:
    if run.trainer_ranks > 1:
        from pipelines.grpo.rank_group import RankGroup
        from pipelines.grpo.remote import RemoteTrainer

        group = RankGroup(run.trainer_ranks, threads=run.threads, devices=run.recipe.train.devices, home=run.dir)
        return RemoteTrainer(group, path, config_of(run), resume=not begins, callbacks=watching)
    from pipelines.grpo.trainer import GRPOTrainer

    return GRPOTrainer(path, config_of(run), callbacks=watching) if begins else GRPOTrainer.resume(path, config_of(run), callbacks=watching)
