"""Answers recorded in a ledger: what tests and debugging use. The same recorded completions give the same digest anywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from data.errors import SynthError, UserError
from data.records import Completion, Float32, LogProbs, PolicyVersion, Request
from generators.engines.base import Capabilities, Engine
from generators.engines.stream import RequestLedger

_LOOKUP = 512  # keys looked up at a time


class ReplayEngine:
    """Recorded completions by key, in the order asked; `fallback` answers what was never recorded and lends its tokenizer, scores and embeddings.

    Recorded failures are answers too. Without a fallback an unknown request is a completion with finish "error". Nothing is written to the ledger.
    `strict`: unknown requests are a UserError that counts them, raised before anything is answered (what a run wants: it is that run, or it is not).
    `model` opens what encodes, scores and embeds, when first asked for; it answers no request. `on_close` is called once.
    """

    def __init__(
        self,
        ledger: RequestLedger,
        fallback: Engine | None = None,
        *,
        strict: bool = False,
        name: str = "this ledger",
        model: Callable[[], Engine] | None = None,
        on_close: Callable[[], object] = lambda: None,
    ) -> None:
        self.ledger, self.fallback, self.strict, self.name = ledger, fallback, strict, name
        self._open_model, self._on_close = model, on_close
        self._lent: Engine | None = None
        can = (fallback.capabilities - {"batches"}) if fallback else frozenset({"score", "embed", "update"} if model else ())
        self.capabilities: Capabilities = frozenset({"logprobs", "tokens"}) | can

    def check(self, requests: Sequence[Request]) -> None:
        """UserError where this ledger has no answer to some of these and nothing else could answer them."""
        if not self.strict or self.fallback is not None:
            return
        unknown: list[Request] = []
        for start in range(0, len(requests), _LOOKUP):
            some = requests[start : start + _LOOKUP]
            known = self.ledger.lookup([r.key for r in some], failed=True)
            unknown += [r for r in some if r.key not in known]
        if unknown:
            counted = sorted(Counter(r.purpose or "no purpose" for r in unknown).items())
            by = ", ".join(f"{count:,} of '{purpose}'" for purpose, count in counted)
            raise UserError(
                f"{self.name} holds no answer to {len(unknown):,} of {len(requests):,} requests ({by}; first {unknown[0].key}, asked of policy "
                f"{unknown[0].policy_id}); a replay needs the recorded run's recipe, problems, policy and prompts, and a run that came this far"
            )

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        for r in requests:  # one by one: the input may stay open until this one is answered
            known = self.ledger.lookup([r.key], failed=True)
            if r.key in known:
                yield known[r.key]
            elif self.fallback is not None:
                yield from self.fallback.generate([r])
            else:
                self.check([r])
                yield _unrecorded(r)

    def score(self, sequences: Iterable[tuple[str, Sequence[int]]]) -> Iterator[LogProbs]:
        return self._model("score").score(sequences)

    def embed(self, texts: Sequence[str]) -> Float32:
        return self._model("embed").embed(texts)

    def update(self, policy: PolicyVersion) -> None:
        """Recorded answers carry their policy in the key, so only a model has anything to update; one that is not open yet opens as that policy."""
        for engine in (self.fallback, self._lent):
            if engine is not None:
                engine.update(policy)

    def encode(self, text: str) -> list[int]:
        return self._model("encode").encode(text)

    def decode(self, tokens: Sequence[int]) -> str:
        return self._model("decode").decode(tokens)

    def render_chat(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        return self._model("render_chat").render_chat(messages)

    def close(self) -> None:
        """Closes the fallback and what `model` opened; the ledger belongs to whoever opened it."""
        for engine in (self.fallback, self._lent):
            if engine is not None:
                engine.close()
        on_close, self._on_close = self._on_close, lambda: None
        on_close()

    def _model(self, what: str) -> Engine:
        if self.fallback is None and self._open_model is not None:
            self._lent = self._lent or self._open_model()
            return self._lent
        if self.fallback is None:
            raise SynthError(f"the replay engine holds recorded answers and no model, so it can't {what}; give it a fallback engine")
        return self.fallback


def _unrecorded(request: Request) -> Completion:
    none = np.empty(0, np.int32)
    error = f"request {request.key} ({request.purpose or 'no purpose'}, policy '{request.policy_id}') was never recorded in this ledger"
    return Completion(request.key, "", none, np.empty(0, np.float32), none, "error", request.policy_id, error=error)
