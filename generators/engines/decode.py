"""The decode loop: prompts prefilled once per group, a preallocated KV cache, finished rows dropped.

The forward pass is re-implemented for Qwen3, Qwen2 and Llama-shaped folders (pre-norm, rotary, grouped-query
attention, SwiGLU) with fused QKV and gate-up projections; RMSNorm gains and the attention scale are folded into
the matrices beside them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from data.errors import UserError
from data.keyed import uniforms
from generators.engines.sampling import DrawRule, draw
from generators.engines.shared_prefix import SharedPrefixCache

PREFILL_TOKENS = 8192  # prompt tokens forwarded at a time
DROP_SHARE = 8  # the caches are compacted once 1/8 of their rows are finished: a copy costs about half a decode step

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
Stopped = Callable[[NDArray[np.int64], NDArray[np.int32]], NDArray[np.bool_]]
"""(row numbers [k], their sampled tokens so far [k, t]) -> which of them just completed a stop string."""


class Cache(Protocol):
    """Keys and values of the rows that are still decoded."""

    def keep(self, rows: Tensor) -> None:
        """Keeps these rows (int64, ascending), drops the others."""
        ...


class Decoder(Protocol):
    """A causal language model as the loop sees it. ids int64, logits and hidden states float."""

    vocab: int
    context: int
    kv_bytes: int  # KV cache bytes per row and position
    dtype: torch.dtype

    def load(self, weights: dict[str, Tensor]) -> None: ...
    def start(self, prompts: Sequence[Sequence[int]], counts: Sequence[int], new: int) -> tuple[Any, Tensor]:
        """Prefills each prompt once for its `counts` rows, with room for `new` more tokens in each -> (cache, logits [rows, v])."""
        ...

    def step(self, cache: Any, tokens: Tensor) -> Tensor:
        """One token per row int64[rows] -> next logits [rows, v]."""
        ...

    def hidden(self, ids: Tensor) -> Tensor:
        """Right-padded ids [b, t] -> last hidden states after the final norm [b, t, h]; a pad is never seen by what lies before it."""
        ...

    def head(self, hidden: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Sampled:
    """What the loop drew, by row: tokens int32[n][·], logp float32[n][·], the reason it ended, milliseconds since the start."""

    tokens: list[NDArray[np.int32]]
    logp: list[NDArray[np.float32]]
    finish: list[str]
    ms: list[float]


@dataclass(frozen=True)
class Layer:
    """One block's fused weights. qkv [(H + 2K)·d, h] and gate_up [2i, h] carry the gain of the norm before them; q_gain, k_gain [d] (Qwen3 only).

    Queries come out of them scaled by 1/sqrt(d).
    """

    qkv: Tensor
    qkv_bias: Tensor | None
    q_gain: Tensor | None
    k_gain: Tensor | None
    out: Tensor
    out_bias: Tensor | None
    gate_up: Tensor
    down: Tensor


def fusible(config: Any) -> bool:
    """Whether `FusedDecoder` computes this architecture; anything else takes the plain transformers path."""
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    return (
        config.model_type in ("qwen3", "qwen2", "llama")
        and getattr(config, "hidden_act", "") == "silu"
        and kinds == {"full_attention"}
        and rope.get("rope_type", "default") in ("default", "linear", "llama3")
        and not getattr(config, "mlp_bias", False)
        and getattr(config, "quantization_config", None) is None
    )


class FusedDecoder:
    """Qwen3, Qwen2 and Llama weights behind the `Decoder` protocol. Oracle in the tests: transformers' own forward."""

    def __init__(self, config: Any, weights: dict[str, Tensor], dtype: torch.dtype = torch.float32) -> None:
        self.config, self.dtype = config, dtype
        self.heads: int = config.num_attention_heads
        self.kv_heads: int = config.num_key_value_heads
        self.head_dim: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.eps: float = config.rms_norm_eps
        self.vocab: int = config.vocab_size
        self.context: int = config.max_position_embeddings
        self.kv_bytes = 2 * config.num_hidden_layers * self.kv_heads * self.head_dim * dtype.itemsize
        self.inv_freq, self.rope_scale = _rope(config, self.head_dim)
        self.load(weights)

    def load(self, weights: dict[str, Tensor]) -> None:
        """Takes the weights by their transformers names and fuses copies of them."""

        def get(name: str) -> Tensor:
            if name not in weights:
                raise UserError(f"the policy's weights have no '{name}', which a {self.config.model_type} model needs")
            return weights[name].to(self.dtype)

        def maybe(*names: str) -> Tensor | None:
            return torch.cat([get(n) for n in names]) if names[0] in weights else None

        self.embedding = get("model.embed_tokens.weight").clone()
        expected = (self.vocab, self.config.hidden_size)
        if tuple(self.embedding.shape) != expected:
            raise UserError(f"the policy's embedding has shape {tuple(self.embedding.shape)}, its config says {expected}")
        self.gain = get("model.norm.weight").clone()
        tied = self.config.tie_word_embeddings or "lm_head.weight" not in weights
        self.lm_head = self.embedding if tied else get("lm_head.weight").clone()
        scale = self.head_dim**-0.5  # on the queries, once and for all
        self.layers: list[Layer] = []
        for i in range(self.config.num_hidden_layers):
            at, mlp = f"model.layers.{i}.self_attn.", f"model.layers.{i}.mlp."
            gain = maybe(at + "q_norm.weight")
            qkv, bias = torch.cat([get(at + p + "_proj.weight") for p in "qkv"]), maybe(*(at + p + "_proj.bias" for p in "qkv"))
            if gain is None:
                for w in (qkv, bias):
                    if w is not None:
                        w[: self.heads * self.head_dim] *= scale
            before, after = get(f"model.layers.{i}.input_layernorm.weight"), get(f"model.layers.{i}.post_attention_layernorm.weight")
            self.layers.append(Layer(
                qkv=qkv * before,
                qkv_bias=bias,
                q_gain=None if gain is None else gain * scale,
                k_gain=maybe(at + "k_norm.weight"),
                out=get(at + "o_proj.weight").clone(),
                out_bias=maybe(at + "o_proj.bias"),
                gate_up=torch.cat([get(mlp + "gate_proj.weight"), get(mlp + "up_proj.weight")]) * after,
                down=get(mlp + "down_proj.weight").clone(),
            ))

    def start(self, prompts: Sequence[Sequence[int]], counts: Sequence[int], new: int) -> tuple[SharedPrefixCache, Tensor]:
        lengths = [len(p) for p in prompts]
        cache = SharedPrefixCache(len(self.layers), self.kv_heads, lengths, counts, new, self._angles(torch.arange(max(lengths) + new)))
        logits = torch.empty(len(prompts), self.vocab, dtype=self.dtype)
        for a, b in _runs(lengths):

            def attend(i: int, q: Tensor, k: Tensor, v: Tensor, part: slice = slice(a, b)) -> Tensor:
                cache.write_prompts(i, part, k.transpose(1, 2), v.transpose(1, 2))
                return self._causal(q, k, v)

            ids = torch.tensor([list(p) for p in prompts[a:b]])
            cos, sin = (table[: lengths[a], None] for table in cache.angles)
            logits[a:b] = self.head(self._norm(self._blocks(F.embedding(ids, self.embedding), cos, sin, attend)[:, -1], self.gain))
        return cache, logits[cache.owner]

    def step(self, cache: SharedPrefixCache, tokens: Tensor) -> Tensor:
        cos, sin = (table[:, None, None] for table in cache.rotation())

        def attend(i: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return cache.attend(i, q[:, 0], k[:, 0], v[:, 0])[:, None]

        x = self._blocks(F.embedding(tokens[:, None], self.embedding), cos, sin, attend)
        cache.advance()
        return self.head(self._norm(x[:, 0], self.gain))

    def hidden(self, ids: Tensor) -> Tensor:
        cos, sin = self._angles(torch.arange(ids.shape[1]))
        x = self._blocks(F.embedding(ids, self.embedding), cos[:, None], sin[:, None], lambda i, q, k, v: self._causal(q, k, v))
        return self._norm(x, self.gain)

    def head(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.lm_head)

    def _blocks(self, x: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        """x [b, n, h]; cos and sin broadcast over [b, n, heads, d]; `attend` takes q [b, n, H, d] and k, v [b, n, K, d] -> [b, n, H·d]."""
        b, n, _ = x.shape
        sizes = [self.heads, self.kv_heads, self.kv_heads]
        for i, w in enumerate(self.layers):
            q, k, v = F.linear(self._norm(x), w.qkv, w.qkv_bias).view(b, n, sum(sizes), self.head_dim).split(sizes, 2)
            if w.q_gain is not None and w.k_gain is not None:
                q, k = self._norm(q, w.q_gain), self._norm(k, w.k_gain)
            x = x + F.linear(attend(i, _rotate(q, cos, sin), _rotate(k, cos, sin), v), w.out, w.out_bias)
            gate, up = F.linear(self._norm(x), w.gate_up).chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, w.down)
        return x

    def _causal(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        repeat = self.heads // self.kv_heads
        q, k, v = q.transpose(1, 2), k.transpose(1, 2).repeat_interleave(repeat, 1), v.transpose(1, 2).repeat_interleave(repeat, 1)
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0).transpose(1, 2).flatten(2)

    def _norm(self, x: Tensor, gain: Tensor | None = None) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), gain, self.eps)

    def _angles(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        angle = torch.outer(positions.float(), self.inv_freq).repeat(1, 2)
        return (angle.cos() * self.rope_scale).to(self.dtype), (angle.sin() * self.rope_scale).to(self.dtype)


def _rope(config: Any, head_dim: int) -> tuple[Tensor, float]:
    """Inverse frequencies float32[d/2] and the factor on cos and sin, by transformers' own formulas where they are scaled."""
    rope = getattr(config, "rope_parameters", None) or {}
    kind = rope.get("rope_type", "default")
    if kind == "default":
        return 1.0 / rope.get("rope_theta", 10000.0) ** (torch.arange(0, head_dim, 2, dtype=torch.float) / head_dim), 1.0
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    frequencies, scale = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"))
    return frequencies, float(scale)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


def _runs(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """[start, end) of neighbours with one length, at most `PREFILL_TOKENS` tokens each: prefilled together without padding or mask."""
    runs, a = [], 0
    for b in range(1, len(lengths) + 1):
        if b == len(lengths) or lengths[b] != lengths[a] or (b - a + 1) * lengths[a] > PREFILL_TOKENS:
            runs.append((a, b))
            a = b
    return runs


@torch.inference_mode()
def decode(
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    counts: Sequence[int],
    rule: DrawRule,
    seeds: NDArray[np.uint64],
    limits: NDArray[np.int64],
    eos: Sequence[int],
    stopped: Stopped | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Sampled:
    """Samples `counts[g]` rows from each prompt until end-of-text, a stop string or the row's limit.

    seeds, limits: by row. `on_step(rows done, tokens)` is told of progress.
    Which rows are dropped when depends on what was sampled only, so equal batches give equal bits.
    """
    begun = time.perf_counter()
    rows, longest = len(seeds), int(limits.max())
    tokens, logps = np.zeros((rows, longest), np.int32), np.zeros((rows, longest), np.float32)
    lengths, finish, ms = np.zeros(rows, np.int64), ["length"] * rows, [0.0] * rows
    ending = np.zeros(decoder.vocab, bool)
    ending[[e for e in eos if e < decoder.vocab]] = True
    live, active = np.arange(rows), np.ones(rows, bool)
    cache, logits = decoder.start(prompts, counts, longest - 1)
    for t in range(longest):
        drawn, logp = draw(logits, torch.from_numpy(uniforms(seeds[live], t)), rule)
        token = drawn.numpy()
        tokens[live, t], logps[live, t] = token, logp.numpy()  # past its end a row's entries are never read
        ended = active & ending[token]
        if stopped is not None:
            running = np.flatnonzero(active & ~ended)
            ended[running] = stopped(live[running], tokens[live[running], : t + 1])
        done = active & (ended | (t + 1 >= limits[live]))
        if done.any():
            now = (time.perf_counter() - begun) * 1e3
            for j in np.flatnonzero(done):
                lengths[live[j]], ms[live[j]] = t + 1, now
                if ended[j]:
                    finish[live[j]] = "stop"
            active &= ~done
            if on_step is not None:
                on_step(rows - int(active.sum()), int(lengths.sum()))
            if not active.any():
                break
            if (len(active) - active.sum()) * DROP_SHARE >= len(active):
                kept = np.flatnonzero(active)
                cache.keep(torch.from_numpy(kept))
                drawn, rule, live, active = drawn[kept], rule.take(torch.from_numpy(kept)), live[kept], np.ones(len(kept), bool)
        logits = decoder.step(cache, drawn)
    return Sampled([tokens[r, :n].copy() for r, n in enumerate(lengths)], [logps[r, :n].copy() for r, n in enumerate(lengths)], finish, ms)
