"""Callbacks: told of every step after it was made. One that remembers something is checkpointed with the trainer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from data.errors import UserError


class Learning(Protocol):
    """What every trainer can tell, one whose ranks are other processes too."""

    step_count: int
    seconds: float


class Callback(Protocol):
    """`on_step` may read the trainer and its metrics; what it changes must follow from its state alone, or resume would shift it."""

    def on_step(self, trainer: Learning, metrics: Mapping[str, float]) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class TensorBoard:
    """Every metric as a scalar under `train/`, by optimizer step; steps that a resumed run makes again are dropped from the display."""

    def __init__(self, folder: Path, from_step: int = 0) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UserError("TensorBoard is not installed: pip install 'synth[tensorboard]', or leave tensorboard off") from None
        self.writer = SummaryWriter(str(folder), purge_step=from_step or None)

    def on_step(self, trainer: Learning, metrics: Mapping[str, float]) -> None:
        speed = {"seconds": trainer.seconds, "tokens_per_second": metrics["tokens"] / max(trainer.seconds, 1e-9)}
        for name, value in {**metrics, **speed}.items():
            self.writer.add_scalar(f"train/{name}", value, trainer.step_count - 1)
        self.writer.flush()

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing is remembered: the step is the trainer's."""
