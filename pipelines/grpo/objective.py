"""The objective: a preset's components, made and wired up. ratio -> clip -> surrogate x weights + regularizers, aggregated, plus auxiliary losses.

Aggregation is a weight per token, computed over the whole step before micro-batching, so that the sum over micro-batches
(and ranks) equals the whole. `step_to` fixes every scheduled number before anything is computed in a step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.records import Group
from pipelines.grpo.advantage import Estimate, Float64
from pipelines.grpo.component import REGISTRY, Component, component_named
from pipelines.grpo.presets import Preset
from pipelines.grpo.recompose import StepInfo
from pipelines.grpo.regularizer import kl_estimate
from pipelines.grpo.schedule import Adaptive
from pipelines.grpo.surrogate import clipped
from pipelines.grpo.tokens import TokenBatch
from pipelines.grpo.transform import StepTokens


@dataclass
class Tally:
    """Sums over tokens of everything that the metrics report; adds up over micro-batches. Tensors stay tensors until they are read."""

    sums: dict[str, Any] = field(default_factory=dict)
    maxima: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, value: Tensor | float) -> None:
        value = value.detach().double() if isinstance(value, Tensor) else float(value)
        self.sums[name] = self.sums.get(name, 0.0) + value

    def peak(self, name: str, values: Tensor) -> None:
        if values.numel():
            found = values.detach().max()
            self.maxima[name] = found if name not in self.maxima else torch.maximum(found, self.maxima[name])

    def merge(self, other: Tally) -> None:
        """What `other` counted, too."""
        for name, value in other.sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        for name, value in other.maxima.items():
            self.maxima[name] = max(self.maxima.get(name, 0.0), float(value))

    def sum(self, name: str) -> float:
        return float(self.sums.get(name, 0.0))

    def mean(self, name: str, per: str = "tokens") -> float:
        return self.sum(name) / max(self.sum(per), 1.0)

    def max(self, name: str) -> float:
        return max(0.0, float(self.maxima.get(name, 0.0)))


class Objective:
    """The components of one preset with their memories. What the trainer calls, in the order of a step."""

    def __init__(self, preset: Preset) -> None:
        self.preset = preset
        self.needs = preset.needs
        self.numbers = preset.numbers(0)
        self._made: dict[tuple[str, str], Callable[..., Any]] = {}
        self.whole_groups = any(c.whole_groups for c in preset.components())

    def step_to(self, step: int) -> None:
        """Every option takes its value at `step`."""
        self.numbers = self.preset.numbers(step)

    def observe(self, metrics: Mapping[str, float]) -> None:
        """What a step reported, for the schedules that follow a metric."""
        for value in self.preset.options.values():
            if isinstance(value, Adaptive):
                value.observe(metrics)

    def _call(self, part: Component, method: str = "") -> Callable[..., Any]:
        key = (part.slot, part.name)
        if key not in self._made:
            self._made[key] = part.make() if isinstance(part.make, type) else part.make
        made = getattr(self._made[key], method) if method else self._made[key]
        return partial(made, **{k: self.numbers.get(k, default) for k, default in part.options.items()})

    def _all(self, slot: str) -> list[Component]:
        return [component_named(slot, name) for name in self.preset.parts[slot]]

    def _one(self, slot: str) -> Callable[..., Any]:
        return self._call(component_named(slot, self.preset.one(slot)))

    # --------------------------------------------------------------------------------------- over the whole step, in numpy
    def compose(self, groups: Sequence[Group], info: StepInfo) -> list[Group]:
        """The groups that are trained on: filtered, injected, recomposed."""
        out = list(groups)
        for part in self._all("composers"):
            out = self._call(part)(out, info)
        return out

    def shape(self, groups: Sequence[Group]) -> list[Group]:
        """The groups with the rewards that the estimator sees."""
        out = list(groups)
        for part in self._all("shapers"):
            out = self._call(part)(out)
        return out

    def estimate(self, name: str) -> Estimate:
        """The estimator of a group that asks for `name` ("group" = the preset's)."""
        return self._call(component_named("estimator", self.preset.one("estimator") if name == "group" else name))

    def selects(self, name: str) -> bool:
        """Whether rows of advantage 0 under this estimator belong to no denominator."""
        return component_named("estimator", self.preset.one("estimator") if name == "group" else name).selects

    def transform(self, tokens: StepTokens) -> Float64:
        for part in self._all("transforms"):
            tokens = StepTokens(self._call(part)(tokens), *(getattr(tokens, f) for f in ("lengths", "group", "rewards", "truncated", "entropy")))
        return tokens.advantage

    def step_factor(self, tokens: StepTokens) -> Float64 | None:
        """Product of the token weights that see the whole step float64[N]; None = 1."""
        parts = [self._call(p)(tokens) for p in self._all("weights") if p.step]
        return np.prod(parts, axis=0) if parts else None

    def aggregate(self) -> Callable[[Float64, int], Float64]:
        return self._one("aggregation")

    def aux_rows(self, rewards: Float64) -> dict[str, Float64]:
        """Per auxiliary loss, how much each row takes part float64[n]."""
        return {p.name: self._call(p, "rows")(rewards) for p in self._all("aux")}

    # --------------------------------------------------------------------------------------------- over a micro-batch, in torch
    def loss(self, batch: TokenBatch, tally: Tally) -> Tensor:
        """The loss of these tokens (a summand of the step's loss); what happened is added to `tally`."""
        log_rho = self._one("ratio")(batch)
        bounds = self._one("clip")(batch)
        loss = self._one("surrogate")(batch, log_rho, bounds)
        for part in self._all("weights"):
            if not part.step:
                loss = loss * self._call(part)(batch).detach()
        if batch.factor is not None:
            loss = loss * batch.factor
        for part in self._all("regularizers"):  # after the weights: a regularizer is neither masked nor reweighted
            loss = loss + self._call(part)(batch)
        total = (loss * batch.weight).sum()
        for part in self._all("aux"):
            total = total + (self._call(part)(batch) * batch.aux[part.name]).sum()
        with torch.no_grad():
            ratio = log_rho.exp()
            tally.add("tokens", batch.logp.numel())
            tally.add("loss", total)
            tally.add("ratio", ratio.sum())
            tally.peak("ratio", ratio)
            tally.add("clipped", clipped(ratio, batch.advantage, bounds).sum())
            if batch.entropy is not None:
                tally.add("entropy", batch.entropy.sum())
            if batch.ref_logp is not None:
                tally.add("kl", kl_estimate(self.numbers.get("kl", "k3"), batch.logp, batch.ref_logp).sum())
            said = torch.isfinite(batch.behavior_logp)
            gap = torch.where(said, batch.old_logp - batch.behavior_logp, 0.0).abs()
            tally.add("mismatch", gap.sum())
            tally.add("mismatch_tokens", said.sum())
            tally.peak("mismatch", gap)
        return total

    # --------------------------------------------------------------------------------------------------------------- memory
    def state_dict(self) -> dict[str, Any]:
        """What components and schedules remember, JSON-able."""
        parts = {f"{slot}/{name}": made.state_dict() for (slot, name), made in sorted(self._made.items()) if REGISTRY[slot][name].stateful}  # type: ignore[attr-defined]
        schedules = {key: value.now for key, value in self.preset.options.items() if isinstance(value, Adaptive)}
        return {"components": parts, "schedules": schedules}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """A component that the objective no longer has is forgotten; one that is new starts empty."""
        for key, value in state.get("components", {}).items():
            slot, _, name = key.partition("/")
            if name in REGISTRY.get(slot, {}):
                made = self._call(component_named(slot, name)).func  # type: ignore[attr-defined]
                made.load_state_dict(value)
        for key, now in state.get("schedules", {}).items():
            if isinstance(schedule := self.preset.options.get(key), Adaptive):
                schedule.now = now
