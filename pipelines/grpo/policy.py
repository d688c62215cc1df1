"""The policy: a transformers folder, and its log-probs on flat packed rows.

Any decoder whose attention goes through transformers' attention interface works (Qwen3, Llama, Mistral, …): the layout is
handed down to `packed_attention`, everything else in the model sees one flat sequence. At load a probe compares the
packed forward with the model's own plain one, so that an architecture for which this is not true is refused, not mistrained.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import logging as transformers_logging

from data.errors import UserError
from pipelines.grpo.logprob import logprob_entropy
from pipelines.grpo.packing import Layout, Row, lay_out, micro_batches

ATTENTION = "synth_packed"
SCALED_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")  # heads that are more than a matrix


def packed_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, *, scaling: float, layout: Layout, **kwargs: Any
) -> tuple[Tensor, None]:
    """Attention over a flat layout. query [1, H, N, D], key and value [1, Hk, N, D] -> [1, N, H, D]."""
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))  # [N, heads, D]
    out = []
    for bucket in layout.buckets:
        part = F.scaled_dot_product_attention(
            q[bucket.queries].transpose(1, 2),
            k[bucket.keys].transpose(1, 2),
            v[bucket.keys].transpose(1, 2),
            attn_mask=bucket.mask,
            is_causal=bucket.mask is None,
            scale=scaling,
            enable_gqa=q.shape[1] != k.shape[1],
        )
        out.append(part.transpose(1, 2).reshape(-1, q.shape[1], q.shape[2]))
    return torch.cat(out)[layout.restore][None], None


ALL_ATTENTION_FUNCTIONS.register(ATTENTION, packed_attention)
transformers_logging.disable_progress_bar()  # every checkpoint would draw one through ours


class Policy:
    """A causal language model in float32, its forward on packed rows, and its named weights."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        if not (self.path / "config.json").is_file():
            raise UserError(f"{self.path} is not a policy folder: it has no config.json (a Hugging Face model folder is needed)")
        try:
            config = AutoConfig.from_pretrained(self.path, local_files_only=True)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                self.path, config=config, dtype=torch.float32, attn_implementation=ATTENTION, local_files_only=True, output_loading_info=True
            )
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise UserError(f"{self.path} does not load as a causal language model: {error}") from error
        model, report = loaded
        if report["missing_keys"]:  # transformers would make them up
            raise UserError(f"{self.path} lacks weights of {type(model).__name__}: {', '.join(sorted(report['missing_keys'])[:3])}")
        self.model: Any = model.eval()  # no dropout: the sampler had none either
        for parameter in self.model.parameters():  # out of the mapped file: matrix kernels may round by how memory is aligned
            parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
        self.config: Any = model.config
        for name in SCALED_LOGITS:
            if getattr(self.config, name, None) not in (None, 0, 1, 1.0):
                raise UserError(f"{self.path}: the head of {type(model).__name__} applies {name}, which this trainer does not know")
        self.companions = _companions(self.path)
        self.window = int(getattr(self.config, "sliding_window", None) or 0) if self._slides() else 0
        self._probe()

    def _slides(self) -> bool:
        kinds = set(getattr(self.config, "layer_types", None) or [])
        if len(kinds) > 1:
            raise UserError(f"{self.path}: layers of {', '.join(sorted(kinds))} are mixed, which this trainer does not know")
        return kinds == {"sliding_attention"} or (not kinds and bool(getattr(self.config, "sliding_window", None)))

    @property
    def head(self) -> Tensor:
        """The language-model head [V, d] (the embedding itself where they are tied)."""
        return self.model.get_output_embeddings().weight

    def parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Trainable parameters by name, tied ones once, in a fixed order."""
        return [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]

    def tensors(self) -> dict[str, Tensor]:
        """All weights by name, tied ones once."""
        return {n: p.detach() for n, p in self.model.named_parameters()}

    def hidden(self, layout: Layout) -> Tensor:
        """Final hidden states float32[N, d] of a layout's flat tokens."""
        out = self.model.base_model(input_ids=layout.tokens[None], position_ids=layout.positions[None], use_cache=False, layout=layout)
        return out.last_hidden_state[0]

    def logprobs(self, layout: Layout) -> tuple[Tensor, Tensor]:
        """(log-prob float32[M], entropy float32[M]) of a layout's trained tokens, each at its row's temperature."""
        temperature = torch.from_numpy(np.repeat([np.float32(r.temperature) for r in layout.rows], [len(r.targets) for r in layout.rows]))
        return logprob_entropy(self.hidden(layout)[layout.source], self.head, layout.targets, temperature)

    def save(self, folder: Path) -> None:
        """Weights, config and tokenizer files into an existing folder, loadable by transformers and the engines."""
        for name, content in self.companions.items():
            (folder / name).write_bytes(content)
        self.model.save_pretrained(folder)

    @torch.no_grad()
    def _probe(self) -> None:
        """Packed equals plain on two short rows that share a prefix, or the architecture is refused."""
        rng = np.random.default_rng(0)
        ids = rng.integers(0, min(self.config.get_text_config().vocab_size, self.head.shape[0]), (2, 7))
        ids[1, :3] = ids[0, :3]
        trained = np.arange(3, 7)
        rows = [Row(i, (0, ""), ids[i, :6], trained, ids[i, 3:], np.zeros(4, np.float32), 0.0, 0.0, 1.0) for i in range(2)]
        layout = lay_out(micro_batches(rows, 1 << 20)[0], self.window)
        try:
            packed = self.logprobs(layout)[0].view(2, 4)
        except (TypeError, RuntimeError, AttributeError) as error:
            raise UserError(f"{self.path}: {type(self.model).__name__} cannot be trained packed: {error}") from error
        self.model.set_attn_implementation("sdpa")
        tokens = torch.from_numpy(ids)
        plain = self.model(input_ids=tokens[:, :-1], use_cache=False).logits.float().log_softmax(-1).gather(2, tokens[:, 1:, None])[..., 0][:, 2:]
        self.model.set_attn_implementation(ATTENTION)
        if not torch.allclose(packed, plain, atol=1e-3, rtol=1e-3, equal_nan=True):
            gap = (packed - plain).abs().max().item()
            raise UserError(
                f"{self.path}: {type(self.model).__name__} gives other log-probs packed than plain (by {gap:.2g} nats); it cannot be trained here"
            )


COMPANIONS = (
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "*.model",
    "chat_template*",
    "*processor_config.json",
)


def _companions(folder: Path) -> dict[str, bytes]:
    """Tokenizer, chat template and the like, kept in memory: the folder they came from may be swept before the next save.

    A model card stays behind: it describes the weights that training is about to change.
    """
    return {p.name: p.read_bytes() for pattern in COMPANIONS for p in sorted(folder.glob(pattern)) if p.is_file()}
