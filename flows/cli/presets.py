"""List the objectives: presets with their paper, slots and defaults, and every component that a recipe can put together."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

HELP = "list the objectives that `train.preset` names"
EPILOG = """examples:
  synth presets                 all presets: paper and what differs from grpo
  synth presets dapo            one preset: every slot and every option with its value
  synth presets --components    every component by slot: options, defaults, what it needs, paper
  synth presets --trainer       the trainer's settings: precision, device, LoRA, minibatches, ranks, staleness, …
  synth presets --json          the same for programs
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="a preset")
    parser.add_argument("--components", action="store_true", help="list components instead of presets")
    parser.add_argument("--trainer", action="store_true", help="list the trainer's settings instead of presets")
    parser.add_argument("--json", action="store_true", help="print JSON")


def main(args: argparse.Namespace) -> int:
    import json

    from rich.console import Console

    from pipelines.grpo.presets import PRESETS, preset_named

    if args.trainer:
        return _trainer(args.json)
    chosen = [preset_named(args.name)] if args.name else list(PRESETS.values())
    if args.json:
        found: Any = _components() if args.components else [_plain(p) for p in chosen]
        print(json.dumps(found, indent=1, ensure_ascii=False))
        return 0
    console = Console(highlight=False, soft_wrap=True)
    if args.components:
        _print_components(console)
        return 0
    base = _plain(PRESETS["grpo"])
    for preset in chosen:
        plain = _plain(preset)
        console.print(f"[bold]{preset.name}[/]  {preset.paper}")
        for key in ("slots", "options"):
            shown = {k: v for k, v in plain[key].items() if args.name or preset.name == "grpo" or base[key].get(k) != v}
            if shown:
                console.print(f"  {key:8}{'  '.join(f'{k}={_text(v)}' for k, v in shown.items())}", markup=False)
        if args.name:
            console.print(f"  {'stale':8}{plain['stale'] or 'train.staleness = 1 works with it'}", markup=False)
    if not args.name:
        console.print("\nOptions and slots can be overridden key by key: --set train.objective.KEY=VALUE; those not shown are grpo's.", markup=False)
    return 0


def _plain(preset: Any) -> dict[str, Any]:
    from pipelines.grpo.component import ONE

    slots = {slot: names[0] if slot in ONE else list(names) for slot, names in preset.parts.items() if names}
    said = {"name": preset.name, "paper": preset.paper, "slots": slots, "options": dict(preset.options)}
    return {**said, "needs": sorted(preset.needs), "stale": _stale(preset)}


def _stale(preset: Any) -> str:
    """Why it cannot learn from rollouts that are one update old; "" where it can."""
    from data.errors import UserError
    from data.records import Sampling
    from pipelines.grpo.config import GRPOConfig
    from pipelines.grpo.one_step_off import refuse_stale

    try:
        refuse_stale(GRPOConfig(preset=preset.name), Sampling())
    except UserError as error:
        return str(error)
    return ""


def _trainer(as_json: bool) -> int:
    """The settings of `train.trainer`, then those of `train` that say where and how far behind it learns."""
    import json

    from rich.console import Console

    from pipelines.grpo.config import SETTINGS, GRPOConfig
    from pipelines.recipe import TrainPart

    own = {f"train.{name}": (field.default, " ".join((field.description or "").split())) for name, field in TrainPart.model_fields.items()}
    listed = {key: own[key] for key in ("train.staleness", "train.ranks", "train.devices", "train.micro_tokens", "train.max_grad_norm")}
    config = GRPOConfig()
    listed |= {f"train.trainer.{name}": (getattr(config, name), sentence) for name, sentence in SETTINGS.items()}
    if as_json:
        print(json.dumps({key: {"default": value, "what": what} for key, (value, what) in listed.items()}, indent=1, ensure_ascii=False))
        return 0
    console = Console(highlight=False, soft_wrap=True)
    for key, (value, what) in listed.items():
        console.print(f"{key:38}{_text(value) or '-':12}{what}", markup=False)
    return 0


def _components() -> list[dict[str, Any]]:
    from pipelines.grpo.component import REGISTRY

    keys = ("slot", "name", "summary", "paper", "switch")
    return [
        {**{k: getattr(c, k) for k in keys}, "options": dict(c.options), "needs": sorted(c.needs)}
        for parts in REGISTRY.values()
        for c in parts.values()
    ]


def _print_components(console: Any) -> None:
    from pipelines.grpo.component import SLOTS

    for slot, what in SLOTS.items():
        console.print(f"[bold]{slot}[/]  {what}")
        for c in (c for c in _components() if c["slot"] == slot):
            options = "  ".join(f"{k}={_text(v)}" for k, v in c["options"].items())
            needs = f"; needs {', '.join(c['needs'])}" if c["needs"] else ""
            console.print(f"  {c['name']:24}{c['summary']} [{c['paper']}{needs}]", markup=False)
            if options:
                console.print(f"  {'':24}{options}", markup=False)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Iterable) and not isinstance(value, str):
        return "+".join(map(str, value))
    return str(value)
