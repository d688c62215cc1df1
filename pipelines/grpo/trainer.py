"""The GRPO trainer: judged groups in, one optimizer step (or `minibatches` of them) out; a checkpoint is legal after every step.

Algorithm-blind: groups carry their stream, estimator and coefficient; the preset names the objective's parts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.errors import SynthError
from data.keyed import keyed_order
from data.records import Group
from pipelines.grpo.advantage import group_advantages
from pipelines.grpo.aggregation import row_weights
from pipelines.grpo.checkpoint import read_state, weights_hash, write_folder, write_state
from pipelines.grpo.config import GRPOConfig
from pipelines.grpo.objective import Tally, TokenBatch, objective
from pipelines.grpo.packing import Family, Layout, Row, lay_out, make_row, micro_batches
from pipelines.grpo.policy import Policy
from pipelines.grpo.recompose import shape_overlong

MOMENTS = ("exp_avg", "exp_avg_sq")


class GRPOTrainer:
    """Owns the policy's weights, the optimizer's state and the step counter; nothing else lives between two steps."""

    def __init__(self, policy_path: Path, config: GRPOConfig) -> None:
        self.config = config
        self.preset = config.objective()
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
    def step(self, groups: Sequence[Group], factors: Mapping[str, float] | None = None) -> dict[str, float]:
        """Learns from the judged groups of one step and returns its metrics.

        `factors` multiply the advantages of the groups they name. Rows are left out, and counted, where the reward is not
        finite, where nothing was sampled, where the verdict is unknown and nobody set a reward, and where the forward pass
        gives no finite log-prob. A step from which no gradient comes leaves the weights and the optimizer alone.
        Raises SynthError, weights untouched, where the loss or the gradient of a whole update is not finite.
        """
        if self.config.threads:
            torch.set_num_threads(self.config.threads)
        tally = Tally()
        learning_rate = self.config.learning_rate_at(self.step_count)
        shaped = shape_overlong(groups, self.preset.overlong_share)
        valid = [_valid_rows(g, bool(self.preset.tis_cap)) for g in shaped]
        advantages = group_advantages(shaped, self.preset.estimator, self.preset.estimator_options, factors or {}, valid)
        parts = self._minibatches(shaped, valid, advantages)
        old = self._old_logprobs([row for part in parts for row in part]) if len(parts) > 1 else {}
        norms = [self._update(part, old, learning_rate, tally) for part in parts if part]
        self.step_count += 1
        self.update_count += len(norms)
        return {**_group_metrics(groups, valid), **self._token_metrics(tally, valid, norms, learning_rate)}

    def _minibatches(self, groups: Sequence[Group], valid: Sequence[NDArray[np.bool_]], advantages: Sequence[NDArray[np.float64]]) -> list[list[Row]]:
        """Per optimizer update the rows that need a forward pass, their weights fixed over the whole update."""
        order = range(len(groups))
        parts: list[list[int]] = [list(order)]
        if self.config.minibatches > 1:
            by_id = {g.id: i for i, g in enumerate(groups)}
            shuffled = [by_id[i] for i in keyed_order(self.config.seed, list(by_id), "minibatches", self.step_count)]
            parts = [sorted(shuffled[n :: self.config.minibatches]) for n in range(self.config.minibatches)]
        first = np.concatenate([[0], np.cumsum([len(g.rollouts) for g in groups])])
        out: list[list[Row]] = []
        for part in parts:
            members = [(i, n) for i in part for n in range(len(groups[i].rollouts)) if valid[i][n]]
            rollouts = [groups[i].rollouts[n] for i, n in members]
            weights = row_weights(
                self.preset.aggregation,
                [t.response_length for t in rollouts],
                [groups[i].stream for i, _ in members],
                [groups[i].coef for i, _ in members],
                self.preset.const_length or max((t.sampling.max_tokens for t in rollouts), default=1),
                self.preset.denominator,
            )
            rows: list[Row] = []
            for (i, n), rollout, weight in zip(members, rollouts, weights, strict=True):
                if weight and (advantages[i][n] or self.preset.kl_coef):  # else its gradient is exactly 0: no forward
                    temperature = self.config.temperature or rollout.sampling.temperature or 1.0
                    rows.append(make_row(rollout, int(first[i]) + n, i, float(advantages[i][n]), float(weight), temperature))
            out.append(rows)
        return out

    def _update(self, rows: Sequence[Row], old: Mapping[int, Tensor], learning_rate: float, tally: Tally) -> float:
        """One optimizer update on these rows; returns the gradient norm before clipping."""
        self.optimizer.zero_grad(set_to_none=True)
        before = tally.sums.get("tokens", 0.0)
        for batch in micro_batches(rows, self.config.micro_tokens):
            self._accumulate(batch, old, tally)
        if tally.sums.get("tokens", 0.0) == before:
            raise SynthError(f"step {self.step_count}: no row of this update has finite log-probs; the weights are broken (lower the learning rate)")
        norm = torch.nn.utils.clip_grad_norm_([p for _, p in self.parameters], self.config.max_grad_norm)
        if not math.isfinite(tally.sums["loss"]) or not torch.isfinite(norm):
            self.optimizer.zero_grad(set_to_none=True)
            raise SynthError(
                f"step {self.step_count}: the loss is {tally.sums['loss']:.4g} and the gradient norm {float(norm):.4g}; training has diverged"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(norm)

    def _accumulate(self, batch: Sequence[Family], old: Mapping[int, Tensor], tally: Tally) -> None:
        """Forward, loss and backward of one micro-batch."""
        layout, logp, entropy = self._forward(batch, tally)
        if layout is None:
            return
        rows = layout.rows
        lengths = torch.tensor([len(r.targets) for r in rows])
        tokens = TokenBatch(
            logp=logp,
            old_logp=torch.cat([old[r.index] for r in rows]) if old else logp.detach(),
            behavior_logp=torch.from_numpy(np.concatenate([r.behavior for r in rows])),
            advantage=torch.tensor([r.advantage for r in rows]).repeat_interleave(lengths),
            weight=torch.tensor([r.weight for r in rows]).repeat_interleave(lengths),
            entropy=entropy,
            ref_logp=self._reference_logprobs(layout) if self.preset.kl_coef else None,
        )
        tally.add("forwarded", len(layout.tokens))
        objective(tokens, self.preset, tally).backward()  # type: ignore[no-untyped-call]

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
    def _old_logprobs(self, rows: Sequence[Row]) -> dict[int, Tensor]:
        """Row index -> log-probs under the weights at the start of the step."""
        out: dict[int, Tensor] = {}
        for batch in micro_batches(rows, self.config.micro_tokens):
            layout = lay_out(batch, self.policy.window)
            parts = self.policy.logprobs(layout)[0].split([len(r.targets) for r in layout.rows])
            out.update({r.index: part for r, part in zip(layout.rows, parts, strict=True)})
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

    def _token_metrics(self, tally: Tally, valid: Sequence[NDArray[np.bool_]], norms: Sequence[float], learning_rate: float) -> dict[str, float]:
        return {
            "step": float(self.step_count - 1),
            "updates": float(len(norms)),
            "loss": tally.sums.get("loss", 0.0),
            "entropy": tally.mean("entropy"),
            "kl": tally.mean("kl"),
            "clip_share": tally.mean("clipped"),
            "ratio_mean": tally.mean("ratio"),
            "ratio_max": tally.maxima.get("ratio", 0.0),
            "mismatch_mean": tally.mean("mismatch", "mismatch_tokens"),
            "mismatch_max": tally.maxima.get("mismatch", 0.0),
            "grad_norm": max(norms, default=0.0),
            "tokens": tally.sums.get("tokens", 0.0),
            "tokens_forwarded": tally.sums.get("forwarded", 0.0),
            "rows_dropped": float(sum((~v).sum() for v in valid)) + tally.sums.get("rows_dropped", 0.0),
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
        trainer.extra = state["extra"]
        return trainer


def _valid_rows(group: Group, needs_behavior: bool) -> NDArray[np.bool_]:
    """bool[n]: rows that take part, in the baseline as in the loss."""
    rewards = np.asarray(group.rewards)
    ok = np.isfinite(rewards) & np.array([t.response_length > 0 for t in group.rollouts], bool)
    ok &= np.array([v.outcome != "unknown" for v in group.verdicts], bool) | (rewards != 0)
    if needs_behavior:
        ok &= np.array([bool(np.isfinite(t.logp[t.loss_mask > 0]).all()) for t in group.rollouts], bool)
    return ok


def _group_metrics(groups: Sequence[Group], valid: Sequence[NDArray[np.bool_]]) -> dict[str, float]:
    rewards = np.concatenate([np.asarray(g.rewards, np.float64)[v] for g, v in zip(groups, valid, strict=True)] or [np.zeros(0)])
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
