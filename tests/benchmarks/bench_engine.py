"""`synth bench engine`: tokens a second of the embedded engine and of transformers' `generate`, in one process.

Work, on a random Qwen3 (4 layers, hidden 128, vocabulary 600) in float32 with one thread:
- groups: 64 prompts x 8 samples x 32 new tokens, nothing ends early;
- prefix: 128 prompts of 340 tokens that differ in their last 20 only, one sample each of U(8, 128) tokens. transformers stops a row at its own
  length too and goes on until the last one; only the tokens asked for count.
- structured: replies of the seed policy, which knows no JSON, under a JSON schema with a text of any length in it, each with its own room of
  30 to 96 tokens; how many are valid, and how fast.
The clock is the process's CPU time, so that a busy machine measures the same; the two take turns and the median of each counts.
Prints one JSON line per work and prompt shape: engine and transformers tokens/s, their ratio.
Engines behind HTTP (scheduler, openai, ledger) are measured by `synth bench endpoint`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

VOCAB = 600
SEED_POLICY = Path(__file__).parents[2] / "data" / "policies" / "arithmetic"


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


def compare(engine: Any, model: Any, texts: Sequence[str], samples: int, news: Sequence[int], reps: int) -> dict[str, float]:
    """Median tokens/s of both at the same work: `samples` of each text, each of that text's number of new tokens."""
    import torch
    from transformers import StoppingCriteria, StoppingCriteriaList

    from data.records import Request, Sampling

    limits = torch.tensor(list(news)).repeat_interleave(samples)
    wanted = int(limits.sum())

    class OwnLength(StoppingCriteria):
        def __init__(self, prompt: int) -> None:
            self.prompt = prompt

        def __call__(self, ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
            return ids.shape[1] - self.prompt >= limits

    def ours(rep: int) -> int:
        requests = [
            Request("bench", Sampling(max_tokens=new), seed=rep << 32 | i << 8 | j, index=j, prompt=text)
            for i, (text, new) in enumerate(zip(texts, news))
            for j in range(samples)
        ]
        return sum(len(c.tokens) for c in engine.generate(requests))

    def theirs(rep: int) -> int:
        torch.manual_seed(rep)
        given = engine.tokenizer(list(texts), return_tensors="pt", padding=True)
        ids, mask = given.input_ids.repeat_interleave(samples, 0), given.attention_mask.repeat_interleave(samples, 0)
        own = StoppingCriteriaList([OwnLength(ids.shape[1])] if len(set(news)) > 1 else [])
        with torch.inference_mode():
            model.generate(
                ids, attention_mask=mask, do_sample=True, max_new_tokens=max(news), top_k=0, pad_token_id=0, stopping_criteria=own)
        return wanted

    speed: dict[str, list[float]] = {"ours": [], "theirs": []}
    for rep in range(reps + 1):
        for name, work in (("ours", ours), ("theirs", theirs)):
            took, tokens = seconds(lambda work=work, rep=rep: work(rep))  # type: ignore[misc]
            assert tokens == wanted, f"{name} sampled {tokens} of {wanted} tokens"
            if rep:  # the first of each warms up
                speed[name].append(tokens / took)
    return {name: median(values) for name, values in speed.items()}


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "n": {"type": "integer"},
        "tags": {"type": "array", "items": {"enum": ["a", "bb"]}, "maxItems": 3},
        "note": {"type": "string"},  # of any length
    },
    "required": ["name", "n", "tags"],
    "additionalProperties": False,
}


def structured(replies: int, threads: int) -> None:
    import jsonschema

    from data.records import Request, Sampling
    from generators.engines.local import LocalEngine

    rng, form = random.Random(0), {"json_schema": SCHEMA}
    requests = [
        Request("bench", Sampling(max_tokens=rng.randint(30, 96)), i, i % 8, messages=({"role": "user", "content": f"{i // 8}+4="},), structured=form)
        for i in range(replies)
    ]
    engine = LocalEngine(SEED_POLICY, policy_id="bench", threads=threads)
    begun = time.process_time()
    answers = list(engine.generate(requests))
    took, valid = time.process_time() - begun, 0
    for answer in answers:
        with contextlib.suppress(ValueError, jsonschema.ValidationError):
            jsonschema.validate(json.loads(answer.text), SCHEMA)
            valid += answer.finish == "stop"
    speed = round(sum(len(a.tokens) for a in answers) / took)
    figures = {"replies": replies, "valid": valid, "engine_tok_s": speed, "threads": threads, "clock": "cpu"}
    print(json.dumps({"bench": "engine", "work": "structured", **figures}), flush=True)


def print_line(work: dict[str, Any], speed: dict[str, float], shape: dict[str, Any]) -> None:
    ratio = round(speed["ours"] / speed["theirs"], 2)
    figures = {"engine_tok_s": round(speed["ours"]), "transformers_tok_s": round(speed["theirs"]), "ratio": ratio}
    print(json.dumps({"bench": "engine", **work, **figures, **shape}), flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="synth bench engine", description=__doc__.splitlines()[0] if __doc__ else None)
    for name, value in {"prompts": 64, "samples": 8, "new": 32, "layers": 4, "hidden": 128, "reps": 3, "threads": 1, "replies": 1000}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--json", action="store_true", help="accepted for all benchmarks; this one prints JSON anyway")
    options = parser.parse_args(argv)

    from generators.engines.local import LocalEngine

    with tempfile.TemporaryDirectory() as folder:
        model = build(Path(folder), options.layers, options.hidden)
        engine = LocalEngine(folder, policy_id="bench", threads=options.threads)
        shape = {"layers": options.layers, "hidden": options.hidden, "threads": options.threads, "clock": "cpu"}
        for low, high in ((16, 16), (24, 80)):
            speed = compare(engine, model, prompts(options.prompts, low, high), options.samples, [options.new] * options.prompts, options.reps)
            work = {"work": "groups", "prompts": options.prompts, "prompt_tokens": [low, high], "samples": options.samples, "new": options.new}
            print_line(work, speed, shape)
        shared, rng = prompts(1, 320, 320)[0], random.Random(1)
        texts, news = [shared + rest for rest in prompts(128, 20, 20)], [rng.randint(8, 128) for _ in range(128)]
        speed = compare(engine, model, texts, 1, news, options.reps)
        print_line({"work": "prefix", "prompts": 128, "prompt_tokens": [340, 340], "shared_tokens": 320, "new": [8, 128]}, speed, shape)
    structured(options.replies, options.threads)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
