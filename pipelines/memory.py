"""What a recipe needs of each GPU's memory, counted term by term before anything is started.

Bytes throughout, 1 GB = 1e9 as GPU makers count. Weights, gradients and optimizer state are exact; activations and a process's own share are
estimates (some 20 %). Shapes come from the policy's config.json, or from the published ones below where the folder is not on this machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import UserError
from pipelines.policies import SHIPPED_POLICIES
from pipelines.recipe import Recipe

GB = 10**9
TILE = 4096  # tokens whose logits exist at once in training (`pipelines.grpo.logprob`)
PROCESS = 1.0 * GB  # a CUDA context, its libraries and allocator waste, for each process on a GPU
ASLEEP = 1.0 * GB  # what vLLM keeps while it sleeps: context, CUDA graphs
RUNNING = 2.0 * GB  # vLLM's own activations and CUDA graphs while it generates


@dataclass(frozen=True)
class Shape:
    """A Qwen3-, Qwen2- or Llama-shaped decoder."""

    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool
    qk_norm: bool = True  # Qwen3 norms queries and keys
    qkv_bias: bool = False  # Qwen2
    context: int = 40960


PUBLISHED = {  # the config.json of the Qwen team's releases
    "Qwen3-0.6B": Shape(1024, 3072, 28, 16, 8, 128, 151936, True),
    "Qwen3-1.7B": Shape(2048, 6144, 28, 16, 8, 128, 151936, True),
    "Qwen3-4B": Shape(2560, 9728, 36, 32, 8, 128, 151936, True),
    "Qwen3-8B": Shape(4096, 12288, 36, 32, 8, 128, 151936, False),
}


def shape_of(path: str) -> tuple[Shape, bool]:
    """(shape, whether it was read from a folder); UserError where the policy is neither here nor known."""
    for folder in (Path(path), SHIPPED_POLICIES / path):
        if (folder / "config.json").is_file():
            return shape_from(json.loads((folder / "config.json").read_text("utf-8"))), True
    if (name := Path(path).name) in PUBLISHED:
        return PUBLISHED[name], False
    known = ", ".join(PUBLISHED)
    raise UserError(f"policy.path: no model at {path!r}, and its shape is not known; give a folder with config.json, or one of {known}")


def shape_from(config: Mapping[str, Any]) -> Shape:
    """From a config.json of model_type qwen3, qwen2 or llama."""
    kind, heads = config.get("model_type"), config.get("num_attention_heads", 1)
    if kind not in ("qwen3", "qwen2", "llama"):
        raise UserError(f"policy.path: memory is counted for qwen3, qwen2 and llama models, and this one is {kind!r}")
    return Shape(
        config["hidden_size"],
        config["intermediate_size"],
        config["num_hidden_layers"],
        heads,
        config.get("num_key_value_heads") or heads,
        config.get("head_dim") or config["hidden_size"] // heads,
        config["vocab_size"],
        bool(config.get("tie_word_embeddings", False)),
        kind == "qwen3",
        kind == "qwen2" or bool(config.get("attention_bias", False)),
        config.get("max_position_embeddings", 40960),
    )


def layer_parameters(s: Shape) -> int:
    """Of one decoder layer: attention, SwiGLU, two norms (and those of queries and keys)."""
    qkv = s.hidden * (s.heads + 2 * s.kv_heads) * s.head_dim + s.qkv_bias * (s.heads + 2 * s.kv_heads) * s.head_dim
    return qkv + s.heads * s.head_dim * s.hidden + 3 * s.hidden * s.inner + 2 * s.hidden + s.qk_norm * 2 * s.head_dim


def parameters(s: Shape) -> int:
    """All of them; a tied head counts once. Oracle in the tests: transformers on the meta device."""
    return s.layers * layer_parameters(s) + s.hidden + (1 if s.tied else 2) * s.vocab * s.hidden


def lora_parameters(s: Shape, rank: int) -> int:
    """Adapters A [r, in] and B [out, r] of all seven linear layers (Hu et al. 2021, section 4.1)."""
    q, kv = s.heads * s.head_dim, s.kv_heads * s.head_dim
    sides = (s.hidden + q) + 2 * (s.hidden + kv) + (q + s.hidden) + 3 * (s.hidden + s.inner)
    return s.layers * rank * sides


def weights(s: Shape, ranks: int = 1) -> float:
    """The trainer's float32 master weights, sharded over the ranks (FSDP2 is ZeRO-3: Rajbhandari et al. 2020)."""
    return 4 * parameters(s) / ranks


def gradients(trained: int, ranks: int = 1) -> float:
    """float32, of what is trained."""
    return 4 * trained / ranks


def optimizer_state(trained: int, ranks: int = 1) -> float:
    """AdamW's two float32 moments of what is trained; the float32 master weights are the weights themselves."""
    return 8 * trained / ranks


def working_weights(s: Shape, ranks: int, half: bool) -> float:
    """What a forward pass adds to the master weights: alone, autocast's bfloat16 copies (at most: those of a frozen base may go earlier);
    sharded, the gathered root (embedding, head) and two layers."""
    size = 2 if half else 4
    if ranks == 1:
        return size * parameters(s) if half else 0.0
    return size * (parameters(s) - s.layers * layer_parameters(s) + 2 * layer_parameters(s))


def layer_activations(s: Shape, tokens: int, half: bool) -> float:
    """Kept for backward by one layer, attention scores never (fused attention): Korthikanti et al. 2022, section 4.1, recounted for
    SwiGLU and grouped queries. The residual stream is float32: twice 4·h; the rest counts `size` bytes an element: two normed inputs h; q, k before
    and after norm and rotation, v; the attention's output; gate, up, SiLU and their product i."""
    size = 2 if half else 4
    attention = (3 * s.heads + 3 * s.kv_heads) * s.head_dim
    return tokens * (8 * s.hidden + size * (2 * s.hidden + attention + 4 * s.inner))


def activations(s: Shape, tokens: int, half: bool, checkpointing: bool) -> float:
    """Of all layers at `micro_tokens`; with checkpointing each keeps its float32 input and one layer at a time is recomputed (Chen et al. 2016)."""
    one = layer_activations(s, tokens, half)
    return s.layers * tokens * 4 * s.hidden + one if checkpointing else s.layers * one


def logits_tile(s: Shape, tokens: int) -> float:
    """Head: float32 logits, probabilities and their gradient of one tile, and the head's float32 gradient while it is summed."""
    return 3 * 4 * min(tokens, TILE) * s.vocab + 4 * s.vocab * s.hidden


def kv_cache(s: Shape, tokens: int, size: int = 2) -> float:
    """Keys and values of one sequence, `size` bytes an element."""
    return 2 * s.layers * s.kv_heads * s.head_dim * size * tokens


@dataclass(frozen=True)
class Role:
    """What some GPUs hold. `terms`: (what, bytes); those are all there at once, and `room` is the memory of one GPU."""

    name: str
    gpus: int
    terms: tuple[tuple[str, float], ...]
    room: float
    note: str = ""

    @property
    def total(self) -> float:
        return sum(size for _, size in self.terms)


def trainer_terms(recipe: Recipe, s: Shape) -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
    """(what stays between steps, what a step adds) on each of the trainer's GPUs."""
    part, options = recipe.train, recipe.train.trainer
    half, rank = options.get("precision", "fp32") == "bf16", int(options.get("lora_rank", 0))
    trained = lora_parameters(s, rank) if rank else parameters(s)
    tokens = part.micro_tokens
    stays = [
        ("weights, float32", weights(s, part.ranks) + (4 * trained / part.ranks if rank else 0)),
        ("AdamW moments, float32", optimizer_state(trained, part.ranks)),
        ("process", PROCESS),
    ]
    adds = [
        ("gradients, float32", gradients(trained, part.ranks)),
        ("working copies", working_weights(s, part.ranks, half)),
        (f"activations, {tokens:,} tokens", activations(s, tokens, half, bool(options.get("gradient_checkpointing", False)))),
        ("logits tile", logits_tile(s, tokens)),
    ]
    return stays, adds


def roles(recipe: Recipe) -> list[Role]:
    """The GPUs by what they do; [] for a recipe whose engine is not vLLM on GPUs. Raises UserError for one that names no machine."""
    vllm, machine = recipe.engine.vllm, recipe.machine
    if not machine.gpus:
        return []
    s, _ = shape_of(recipe.policy.path)
    room, share = machine.gpu_gb * GB, (vllm.gpu_memory_utilization or 0.9) * machine.gpu_gb * GB
    stays, adds = trainer_terms(recipe, s)
    own = 2 * parameters(s) / vllm.tensor_parallel
    longest = vllm.max_model_len or s.context
    cache = share - own - RUNNING
    one = kv_cache(s, longest) / vllm.tensor_parallel
    fits = f"cache for {max(0, cache) / one:,.0f} sequences of {longest:,} tokens ({one / GB:.2f} GB each)"
    generating = [("vLLM weights, bfloat16", own), ("vLLM activations and graphs", RUNNING), ("vLLM KV cache", max(cache, one))]
    if vllm.sleep_level:
        while_training = [*stays, *adds, ("vLLM asleep", ASLEEP)]
        return [Role("generating", 1, (*stays, *generating), room, fits), Role("training", 1, tuple(while_training), room)]
    served = vllm.tensor_parallel * vllm.data_parallel
    return [Role("generating", served, tuple(generating), room, fits), Role("training", recipe.train.ranks, (*stays, *adds), room)]


def check_memory(recipe: Recipe) -> list[Role]:
    """`roles`, refused where one does not fit or there are too few GPUs."""
    found = roles(recipe)
    if not found:
        return []
    needed = 1 if recipe.engine.vllm.sleep_level else sum(role.gpus for role in found)
    if needed > recipe.machine.gpus:
        raise UserError(f"machine.gpus is {recipe.machine.gpus}, vLLM and the trainer need {needed} together; lower train.ranks or engine.vllm")
    for role in found:
        if role.total > role.room:
            what, size = max(role.terms, key=lambda term: term[1])
            raise UserError(
                f"{role.name} needs {role.total / GB:.1f} GB on each GPU and machine.gpu_gb gives {role.room / GB:g}: most goes to {what} "
                f"({size / GB:.1f} GB); try more GPUs (train.ranks, tensor_parallel), a smaller train.micro_tokens, "
                "train.trainer.gradient_checkpointing = true or lora_rank, or another engine.vllm.gpu_memory_utilization"
            )
    return found
