"""Presets: named combinations of the objective's slots, as values; every key can be overridden in the recipe."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from data.errors import UserError
from pipelines.grpo.advantage import EstimatorOptions, estimator_named
from pipelines.grpo.aggregation import AGGREGATIONS

DENOMINATORS = ("batch", "stream")
KL_NAMES = ("k1", "k2", "k3")  # functions of these names: objective.KL_ESTIMATORS


@dataclass(frozen=True)
class Preset:
    """One objective. Zero switches an optional part off (`dual_clip`, `kl_coef`, `tis_cap`, `overlong_share`).

    `denominator`: "batch" pools the rows of all streams with a coefficient other than 0; "stream" gives each stream its
    own mean, so that a small stream weighs as much as a large one. `const_length` (tokens) is what `sum_over_const`
    divides by, 0 = the sampling's `max_tokens`. `dynamic_sampling` asks the loop to drop and refill zero-variance groups.
    `overlong_share`: share of `max_tokens` over which DAPO's soft length punishment grows to -1.
    """

    name: str
    paper: str
    estimator: str = "group_norm"
    ddof: int = 1
    eps: float = 1e-6
    clip_low: float = 0.2
    clip_high: float = 0.2
    dual_clip: float = 3.0
    kl: str = "k3"
    kl_coef: float = 0.0
    tis_cap: float = 0.0
    aggregation: str = "seq_mean_token_mean"
    const_length: int = 0
    denominator: str = "batch"
    dynamic_sampling: bool = False
    overlong_share: float = 0.0

    @property
    def estimator_options(self) -> EstimatorOptions:
        return EstimatorOptions(self.ddof, self.eps)


PRESETS: dict[str, Preset] = {
    p.name: p
    for p in (
        Preset("grpo", "DeepSeekMath, arXiv 2402.03300; defaults of verl"),
        Preset("dapo", "DAPO, arXiv 2503.14476", clip_high=0.28, dual_clip=10.0, aggregation="token_mean", dynamic_sampling=True, overlong_share=0.2),
        Preset("dr_grpo", "Dr. GRPO, arXiv 2503.20783", estimator="group_center", dual_clip=0.0, aggregation="sum_over_const"),
    )
}


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name most like `name`, for error messages."""
    return difflib.get_close_matches(name, list(known), 1, 0.0)[0]


def preset_named(name: str, overrides: Mapping[str, Any] | None = None) -> Preset:
    """A preset with `overrides` key by key; UserError on an unknown name, key or value."""
    if name not in PRESETS:
        raise UserError(f"there is no GRPO preset {name!r}; did you mean {nearest(name, PRESETS)!r}? ({', '.join(PRESETS)})")
    base = PRESETS[name]
    known = {f.name: f.type for f in fields(Preset) if f.name not in ("name", "paper")}
    changes: dict[str, Any] = {}
    for key, value in (overrides or {}).items():
        if key not in known:
            raise UserError(f"preset {name!r} has no key {key!r}; did you mean {nearest(key, known)!r}?")
        changes[key] = _typed(key, value, type(getattr(base, key)))
    return _checked(replace(base, **changes))


def _typed(key: str, value: Any, kind: type) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise UserError(f"preset key {key!r} takes {kind.__name__}, got {value!r}")
    return value


def _checked(preset: Preset) -> Preset:
    estimator_named(preset.estimator)
    for key, value, known in (
        ("aggregation", preset.aggregation, tuple(AGGREGATIONS)),
        ("kl", preset.kl, KL_NAMES),
        ("denominator", preset.denominator, DENOMINATORS),
    ):
        if value not in known:
            raise UserError(f"{key} must be one of {', '.join(known)}, got {value!r}; did you mean {nearest(value, known)!r}?")
    if not 0 <= preset.clip_low < 1:
        raise UserError(f"clip_low must lie in [0, 1), got {preset.clip_low}")
    if preset.dual_clip and preset.dual_clip <= 1:
        raise UserError(f"dual_clip must be above 1 (or 0 = off), got {preset.dual_clip}")
    for key in ("ddof", "eps", "clip_high", "kl_coef", "tis_cap", "const_length", "overlong_share"):
        if not 0 <= getattr(preset, key) < float("inf"):
            raise UserError(f"{key} must be a finite number, 0 or more, got {getattr(preset, key)}")
    if preset.ddof > 1:
        raise UserError(f"ddof must be 0 (population) or 1 (sample), got {preset.ddof}")
    return preset
