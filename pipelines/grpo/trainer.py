"""The GRPO trainer: judged groups in, one optimizer step (or `minibatches` of them) out; a checkpoint is legal after every step.

Algorithm-blind: groups carry their stream, estimator and coefficient; the preset names the objective's parts.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.errors import SynthError
from data.records import Group
from pipelines.grpo.checkpoint import read_state, weights_hash, write_folder, write_state
from pipelines.grpo.config import GRPOConfig
from pipelines.grpo.objective import Objective, Tally
from pipelines.grpo.packing import Family, Layout, Row, lay_out, micro_batches
from pipelines.grpo.plan import Plan, plan_step, updates_of, with_advantages
from pipelines.grpo.policy import Policy
from pipelines.grpo.recompose import StepInfo
from pipelines.grpo.tokens import TokenBatch

MOMENTS = ("exp_avg", "exp_avg_sq")
Ahead = Mapping[int, tuple[Tensor, Tensor]]


class GRPOTrainer:
    """Owns the policy's weights, the optimizer's state and the step counter; nothing else lives between two steps."""

    def __init__(self, policy_path: Path, config: GRPOConfig) -> None:
        self.config = config
        self.objective = Objective(config.objective())
        if config.threads:
            torch.set_num_threads(config.threads)
        self.policy = Policy(policy_path)
        self.step_count = 0
        self.update_count = 0
        self.extra: dict[str, Any] = {}
        self.reference_path = str(config.reference or Path(policy_path).resolve())
        self.reference_hash = ""  # of the reference's weights once they are known: a resumed run must not be pulled elsewhere
        self._reference: Policy | None = None
        self.parameters = self.policy.parameters()
        self.optimizer = torch.optim.AdamW(
            [p for _, p in self.parameters],
            lr=config.learning_rate,
            betas=config.betas,
            eps=config.adam_eps,
            weight_decay=config.weight_decay,
            fused=True,
        )

    # ------------------------------------------------------------------------------------------------ one step
    def step(self, groups: Sequence[Group], factors: Mapping[str, float] | None = None, *, stale: Collection[str] = ()) -> dict[str, float]:
        """Learns from the judged groups of one step and returns its metrics.

        `factors` multiply the advantages of the groups they name; `stale` names groups that an older policy sampled. Rows are left
        out, and counted, where the reward is not finite, where nothing was sampled, where the verdict is unknown and nobody set a
        reward, and where the forward pass gives no finite log-prob. A step from which no gradient comes leaves the weights and
        the optimizer alone. Raises SynthError, weights untouched, where the loss or the gradient of a whole update is not finite.
        """
        config = self.config
        if config.threads:
            torch.set_num_threads(config.threads)
        self.objective.step_to(self.step_count)
        tally = Tally()
        learning_rate = config.learning_rate_at(self.step_count)
        info = StepInfo(self.step_count, config.seed, set(stale))
        plan = plan_step(groups, self.objective, info, config.temperature, config.proximal == "behavior")
        ahead = self._ahead(plan.rows) if self._looks_ahead else {}
        entropies = {index: found[1].double().numpy() for index, found in ahead.items()} if "step_entropy" in self.objective.needs else {}
        rows = with_advantages(plan, self.objective, factors or {}, entropies)
        updates = updates_of(plan, rows, self.objective, minibatches=config.minibatches, epochs=config.epochs, seed=config.seed, step=self.step_count)
        norms = [self._update(part, ahead, learning_rate, tally) for part in updates if part]
        self.step_count += 1
        self.update_count += len(norms)
        metrics = {**_group_metrics(plan), **self._token_metrics(tally, plan, norms, learning_rate)}
        self.objective.observe(metrics)
        return metrics

    @property
    def _looks_ahead(self) -> bool:
        """Whether all rows are forwarded before the first update: several updates, or a component that asks."""
        return self.config.minibatches * self.config.epochs > 1 or bool({"old_logp", "step_entropy"} & self.objective.needs)

    def _update(self, rows: Sequence[Row], ahead: Ahead, learning_rate: float, tally: Tally) -> float:
        """One optimizer update on these rows; returns the gradient norm before clipping."""
        self.optimizer.zero_grad(set_to_none=True)
        before = tally.sum("tokens")
        for batch in micro_batches(rows, self.config.micro_tokens, whole=self.objective.whole_groups):
            self._accumulate(batch, ahead, tally)
        if tally.sum("tokens") == before:
            raise SynthError(f"step {self.step_count}: no row of this update has finite log-probs; the weights are broken (lower the learning rate)")
        norm = torch.nn.utils.clip_grad_norm_([p for _, p in self.parameters], self.config.max_grad_norm)
        if not math.isfinite(tally.sum("loss")) or not torch.isfinite(norm):
            self.optimizer.zero_grad(set_to_none=True)
            raise SynthError(
                f"step {self.step_count}: the loss is {tally.sum('loss'):.4g} and the gradient norm {float(norm):.4g}; training has diverged"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(norm)

    def _accumulate(self, batch: Sequence[Family], ahead: Ahead, tally: Tally) -> None:
        """Forward, loss and backward of one micro-batch."""
        layout, logp, entropy = self._forward(batch, tally)
        if layout is None:
            return
        tally.add("forwarded", len(layout.tokens))
        self.objective.loss(self._tokens(layout, logp, entropy, ahead), tally).backward()  # type: ignore[no-untyped-call]

    def _tokens(self, layout: Layout, logp: Tensor, entropy: Tensor, ahead: Ahead) -> TokenBatch:
        rows = layout.rows
        lengths = torch.tensor([len(r.targets) for r in rows])
        behavior = torch.from_numpy(np.concatenate([r.behavior for r in rows]))
        old = torch.cat([ahead[r.index][0] for r in rows]) if ahead else logp.detach()
        if any(r.stale for r in rows):
            old = torch.where(torch.tensor([r.stale for r in rows]).repeat_interleave(lengths), behavior, old)
        return TokenBatch(
            logp=logp,
            old_logp=old,
            behavior_logp=behavior,
            advantage=_flat([r.per_token(r.advantage) for r in rows]),
            weight=torch.tensor([r.weight for r in rows]).repeat_interleave(lengths),
            lengths=lengths,
            entropy=entropy if "entropy_grad" in self.objective.needs else entropy.detach(),
            ref_logp=self._reference_logprobs(layout) if "ref_logp" in self.objective.needs else None,
            factor=_flat([r.per_token(r.factor) for r in rows]) if any(r.factor is not None for r in rows) else None,
            rewards=torch.tensor([r.reward for r in rows]),
            aux={name: torch.tensor([r.aux[name] for r in rows]).repeat_interleave(lengths) for name in rows[0].aux},
        )

    def _forward(self, batch: Sequence[Family], tally: Tally) -> tuple[Layout | None, Tensor, Tensor]:
        """Log-probs of a micro-batch; rows that give a non-finite one are counted and the rest is forwarded again.

        Masking them would not do: 0 x nan in backward would reach the weights.
        """
        while batch:
            layout = lay_out(batch, self.policy.window)
            logp, entropy = self.policy.logprobs(layout)
            bad = set(layout.row[~torch.isfinite(logp.detach())].tolist())
            if not bad:
                return layout, logp, entropy
            tally.add("rows_dropped", len(bad))
            kept = [(tuple(r for r in f.rows if r.index not in bad), f.prefix) for f in batch]
            batch = [Family(rows, prefix) for rows, prefix in kept if rows]
        return None, torch.empty(0), torch.empty(0)

    @torch.no_grad()
    def _ahead(self, rows: Sequence[Row]) -> dict[int, tuple[Tensor, Tensor]]:
        """Row index -> (log-probs, entropies) under the weights at the start of the step."""
        out: dict[int, tuple[Tensor, Tensor]] = {}
        for batch in micro_batches(rows, self.config.micro_tokens):
            layout = lay_out(batch, self.policy.window)
            lengths = [len(r.targets) for r in layout.rows]
            logp, entropy = (x.split(lengths) for x in self.policy.logprobs(layout))
            out.update({r.index: (a, b) for r, a, b in zip(layout.rows, logp, entropy, strict=True)})
        return out

    @torch.no_grad()
    def _reference_logprobs(self, layout: Layout) -> Tensor:
        if self._reference is None:
            self._reference = Policy(Path(self.reference_path))
            found = weights_hash(self._reference.tensors())
            if self.reference_hash not in ("", found):
                raise SynthError(f"the KL reference in {self.reference_path} has changed since this training began; restore it or start anew")
            self.reference_hash = found
        return self._reference.logprobs(layout)[0]

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

    # ---------------------------------------------------------------------------------------------- checkpoint
    def weights_hash(self) -> str:
        """32 hex digits over all weights; equal hashes = equal bits."""
        return weights_hash(self.policy.tensors())

    def save(self, folder: Path, *, extra: Mapping[str, Any] | None = None) -> str:
        """Writes a durable checkpoint, loadable by transformers and by `resume`; returns the weights' hash. `extra` is JSON-able."""
        digest = self.weights_hash()
        state = {
            "step": self.step_count,
            "updates": self.update_count,
            "weights_hash": digest,
            "reference": self.reference_path,
            "reference_hash": self.reference_hash,
            "config": self.config.as_dict(),
            "objective": self.objective.state_dict(),
            "extra": dict(extra or {}),
        }

        def write(part: Path) -> None:
            self.policy.save(part)
            write_state(part, self._optimizer_tensors(), state)

        write_folder(Path(folder), write)
        return digest

    def _optimizer_tensors(self) -> dict[str, Tensor]:
        out: dict[str, Tensor] = {}
        for name, parameter in self.parameters:
            for key, value in self.optimizer.state.get(parameter, {}).items():
                out[f"{key}.{name}"] = value.detach()
        return out

    @classmethod
    def resume(cls, folder: Path, config: GRPOConfig) -> GRPOTrainer:
        """The trainer exactly as it was when it saved `folder`; what was passed as `extra` is in `.extra`."""
        optimizer, state = read_state(Path(folder))
        trainer = cls(Path(folder), config)
        if trainer.weights_hash() != state["weights_hash"]:
            raise SynthError(f"the checkpoint {folder} is damaged: its weights do not have the hash that state.json names")
        for name, parameter in trainer.parameters:
            mine = {key: optimizer[f"{key}.{name}"].clone() for key in ("step", *MOMENTS) if f"{key}.{name}" in optimizer}
            if mine:
                trainer.optimizer.state[parameter] = mine
        trainer.step_count, trainer.update_count = state["step"], state["updates"]
        if config.reference in ("", state["reference"]):
            trainer.reference_path, trainer.reference_hash = state["reference"], state["reference_hash"]
        trainer.objective.load_state_dict(state["objective"])
        trainer.extra = state["extra"]
        return trainer


def _flat(parts: Sequence[NDArray[np.float64]]) -> Tensor:
    return torch.from_numpy(np.concatenate(parts)).float()


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
