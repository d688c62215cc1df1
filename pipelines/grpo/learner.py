"""The learner: rows with advantages in, one optimizer update out. Forward, loss, backward; micro-batch by micro-batch, rank by rank."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.errors import SynthError
from pipelines.grpo.checkpoint import weights_hash
from pipelines.grpo.config import GRPOConfig
from pipelines.grpo.objective import Objective, Tally
from pipelines.grpo.packing import Family, Layout, Row, lay_out, micro_batches
from pipelines.grpo.policy import Policy, PolicySettings
from pipelines.grpo.ranks import Ranks
from pipelines.grpo.sharding import whole
from pipelines.grpo.tokens import TokenBatch

Ahead = Mapping[int, tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Row index -> (log-probs, entropies) float32[tokens] under the weights at the start of the step."""

SUMS = ("tokens", "loss", "ratio", "clipped", "entropy", "kl", "mismatch", "mismatch_tokens", "forwarded", "rows_dropped")
MAXIMA = ("ratio", "mismatch")


class Learner:
    """Owns the policy's weights and the optimizer's state. All ranks call every method with the same rows and share out micro-batches."""

    def __init__(self, policy_path: Path, config: GRPOConfig, objective: Objective, ranks: Ranks) -> None:
        self.config, self.objective, self.ranks = config, objective, ranks
        self.cancelled = Event()
        self.settings = PolicySettings(
            config.precision, config.gradient_checkpointing, config.lora_rank, config.lora_alpha, config.lora_targets, config.seed
        )
        self.policy = Policy(policy_path, self.settings, ranks)
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

    # -------------------------------------------------------------------------------------------------------------- update
    def update(self, rows: Sequence[Row], ahead: Ahead, learning_rate: float, step: int, tally: Tally) -> float:
        """One optimizer update on these rows; returns the gradient norm before clipping.

        SynthError, weights untouched, where the loss or the gradient is not finite, or a limit that the config sets is passed.
        """
        self.optimizer.zero_grad(set_to_none=True)
        own = Tally()
        batches = micro_batches(rows, self.config.micro_tokens, whole=self.objective.whole_groups)
        for batch in self.ranks.share(batches):
            if self.cancelled.is_set():
                self.optimizer.zero_grad(set_to_none=True)
                raise SynthError(f"step {step} was cancelled; the weights are those of the step before")
            if batch is None:  # this rank has nothing left, but the others wait for it in every layer
                self._accumulate(_weightless(batches[-1]), ahead, Tally())
            else:
                self._accumulate(batch, ahead, own)
        self._join(own)
        tally.merge(own)
        if own.sum("tokens") == 0:
            raise SynthError(f"step {step}: no row of this update has finite log-probs; the weights are broken (lower the learning rate)")
        norm = float(whole(torch.nn.utils.clip_grad_norm_([p for _, p in self.parameters], self.config.max_grad_norm)))
        if reason := self._diverged(own, norm):
            self.optimizer.zero_grad(set_to_none=True)
            raise SynthError(f"step {step}: {reason}; training has diverged (the weights are those of the step before)")
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def _diverged(self, tally: Tally, norm: float) -> str:
        """Why this update must not be made; "" where it may."""
        config = self.config
        if not math.isfinite(tally.sum("loss")) or not math.isfinite(norm):
            return f"the loss is {tally.sum('loss'):.4g} and the gradient norm {norm:.4g}"
        if tally.mean("entropy") < config.stop_entropy:
            return f"the mean entropy is {tally.mean('entropy'):.4g}, below grpo.stop_entropy = {config.stop_entropy}"
        mismatch = tally.mean("mismatch", "mismatch_tokens")
        for name, value, limit in (
            ("KL", tally.mean("kl"), "kl"),
            ("log-prob gap to the sampler", mismatch, "mismatch"),
            ("gradient norm", norm, "grad_norm"),
        ):
            if 0 < getattr(config, f"stop_{limit}") < value:
                return f"the {name} is {value:.4g}, above grpo.stop_{limit} = {getattr(config, f'stop_{limit}')}"
        return ""

    def _join(self, tally: Tally) -> None:
        """The tally of all ranks together."""
        if self.ranks.size > 1:
            sums, maxima = self.ranks.sums([tally.sum(k) for k in SUMS], [tally.max(k) for k in MAXIMA])
            tally.sums, tally.maxima = dict(zip(SUMS, sums, strict=True)), dict(zip(MAXIMA, maxima, strict=True))

    def _accumulate(self, batch: Sequence[Family], ahead: Ahead, tally: Tally) -> None:
        """Forward, loss and backward of one micro-batch."""
        layout, logp, entropy = self._forward(batch, tally)
        if layout is None:
            return
        tally.add("forwarded", len(layout.tokens))
        loss = self.objective.loss(self._tokens(layout, logp, entropy, ahead), tally)
        (loss * self.ranks.size).backward()  # type: ignore[no-untyped-call]  # FSDP2 averages over ranks, our weights are of the whole step

    def _tokens(self, layout: Layout, logp: Tensor, entropy: Tensor, ahead: Ahead) -> TokenBatch:
        rows, device = layout.rows, logp.device
        lengths = torch.tensor([len(r.targets) for r in rows])

        def per_row(values: Sequence[float]) -> Tensor:
            return torch.tensor(values).repeat_interleave(lengths).to(device)

        def flat(parts: Sequence[NDArray[np.floating]]) -> Tensor:
            return torch.from_numpy(np.concatenate(parts).astype(np.float32, copy=False)).to(device)

        behavior = flat([r.behavior for r in rows])
        old = flat([ahead[r.index][0] for r in rows]) if ahead else logp.detach()
        if any(r.stale for r in rows):
            old = torch.where(torch.tensor([r.stale for r in rows]).repeat_interleave(lengths).to(device), behavior, old)
        return TokenBatch(
            logp=logp,
            old_logp=old,
            behavior_logp=behavior,
            advantage=flat([r.per_token(r.advantage) for r in rows]),
            weight=per_row([r.weight for r in rows]),
            lengths=lengths.to(device),
            entropy=entropy if "entropy_grad" in self.objective.needs else entropy.detach(),
            ref_logp=self._reference_logprobs(layout) if "ref_logp" in self.objective.needs else None,
            factor=flat([r.per_token(r.factor) for r in rows]) if any(r.factor is not None for r in rows) else None,
            rewards=torch.tensor([r.reward for r in rows], device=device),
            kl=per_row([r.kl for r in rows]) if any(r.kl != 1.0 for r in rows) else None,
            aux={name: per_row([r.aux[name] for r in rows]) for name in rows[0].aux},
        )

    # ------------------------------------------------------------------------------------------------------------- forward
    def _forward(self, batch: Sequence[Family], tally: Tally) -> tuple[Layout | None, Tensor, Tensor]:
        """Log-probs of a micro-batch; rows that give a non-finite one are counted and the rest is forwarded again (by all ranks together).

        Masking them would not do: 0 x nan in backward would reach the weights.
        """
        while batch or self.ranks.size > 1:
            layout = lay_out(batch or [_FILLER], self.policy.window)
            logp, entropy = self.policy.logprobs(layout)
            bad = set(layout.row[~torch.isfinite(logp.detach()).cpu()].tolist())
            if not self.ranks.any(bool(bad)):
                return layout, logp, entropy
            if not batch and bad:
                break
            tally.add("rows_dropped", len(bad))
            kept = [(tuple(r for r in f.rows if r.index not in bad), f.prefix) for f in batch]
            batch = [Family(rows, prefix) for rows, prefix in kept if rows]
        if self.ranks.size > 1:
            raise SynthError("not even a filler row has finite log-probs; the weights are broken (lower the learning rate)")
        return None, torch.empty(0), torch.empty(0)

    @torch.no_grad()
    def ahead(self, rows: Sequence[Row]) -> Ahead:
        """Log-probs and entropies of all rows under the weights as they are, on every rank."""
        place = {r.index: n for n, r in enumerate(rows)}
        ends = np.cumsum([len(r.targets) for r in rows])
        found = torch.zeros(2, int(ends[-1]) if len(ends) else 0)
        batches = micro_batches(rows, self.config.micro_tokens)
        for batch in self.ranks.share(batches):
            layout = lay_out(batch or batches[-1], self.policy.window)
            logp, entropy = (x.cpu().split([len(r.targets) for r in layout.rows]) for x in self.policy.logprobs(layout))
            for row, *values in zip(layout.rows, logp, entropy, strict=True):
                if batch is not None:
                    end = ends[place[row.index]]
                    found[:, end - len(row.targets) : end] = torch.stack(values)
        shared = self.ranks.added(found.to(self.ranks.device)).cpu().numpy()
        return {r.index: (shared[0, end - len(r.targets) : end], shared[1, end - len(r.targets) : end]) for r, end in zip(rows, ends, strict=True)}

    @torch.no_grad()
    def _reference_logprobs(self, layout: Layout) -> Tensor:
        if self.settings.lora_rank and not self.config.reference:
            with self.policy.as_base():
                return self.policy.logprobs(layout)[0]
        if self._reference is None:
            self._reference = Policy(Path(self.reference_path), replace(self.settings, lora_rank=0, gradient_checkpointing=False), self.ranks)
            found = weights_hash(self._reference.parts())
            if self.reference_hash not in ("", found):
                raise SynthError(f"the KL reference in {self.reference_path} has changed since this training began; restore it or start anew")
            self.reference_hash = found
        return self._reference.logprobs(layout)[0]

    # --------------------------------------------------------------------------------------------------------------- state
    def optimizer_tensors(self) -> dict[str, Tensor]:
        """Step and moments of every parameter that was ever updated, by `kind.name`; sharded as the parameters are."""
        out: dict[str, Tensor] = {}
        for name, parameter in self.parameters:
            for key, value in self.optimizer.state.get(parameter, {}).items():
                out[f"{key}.{name}"] = value.detach()
        return out

    def load_optimizer(self, tensors: Mapping[str, Tensor]) -> None:
        for name, parameter in self.parameters:
            mine = {key: tensors[f"{key}.{name}"].clone() for key in STATE_KEYS if f"{key}.{name}" in tensors}
            if mine:
                self.optimizer.state[parameter] = mine

    def empty_optimizer(self) -> None:
        """State of the right shapes and shards for shards to be read into."""
        for _, parameter in self.parameters:
            moments = {key: torch.zeros_like(parameter) for key in STATE_KEYS[1:]}
            self.optimizer.state[parameter] = {"step": torch.zeros((), dtype=torch.float32, device=self.ranks.device), **moments}


STATE_KEYS = ("step", "exp_avg", "exp_avg_sq")
_FILLER = Family((Row(-1, (-1, ""), np.zeros(1, np.int64), np.ones(1, np.int64), np.zeros(1, np.int64), np.zeros(1, np.float32), 0.0, 0.0, 1.0),), 0)


def _weightless(batch: Sequence[Family]) -> list[Family]:
    return [Family(tuple(replace(r, weight=0.0, aux=dict.fromkeys(r.aux, 0.0)) for r in f.rows), f.prefix) for f in batch]
