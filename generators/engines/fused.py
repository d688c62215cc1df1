"""The forward pass of Qwen3, Qwen2 and Llama-shaped folders, re-implemented for decoding (pre-norm, rotary, grouped-query attention, SwiGLU).

QKV and gate-up projections are fused; RMSNorm gains and the attention scale are folded into the matrices beside them; queries and keys are
normed and rotated together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from data.errors import UserError
from generators.engines.shared_prefix import SharedPrefixCache, Trunk, find_trunks

PREFILL_TOKENS = 8192  # prompt tokens forwarded at a time
PREFILL_SPAN = 2 * PREFILL_TOKENS  # and tokens that they attend to, trunks counted once per prompt

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
Write = Callable[[int, Tensor, Tensor], None]
"""(layer, keys, values [b, K, n, d]) of a prefill, to be kept."""


@dataclass(frozen=True)
class Layer:
    """One block's fused weights. qkv [(H + 2K)·d, h] and gate_up [2i, h] carry the gain of the norm before them; qk_gain [H + K, d] (Qwen3 only).

    Queries come out of them scaled by 1/sqrt(d).
    """

    qkv: Tensor
    qkv_bias: Tensor | None
    qk_gain: Tensor | None
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

    def __init__(self, config: Any, weights: dict[str, Tensor], dtype: torch.dtype = torch.float32, device: str = "cpu") -> None:
        self.config, self.dtype, self.device = config, dtype, torch.device(device)
        self.heads: int = config.num_attention_heads
        self.kv_heads: int = config.num_key_value_heads
        self.head_dim: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.eps: float = config.rms_norm_eps
        self.vocab: int = config.vocab_size
        self.context: int = config.max_position_embeddings
        self.kv_bytes = 2 * config.num_hidden_layers * self.kv_heads * self.head_dim * dtype.itemsize
        inv_freq, self.rope_scale = _rope(config, self.head_dim)
        self.inv_freq = inv_freq.to(self.device)
        self.load(weights)

    def load(self, weights: dict[str, Tensor]) -> None:
        """Takes the weights by their transformers names and fuses copies of them."""

        def get(name: str) -> Tensor:
            if name not in weights:
                raise UserError(f"the policy's weights have no '{name}', which a {self.config.model_type} model needs")
            return weights[name].to(self.device, self.dtype)

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
                qk_gain=None if gain is None else torch.stack([gain * scale] * self.heads + [get(at + "k_norm.weight")] * self.kv_heads),
                out=get(at + "o_proj.weight").clone(),
                out_bias=maybe(at + "o_proj.bias"),
                gate_up=torch.cat([get(mlp + "gate_proj.weight"), get(mlp + "up_proj.weight")]) * after,
                down=get(mlp + "down_proj.weight").clone(),
            ))

    def start(self, prompts: Sequence[Sequence[int]], counts: Sequence[int], new: int) -> tuple[SharedPrefixCache, Tensor]:
        lengths, trunks = [len(p) for p in prompts], find_trunks(prompts)
        angles = self._angles(max(lengths) + new)
        cache = SharedPrefixCache(len(self.layers), self.kv_heads, lengths, counts, new, angles, trunks)
        logits = torch.empty(len(prompts), self.vocab, dtype=self.dtype, device=self.device)
        for trunk in cache.trunks:
            shared = prompts[trunk.groups.start][: trunk.tokens]
            self._prefill(cache, [shared], None, lambda i, k, v, t=trunk: cache.write_trunk(i, t, k[0], v[0]))  # type: ignore[misc]
        under: list[Trunk | None] = [None] * len(prompts)
        for trunk in cache.trunks:
            under[trunk.groups] = [trunk] * (trunk.groups.stop - trunk.groups.start)
        for trunk_of, numbers in _alike(prompts, under):
            rows, skipped = torch.tensor(numbers, device=self.device), trunk_of.tokens if trunk_of else 0
            rests = [prompts[g][skipped:] for g in numbers]
            last = self._prefill(cache, rests, trunk_of, lambda i, k, v, r=rows: cache.write_rests(i, r, k, v))  # type: ignore[misc]
            logits[rows] = self.head(self._norm(last, self.gain))
        return cache, logits[cache.group_of]

    def _prefill(self, cache: SharedPrefixCache, rests: Sequence[Sequence[int]], trunk: Trunk | None, write: Write) -> Tensor:
        """Forwards `rests`, all of one length, that continue `trunk`; their keys and values go to `write` -> last positions [b, h]."""
        skipped, n = trunk.tokens if trunk else 0, len(rests[0])

        def attend(i: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            k, v = k.transpose(1, 2), v.transpose(1, 2)
            write(i, k, v)
            if trunk is None:
                return self._causal(q, k, v)
            k, v = (torch.cat([past[i].expand(len(rests), -1, -1, -1), x], 2) for past, x in ((trunk.keys, k), (trunk.values, v)))
            return self._causal(q, k, v, torch.ones(n, skipped + n, dtype=torch.bool, device=self.device).tril(skipped))

        cos, sin = (table[skipped : skipped + n, None] for table in cache.angles)
        ids = torch.tensor([list(r) for r in rests], device=self.device)
        return self._blocks(F.embedding(ids, self.embedding), cos, sin, attend)[:, -1]

    def step(self, cache: SharedPrefixCache, tokens: Tensor) -> Tensor:
        cos, sin = (table[:, None, None] for table in cache.rotation())

        def attend(i: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return cache.attend(i, q[:, 0], k[:, 0], v[:, 0])[:, None]

        x = self._blocks(F.embedding(tokens.to(self.device)[:, None], self.embedding), cos, sin, attend)
        cache.advance()
        return self.head(self._norm(x[:, 0], self.gain))

    def hidden(self, ids: Tensor) -> Tensor:
        def within(_: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return self._causal(q, k.transpose(1, 2), v.transpose(1, 2))

        ids = ids.to(self.device)
        cos, sin = self._angles(ids.shape[1])
        x = self._blocks(F.embedding(ids, self.embedding), cos[:, None], sin[:, None], within)
        return self._norm(x, self.gain)

    def head(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.lm_head)

    def _blocks(self, x: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        """x [b, n, h]; cos and sin broadcast over [b, n, heads, d]; `attend` takes q [b, n, H, d] and k, v [b, n, K, d] -> [b, n, H·d]."""
        b, n, _ = x.shape
        half = self.head_dim // 2
        sin = torch.cat([-sin[..., :half], sin[..., half:]], -1)
        for i, w in enumerate(self.layers):
            qk, v = F.linear(self._norm(x), w.qkv, w.qkv_bias).view(b, n, -1, self.head_dim).split([self.heads + self.kv_heads, self.kv_heads], 2)
            if w.qk_gain is not None:
                qk = self._norm(qk) * w.qk_gain
            qk = torch.addcmul(qk * cos, torch.cat([qk[..., half:], qk[..., :half]], -1), sin)
            q, k = qk.split([self.heads, self.kv_heads], 2)
            x = x + F.linear(attend(i, q, k, v), w.out, w.out_bias)
            gate, up = F.linear(self._norm(x), w.gate_up).chunk(2, -1)
            x = x + F.linear(F.silu(gate).mul_(up), w.down)
        return x

    def _causal(self, q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None = None) -> Tensor:
        """q [b, n, H, d], k and v [b, K, m, d] -> [b, n, H·d]; `seen` bool[n, m], None where each position sees itself and those before it."""
        out = F.scaled_dot_product_attention(q.transpose(1, 2), k, v, seen, is_causal=seen is None, scale=1.0, enable_gqa=True)
        return out.transpose(1, 2).flatten(2)

    def _norm(self, x: Tensor, gain: Tensor | None = None) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), gain, self.eps)

    def _angles(self, positions: int) -> tuple[Tensor, Tensor]:
        angle = torch.outer(torch.arange(positions, device=self.device).float(), self.inv_freq).repeat(1, 2)
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


def _alike(prompts: Sequence[Sequence[int]], under: Sequence[Trunk | None]) -> Iterator[tuple[Trunk | None, list[int]]]:
    """Prompt numbers that are prefilled together, without padding or mask: one trunk, one length, at most `PREFILL_TOKENS` tokens."""
    alike: dict[tuple[int, int], list[int]] = {}
    for g, (prompt, trunk) in enumerate(zip(prompts, under)):
        alike.setdefault((trunk.groups.start if trunk else -1, len(prompt)), []).append(g)
    for (_, length), numbers in alike.items():
        trunk = under[numbers[0]]
        rest = length - (trunk.tokens if trunk else 0)
        most = max(1, min(PREFILL_TOKENS // rest, PREFILL_SPAN // length))
        yield from ((trunk, numbers[a : a + most]) for a in range(0, len(numbers), most))
