"""Answers recorded in a ledger: what tests and debugging use. The same recorded completions give the same digest anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from data.errors import SynthError
from data.records import Completion, Float32, LogProbs, PolicyVersion, Request
from generators.engines.base import Capabilities, Engine
from generators.engines.ledgered import RequestLedger

_LOOKUP = 512  # keys looked up at a time


class ReplayEngine:
    """Recorded completions by key, in the order asked; `fallback` answers what was never recorded and lends its tokenizer, scores and embeddings.

    Recorded failures are answers too. Without a fallback an unknown request is a completion with finish "error". Nothing is written to the ledger.
    """

    def __init__(self, ledger: RequestLedger, fallback: Engine | None = None) -> None:
        self.ledger, self.fallback = ledger, fallback
        self.capabilities: Capabilities = frozenset({"logprobs", "tokens"}) | ((fallback.capabilities - {"batches"}) if fallback else frozenset())

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        source = iter(requests)
        while chunk := list(islice(source, _LOOKUP)):
            known = self.ledger.lookup([r.key for r in chunk], failed=True)
            unknown = [r for r in chunk if r.key not in known]
            for r in chunk:
                if r.key in known:
                    yield known[r.key]
                elif self.fallback is None:
                    yield _unrecorded(r)
            if self.fallback is not None and unknown:
                yield from self.fallback.generate(unknown)

    def score(self, sequences: Iterable[tuple[str, Sequence[int]]]) -> Iterator[LogProbs]:
        return self._model("score").score(sequences)

    def embed(self, texts: Sequence[str]) -> Float32:
        return self._model("embed").embed(texts)

    def update(self, policy: PolicyVersion) -> None:
        """Recorded answers carry their policy in the key, so only a fallback has anything to update."""
        if self.fallback is not None:
            self.fallback.update(policy)

    def encode(self, text: str) -> list[int]:
        return self._model("encode").encode(text)

    def decode(self, tokens: Sequence[int]) -> str:
        return self._model("decode").decode(tokens)

    def render_chat(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        return self._model("render_chat").render_chat(messages)

    def close(self) -> None:
        """Closes the fallback; the ledger belongs to whoever opened it."""
        if self.fallback is not None:
            self.fallback.close()

    def _model(self, what: str) -> Engine:
        if self.fallback is None:
            raise SynthError(f"the replay engine holds recorded answers and no model, so it can't {what}; give it a fallback engine")
        return self.fallback


def _unrecorded(request: Request) -> Completion:
    none = np.empty(0, np.int32)
    error = f"request {request.key} ({request.purpose or 'no purpose'}, policy '{request.policy_id}') was never recorded in this ledger"
    return Completion(request.key, "", none, np.empty(0, np.float32), none, "error", request.policy_id, error=error)
