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
  synth presets --json          the same for programs
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="a preset")
    parser.add_argument("--components", action="store_true", help="list components instead of presets")
    parser.add_argument("--json", action="store_true", help="print JSON")


def main(args: argparse.Namespace) -> int:
    import json

    from rich.console import Console

    from pipelines.grpo.presets import PRESETS, preset_named

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
    if not args.name:
        console.print("\nOptions and slots can be overridden key by key: --set train.objective.KEY=VALUE; those not shown are grpo's.", markup=False)
    return 0


def _plain(preset: Any) -> dict[str, Any]:
    from pipelines.grpo.component import ONE

    slots = {slot: names[0] if slot in ONE else list(names) for slot, names in preset.parts.items() if names}
    return {"name": preset.name, "paper": preset.paper, "slots": slots, "options": dict(preset.options), "needs": sorted(preset.needs)}


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
