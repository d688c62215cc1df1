"""The update alone, on random weights of a real model's shape: tokens per second, MFU, peak memory, and what bounds it.

    synth bench grpo -- --gpu                               Qwen3-0.6B and 4B shapes, 4k and 16k context, bf16 with float32 master weights
    synth bench grpo -- --gpu --shapes 0.6b --contexts 16384 --steps 5
    synth bench grpo -- --gpu --shapes tiny --contexts 256  a machine without a GPU: proves the path, says nothing about speed

Model FLOPs per token = 6 N + 6 L H D T (weights forward and backward; attention, causal half), N with the head and without the embedding's
lookup, recomputation not counted. By this count prime-rl's published 11.9 k tokens/s of a 0.6B model at 16 k on one H100 are 11.1 %, as it says.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden": 64, "inter": 192, "layers": 2, "heads": 4, "kv": 2, "dim": 16, "vocab": 512},
    "0.6b": {"hidden": 1024, "inter": 3072, "layers": 28, "heads": 16, "kv": 8, "dim": 128, "vocab": 151936},
    "4b": {"hidden": 2560, "inter": 9728, "layers": 36, "heads": 32, "kv": 8, "dim": 128, "vocab": 151936},
}
"""Of the config.json of Qwen/Qwen3-0.6B and Qwen/Qwen3-4B; embedding and head are tied."""

PEAK = {"H100": 989.4e12, "H200": 989.4e12, "A100": 312e12, "L40S": 362e12}
"""Dense bf16 FLOPs per second of the data sheets."""

PROMPT = 128
GROUP = 4


def parameters(shape: dict[str, Any]) -> int:
    """Weights that multiply a token: all layers and the head; the tied embedding counts once, as the head."""
    h, d = shape["hidden"], shape["dim"]
    attention = h * d * (2 * shape["heads"] + 2 * shape["kv"])
    return int(shape["layers"] * (attention + 3 * h * shape["inter"]) + shape["vocab"] * h)


def flops_per_token(shape: dict[str, Any], context: int) -> float:
    """Of a model's forward and backward pass, at `context` tokens a row."""
    return float(6 * parameters(shape) + 6 * shape["layers"] * shape["heads"] * shape["dim"] * context)


def folder_of(shape: dict[str, Any], context: int, where: Path) -> Path:
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    heads = {"num_attention_heads": shape["heads"], "num_key_value_heads": shape["kv"], "head_dim": shape["dim"]}
    size = {"hidden_size": shape["hidden"], "intermediate_size": shape["inter"], "num_hidden_layers": shape["layers"], "vocab_size": shape["vocab"]}
    Qwen3ForCausalLM(Qwen3Config(tie_word_embeddings=True, max_position_embeddings=context, **heads, **size)).save_pretrained(where)
    return where


def groups_of(step: int, vocab: int, context: int, rows: int) -> list[Any]:
    """Groups of `GROUP` rows, each `context` tokens with its prompt."""
    import numpy as np

    from data.records import Group, Problem, Sampling, Trajectory, Verdict

    rng = np.random.default_rng(step)
    prompt, out = min(PROMPT, context // 4), []
    for g in range(max(1, rows // GROUP)):
        problem, head, made = Problem(f"{step}.{g}"), rng.integers(0, vocab, prompt), []
        for i in range(GROUP):
            tokens = np.r_[head, rng.integers(0, vocab, context - prompt)].astype(np.int32)
            mask = np.r_[np.zeros(prompt), np.ones(context - prompt)].astype(np.uint8)
            logp = np.full(context, -float(np.log(vocab)), np.float32)
            made.append(Trajectory(problem.id, "v", tokens, mask, logp, Sampling(max_tokens=context), i, i, "length", ""))
        rewards = np.array([1, 0] * (GROUP // 2), np.float32)
        out.append(Group(f"{step}.{g}", problem, tuple(made), tuple(Verdict("pass", float(r), "", "t") for r in rewards), rewards))
    return out


def kind_of(operator: str) -> str:
    """Which part of the machine an operator's own time belongs to; profiler names of kernels and of ATen operators."""
    name = operator.lower()
    for kind, words in (
        ("optimizer", ("adam", "multi_tensor_apply", "foreach")),
        ("attention", ("flash", "fmha", "attention", "sdpa", "cudnn_sdpa")),
        ("matrix products", ("gemm", "matmul", "aten::mm", "addmm", "bmm", "cutlass", "cublas", "nvjet", "linear")),
        ("communication", ("nccl", "all_gather", "reduce_scatter", "all_reduce")),
        ("copies", ("memcpy", "memset", "copy_", "aten::to", "clone", "cat")),
    ):
        if any(word in name for word in words):
            return kind
    return "elementwise and reductions"


def profiled(step: Any, cuda: bool) -> tuple[dict[str, float], float]:
    """(seconds of the device by kind, wall seconds) of one step."""
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=activities) as found:
        begin = time.perf_counter()
        step()
        wall = time.perf_counter() - begin
    spent: dict[str, float] = defaultdict(float)
    for event in found.key_averages():
        spent[kind_of(event.key)] += (event.self_device_time_total if cuda else event.self_cpu_time_total) / 1e6
    return dict(spent), wall


def matmul_flops(device: Any) -> float:
    """FLOPs per second that one large bf16 product (float32 on a CPU) really reaches here."""
    import torch

    size, dtype = (8192, torch.bfloat16) if device.type == "cuda" else (1024, torch.float32)
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    took = []
    for _ in range(6):
        begin = time.perf_counter()
        c = a @ b
        c[0, 0].item()  # waits
        took.append(time.perf_counter() - begin)
    return 2 * size**3 / statistics.median(took[1:])


def measure(name: str, context: int, *, rows: int, steps: int, checkpointing: bool) -> dict[str, Any]:
    import torch

    from pipelines.grpo.config import GRPOConfig
    from pipelines.grpo.trainer import GRPOTrainer

    shape, cuda = SHAPES[name], torch.cuda.is_available()
    with tempfile.TemporaryDirectory() as folder:
        settings = {"precision": "bf16", "gradient_checkpointing": checkpointing, "micro_tokens": context, "learning_rate": 1e-6}
        trainer = GRPOTrainer(folder_of(shape, context, Path(folder)), GRPOConfig(**settings))  # type: ignore[arg-type]
    device = trainer.ranks.device
    if cuda:
        torch.cuda.reset_peak_memory_stats()

    def step(number: int) -> dict[str, float]:
        metrics = trainer.step(groups_of(number, shape["vocab"], context, rows))
        if cuda:
            torch.cuda.synchronize()
        return metrics

    seconds = []
    metrics = step(0)  # warm
    for number in range(1, steps + 1):
        begin = time.perf_counter()
        metrics = step(number)
        seconds.append(time.perf_counter() - begin)
    memory = torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    spent, wall = profiled(lambda: step(steps + 1), cuda)
    if cuda:  # the device waits for Python and for the host's plan
        spent["idle"] = max(0.0, wall - sum(spent.values()))
    took = statistics.median(seconds)
    rate = metrics["tokens_forwarded"] / took
    card = torch.cuda.get_device_name() if cuda else "CPU"
    peak = next((v for k, v in PEAK.items() if k in card), None)
    reached = rate * flops_per_token(shape, context)
    plain = matmul_flops(device)
    return {
        "name": "grpo_update",
        "shape": name,
        "context": context,
        "device": card,
        "tokens_per_second": round(rate, 1),
        "trained_tokens_per_second": round(metrics["tokens"] / took, 1),
        "mfu": round(reached / peak, 4) if peak else None,
        "of_a_plain_product": round(reached / plain, 4),
        "peak_gib": round(memory / 2**30, 2),
        "step_s": round(took, 4),
        "rows": rows,
        "parameters": sum(p.numel() for _, p in trainer.parameters),
        "spent": {k: round(v / max(sum(spent.values()), 1e-12), 3) for k, v in sorted(spent.items(), key=lambda kv: -kv[1])},
        "bound_by": max(spent, key=spent.__getitem__),
        "gradient_checkpointing": checkpointing,
        "note": "" if cuda else "no GPU here: this proves the path and is no figure of speed",
    }


def main(a: argparse.Namespace) -> int:
    for name in a.shapes.split(","):
        if name not in SHAPES:
            raise SystemExit(f"--shapes {name}: there are {', '.join(SHAPES)}")
        for context in map(int, a.contexts.split(",")):
            line = measure(name, context, rows=a.rows, steps=a.steps, checkpointing=not a.no_checkpointing)
            print(json.dumps(line), flush=True)
    return 0
