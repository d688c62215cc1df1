"""`synth bench engine`: tokens a second of the embedded engine and of transformers' `generate`, in one process.

Work: 64 prompts x 8 samples x 32 new tokens of a random Qwen3 (4 layers, hidden 128, vocabulary 600), float32, one thread, nothing ends early.
The clock is the process's CPU time, so that a busy machine measures the same; the two take turns and the median of each counts.
Prints one JSON line per prompt shape: engine and transformers tokens/s, their ratio.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

VOCAB = 600


def build(folder: Path, layers: int, hidden: int) -> Any:
    """A random policy with a byte-level tokenizer in `folder`; returns the transformers model."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<pad>", "<eos>"]
    bpe.train_from_iterator([""], trainers.BpeTrainer(vocab_size=258, special_tokens=special, initial_alphabet=alphabet, show_progress=False))
    PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="<pad>", padding_side="left").save_pretrained(folder)
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(Qwen3Config(
        vocab_size=VOCAB, hidden_size=hidden, intermediate_size=hidden * 3, num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=2,
        head_dim=hidden // 4, max_position_embeddings=512, tie_word_embeddings=True, bos_token_id=None, eos_token_id=None, pad_token_id=0,
    )).eval()
    model.save_pretrained(folder)
    return model


def prompts(n: int, low: int, high: int) -> list[str]:
    """`n` prompts of low..high tokens (a byte is a token)."""
    rng = random.Random(0)
    return ["".join(rng.choice("0123456789+-*/=") for _ in range(rng.randint(low, high))) for _ in range(n)]


def seconds(work: Callable[[], int]) -> tuple[float, int]:
    begun = time.process_time()
    tokens = work()
    return time.process_time() - begun, tokens


def compare(engine: Any, model: Any, texts: Sequence[str], samples: int, new: int, reps: int) -> dict[str, float]:
    """Median tokens/s of both at the same work."""
    import torch

    from data.records import Request, Sampling

    def ours(rep: int) -> int:
        rule = Sampling(max_tokens=new)
        requests = [Request("bench", rule, seed=rep << 32 | i << 8 | j, index=j, prompt=t) for i, t in enumerate(texts) for j in range(samples)]
        return sum(len(c.tokens) for c in engine.generate(requests))

    def theirs(rep: int) -> int:
        torch.manual_seed(rep)
        given = engine.tokenizer(list(texts), return_tensors="pt", padding=True)
        ids, mask = given.input_ids.repeat_interleave(samples, 0), given.attention_mask.repeat_interleave(samples, 0)
        with torch.inference_mode():
            out = model.generate(ids, attention_mask=mask, do_sample=True, max_new_tokens=new, top_k=0, pad_token_id=0)
        return int(out[:, ids.shape[1] :].numel())

    speed: dict[str, list[float]] = {"ours": [], "theirs": []}
    for rep in range(reps + 1):
        for name, work in (("ours", ours), ("theirs", theirs)):
            took, tokens = seconds(lambda work=work, rep=rep: work(rep))  # type: ignore[misc]
            if rep:  # the first of each warms up
                speed[name].append(tokens / took)
    return {name: median(values) for name, values in speed.items()}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="synth bench engine", description=__doc__.splitlines()[0] if __doc__ else None)
    for name, value in {"prompts": 64, "samples": 8, "new": 32, "layers": 4, "hidden": 128, "reps": 3, "threads": 1}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--json", action="store_true", help="accepted for all benchmarks; this one prints JSON anyway")
    options = parser.parse_args(argv)

    from generators.engines.local import LocalEngine

    with tempfile.TemporaryDirectory() as folder:
        model = build(Path(folder), options.layers, options.hidden)
        engine = LocalEngine(folder, policy_id="bench", threads=options.threads)
        for low, high in ((16, 16), (24, 80)):
            speed = compare(engine, model, prompts(options.prompts, low, high), options.samples, options.new, options.reps)
            print(json.dumps({
                "bench": "engine", "prompts": options.prompts, "prompt_tokens": [low, high], "samples": options.samples, "new": options.new,
                "engine_tok_s": round(speed["ours"]), "transformers_tok_s": round(speed["theirs"]),
                "ratio": round(speed["ours"] / speed["theirs"], 2), "threads": options.threads, "clock": "cpu",
            }), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
