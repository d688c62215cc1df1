"""Whole GRPO steps (generate, judge, learn, hand the weights over) beside TRL's, on the same model, prompts and number of tokens.

    synth bench grpo                      both shapes of the issue; beside TRL where it is installed, beside a plain torch loop otherwise
    synth bench grpo -- --prompts 16 --plen 128 --reps 3 --beside plain
    synth bench grpo -- --group 512       one prompt's 512 rollouts (BroRL) in bounded memory: prints peak memory at 64 and at 512
    synth bench grpo -- --gpu             tokens per second, MFU and peak memory of the update at 0.6B and 4B shapes (`grpo_update.py`)

Random Qwen3 (4 layers, hidden 128), one character a token, float32, AdamW, no KL, token mean, 32 new tokens a row with end-of-text
suppressed. CPU seconds of the process on one thread (a busy machine does not change them), each side in processes of its own, taken in
turn; medians over steps and processes. Both sides use their faster micro-batch. One JSON line per figure; `ratio` = other / synth.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

CHARS = "0123456789+-*/=()<>[]{}.,;:!?'\" abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_#@$%&^~|"
SHAPES = ({"prompts": 64, "plen": 16}, {"prompts": 16, "plen": 128})
DEFAULTS = {"prompts": 0, "group": 8, "new": 32, "plen": 16, "hidden": 128, "layers": 4, "steps": 5, "reps": 2, "micro": 64}


def tokenizer() -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordLevel({t: i for i, t in enumerate(["<pad>", "<bos>", "<eos>", "<unk>", *CHARS])}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    made.decoder = decoders.Fuse()
    names = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=made, padding_side="left", **names)


def model(a: argparse.Namespace) -> Any:
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": a.hidden // 4}
    size = {"hidden_size": a.hidden, "intermediate_size": 3 * a.hidden, "num_hidden_layers": a.layers, "max_position_embeddings": 512}
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    return Qwen3ForCausalLM(Qwen3Config(vocab_size=len(CHARS) + 4, tie_word_embeddings=True, **heads, **size, **ends)).float()


def prompts(a: argparse.Namespace, n: int) -> list[str]:
    rng = random.Random(0)
    return ["".join(rng.choice("0123456789+-*/=") for _ in range(a.plen)) for _ in range(n)]


def score(text: str) -> float:
    """A cheap verifiable reward that differs within a group: the share of digits."""
    return sum(c.isdigit() for c in text) / max(len(text), 1)


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_synth(a: argparse.Namespace) -> dict[str, Any]:
    import numpy as np

    from data.records import Group, Problem, Request, Sampling, Trajectory, Verdict
    from generators.engines.local import LocalEngine
    from pipelines.grpo.config import GRPOConfig
    from pipelines.grpo.trainer import GRPOTrainer

    folder = Path(tempfile.mkdtemp())
    model(a).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    settings = GRPOConfig(learning_rate=1e-3, adam_eps=1e-8, betas=(0.9, 0.999), overrides={"aggregation": "token_mean"}, threads=1, **a.config)
    trainer = GRPOTrainer(folder, settings)
    engine = LocalEngine(folder, policy_id="p", threads=1)
    engine.eos = []  # as on the other side, nothing ends early
    texts, sampling = prompts(a, a.prompts * (a.steps + 1)), Sampling(max_tokens=a.new)
    seconds, generated, rewards, before = [], [], [], peak_mib()
    for step in range(a.steps + 1):
        begin = time.process_time()
        batch = texts[step * a.prompts : (step + 1) * a.prompts]
        asked = [Request("p", sampling, seed=hash((step, p, i)) & 0xFFFFFFFF, index=i, prompt=t) for p, t in enumerate(batch) for i in range(a.group)]
        answers = {c.key: c for c in engine.generate(asked)}
        generated.append(time.process_time() - begin)
        groups = []
        for p, text in enumerate(batch):
            problem, rows, verdicts = Problem(text), [], []
            for r in asked[p * a.group : (p + 1) * a.group]:
                c = answers[r.key]
                tokens, none = np.concatenate([c.prompt_tokens, c.tokens]), len(c.prompt_tokens)
                mask, logp = np.r_[np.zeros(none), np.ones(len(c.tokens))].astype(np.uint8), np.r_[np.full(none, np.nan), c.logp].astype(np.float32)
                rows.append(Trajectory(problem.id, "p", tokens, mask, logp, sampling, r.seed, r.index, "length", c.text))
                verdicts.append(Verdict("pass", score(c.text), "", "digits"))
            groups.append(Group(f"{step}.{p}", problem, tuple(rows), tuple(verdicts), np.array([v.reward for v in verdicts], np.float32)))
        metrics = trainer.step(groups)
        engine.decoder.load(trainer.policy.tensors())
        seconds.append(time.process_time() - begin)
        rewards.append(metrics["reward_mean"])
    return {"seconds": seconds[1:], "generate": generated[1:], "reward": rewards, "peak_mib": peak_mib(), "grown_mib": peak_mib() - before}


def run_trl(a: argparse.Namespace) -> dict[str, Any]:
    import torch
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    torch.set_num_threads(1)
    rows = a.prompts * a.group
    micro = min(a.micro, rows)
    marks: list[float] = []
    generated: list[float] = []

    class Timed(GRPOTrainer):
        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            begin = time.process_time()
            out = super()._generate(*args, **kwargs)
            generated.append(time.process_time() - begin)
            return out

    class Marks(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            marks.append(time.process_time())

    settings = GRPOConfig(
        output_dir=tempfile.mkdtemp(), use_cpu=True, bf16=False, gradient_checkpointing=False, max_steps=a.steps + 1, seed=0,
        per_device_train_batch_size=micro, gradient_accumulation_steps=rows // micro, num_generations=a.group, max_completion_length=a.new,
        learning_rate=1e-3, beta=0.0, loss_type="dapo", logging_steps=1, save_strategy="no", report_to=[], max_grad_norm=1.0,
        generation_kwargs={"min_new_tokens": a.new}, disable_tqdm=True, lr_scheduler_type="constant", dataloader_pin_memory=False,
    )  # fmt: skip
    data = Dataset.from_dict({"prompt": prompts(a, a.prompts * (a.steps + 2))})
    trainer = Timed(
        model=model(a), reward_funcs=lambda completions, **_: [score(c) for c in completions], args=settings, train_dataset=data,
        processing_class=tokenizer(),
    )  # fmt: skip
    trainer.add_callback(Marks())
    before = peak_mib()
    trainer.train()
    rewards = [h["reward"] for h in trainer.state.log_history if "reward" in h]
    seconds = [after - before for before, after in itertools.pairwise(marks)]  # data loader and log included
    return {"seconds": seconds, "generate": generated[1:], "reward": rewards, "peak_mib": peak_mib(), "grown_mib": peak_mib() - before}


def run_plain(a: argparse.Namespace) -> dict[str, Any]:
    """A bare loop: transformers' forward and cache, every row forwarded whole, `micro` rows at a time."""
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(1)
    torch.manual_seed(0)
    policy, tok = model(a), tokenizer()
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-3, weight_decay=0.0)
    texts, rows = prompts(a, a.prompts * (a.steps + 1)), a.prompts * a.group
    seconds, generated, rewards, before = [], [], [], peak_mib()
    for step in range(a.steps + 1):
        begin = time.process_time()
        batch = texts[step * a.prompts : (step + 1) * a.prompts]
        ids = tok(batch, return_tensors="pt", add_special_tokens=False).input_ids.repeat_interleave(a.group, 0)
        with torch.no_grad():
            out = policy.generate(ids, do_sample=True, max_new_tokens=a.new, min_new_tokens=a.new, top_k=0, pad_token_id=0)
        generated.append(time.process_time() - begin)
        reward = torch.tensor([score(t) for t in tok.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)]).view(-1, a.group)
        advantage = ((reward - reward.mean(1, keepdim=True)) / (reward.std(1, keepdim=True) + 1e-4)).view(-1, 1)
        for start in range(0, rows, a.micro):
            part = out[start : start + a.micro]
            logits = policy(input_ids=part, logits_to_keep=a.new + 1, use_cache=False).logits[:, :-1]
            target = part[:, -a.new :]
            logp = -F.cross_entropy(logits.reshape(-1, logits.shape[-1]), target.reshape(-1), reduction="none").view(target.shape)
            ratio, own = (logp - logp.detach()).exp(), advantage[start : start + a.micro]
            (-torch.min(ratio * own, ratio.clamp(0.8, 1.2) * own).sum() / (rows * a.new)).backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.process_time() - begin)
        rewards.append(float(reward.mean()))
    return {"seconds": seconds[1:], "generate": generated[1:], "reward": rewards, "peak_mib": peak_mib(), "grown_mib": peak_mib() - before}


def worker(side: str, a: argparse.Namespace, **changes: Any) -> dict[str, Any]:
    """One side in a process of its own."""
    given = {**{k: getattr(a, k) for k in DEFAULTS}, "config": a.config, **changes}
    command = [sys.executable, __file__, "--worker", side, "--settings", json.dumps(given)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    )
    if done.returncode:
        raise SystemExit(f"the {side} side failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(a: argparse.Namespace, other: str, shape: dict[str, int]) -> dict[str, Any]:
    found: dict[str, list[dict[str, Any]]] = {"synth": [], other: []}
    for _ in range(a.reps):
        for side, results in found.items():
            results.append(worker(side, a, **shape))
    line: dict[str, Any] = {"name": "grpo", "beside": {"trl": "TRL 1.16", "plain": "a plain torch loop (TRL is not installed)"}[other]}
    if other == "trl":
        from importlib.metadata import version

        line["beside"] = f"TRL {version('trl')}"
    median = {side: {k: statistics.median(v for r in results for v in r[k]) for k in ("seconds", "generate")} for side, results in found.items()}
    line["ratio"] = round(median[other]["seconds"] / median["synth"]["seconds"], 3)
    for side, results in found.items():
        line[f"{side}_step_s"] = round(median[side]["seconds"], 3)
        line[f"{side}_generate_s"] = round(median[side]["generate"], 3)
        line[f"{side}_peak_mib"] = round(max(r["peak_mib"] for r in results))
        line[f"{side}_peak_grown_mib"] = round(max(r["grown_mib"] for r in results))
        line[f"{side}_reward"] = [round(r, 3) for r in results[0]["reward"]]
    return {**line, **{k: getattr(a, k) for k in DEFAULTS}, **shape, "clock": "process CPU, 1 thread"}


def group_memory(a: argparse.Namespace) -> dict[str, Any]:
    """BroRL: peak memory of the trainer at 64 and at `--group` rollouts a prompt; it follows the micro-batch, not the group."""
    small, large = (worker("synth", a, prompts=1, group=g, steps=2, reps=1) for g in (64, a.group))
    return {
        "name": "grpo_group",
        "group": a.group,
        "peak_grown_mib": {"64": round(small["grown_mib"]), str(a.group): round(large["grown_mib"])},
        "step_s": {"64": round(statistics.median(small["seconds"]), 3), str(a.group): round(statistics.median(large["seconds"]), 3)},
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in DEFAULTS.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--beside", choices=["trl", "plain"], default="trl" if importlib.util.find_spec("trl") else "plain")
    parser.add_argument("--config", type=json.loads, default={"micro_tokens": 2048}, help="JSON: GRPOConfig keys of the synth side")
    parser.add_argument("--gpu", action="store_true", help="the update alone on shapes of real models (`grpo_update.py`)")
    parser.add_argument("--shapes", default="0.6b,4b", help="with --gpu: tiny, 0.6b, 4b, comma separated")
    parser.add_argument("--contexts", default="4096,16384", help="with --gpu: tokens a row")
    parser.add_argument("--rows", type=int, default=8, help="with --gpu: rows a step")
    parser.add_argument("--no-checkpointing", action="store_true", help="with --gpu: keep all activations")
    parser.add_argument("--worker", choices=["synth", "trl", "plain"], help=argparse.SUPPRESS)
    parser.add_argument("--settings", type=json.loads, help=argparse.SUPPRESS)
    a = parser.parse_args(argv)
    if a.gpu:
        sys.path.insert(0, str(Path(__file__).parent))
        import grpo_update

        return grpo_update.main(a)
    if a.worker:
        vars(a).update(a.settings)
        print(json.dumps({"synth": run_synth, "trl": run_trl, "plain": run_plain}[a.worker](a)))
        return 0
    if a.group > 64:
        print(json.dumps(group_memory(a)))
        return 0
    for shape in SHAPES if not a.prompts else ({"prompts": a.prompts, "plen": a.plen},):
        print(json.dumps(compare(a, a.beside, shape)), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
