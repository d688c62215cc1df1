"""An engine tried out on a policy: everything it can do, once, with times. What `synth engine check` prints."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import SynthError
from data.records import Completion, PolicyVersion, Request, Sampling
from generators.engines.agreement import FOLDER_BYTES, TOLERANCE
from generators.engines.base import Engine
from generators.engines.folder import load_weights
from generators.engines.local import LocalEngine

SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "integer", "minimum": 0, "maximum": 999}, "unit": {"enum": ["m", "s", "kg"]}},
    "required": ["answer", "unit"],
    "additionalProperties": False,
}
SEQUENCES, TOKENS = 64, 32


@dataclass(frozen=True)
class Finding:
    """One line of the table: `good` is None where the engine does not claim to be able."""

    name: str
    good: bool | None
    said: str
    seconds: float = 0.0


def try_engine(engine: Engine, base: Path, policy_id: str, prompts: Sequence[str]) -> Iterator[Finding]:
    """`engine` holds the weights of the folder `base` as `policy_id`; prompts in its tokenizer's plain text."""
    made: list[Completion] = []

    def generate() -> tuple[bool, str]:
        rule = Sampling(max_tokens=TOKENS)
        asked = [Request(policy_id, rule, seed=n, index=n, prompt=prompts[n % len(prompts)]) for n in range(SEQUENCES)]
        began = time.perf_counter()
        made.extend(engine.generate(asked))
        seconds = time.perf_counter() - began
        if broken := [c.error for c in made if c.finish == "error"]:
            return False, broken[0]
        return len(made) == SEQUENCES, f"{len(made)} answers, {sum(len(c.tokens) for c in made) / seconds:,.0f} tokens/s"

    def logprobs() -> tuple[bool, str]:
        return _same(engine, base, made[:8])

    def structured() -> tuple[bool, str]:
        asked = [
            Request(policy_id, Sampling(max_tokens=96), seed=n, index=n, prompt=prompts[n % len(prompts)], structured={"json_schema": SCHEMA})
            for n in range(SEQUENCES)
        ]
        valid = sum(_is_valid(c.text) for c in engine.generate(asked))
        return valid == SEQUENCES, f"{valid} of {SEQUENCES} answers valid under a JSON schema"

    def update() -> tuple[bool, str]:
        if sum(f.stat().st_size for f in base.glob("*.safetensors")) > FOLDER_BYTES:
            return True, "not tried: the policy is too large to write a second one"
        with tempfile.TemporaryDirectory() as folder:
            moved = moved_policy(base, Path(folder))
            began = time.perf_counter()
            engine.update(moved)
            seconds = time.perf_counter() - began
            rule = Sampling(max_tokens=TOKENS)
            asked = [Request(moved.id, rule, seed=n, index=n, prompt=prompts[n % len(prompts)]) for n in range(8)]
            answers = list(engine.generate(asked))
            good, said = _same(engine, Path(moved.path), answers)
            engine.update(PolicyVersion(policy_id, str(base)))
        versions = {c.policy_id for c in answers}
        return good and versions == {moved.id}, f"{seconds * 1e3:.0f} ms; answered as {', '.join(sorted(versions))}; {said}"

    yield _found("generate", generate)
    if made:
        yield _found("log-probs", logprobs)
    for name, work in (("structured", structured), ("update", update)):
        yield _found(name, work) if name in engine.capabilities else Finding(name, None, "this engine does not")


def _found(name: str, work: Callable[[], tuple[bool, str]]) -> Finding:
    began = time.perf_counter()
    try:
        good, said = work()
    except SynthError as error:
        good, said = False, str(error)
    return Finding(name, good, said, time.perf_counter() - began)


def _same(engine: Engine, folder: Path, answers: Sequence[Completion]) -> tuple[bool, str]:
    """Log-probs of sampled tokens: as sampled, as the engine scores them, and as the embedded engine does with the same weights."""
    rows = [(str(n), [*c.prompt_tokens.tolist(), *c.tokens.tolist()]) for n, c in enumerate(answers)]
    reference = {s.key: s.logp for s in LocalEngine(folder, policy_id="reference").score(rows)}
    scored = {s.key: s.logp for s in engine.score(rows)} if "score" in engine.capabilities else reference
    gaps = [
        np.abs(given - reference[str(n)][len(c.prompt_tokens) :])
        for n, c in enumerate(answers)
        for given in (c.logp, scored[str(n)][len(c.prompt_tokens) :])
    ]
    largest = float(np.concatenate(gaps).max())
    dtype = str(getattr(engine, "dtype", "float32"))
    return largest <= TOLERANCE.get(dtype, TOLERANCE["bfloat16"])[1], f"at most {largest:.1e} nats from transformers' (embedded engine, float32)"


def moved_policy(base: Path, folder: Path, seed: int = 1, size: float = 0.02) -> PolicyVersion:
    """A copy of `base` in `folder` with noise of `size` standard deviations on every weight, as a training step would leave it."""
    import torch
    from safetensors.torch import save_file

    for file in base.iterdir():
        if file.is_file() and not file.name.startswith("model"):
            shutil.copy(file, folder / file.name)
    draw = torch.Generator().manual_seed(seed)
    moved: dict[str, Any] = {}
    for name, weight in load_weights(base).items():
        noise = torch.randn(weight.shape, generator=draw).to(weight.dtype)
        moved[name] = weight + size * noise * (float(weight.float().std()) if weight.numel() > 1 else 0.0)
    save_file(moved, folder / "model.safetensors", metadata={"format": "pt"})
    return PolicyVersion(f"moved-{seed}", str(folder), 0, seed)


def _is_valid(text: str) -> bool:
    try:
        value = json.loads(text)
    except ValueError:
        return False
    if not isinstance(value, dict) or value.keys() != {"answer", "unit"}:
        return False
    return isinstance(value["answer"], int) and 0 <= value["answer"] <= 999 and value["unit"] in ("m", "s", "kg")
