"""What a run came to, read from its lake: the closing table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from data.lake import Lake


@dataclass(frozen=True)
class RoundSummary:
    round: int
    stages: dict[str, dict[str, Any]]
    seconds: float

    @property
    def pass_at_1(self) -> float | None:
        return self.stages.get("evaluate", {}).get("pass_at_1")


def rounds_of(lake: Lake) -> list[RoundSummary]:
    """One per round begun, from the `stages` table."""
    rows = lake.query("SELECT round, stage, info, seconds FROM stages ORDER BY round").rows()
    found: dict[int, RoundSummary] = {}
    for round, stage, info, seconds in rows:
        before = found.get(round, RoundSummary(round, {}, 0.0))
        found[round] = RoundSummary(round, {**before.stages, stage: json.loads(info)}, before.seconds + (seconds or 0.0))
    return [found[r] for r in sorted(found)]


def closing(console: Console, folder: Path) -> None:
    """Print the closing table, what the run gained, and where to go next."""
    from rich.table import Table

    from pipelines.run import read_lake

    with read_lake(folder) as lake:
        rounds = rounds_of(lake)
    table = Table(box=None, header_style="bold", pad_edge=False, title_justify="left")
    for name in ("round", "candidates", "kept", "trained on", "reward", "pass@1 held-out", "gain", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    for r in rounds:
        table.add_row(*_cells(r))
    console.print()
    console.print(table)
    console.print()
    _verdict(console, rounds, folder)


def _cells(r: RoundSummary) -> list[str]:
    synthesized, audited = r.stages.get("synthesize", {}), r.stages.get("audit", {})
    selected, trained, evaluated = r.stages.get("select", {}), r.stages.get("train", {}), r.stages.get("evaluate", {})
    reward = "" if trained.get("reward_first") is None else f"{trained['reward_first']:.3f} → {trained['reward_last']:.3f}"
    score = gain = ""
    if "pass_at_1" in evaluated:
        score = f"{evaluated['pass_at_1']:.1%} [{100 * evaluated['pass_at_1_low']:.1f}, {100 * evaluated['pass_at_1_high']:.1f}]"
    if "gain" in evaluated:
        gain = f"{100 * evaluated['gain']:+.1f} [{100 * evaluated['gain_low']:+.1f}, {100 * evaluated['gain_high']:+.1f}]"
    return [
        str(r.round),
        str(synthesized.get("candidates", "")),
        str(audited.get("kept", "")),
        str(selected.get("kept", "")),
        reward,
        score,
        gain,
        f"{r.seconds:.0f}",
    ]


def _verdict(console: Console, rounds: list[RoundSummary], folder: Path) -> None:
    for r in rounds:
        if why := r.stages.get("train", {}).get("skipped"):
            console.print(f"[yellow]round {r.round}: {why}[/]")
    last = next((r.stages["evaluate"] for r in reversed(rounds) if "gain" in r.stages.get("evaluate", {})), None)
    if last is not None and any(r.stages.get("train", {}).get("steps") for r in rounds):
        points, low, high = (100 * last[k] for k in ("gain", "gain_low", "gain_high"))
        sure = "better than chance explains" if low > 0 else "worse than before" if high < 0 else "within what chance explains"
        console.print(
            f"held-out pass@1 changed by [bold]{points:+.1f}[/] points on {last['problems']} problems"
            f", 95 % interval [{low:+.1f}, {high:+.1f}]: {sure}",
            soft_wrap=True,
        )
        if others := _scores(last):
            console.print(f"after it: {others}", soft_wrap=True)
        for name, found in sorted(last.get("benchmarks", {}).items()):
            gain = f"{100 * found['gain']:+.1f} [{100 * found['gain_low']:+.1f}, {100 * found['gain_high']:+.1f}]"
            console.print(f"{name}: pass@1 {found['pass_at_1']:.1%} on {found['problems']} problems, gain {gain}; {_scores(found)}", soft_wrap=True)
    console.print(
        f'everything it made, kept, refused and why: synth query {folder} "SELECT rule, kept, count(*) FROM decisions GROUP BY ALL"', soft_wrap=True
    )


def _scores(found: Mapping[str, Any]) -> str:
    """What else an evaluation found, largest k only; CoT-Pass counts an answer only where its chain is right, too."""
    names = {"pass": "pass@", "majority": "majority@", "cot_pass": "CoT-Pass@"}
    shown = []
    for kind, label in names.items():
        known = [int(key.rpartition("_at_")[2]) for key in found if key.startswith(f"{kind}_at_") and key.rpartition("_at_")[2].isdigit()]
        if known and (kind != "pass" or max(known) > 1):
            k = 1 if kind == "cot_pass" else max(known)
            key = f"{kind}_at_{k}"
            shown.append(f"{label}{k} {found[key]:.1%} [{100 * found[key + '_low']:.1f}, {100 * found[key + '_high']:.1f}]")
    return ", ".join(shown)
