"""A trainer whose learning is done by ranks in processes of their own; to the train stage it is a `GRPOTrainer`."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from data.records import Group
from pipelines.grpo.callbacks import Callback
from pipelines.grpo.config import GRPOConfig
from pipelines.grpo.rank_group import RankGroup
from pipelines.grpo.replay import group_to_json


class RemoteTrainer:
    """Owns `group` and closes it. Callbacks are told here, in the run's process; none that remembers something is checkpointed."""

    def __init__(self, group: RankGroup, policy_path: Path, config: GRPOConfig, *, resume: bool, callbacks: Sequence[Callback] = ()) -> None:
        self.group, self.config, self.callbacks = group, config, list(callbacks)
        self.seconds = 0.0
        try:
            opened = group.ask({"do": "open", "policy": str(policy_path), "resume": resume, "config": config.as_dict()})
        except BaseException:
            group.close()
            raise
        self.extra: dict[str, Any] = opened["extra"]
        self.step_count: int = opened["step"]

    @property
    def size(self) -> int:
        return self.group.size

    def step(self, groups: Sequence[Group], factors: Mapping[str, float] | None = None, *, stale: Collection[str] = ()) -> dict[str, float]:
        """As `GRPOTrainer.step`: the groups go to every rank, the metrics are those of all together."""
        plain = [group_to_json(g) for g in groups]
        answer = self.group.ask({"do": "step", "groups": plain, "factors": dict(factors or {}), "stale": sorted(stale)})
        metrics: dict[str, float] = {k: float(v) if v is not None else math.nan for k, v in answer["metrics"].items()}
        self.step_count += 1
        self.seconds = answer["seconds"]
        for callback in self.callbacks:
            callback.on_step(self, metrics)
        return metrics

    def save(self, folder: Path, *, extra: Mapping[str, Any] | None = None) -> str:
        """As `GRPOTrainer.save`: every rank writes its shards, the first one the whole model and the rest."""
        return str(self.group.ask({"do": "save", "folder": str(Path(folder).resolve()), "extra": dict(extra or {})})["hash"])

    def cancel(self) -> None:
        self.group.close()

    def close(self) -> None:
        self.group.close()
