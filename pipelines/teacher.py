"""A second policy that strategies may ask: a shipped one or a model folder, on the embedded engine, behind the run's own ledger."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from data.records import Completion, Request
from data.render import Renderer
from generators.engines.ledgered import LedgeredEngine
from generators.engines.registry import open_engine
from generators.strategies.speaker import Speaker
from pipelines.policies import policy_folder, weights_fingerprint
from pipelines.policy_card import CARD
from pipelines.run import PROMPTS, Run


class Teachers:
    """Opened when first asked for; `close` frees them. `note` hears the key of every request."""

    def __init__(self, run: Run, note: Callable[[str], None]) -> None:
        self.run, self.note = run, note
        self._engines: dict[str, LedgeredEngine] = {}

    def __call__(self, path: str) -> Speaker:
        """The policy at `path`; its lineage is its weights, so that its answers are recorded once for all rounds."""
        folder = policy_folder(path)
        model = f"{folder.name}@{weights_fingerprint(folder)}"
        if model not in self._engines:
            rows = self.run.recipe.engine.batch_rows
            engine = open_engine("local", path=str(folder), policy_id=model, threads=self.run.threads, batch_rows=rows, model=model)
            self._engines[model] = LedgeredEngine(engine, self.run.ledger)
        dialect = dialect_of(folder)
        engine = self._engines[model]

        def generate(requests: Iterable[Request]) -> Iterator[Completion]:
            return engine.generate(self._noted(requests))

        return Speaker(generate, Renderer([PROMPTS], dialect).render, model, model, dialect, "structured" in engine.capabilities)

    def _noted(self, requests: Iterable[Request]) -> Iterator[Request]:
        for request in requests:
            self.note(request.key)
            yield request

    def close(self) -> None:
        for engine in self._engines.values():
            engine.close()
        self._engines.clear()


def dialect_of(folder: Path) -> str:
    """What its card says; a folder without a card is a chat model."""
    card = folder / CARD
    return str(json.loads(card.read_text()).get("dialect", "instruct")) if card.is_file() else "instruct"
