"""An engine around another one: what it does not do itself goes through to that one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from data.records import Float32, LogProbs, PolicyVersion
from generators.engines.base import Engine


class Around:
    """`engine` scores, embeds, takes weights and turns text into tokens; whoever is around it generates."""

    engine: Engine

    def score(self, sequences: Iterable[tuple[str, Sequence[int]]]) -> Iterator[LogProbs]:
        return self.engine.score(sequences)

    def embed(self, texts: Sequence[str]) -> Float32:
        return self.engine.embed(texts)

    def update(self, policy: PolicyVersion) -> None:
        self.engine.update(policy)

    def encode(self, text: str) -> list[int]:
        return self.engine.encode(text)

    def decode(self, tokens: Sequence[int]) -> str:
        return self.engine.decode(tokens)

    def render_chat(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        return self.engine.render_chat(messages)

    def close(self) -> None:
        self.engine.close()
