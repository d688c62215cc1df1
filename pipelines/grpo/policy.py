"""The policy: a transformers folder, and its log-probs on flat packed rows.

Any decoder whose attention goes through transformers' attention interface works (Qwen3, Llama, Mistral, …): the layout is
handed down to `packed_attention`, everything else in the model sees one flat sequence. At load a probe compares the
packed forward with the model's own plain one, so that an architecture for which this is not true is refused, not mistrained.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import logging as transformers_logging

from data.errors import UserError
from pipelines.grpo.adapters import inject_adapters, merged_weights, switch_adapters
from pipelines.grpo.logprob import logprob_entropy
from pipelines.grpo.packing import Layout, Row, lay_out, micro_batches
from pipelines.grpo.ranks import Ranks
from pipelines.grpo.sharding import shard, whole

ATTENTION = "synth_packed"
ADAPTERS = "adapters.safetensors"
SCALED_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")  # heads that are more than a matrix


def packed_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, *, scaling: float, layout: Layout, **kwargs: Any
) -> tuple[Tensor, None]:
    """Attention over a flat layout. query [1, H, N, D], key and value [1, Hk, N, D] -> [1, N, H, D]."""
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))  # [N, heads, D]
    out = []
    grouped = q.shape[1] != k.shape[1]
    for bucket in layout.buckets:
        keys, values = k[bucket.keys], v[bucket.keys]
        if grouped and bucket.mask is not None and q.is_cuda:  # with a mask only the plain kernel knows grouped heads, and it holds all scores
            keys, values = (x.repeat_interleave(q.shape[1] // k.shape[1], 2) for x in (keys, values))
        part = F.scaled_dot_product_attention(
            q[bucket.queries].transpose(1, 2),
            keys.transpose(1, 2),
            values.transpose(1, 2),
            attn_mask=bucket.mask,
            is_causal=bucket.mask is None,
            scale=scaling,
            enable_gqa=keys.shape[2] != q.shape[1],
        )
        out.append(part.transpose(1, 2).reshape(-1, q.shape[1], q.shape[2]))
    return torch.cat(out)[layout.restore][None], None


ALL_ATTENTION_FUNCTIONS.register(ATTENTION, packed_attention)
transformers_logging.disable_progress_bar()  # every checkpoint would draw one through ours


@dataclass(frozen=True)
class PolicySettings:
    """How the weights are held and forwarded.

    `precision` "bf16": matrix products in bfloat16, weights, optimizer and log-probs in float32. `gradient_checkpointing`: activations are
    recomputed layer by layer. `lora_rank` above 0: only low-rank adapters of `lora_targets` ("all-linear" or module names, comma
    separated) train, scaled by `lora_alpha` / rank (0 = 2 x rank), drawn from `seed`; the frozen base is the reference.
    """

    precision: str = "fp32"
    gradient_checkpointing: bool = False
    lora_rank: int = 0
    lora_alpha: float = 0.0
    lora_targets: str = "all-linear"
    seed: int = 0


class _Packed(nn.Module):
    """The model as one module from a layout to its trained tokens' log-probs and entropies, head included: what FSDP2 wraps."""

    def __init__(self, model: nn.Module, autocast: bool) -> None:
        super().__init__()
        self.model, self.autocast = model, autocast

    def forward(self, layout: Layout, temperature: Tensor | float) -> tuple[Tensor, Tensor]:
        model: Any = self.model
        device = model.get_input_embeddings().weight.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.autocast):
            out = model.base_model(input_ids=layout.tokens[None], position_ids=layout.positions[None], use_cache=False, layout=layout)
        hidden = out.last_hidden_state[0][layout.source]
        if self.autocast:
            hidden = hidden.to(torch.bfloat16)
        return logprob_entropy(hidden, model.get_output_embeddings().weight, layout.targets, temperature)


class Policy:
    """A causal language model, its forward on packed rows, and its named weights; sharded over `ranks` by FSDP2 where they are several."""

    def __init__(self, path: Path, settings: PolicySettings = PolicySettings(), ranks: Ranks | None = None) -> None:
        self.path, self.settings, self.ranks = Path(path), settings, ranks or Ranks()
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
        self.packed: nn.Module = _Packed(self.model, autocast=False)
        self._probe()
        self._prepare()

    def _prepare(self) -> None:
        """Adapters, checkpointing, precision, sharding: after the probe, which compares plain with packed in float32."""
        settings = self.settings
        if settings.lora_rank:
            inject_adapters(self.model, settings)
        if settings.gradient_checkpointing:
            enable = getattr(self.model, "activation_checkpointing_enable", None) or self.model.gradient_checkpointing_enable  # renamed in 5.24
            enable({"use_reentrant": False})
            self.model.train()  # it is off in eval mode; dropout stays off
            for module in self.model.modules():
                if isinstance(module, nn.Dropout):
                    module.p = 0.0
        half = settings.precision == "bf16"
        self.packed = _Packed(self.model, autocast=half and self.ranks.size == 1)
        self.model.to(self.ranks.device)
        if self.ranks.size > 1:
            shard(self.packed, self.model, half)

    def _slides(self) -> bool:
        kinds = set(getattr(self.config, "layer_types", None) or [])
        if len(kinds) > 1:
            raise UserError(f"{self.path}: layers of {', '.join(sorted(kinds))} are mixed, which this trainer does not know")
        return kinds == {"sliding_attention"} or (not kinds and bool(getattr(self.config, "sliding_window", None)))

    def parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Trainable parameters by name, tied ones once, in a fixed order."""
        return [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]

    def tensors(self) -> dict[str, Tensor]:
        """What training changes, by name, tied ones once, whole on every rank: all weights, or the adapters where there are some."""
        return {n: whole(t) for n, t in self.parts().items()}

    def parts(self) -> dict[str, Tensor]:
        """The same as each rank holds it: its shards."""
        named = self.parameters() if self.settings.lora_rank else list(self.model.named_parameters())
        return {n: p.detach() for n, p in named}

    def weights(self) -> dict[str, Tensor]:
        """All weights under their transformers names, adapters merged in, whole on every rank: what an engine loads."""
        return merged_weights(self.model) if self.settings.lora_rank else self.tensors()

    def logprobs(self, layout: Layout) -> tuple[Tensor, Tensor]:
        """(log-prob float32[M], entropy float32[M]) of a layout's trained tokens, each at its row's temperature."""
        each = np.array([r.temperature for r in layout.rows], np.float32)
        temperature: Tensor | float = float(each[0])
        if (each != each[0]).any():
            temperature = torch.from_numpy(np.repeat(each, [len(r.targets) for r in layout.rows])).to(self.ranks.device)
        logp, entropy = self.packed(layout.to(self.ranks.device), temperature)
        return logp, entropy

    def save(self, folder: Path) -> None:
        """Weights (adapters merged), config and tokenizer files into an existing folder, loadable by transformers and the engines.

        Adapters lie beside them, so that training goes on from what it really had. Only the first rank writes.
        """
        weights: dict[str, Tensor] = {}
        adapters: dict[str, Tensor] = {}
        if self.settings.lora_rank:  # on all ranks, before one goes its own way
            weights, adapters = self.weights(), self.tensors()
        elif self.ranks.size > 1:
            for name, part in self.parts().items():  # one at a time: no GPU ever holds the whole model, and only the first rank's memory does
                tensor = whole(part)
                if self.ranks.first:
                    weights[name] = tensor.cpu()
        if not self.ranks.first:
            return
        for name, content in self.companions.items():
            (folder / name).write_bytes(content)
        if self.settings.lora_rank or self.ranks.size > 1:
            self.model.config.save_pretrained(folder)
            self.model.generation_config.save_pretrained(folder)
            save_file({k: v.contiguous().cpu() for k, v in weights.items()}, folder / "model.safetensors", metadata={"format": "pt"})
            if adapters:
                save_file({k: v.contiguous().cpu() for k, v in adapters.items()}, folder / ADAPTERS)
        else:
            self.model.save_pretrained(folder)

    @torch.no_grad()
    def load_adapters(self, folder: Path) -> None:
        """Adapters that `save` wrote."""
        own = dict(self.parameters())
        for name, tensor in load_file(folder / ADAPTERS).items():
            if name not in own or own[name].shape != tensor.shape:
                raise UserError(f"{folder}/{ADAPTERS} holds {name} {tuple(tensor.shape)}, which these lora_* settings do not make")
            own[name].copy_(tensor)

    @contextmanager
    def as_base(self) -> Iterator[None]:
        """The frozen base speaks: adapters are off inside."""
        switch_adapters(self.model, False)
        try:
            yield
        finally:
            switch_adapters(self.model, True)

    @torch.no_grad()
    def _probe(self) -> None:
        """Packed equals plain on two short rows that share a prefix, or the architecture is refused."""
        rng = np.random.default_rng(0)
        ids = rng.integers(0, min(self.config.get_text_config().vocab_size, self.model.get_output_embeddings().weight.shape[0]), (2, 7))
        ids[1, :3] = ids[0, :3]
        trained = np.arange(3, 7)
        rows = [Row(i, (0, ""), ids[i, :6], trained, ids[i, 3:], np.zeros(4, np.float32), 0.0, 0.0, 1.0) for i in range(2)]
        layout = lay_out(micro_batches(rows, 1 << 20)[0], self.window)
        try:
            packed = self.packed(layout, 1.0)[0].view(2, 4)
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
