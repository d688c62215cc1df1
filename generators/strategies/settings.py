"""Typed settings of strategies: what a recipe's `[strategies.NAME]` may say, checked by pydantic and refused in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data.errors import UserError
from filters.difficulty import Band

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


class Settings(BaseModel):
    """Settings of one strategy; an attribute's docstring says what it means."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
    budget: Count = 0
    """Candidates that it may propose in a round; of no use to a strategy that only works inside training steps."""


S = TypeVar("S", bound=Settings)


def read_settings(strategy: str, kind: type[S], settings: Mapping[str, Any] | None) -> S:
    """The settings, or a UserError: the key, what would be right, what was given."""
    try:
        return kind.model_validate(dict(settings or {}))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(p) for p in ("strategies", strategy, *first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        shown = "" if isinstance(first.get("input"), Mapping) else f" (got {first.get('input')!r})"
        raise UserError(f"{key}: {message[:1].lower()}{message[1:]}{shown}") from None


def band_of(pair: tuple[float, float]) -> Band:
    """The inclusive band of a setting [low, high]; ValueError, which pydantic words, where it is none."""
    try:
        return Band.of(*pair)
    except ValueError:
        raise ValueError(f"give low <= high, both in [0, 1], not {list(pair)}") from None
