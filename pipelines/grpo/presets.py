"""Presets: named combinations of components, as values; every slot and every option can be overridden key by key in the recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pipelines.grpo.library  # noqa: F401 - registers the components
from data.errors import UserError
from pipelines.grpo.component import ONE, REGISTRY, SLOTS, Component, checked_option, component_named, known_options, nearest, owners
from pipelines.grpo.schedule import Schedule, schedule_from

DEFAULT_PARTS: dict[str, tuple[str, ...]] = {
    "composers": (),
    "shapers": (),
    "estimator": ("group_norm",),
    "transforms": (),
    "ratio": ("token",),
    "clip": ("fixed",),
    "surrogate": ("ppo",),
    "weights": (),
    "regularizers": (),
    "aux": (),
    "aggregation": ("seq_mean_token_mean",),
}


@dataclass(frozen=True)
class Preset:
    """One objective: component names per slot, and the value of every option that they take (a number, or a schedule of it)."""

    name: str
    paper: str
    parts: Mapping[str, tuple[str, ...]]
    options: Mapping[str, Any] = field(default_factory=dict)

    def one(self, slot: str) -> str:
        """The component of a slot that holds exactly one."""
        return self.parts[slot][0]

    def components(self) -> list[Component]:
        """In slot order."""
        return [component_named(slot, name) for slot in SLOTS for name in self.parts[slot]]

    @property
    def needs(self) -> frozenset[str]:
        """Signals that the trainer has to compute for it."""
        return frozenset().union(*(c.needs for c in self.components()))

    @property
    def keeps_flat_groups(self) -> bool:
        """Whether a group of equal rewards may carry gradient: then dynamic sampling must not throw it away."""
        return component_named("estimator", self.one("estimator")).flat

    def numbers(self, step: int) -> dict[str, Any]:
        """Every option's value at `step` (from 0)."""
        return {k: v.value(step) if isinstance(v, Schedule) else v for k, v in self.options.items()}


def _preset(name: str, paper: str, **changes: Any) -> Preset:
    parts = {**DEFAULT_PARTS, **{k: v if isinstance(v, tuple) else (v,) for k, v in changes.items() if k in SLOTS}}
    return _complete(Preset(name, paper, parts), {k: v for k, v in changes.items() if k not in SLOTS})


def _complete(preset: Preset, options: Mapping[str, Any]) -> Preset:
    """With the default of every option that is not given. Two components of one preset that share a name share its value."""
    values: dict[str, Any] = {}
    for part in preset.components():
        for key, default in part.options.items():
            values[key] = options.get(key, values.get(key, default))
    return Preset(preset.name, preset.paper, preset.parts, values)


_DAPO: dict[str, Any] = {
    "clip_high": 0.28,
    "dual_clip": 10.0,
    "aggregation": "token_mean",
    "composers": "drop_flat",
    "dynamic_sampling": True,
    "shapers": "overlong",
    "overlong_share": 0.2,
}

PRESETS: dict[str, Preset] = {
    p.name: p
    for p in (
        _preset("grpo", "DeepSeekMath, arXiv 2402.03300; defaults of verl"),
        _preset("dapo", "DAPO, arXiv 2503.14476", **_DAPO),
        _preset("dr_grpo", "Dr. GRPO, arXiv 2503.20783", estimator="group_center", dual_clip=0.0, aggregation="sum_over_const"),
        _preset("rloo", "RLOO, arXiv 2402.14740", estimator="rloo", clip="none", aggregation="seq_mean_token_sum"),
        _preset("reinforce_pp", "REINFORCE++, arXiv 2501.03262", estimator="return_to_go", transforms="whiten", aggregation="token_mean"),
        _preset(
            "reinforce_pp_baseline", "REINFORCE++-baseline, arXiv 2501.03262", estimator="group_center", transforms="whiten", aggregation="token_mean"
        ),
        _preset("gspo", "GSPO, arXiv 2507.18071", ratio="sequence", clip_low=3e-4, clip_high=4e-4, dual_clip=0.0),
        _preset("gspo_token", "GSPO-token, arXiv 2507.18071", ratio="sequence_token", clip_low=3e-4, clip_high=4e-4, dual_clip=0.0),
        _preset("cispo", "MiniMax-M1, arXiv 2506.13585; ScaleRL's cap", surrogate="cispo", clip="capped", aggregation="token_mean"),
        _preset("sapo", "SAPO, arXiv 2511.20347", surrogate="sapo", clip="none"),
        _preset("dcpo", "DCPO, arXiv 2509.02333", estimator="smooth_standardization", clip="adaptive", aggregation="only_token_mean"),
        _preset("nsr", "NSR, arXiv 2506.01347", estimator="negative_only", dual_clip=0.0, aggregation="token_mean"),
        _preset("psr", "PSR, arXiv 2506.01347", estimator="positive_only", dual_clip=0.0, aggregation="token_mean"),
        _preset("w_reinforce", "W-REINFORCE, arXiv 2506.01347", estimator="weighted_signs", dual_clip=0.0, aggregation="token_mean"),
        _preset("entropy_20", "Beyond the 80/20 rule, arXiv 2506.01939", weights="entropy_mask", entropy_share=0.2, **_DAPO),
    )
}


def preset_named(name: str, overrides: Mapping[str, Any] | None = None) -> Preset:
    """A preset with `overrides` key by key; UserError on an unknown name, key or value, and on parts that do not go together.

    A key is a slot (its component's name, or a list of names), or an option. The option that is a component's switch puts
    it in, and 0 takes it out. Any other option must belong to a component that is in.
    """
    if name not in PRESETS:
        raise UserError(f"there is no GRPO preset {name!r}; did you mean {nearest(name, PRESETS)!r}? ({', '.join(PRESETS)})")
    given = dict(overrides or {})
    known = known_options()
    for key in given:
        if key not in SLOTS and key not in known:
            raise UserError(f"preset {name!r} has no key {key!r}; did you mean {nearest(key, known | set(SLOTS))!r}?")
    base = PRESETS[name]
    parts = {**base.parts, **{slot: _names(slot, given.pop(slot)) for slot in SLOTS if slot in given}}
    gone = {o for slot in SLOTS for n in set(base.parts[slot]) - set(parts[slot]) for o in component_named(slot, n).options}
    kept = {key: value for key, value in base.options.items() if key not in gone}  # a new component begins with its own defaults
    options = {**kept, **{key: _value(key, value) for key, value in given.items()}}
    for slot in SLOTS:
        for part in REGISTRY[slot].values():
            if part.switch in given:
                others = tuple(n for n in parts[slot] if n != part.name)
                on = bool(options[part.switch])
                parts[slot] = parts[slot] if on and part.name in parts[slot] else (*others, part.name) if on else others
    made = _complete(Preset(name, base.paper, parts), options)
    for key in given:
        homes = owners(key)
        if key not in made.options and not any(c.switch == key for c in homes):
            raise UserError(f"{key} belongs to {_listed(homes)}, which this objective does not use{_remedy(homes)}")
    for refused, reason in REFUSALS:
        if refused(made):
            raise UserError(f"preset {name!r} as given cannot work: {reason}")
    return made


def _names(slot: str, value: Any) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Sequence) else ()
    if (not names and value not in ([], ())) or not all(isinstance(n, str) for n in names):
        raise UserError(f"slot {slot!r} takes a component's name{'' if slot in ONE else ' or a list of names'}, got {value!r}")
    if slot in ONE and len(names) != 1:
        raise UserError(f"slot {slot!r} holds exactly one component, got {list(names)}")
    for n in names:
        component_named(slot, n)
    if len(set(names)) < len(names):
        raise UserError(f"slot {slot!r} names a component twice: {list(names)}")
    return names


def _value(key: str, value: Any) -> Any:
    owner = owners(key)[0]
    if isinstance(value, Mapping):
        if type(owner.options[key]) is not float:
            raise UserError(f"{key} takes {type(owner.options[key]).__name__}; only numbers can be schedules")
        made = schedule_from(value, key)
        for number in {made.value(s) for s in range(0, 100_000, 997)}:
            checked_option(owner, key, number)
        return made
    return checked_option(owner, key, value)


def _listed(homes: Sequence[Component]) -> str:
    return " and ".join(f"{c.slot} {c.name!r}" for c in homes)


def _remedy(homes: Sequence[Component]) -> str:
    first = homes[0]
    if first.switch:
        return f"; {first.switch} above 0 puts it in"
    return f"; set {first.slot} = {first.name!r} to use it"


def _has(preset: Preset, slot: str, *names: str) -> bool:
    return bool(set(preset.parts[slot]) & set(names))


REFUSALS: tuple[tuple[Callable[[Preset], bool], str], ...] = (
    (
        lambda p: _has(p, "composers", "drop_flat") and p.keeps_flat_groups,
        "dynamic sampling drops groups of equal rewards, and this estimator learns from them; set dynamic_sampling = false or another estimator",
    ),
    (
        lambda p: _has(p, "surrogate", "sapo") and not _has(p, "clip", "none"),
        "surrogate 'sapo' is a gate of its own and reads no bounds; set clip = 'none'",
    ),
    (
        lambda p: _has(p, "ratio", "sequence", "sequence_token") and _has(p, "clip", "adaptive"),
        "clip 'adaptive' bounds a token's ratio by that token's probability, and a sequence ratio has none; set ratio = 'token'",
    ),
    (
        lambda p: _has(p, "ratio", "sequence") and (_has(p, "transforms", "entropy_advantage") or p.options.get("gamma", 1.0) != 1.0),
        "advantages differ within a row here, and the gradient of a sequence ratio would mix them up; set ratio = 'sequence_token'",
    ),
    (
        lambda p: _has(p, "surrogate", "cispo") and _has(p, "ratio", "sequence"),
        "surrogate 'cispo' detaches the ratio, so a sequence ratio only blurs its weights; set ratio = 'sequence_token' or 'token'",
    ),
    (
        lambda p: _has(p, "weights", "truncated_importance") and _has(p, "weights", "masked_importance"),
        "truncated and masked importance are the same ratio twice; keep one (a mask without the ratio is 'rejection')",
    ),
    (
        lambda p: _has(p, "regularizers", "kl") and p.options["kl"] == "k1",
        "k1 as a loss has an expected gradient of 0; kl = 'k2' pulls towards the reference, 'k1+' does so and reports k1's value",
    ),
    (
        lambda p: _has(p, "estimator", "return_to_go") and not _has(p, "transforms", "whiten"),
        "'return_to_go' has no baseline until it is whitened; set transforms = ['whiten'], or estimator = 'reinforce' for rewards that are centred",
    ),
)
"""(what is refused, the reason and what would be right)."""
