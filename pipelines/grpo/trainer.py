"""The GRPO trainer: judged groups in, one optimizer step (or `minibatches` of them) out; a checkpoint is legal after every step.

Algorithm-blind: groups carry their stream, estimator and coefficient; the preset names the objective's parts.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.errors import SynthError, UserError
from data.records import Group
from pipelines.grpo.callbacks import Callback
from pipelines.grpo.checkpoint import SHARDS, part_folder, read_optimizer, read_state, weights_hash, write_folder, write_state
from pipelines.grpo.config import GRPOConfig
from pipelines.grpo.learner import Learner
from pipelines.grpo.objective import Objective, Tally
from pipelines.grpo.plan import Plan, plan_step, updates_of, with_advantages
from pipelines.grpo.ranks import Ranks
from pipelines.grpo.recompose import StepInfo
from pipelines.grpo.sharding import load_shards, save_shards


class GRPOTrainer:
    """A learner with a step counter and the objective's memory; nothing else lives between two steps. Under torchrun, one on every rank."""

    def __init__(self, policy_path: Path, config: GRPOConfig, *, ranks: Ranks | None = None, callbacks: Sequence[Callback] = ()) -> None:
        self.config = config
        self.objective = Objective(config.objective())
        if config.threads:
            torch.set_num_threads(config.threads)
        self.ranks = ranks or Ranks(device=config.device)
        self.learner = Learner(policy_path, config, self.objective, self.ranks)
        self.policy, self.parameters, self.optimizer = self.learner.policy, self.learner.parameters, self.learner.optimizer
        self.base_path = str(Path(policy_path).resolve())
        self.callbacks = list(callbacks)
        self.step_count = 0
        self.update_count = 0
        self.seconds = 0.0  # that the last step took; no metric, because it is no function of what was learned
        self.extra: dict[str, Any] = {}

    # ------------------------------------------------------------------------------------------------ one step
    def step(self, groups: Sequence[Group], factors: Mapping[str, float] | None = None, *, stale: Collection[str] = ()) -> dict[str, float]:
        """Learns from the judged groups of one step and returns its metrics.

        `factors` multiply the advantages of the groups they name; `stale` names groups that an older policy sampled. Rows are left
        out, and counted, where the reward is not finite, where nothing was sampled, where the verdict is unknown and nobody set a
        reward, and where the forward pass gives no finite log-prob. A step from which no gradient comes leaves the weights and
        the optimizer alone. Raises SynthError, weights untouched, where the loss or the gradient of a whole update is not finite.
        """
        begin = time.perf_counter()
        config = self.config
        if config.threads:
            torch.set_num_threads(config.threads)
        self.objective.step_to(self.step_count)
        tally = Tally()
        learning_rate = config.learning_rate_at(self.step_count)
        info = StepInfo(self.step_count, config.seed, set(stale))
        plan = plan_step(groups, self.objective, info, config.temperature, config.proximal == "behavior")
        ahead = self.learner.ahead(plan.rows) if self._looks_ahead else {}
        entropies = {index: found[1].astype(np.float64) for index, found in ahead.items()} if "step_entropy" in self.objective.needs else {}
        rows = with_advantages(plan, self.objective, factors or {}, entropies)
        updates = updates_of(plan, rows, self.objective, minibatches=config.minibatches, epochs=config.epochs, seed=config.seed, step=self.step_count)
        norms = [self.learner.update(part, ahead, learning_rate, self.step_count, tally) for part in updates if part]
        self.step_count += 1
        self.update_count += len(norms)
        metrics = {**_group_metrics(plan), **self._token_metrics(tally, plan, norms, learning_rate)}
        self.objective.observe(metrics)
        self.seconds = time.perf_counter() - begin
        for callback in self.callbacks:
            callback.on_step(self, metrics)
        return metrics

    @property
    def _looks_ahead(self) -> bool:
        """Whether all rows are forwarded before the first update: several updates, or a component that asks."""
        return self.config.minibatches * self.config.epochs > 1 or bool({"old_logp", "step_entropy"} & self.objective.needs)

    def _token_metrics(self, tally: Tally, plan: Plan, norms: Sequence[float], learning_rate: float) -> dict[str, float]:
        return {
            "step": float(self.step_count - 1),
            "updates": float(len(norms)),
            "loss": tally.sum("loss"),
            "entropy": tally.mean("entropy"),
            "kl": tally.mean("kl"),
            "clip_share": tally.mean("clipped"),
            "ratio_mean": tally.mean("ratio"),
            "ratio_max": tally.max("ratio"),
            "mismatch_mean": tally.mean("mismatch", "mismatch_tokens"),
            "mismatch_max": tally.max("mismatch"),
            "grad_norm": max(norms, default=0.0),
            "tokens": tally.sum("tokens"),
            "tokens_forwarded": tally.sum("forwarded"),
            "rows_dropped": float(sum((~v).sum() for v in plan.valid)) + tally.sum("rows_dropped"),
            "learning_rate": learning_rate if norms else 0.0,
        }

    @property
    def size(self) -> int:
        """Processes that learn together."""
        return self.ranks.size

    def cancel(self) -> None:
        """A step that is being made (on another thread) ends with an error before its next micro-batch, and no other begins."""
        self.learner.cancelled.set()

    def close(self) -> None:
        """Nothing is held but memory."""

    # ---------------------------------------------------------------------------------------------- checkpoint
    def weights_hash(self) -> str:
        """32 hex digits over what training changes; equal hashes = equal bits."""
        return weights_hash(self.policy.parts())

    def save(self, folder: Path, *, extra: Mapping[str, Any] | None = None) -> str:
        """Writes a durable checkpoint, loadable by transformers and by `resume`; returns the weights' hash. `extra` is JSON-able.

        Several ranks write their shards of weights and optimizer beside the whole model; any number of ranks can go on from them.
        """
        folder = Path(folder)
        digest = self.weights_hash()
        learner = self.learner
        state = {
            "step": self.step_count,
            "updates": self.update_count,
            "weights_hash": digest,
            "reference": learner.reference_path,
            "reference_hash": learner.reference_hash,
            "base": self.base_path if self.config.lora_rank else "",
            "config": self.config.as_dict(),
            "objective": self.objective.state_dict(),
            "callbacks": [c.state_dict() for c in self.callbacks],
            "extra": dict(extra or {}),
        }
        tag = f"step{self.step_count}" if self.ranks.size > 1 else ""

        def write(part: Path) -> None:
            self.ranks.wait()  # the folder is there
            self.policy.save(part)
            if self.ranks.size > 1:
                save_shards(self._sharded(), part / SHARDS)
            if self.ranks.first:
                write_state(part, None if self.ranks.size > 1 else learner.optimizer_tensors(), state)

        if self.ranks.first:
            write_folder(folder, write, tag)
        else:
            write(part_folder(folder, tag))
        self.ranks.wait()  # the folder has its name
        return digest

    def _sharded(self) -> dict[str, Tensor]:
        return {**{f"weight.{n}": p.detach() for n, p in self.parameters}, **self.learner.optimizer_tensors()}

    @classmethod
    def resume(cls, folder: Path, config: GRPOConfig, *, ranks: Ranks | None = None, callbacks: Sequence[Callback] = ()) -> GRPOTrainer:
        """The trainer exactly as it was when it saved `folder`; what was passed as `extra` is in `.extra`."""
        folder = Path(folder)
        state = read_state(folder)
        if bool(config.lora_rank) != bool(state.get("base")):
            raise UserError(f"the checkpoint {folder} was made {'with' if state.get('base') else 'without'} lora_rank; go on with the same")
        trainer = cls(Path(state.get("base") or folder), config, ranks=ranks, callbacks=callbacks)
        learner = trainer.learner
        if (folder / SHARDS).is_dir():
            if state["updates"]:
                learner.empty_optimizer()
            load_shards(trainer._sharded(), folder / SHARDS, trainer.ranks)
        else:
            if config.lora_rank:
                trainer.policy.load_adapters(folder)
            learner.load_optimizer({k: v.to(trainer.ranks.device) for k, v in read_optimizer(folder).items()})
        if trainer.weights_hash() != state["weights_hash"]:
            raise SynthError(f"the checkpoint {folder} is damaged: its weights do not have the hash that state.json names")
        trainer.step_count, trainer.update_count = state["step"], state["updates"]
        if config.reference in ("", state["reference"]):
            learner.reference_path, learner.reference_hash = state["reference"], state["reference_hash"]
        trainer.objective.load_state_dict(state.get("objective", {}))
        for callback, remembered in zip(trainer.callbacks, state.get("callbacks", []), strict=False):
            callback.load_state_dict(remembered)
        trainer.extra = state["extra"]
        return trainer


def _group_metrics(plan: Plan) -> dict[str, float]:
    groups = plan.groups
    rewards = np.concatenate([np.asarray(g.rewards, np.float64)[v] for g, v in zip(groups, plan.valid, strict=True)] or [np.zeros(0)])
    lengths = [t.response_length for g in groups for t in g.rollouts]
    verdicts = [v.outcome for g in groups for v in g.verdicts]
    return {
        "groups": float(len(groups)),
        "rows": float(len(lengths)),
        "reward_mean": float(rewards.mean()) if len(rewards) else 0.0,
        "pass_rate": verdicts.count("pass") / max(len(verdicts), 1),
        "unknown_share": verdicts.count("unknown") / max(len(verdicts), 1),
        "zero_variance": sum(g.zero_variance for g in groups) / max(len(groups), 1),
        "response_length_mean": float(np.mean(lengths)) if lengths else 0.0,
        "response_length_max": float(max(lengths, default=0)),
    }
