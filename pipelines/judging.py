"""Verifiers that ask a model are handed the run's own engine; what they asked is remembered, so that it lands in the shard it belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any

from data.records import Completion, PolicyVersion, Request
from filters.verifiers.base import Tools
from pipelines.run import Run


class Judge:
    """One stage's judges. The policy that answers is the one that the engine holds, the run's newest unless told; its answers go through the
    ledger like all others."""

    def __init__(self, run: Run, policy: PolicyVersion | None = None) -> None:
        self.run, self.policy = run, policy
        self._asked: set[str] = set()

    @cached_property
    def tools(self) -> Tools:
        """The engine is opened when a verifier first asks, and not before."""
        policy = self.policy or self.run.policy()
        return Tools(self._generate, lambda texts: self.run.engine().embed(texts), policy.id, self.run.recipe.policy.dialect)

    def requests(self, round: int, stage: str, shard: int) -> list[dict[str, Any]]:
        """Rows of `requests` for what was asked since the last call."""
        asked, self._asked = sorted(self._asked), set()
        return self.run.ledger.rows(asked, round=round, stage=stage, shard=shard) if asked else []

    def _generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Judges name no model, the ledger's keys do: each answer goes back under the key that its judge knows."""
        given = {replace(r, model=self.run.model).key: r for r in requests}
        self._asked |= given.keys()
        for completion in self.run.engine().generate([replace(r, model=self.run.model) for r in given.values()]):
            yield replace(completion, key=given[completion.key].key)
