"""What writes text: the engine protocol. Token ids in, token ids out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from data.records import Completion, Float32, LogProbs, PolicyVersion, Request

Capabilities = frozenset[str]
"""Of: logprobs, tokens, images, structured, score, embed, update, batches (see `Batched`)."""


@runtime_checkable
class Engine(Protocol):
    """Streams completions in completion order; each carries its request's key.

    A request that fails is a completion with `finish="error"` and a reason, never an exception: a bad
    rollout is data. An exception means that the engine itself is broken.
    """

    capabilities: Capabilities

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]: ...

    def score(self, sequences: Iterable[tuple[str, Sequence[int]]]) -> Iterator[LogProbs]:
        """(key, token ids) pairs -> log-prob of every token given those before it."""
        ...

    def embed(self, texts: Sequence[str]) -> Float32:
        """float32[n, d]."""
        ...

    def update(self, policy: PolicyVersion) -> None:
        """New weights; whatever was cached for the old ones is dropped."""
        ...

    def encode(self, text: str) -> list[int]: ...

    def decode(self, tokens: Sequence[int]) -> str: ...

    def render_chat(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """Chat messages -> prompt token ids, by the model's own chat template."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class Batched(Protocol):
    """An engine whose numbers depend on which requests share a batch (bit-equal only batch by batch).

    The ledger in front of it asks for the plan of the *whole* shard and regenerates whole batches only, so that
    a resumed shard computes exactly what the uninterrupted one would have.
    """

    def batches(self, requests: Sequence[Request]) -> list[list[Request]]: ...

    def generate_batch(self, batch: Sequence[Request]) -> list[Completion]: ...
