"""Shipped strategies by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from data.errors import UserError
from generators.strategies.base import Strategy
from generators.strategies.clpo import Clpo
from generators.strategies.co_reward import CoReward
from generators.strategies.frontier import Frontier
from generators.strategies.mr_rlvr import MrRlvr
from generators.strategies.paraphrase import Paraphrase
from generators.strategies.rlpt import Rlpt
from generators.strategies.svs import Svs
from generators.strategies.sws import Sws

_registry: dict[str, Callable[[Mapping[str, Any]], Strategy]] = {
    "clpo": Clpo,
    "co_reward": CoReward,
    "frontier": Frontier,
    "mr_rlvr": MrRlvr,
    "paraphrase": Paraphrase,
    "rlpt": Rlpt,
    "svs": Svs,
    "sws": Sws,
}


def register_strategy(name: str, make: Callable[[Mapping[str, Any]], Strategy]) -> None:
    _registry[name] = make


def make_strategy(name: str, settings: Mapping[str, Any]) -> Strategy:
    """The strategy `name` with its settings; an unknown name or setting is the user's mistake and says what is near."""
    if name not in _registry:
        near = difflib.get_close_matches(name, _registry, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(f"strategies.{name}: no such strategy; {hint}there are: {', '.join(sorted(_registry))}")
    make = _registry[name]
    known = sorted(getattr(make, "settings_known", settings))
    for key in sorted(set(settings) - set(known)):
        near = difflib.get_close_matches(key, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it knows {', '.join(known)}"
        raise UserError(f"strategies.{name}.{key}: unknown setting; {hint}")
    return make(settings)
