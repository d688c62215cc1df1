"""Worlds by name."""

from __future__ import annotations

from collections.abc import Callable

from data.errors import UserError
from generators.worlds.base import World

_registry: dict[str, Callable[[], World]] = {}


def register_world(name: str, make: Callable[[], World]) -> None:
    _registry[name] = make


def get_world(name: str) -> World:
    if name == "arithmetic" and name not in _registry:
        from generators.worlds.arithmetic import ArithmeticWorld

        register_world(name, ArithmeticWorld)
    if name not in _registry:
        raise UserError(f"problems.world: no world named {name!r}; there are: {', '.join(sorted({'arithmetic', *_registry}))}")
    return _registry[name]()
