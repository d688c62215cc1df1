"""Does the engine serve the weights that the trainer has? Both are asked for the log-probs of the same tokens, after every update.

What this finds was measured on vLLM: a tied head left behind (0.7 nats and more), a prefix cache of the old weights (0.04 to 0.6), raw instead of
tempered log-probs (2.6). What it must let pass is arithmetic: float32 to 2e-5 at most and 2e-6 on average, bfloat16 to 0.1 and 0.005.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from data.errors import SynthError
from data.ids import content_hash
from data.records import Completion, Request, Sampling
from generators.engines.base import Capabilities

if TYPE_CHECKING:
    from generators.engines.vllm_settings import VllmSettings
    from generators.engines.weights import Holder

TOLERANCE = {"float32": (2e-5, 2e-4), "float16": (5e-3, 0.15), "bfloat16": (2e-2, 1.0)}
"""Nats: (mean, largest) difference that arithmetic of this type explains."""
QUANTIZED = (0.1, 3.0)
PURPOSE = "agreement"
"""Of the requests made here: they are sampled plainly, whatever schedule the run's own follow."""
PROMPT = 72  # tokens: more than two blocks of the prefix cache, so that a stale one is seen
FIRST, LATER = (4, 24), (2, 8)  # (answers, tokens) of the first check and of those after it
FOLDER_BYTES = 2 << 30  # a folder larger than this is not loaded a second time only to compare


class Asked(Protocol):
    settings: VllmSettings
    capabilities: Capabilities
    config: Any
    policy_id: str
    context: int
    seen: Sequence[int]

    def generate(self, requests: Sequence[Request]) -> Any: ...
    def score(self, sequences: Sequence[tuple[str, Sequence[int]]]) -> Any: ...


@dataclass(frozen=True)
class Difference:
    """Nats between the engine's and the trainer's log-probs of the same sampled tokens; `scored` the same for `score`."""

    tokens: int
    mean: float
    largest: float
    scored: float


class Agreement:
    """`check` after each update; `last` is what the latest one found, None before and where nothing could be compared."""

    def __init__(self, settings: VllmSettings) -> None:
        self.settings = settings
        self.last: Difference | None = None
        self.checks = 0

    def check(self, engine: Asked, holder: Holder) -> None:
        """Raises SynthError where engine and trainer disagree beyond the dtype's tolerance."""
        if getattr(holder, "bytes", 0) > FOLDER_BYTES:
            return
        found = compare(engine, holder, *(LATER if self.checks else FIRST), key=str(self.checks))
        self.last, self.checks = found, self.checks + 1
        dtype, (mean, largest) = self.tolerance(engine.config)
        if not (found.mean <= mean and found.largest <= largest and found.scored <= largest):
            raise SynthError(
                f"vLLM and the trainer disagree about policy {engine.policy_id}: log-probs of the same {found.tokens} tokens differ by "
                f"{found.mean:.2g} nats on average, {max(found.largest, found.scored):.2g} at most, where {dtype} explains {mean:g} and {largest:g}; "
                "training on such tokens would be training on another policy's"
            )

    def tolerance(self, config: Any) -> tuple[str, tuple[float, float]]:
        s = self.settings
        if s.quantization:
            return s.quantization, QUANTIZED
        named = s.dtype if s.dtype != "auto" else ("float32" if s.on_cpu else str(getattr(config, "dtype", "") or "bfloat16").removeprefix("torch."))
        name = {"half": "float16", "float": "float32"}.get(named, named)
        return name, TOLERANCE.get(name, TOLERANCE["bfloat16"])


def compare(engine: Asked, holder: Holder, answers: int, tokens: int, key: str = "") -> Difference:
    """Samples from the engine at temperature 1 and asks the holder about the same tokens."""
    vocab = int(getattr(engine.config.get_text_config(), "vocab_size", 0))
    # The same prompt every time, of the run's own text where there was some: its cached blocks would be the old weights' if the cache had been kept.
    known = list(engine.seen) or [int(t) for t in np.random.default_rng(0).integers(0, vocab, PROMPT)]
    prompt = (known * (PROMPT // len(known) + 1))[: min(PROMPT, engine.context - tokens - 1)]
    rule = Sampling(temperature=1.0, max_tokens=tokens)
    seeds = [int(content_hash("check", key, i)[:15], 16) for i in range(answers)]
    asked = [Request(engine.policy_id, rule, seed, i, tokens=tuple(prompt), purpose=PURPOSE) for i, seed in enumerate(seeds)]
    made: list[Completion] = list(engine.generate(asked))
    if broken := [c.error for c in made if c.finish == "error"]:
        raise SynthError(f"vLLM took new weights and can't generate with them: {broken[0]}")
    rows = [([*prompt, *c.tokens.tolist()], len(prompt)) for c in made]
    theirs = holder.logprobs(rows)
    scores = engine.score([(str(i), row) for i, (row, _) in enumerate(rows)]) if "score" in engine.capabilities else ()
    by_key = {s.key: s.logp[len(prompt) :] for s in scores}
    by_score = [np.abs(by_key[str(i)] - t).max() for i, t in enumerate(theirs) if str(i) in by_key and len(t)]
    by_token = np.concatenate([np.abs(c.logp - t) for c, t in zip(made, theirs, strict=True)])
    return Difference(len(by_token), float(by_token.mean()), float(by_token.max()), float(max(by_score, default=0.0)))
