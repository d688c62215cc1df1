"""Loaded by vLLM: a temperature that changes with the position in the answer, linear from T0 to T1 over the first N sampled tokens, then T1.

A request asks for it by `extra_args = {"anneal": [T0, T1, N]}` with temperature 1, and gets log-probs of what was sampled from where the server runs
with `--logprobs-mode processed_logprobs`. `AnnealedV1` is for the V1 model runner (a CPU's), `AnnealedV2` for the one that GPUs use by default.
"""

from __future__ import annotations

from typing import Any

import torch
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, MoveDirectionality
from vllm.v1.worker.gpu.sample.logits_processor.interface import LogitsProcessor as LogitsProcessorV2


def schedule(params: SamplingParams) -> tuple[float, float, int] | None:
    """(T0, T1, N), None where the request asks for none. ValueError for anything else."""
    given = (params.extra_args or {}).get("anneal")
    if given is None:
        return None
    try:
        first, last, steps = float(given[0]), float(given[1]), int(given[2])
        right = len(given) == 3 and 0 < first < float("inf") and 0 < last < float("inf") and steps >= 1
    except (TypeError, ValueError, IndexError, OverflowError):
        right = False
    if not right:
        raise ValueError(f"anneal must be [T0 > 0, T1 > 0, steps >= 1], got {given!r}")
    return first, last, steps


class AnnealedV1(LogitsProcessor):
    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        self.rows: dict[int, tuple[float, float, int, list[int]]] = {}

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        schedule(sampling_params)

    def is_argmax_invariant(self) -> bool:
        return True

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        if not batch_update:
            return
        for row in batch_update.removed:
            self.rows.pop(row, None)
        for row, params, _, sampled in batch_update.added:
            self.rows.pop(row, None)
            if (wanted := schedule(params)) is not None:
                self.rows[row] = (*wanted, sampled)
        for a, b, direction in batch_update.moved:
            moved, other = self.rows.pop(a, None), self.rows.pop(b, None)
            if moved is not None:
                self.rows[b] = moved
            if direction == MoveDirectionality.SWAP and other is not None:
                self.rows[a] = other

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        if self.rows:
            temperature = torch.ones(logits.shape[0], 1)
            for row, (first, last, steps, sampled) in self.rows.items():
                temperature[row, 0] = first + (last - first) * min(len(sampled), steps) / steps
            logits.div_(temperature.to(logits.device))
        return logits


class AnnealedV2(LogitsProcessorV2):
    """State by request slot: float[slots, 3] of T0, T1, N; (1, 1, 1) where a request asks for nothing."""

    def __init__(self, vllm_config: Any, req_states: Any) -> None:
        self.states = req_states
        self.table = torch.ones(req_states.max_num_reqs, 3, device=req_states.device)

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        schedule(sampling_params)

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        wanted = schedule(sampling_params)
        self.table[req_idx] = torch.tensor(wanted or (1.0, 1.0, 1.0), device=self.table.device)
        return wanted is not None

    def apply(self, logits: torch.Tensor, ctx: Any) -> torch.Tensor:
        slots = ctx.expanded_idx_mapping.long()
        first, last, steps = self.table[slots].unbind(-1)
        # The row at position p predicts token p + 1: so many tokens of the answer are there already.
        sampled = (ctx.pos + 1 - self.states.prompt_len.gpu[slots]).clamp_min(0)
        return logits.div_((first + (last - first) * torch.minimum(sampled / steps, torch.ones_like(first)))[:, None])
