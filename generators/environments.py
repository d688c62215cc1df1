"""Environments of multi-turn rollouts: what the policy sees after each of its turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from data.errors import UserError
from data.records import Problem, Turn


class Environment(Protocol):
    """Pure: the observation depends on the problem and the turns so far, so that a replay sees the same.

    `observe` gives the text that is appended (masked from the loss) before the policy goes on, or None when the
    conversation is over.
    """

    name: str
    max_turns: int

    def observe(self, problem: Problem, turns: Sequence[Turn]) -> str | None: ...


_registry: dict[str, Callable[[Mapping[str, Any]], Environment]] = {}


def register_environment(name: str, make: Callable[[Mapping[str, Any]], Environment]) -> None:
    _registry[name] = make


def get_environment(name: str, settings: Mapping[str, Any] | None = None) -> Environment:
    if name not in _registry:
        raise UserError(f"no environment named {name!r}; there are: {', '.join(sorted(_registry)) or 'none'}")
    return _registry[name](settings or {})
