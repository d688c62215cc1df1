"""Who answers a strategy between training steps: the policy itself or a teacher, asked in its own dialect, every request keyed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from data.records import Generate, Request, Sampling
from filters.written import Form


@dataclass(frozen=True)
class Speaker:
    """`render(template, **values)` gives a prompt in the speaker's dialect; `structured`: its engine can hold answers to a schema."""

    generate: Generate
    render: Callable[..., str]
    policy_id: str
    model: str = ""
    dialect: str = "compact"
    structured: bool = False

    @property
    def form(self) -> Form:
        """How this speaker sets what it is asked for into its answers."""
        return "line" if self.dialect == "compact" else "json" if self.structured else "fenced"

    def request(
        self,
        template: str,
        sampling: Sampling,
        seed: int,
        index: int = 0,
        *,
        purpose: str = "",
        problem_id: str = "",
        schema: Mapping[str, Any] | None = None,
        **values: Any,
    ) -> Request:
        """One request; `schema` holds the answer where form is json."""
        if self.dialect == "compact":
            text = self.render(template, **values)
            return Request(self.policy_id, sampling, seed, index, prompt=text, model=self.model, purpose=purpose, problem_id=problem_id)
        held = {"json_schema": dict(schema)} if schema is not None and self.form == "json" else None
        text = self.render(template, structured=held is not None, **values)
        return Request(
            self.policy_id,
            sampling,
            seed,
            index,
            messages=({"role": "user", "content": text},),
            model=self.model,
            purpose=purpose,
            problem_id=problem_id,
            structured=held,
        )
