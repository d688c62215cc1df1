"""One trainer step (shared prefixes, flat tokens) beside a plain full-forward loop, same model, same rollouts, same process.

    python tests/benchmarks/bench_grpo.py [--groups 64 --group-size 8 --prompt 40 --response 24 --hidden 128 --layers 4 --repeats 5]

CPU seconds of this process on one thread, so that a busy machine does not change the figures. Prints one JSON line;
`ratio` = plain / trainer (above 1: the trainer is faster). The two are interleaved, medians are reported.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.records import Group, Problem, Sampling, Trajectory, Verdict

VOCAB = 260


def build_policy(folder: Path, hidden: int, layers: int) -> int:
    """A randomly initialised Qwen3; returns its number of parameters."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=VOCAB,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=hidden // 4,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
    )
    model = Qwen3ForCausalLM(config)
    model.save_pretrained(folder)
    return sum(p.numel() for p in model.parameters())


def build_groups(groups: int, size: int, prompt: int, response: int) -> list[Group]:
    """Random rollouts with mixed rewards; every group carries gradient."""
    rng = np.random.default_rng(0)
    out = []
    for g in range(groups):
        problem, start = Problem(str(g)), rng.integers(0, VOCAB, prompt)
        rewards = (np.arange(size) % 2).astype(np.float32)
        rows = []
        for i in range(size):
            tokens = np.r_[start, rng.integers(0, VOCAB, response)].astype(np.int32)
            mask = np.r_[np.zeros(prompt), np.ones(response)].astype(np.uint8)
            rows.append(Trajectory(problem.id, "v", tokens, mask, np.full(len(tokens), -5.5, np.float32), Sampling(), i, i, "stop", ""))
        out.append(Group(str(g), problem, tuple(rows), tuple(Verdict("pass" if r else "fail", float(r), "", "") for r in rewards), rewards))
    return out


def plain_step(model: Any, optimizer: Any, groups: Sequence[Group], micro: int = 64) -> None:
    """What a bare transformers + torch loop does: every row forwarded whole, `micro` rows at a time."""
    import torch
    import torch.nn.functional as F

    rows = [t for g in groups for t in g.rollouts]
    rewards = np.stack([g.rewards for g in groups])
    advantage = torch.from_numpy(((rewards - rewards.mean(1, keepdims=True)) / (rewards.std(1, ddof=1, keepdims=True) + 1e-6)).ravel())
    tokens = torch.from_numpy(np.stack([t.tokens for t in rows]).astype(np.int64))
    response = rows[0].response_length
    for start in range(0, len(rows), micro):
        part = tokens[start : start + micro]
        logits = model(input_ids=part, logits_to_keep=response + 1, use_cache=False).logits[:, :-1]
        target = part[:, -response:]
        logp = -F.cross_entropy(logits.reshape(-1, logits.shape[-1]), target.reshape(-1), reduction="none").view(target.shape)
        ratio, a = (logp - logp.detach()).exp(), advantage[start : start + micro, None]
        (-torch.min(ratio * a, ratio.clamp(0.8, 1.2) * a).sum() / (len(rows) * response)).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {
        "groups": 64,
        "group_size": 8,
        "prompt": 40,
        "response": 24,
        "hidden": 128,
        "layers": 4,
        "repeats": 5,
        "micro_tokens": 0,
    }.items():
        parser.add_argument("--" + name.replace("_", "-"), type=int, default=value)
    args = parser.parse_args(argv)

    import torch
    from transformers import AutoModelForCausalLM

    from pipelines.grpo.config import GRPOConfig
    from pipelines.grpo.trainer import GRPOTrainer

    torch.set_num_threads(1)
    groups = build_groups(args.groups, args.group_size, args.prompt, args.response)
    with tempfile.TemporaryDirectory() as folder:
        parameters = build_policy(Path(folder), args.hidden, args.layers)
        trainer = GRPOTrainer(Path(folder), GRPOConfig(**({"micro_tokens": args.micro_tokens} if args.micro_tokens else {})))
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.0)
    seconds: dict[str, list[float]] = {"trainer": [], "plain": []}
    metrics: dict[str, float] = {}
    for _ in range(args.repeats + 1):
        begin = time.process_time()
        metrics = trainer.step(groups)
        middle = time.process_time()
        plain_step(model, optimizer, groups)
        seconds["trainer"].append(middle - begin)
        seconds["plain"].append(time.process_time() - middle)
    fast, slow = (statistics.median(v[1:]) for v in seconds.values())  # the first is warm-up
    line = {
        "name": "grpo",
        "ratio": round(slow / fast, 3),
        "trainer_s": round(fast, 3),
        "plain_s": round(slow, 3),
        "trained_tokens_per_s": round(metrics["tokens"] / fast),
        "forwarded_tokens": int(metrics["tokens_forwarded"]),
        "plain_tokens": args.groups * args.group_size * (args.prompt + args.response),
        "parameters": parameters,
        "clock": "process CPU, 1 thread",
        **{k: getattr(args, k) for k in ("groups", "group_size", "prompt", "response", "hidden", "layers", "repeats")},
    }
    print(json.dumps(line))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
