"""Any causal language model through transformers' own forward and DynamicCache: the slower path behind the `Decoder` protocol.

For architectures that `FusedDecoder` does not compute. Left padding, explicit positions and mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data.errors import UserError


@dataclass
class ForwardCache:
    """transformers' cache with the attention mask int64[rows, columns so far] that goes with it."""

    past: Any
    mask: Tensor

    def keep(self, rows: Tensor) -> None:
        at = rows.to(self.mask.device)
        self.past.batch_select_indices(at)
        self.mask = self.mask[at]


class CausalLM:
    """A transformers model in evaluation mode; prompts of unequal lengths are left-padded and masked."""

    def __init__(self, path: Path, config: Any, dtype: torch.dtype = torch.float32, device: str = "cpu") -> None:
        from transformers import AutoModelForCausalLM

        # Safetensors only and no remote code: nothing that a model folder holds is unpickled or executed.
        safe = {"local_files_only": True, "use_safetensors": True, "trust_remote_code": False}
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, **safe).eval().to(device)
        self.config, self.dtype, self.device = config, dtype, torch.device(device)
        self.vocab: int = self.model.get_output_embeddings().weight.shape[0]
        self.context: int = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None) or 2048
        heads = getattr(config, "num_attention_heads", 1)
        width = getattr(config, "head_dim", None) or config.hidden_size // heads
        self.kv_bytes: int = 2 * config.num_hidden_layers * (getattr(config, "num_key_value_heads", None) or heads) * width * dtype.itemsize

    def load(self, weights: dict[str, Tensor]) -> None:
        missing, unexpected = self.model.load_state_dict(weights, strict=False)
        kept = {id(p) for n, p in self.model.named_parameters() if n in weights}
        # A tied matrix is stored once, under one of its names.
        lost = [n for n in missing if n in dict(self.model.named_parameters()) and id(self.model.get_parameter(n)) not in kept]
        if lost or unexpected:
            raise UserError(f"the new weights do not fit a {self.config.model_type} model: missing {lost[:3]}, unexpected {list(unexpected)[:3]}")

    def start(self, prompts: Sequence[Sequence[int]], counts: Sequence[int], new: int) -> tuple[ForwardCache, Tensor]:
        from transformers import DynamicCache

        widest = max(map(len, prompts))
        ids = torch.tensor([[0] * (widest - len(p)) + list(p) for p in prompts], device=self.device)
        mask = torch.tensor([[0] * (widest - len(p)) + [1] * len(p) for p in prompts], device=self.device)
        past = DynamicCache(config=self.model.config)
        logits = self._forward(ids, past, mask)
        owner = torch.arange(len(prompts)).repeat_interleave(torch.tensor(list(counts))).to(self.device)
        past.batch_select_indices(owner)
        return ForwardCache(past, mask[owner]), logits[owner]

    def step(self, cache: ForwardCache, tokens: Tensor) -> Tensor:
        cache.mask = torch.cat([cache.mask, cache.mask.new_ones(len(tokens), 1)], 1)
        return self._forward(tokens.to(self.device)[:, None], cache.past, cache.mask)

    def hidden(self, ids: Tensor) -> Tensor:
        out = self.model(input_ids=ids.to(self.device), use_cache=False, output_hidden_states=True, logits_to_keep=1)
        return out.hidden_states[-1]

    def head(self, hidden: Tensor) -> Tensor:
        return self.model.get_output_embeddings()(hidden)

    def _forward(self, ids: Tensor, past: Any, mask: Tensor) -> Tensor:
        # A finished row that is not dropped yet may run past the context: its position is held there, its numbers are not read.
        positions = (mask.cumsum(-1) - 1).clamp(0, self.context - 1)[:, -ids.shape[1] :]
        out = self.model(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=past, use_cache=True, logits_to_keep=1)
        return out.logits[:, -1]
