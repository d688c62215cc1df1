"""Which engines there are, opened by name; a kind's module (and torch) is imported when it is opened, not before."""

from __future__ import annotations

import difflib
import importlib
import inspect
from typing import Any

from data.errors import UserError
from generators.engines.base import Engine

_KINDS: dict[str, str] = {
    "local": "generators.engines.local:LocalEngine",
    "openai": "generators.engines.openai:OpenAIEngine",
    "replay": "generators.engines.replay:ReplayEngine",
    "vllm": "generators.engines.vllm:VllmEngine",
    "vllm_in_process": "generators.engines.vllm_in_process:VllmInProcess",
}


def register_engine(kind: str, target: str) -> None:
    """Makes `kind` mean the class or function `module:name`; it is called with the options of `open_engine`."""
    _KINDS[kind] = target


def engine_kinds() -> list[str]:
    return sorted(_KINDS)


def open_engine(kind: str, **options: Any) -> Engine:
    """The engine that `kind` names, e.g. `open_engine("local", path=…, policy_id=…)`.

    What follows a colon is the engine's address: "openai:URL" opens kind "openai" with url=URL.
    Raises UserError for an unknown kind and for options that the kind does not take.
    """
    name, colon, address = kind.partition(":")
    if name not in _KINDS:
        near = difflib.get_close_matches(name, _KINDS, n=1)
        raise UserError(f"there is no engine '{name}'; " + (f"did you mean '{near[0]}'?" if near else f"there are {', '.join(engine_kinds())}"))
    if colon:
        options["url"] = address
    module, _, attribute = _KINDS[name].partition(":")
    factory = getattr(importlib.import_module(module), attribute)
    try:
        inspect.signature(factory).bind(**options)
    except TypeError as error:
        raise UserError(f"engine '{name}': {error}") from None
    return factory(**options)
