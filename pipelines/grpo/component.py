"""Components: the named parts that an objective is composed of. Each sits in one slot and says what it takes and what it needs.

A component is a function, or a class whose instances are called (where it keeps state; then `state_dict` and
`load_state_dict` are checkpointed). Its options are its keyword-only parameters: their names are the recipe's keys, so
one name means one thing wherever it occurs, and any number may be a schedule (`schedule.py`).

Modules that register components import no torch (tensor methods are enough), so that a recipe is checked without it.
"""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from data.errors import UserError

SLOTS: dict[str, str] = {
    "composers": "select, filter, inject and recompose whole groups before packing",
    "shapers": "rewards of whole groups to rewards",
    "estimator": "rewards to advantages",
    "transforms": "advantages to advantages, in order",
    "ratio": "log-probs to the log-ratio that the surrogate sees",
    "clip": "bounds of the ratio",
    "surrogate": "ratio, bounds and advantage to a token loss",
    "weights": "detached factors of the token loss, multiplied",
    "regularizers": "terms added to the token loss after the weights",
    "aux": "losses with rows and a denominator of their own",
    "aggregation": "what one token weighs",
}
ONE = ("estimator", "ratio", "clip", "surrogate", "aggregation")
"""Slots that hold exactly one component; the others hold any number, in order."""

Signal = Literal["entropy", "entropy_grad", "ref_logp", "behavior_logp", "old_logp", "step_entropy"]
"""What the trainer computes only where a component asks: the entropy of each trained token (with its gradient), reference log-probs,
the sampler's log-probs (rows without them are left out), log-probs and entropies of all rows before the step's first update (an extra forward)."""


class Stateful(Protocol):
    """A component that remembers: its state is JSON-able and is written into every checkpoint."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True)
class Component:
    """What the registry knows. `switch` = the option that puts it into a many-slot when set, and takes it out when 0.

    `flat`: an estimator that gives gradient to a group of equal rewards; `selects`: rows of advantage 0 are in no denominator;
    `step`: a weight computed in numpy over the whole step; `whole_rows`, `whole_groups`: may not be cut apart in packing.
    """

    slot: str
    name: str
    make: Callable[..., Any]
    options: Mapping[str, Any]
    choices: Mapping[str, tuple[str, ...]]
    checks: Mapping[str, tuple[Callable[[Any], bool], str]]
    needs: frozenset[str] = frozenset()
    switch: str = ""
    paper: str = ""
    flat: bool = False
    selects: bool = False
    step: bool = False
    whole_groups: bool = False
    stateful: bool = False

    @property
    def summary(self) -> str:
        """The first sentence of its documentation."""
        return (inspect.getdoc(self.make) or "").split("\n\n")[0].replace("\n", " ")


REGISTRY: dict[str, dict[str, Component]] = {slot: {} for slot in SLOTS}
Made = TypeVar("Made", bound=Callable[..., Any])


def component(
    slot: str,
    *,
    name: str = "",
    needs: Iterable[str] = (),
    switch: str = "",
    choices: Mapping[str, tuple[str, ...]] | None = None,
    checks: Mapping[str, tuple[Callable[[Any], bool], str]] | None = None,
    paper: str = "",
    flat: bool = False,
    selects: bool = False,
    step: bool = False,
    whole_groups: bool = False,
) -> Callable[[Made], Made]:
    """Registers a function or a class in `slot` under its own name (or `name`); its keyword-only parameters become options."""
    if slot not in SLOTS:
        raise ValueError(f"there is no slot {slot!r}; slots: {', '.join(SLOTS)}")

    def add(make: Made) -> Made:
        call = make.__call__ if inspect.isclass(make) else make
        keywords = [p for p in inspect.signature(call).parameters.values() if p.kind is p.KEYWORD_ONLY]
        REGISTRY[slot][name or make.__name__] = Component(
            slot,
            name or make.__name__,
            make,
            {p.name: p.default for p in keywords},
            dict(choices or {}),
            dict(checks or {}),
            frozenset(needs),
            switch,
            paper,
            flat,
            selects,
            step,
            whole_groups,
            hasattr(make, "state_dict"),
        )
        return make

    return add


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name most like `name`, for error messages."""
    return difflib.get_close_matches(name, list(known), 1, 0.0)[0]


def component_named(slot: str, name: str) -> Component:
    """The component, or a UserError that names the nearest one."""
    if name not in REGISTRY[slot]:
        raise UserError(
            f"{slot} has no component {name!r}; did you mean {nearest(name, REGISTRY[slot])!r}? It must be one of {', '.join(REGISTRY[slot])}"
        )
    return REGISTRY[slot][name]


def owners(option: str) -> list[Component]:
    """Every component that takes this option."""
    return [c for slot in REGISTRY.values() for c in slot.values() if option in c.options]


def known_options() -> set[str]:
    return {o for slot in REGISTRY.values() for c in slot.values() for o in c.options}


def checked_option(owner: Component, key: str, value: Any) -> Any:
    """The value in the option's own type, or a UserError that says what would be right."""
    default = owner.options[key]
    kind = type(default)
    if isinstance(value, int) and not isinstance(value, bool) and kind is float:
        value = float(value)
    if type(value) is not kind:
        raise UserError(f"option {key!r} takes {kind.__name__}, got {value!r}")
    if key in owner.choices and value not in owner.choices[key]:
        known = [str(c) for c in owner.choices[key]]
        raise UserError(f"{key} must be one of {', '.join(known)}, got {value!r}; did you mean {nearest(str(value), known)!r}?")
    right, says = owner.checks.get(key, (_ordinary, "must be a finite number, 0 or more"))
    if not right(value):
        raise UserError(f"{key} {says}, got {value}")
    return value


def _ordinary(value: Any) -> bool:
    return isinstance(value, bool | str) or (math.isfinite(value) and value >= 0)
