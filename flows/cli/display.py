"""What a run shows while it runs: live bars on a terminal, one plain line per stage (and every few seconds) elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from flows.cli.events import Listener

PLAIN_EVERY = 5.0  # seconds between plain progress lines


@contextmanager
def display(console: Console, *, quiet: bool = False) -> Iterator[Listener]:
    """A listener for `Run.emit`; on a terminal it owns a live progress bar for as long as the block lasts."""
    if quiet:
        yield lambda kind, data: None
    elif console.is_terminal:
        columns = (
            TextColumn("  {task.description:<11}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True) as progress:
            yield _Live(console, progress)
    else:
        yield _Plain(console)


class _Plain:
    """One line per stage; long stages report every few seconds."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.last = time.monotonic()

    def __call__(self, kind: str, data: Mapping[str, Any]) -> None:
        if kind == "run_started":
            for line in heading(data):
                self.console.print(line, soft_wrap=True)
        elif kind == "round_started":
            self.console.print(f"[bold]round {data['round']}[/] of {data['rounds']}")
        elif kind == "stage_started":
            self.last = time.monotonic()
        elif kind == "stage_done":
            self.console.print(stage_line(data), soft_wrap=True)
        elif kind == "stage_reused":
            self.console.print(f"{stage_line(data)}  [dim](done before)[/]", soft_wrap=True)
        elif kind == "progress":
            self.progress(data)

    def progress(self, data: Mapping[str, Any]) -> None:
        if time.monotonic() - self.last >= PLAIN_EVERY and data["done"] < data["total"]:
            self.last = time.monotonic()
            self.console.print(f"  {data['stage']:<11} {data['done']}/{data['total']} {progress_note(data)}", soft_wrap=True)


class _Live(_Plain):
    """The same lines, with a bar below them for the stage at work."""

    def __init__(self, console: Console, bars: Progress) -> None:
        super().__init__(console)
        self.bars = bars
        self.task: TaskID | None = None

    def __call__(self, kind: str, data: Mapping[str, Any]) -> None:
        if kind in ("stage_done", "stage_reused", "stage_started", "interrupted") and self.task is not None:
            self.bars.remove_task(self.task)
            self.task = None
        if kind == "generating" and self.task is not None:
            self.bars.update(self.task, note=f"{data['done']:,}/{data['total']:,} answers, {data['tokens']:,} tokens")
        if kind == "stage_started":
            self.task = self.bars.add_task(data["stage"], total=None, note=data.get("title", ""))
        super().__call__(kind, data)

    def progress(self, data: Mapping[str, Any]) -> None:
        if self.task is not None:
            self.bars.update(self.task, completed=data["done"], total=data["total"], note=progress_note(data))


def heading(data: Mapping[str, Any]) -> list[str]:
    recipe = data["recipe"]
    source = f"world {recipe.problems.world}" if recipe.problems.world else f"problems {', '.join(map(str, recipe.problems.files))}"
    verb = "resuming" if data["resumed"] else "run"
    lines = [
        f"[bold]synth[/] {verb} [cyan]{data['folder']}[/]  recipe {recipe.name}, seed {recipe.seed}",
        f"  policy {data['model']} · {source} · {recipe.rounds} round{'s' * (recipe.rounds > 1)} · preset {recipe.train.preset}",
    ]
    if data["resumed"] and (asked := data.get("requests")):
        again = f"{asked['sent']:,} were under way when it stopped and are sent again" if asked["sent"] else "none was under way when it stopped"
        lines.append(f"  {asked['done']:,} requests are answered and not sent again; {again}")
    return lines


def progress_note(data: Mapping[str, Any]) -> str:
    metrics = data.get("metrics")
    if metrics:
        shown = f"reward {metrics.get('reward_mean', float('nan')):.3f}  entropy {metrics.get('entropy', float('nan')):.3f}"
        return f"{shown}  {data['seconds']:.1f} s/step"
    return str(data.get("note", ""))


def stage_line(data: Mapping[str, Any]) -> str:
    seconds = f"{data['seconds']:7.1f} s" if "seconds" in data else ""
    return f"  {data['stage']:<11} {_describe(data['stage'], data['summary']):<88} {seconds}"


def _describe(stage: str, s: Mapping[str, Any]) -> str:
    """A stage's summary as a person would say it."""
    if stage == "seeds":
        names = {"leaks": "leaking", "duplicates": "duplicate", "unjudgeable": "unjudgeable"}
        refused = ", ".join(f"{s[key]} {word}" for key, word in names.items() if s.get(key))
        return f"{s['train']} problems to learn from, {s['heldout']} held out" + (f"; refused: {refused}" if refused else "")
    if stage == "probe":
        return f"{s['problems']} problems answered, {s['rollouts']} rollouts"
    if stage == "verify":
        return f"{s['pass']} pass, {s['fail']} fail, {s['unknown']} unknown"
    if stage == "estimate":
        undecided = f", {s['open']} open" if s.get("open") else ""
        solved = f"{s['solved']} of {s['problems']} problems solved at least once"
        return f"pass rate {s['pass_rate']:.1%}; {solved}, {s['in_band']} in the band{undecided}"
    if stage == "synthesize":
        parts = ", ".join(f"{name} {count}" for name, count in s["by_strategy"].items())
        return f"{s['candidates']} candidates" + (f" ({parts})" if parts else "")
    if stage == "audit":
        refused = ", ".join(f"{rule} {count}" for rule, count in s["refused"].items()) or "none refused"
        return f"{s['kept']} of {s['candidates']} candidates kept ({refused})"
    if stage == "select":
        return f"{s['kept']} problems to train on, {s['new']} of them new"
    if stage == "train":
        if s.get("skipped"):
            return str(s["skipped"])
        if not s["groups"]:
            return f"{s['steps']} steps, but no group had both right and wrong answers: no gradient"
        told = [f"{s['steps']} steps, {s['groups']} groups, reward {_number(s['reward_first'])} → {_number(s['reward_last'])}"]
        told += [f"{name} wrote {count}, {kept} kept" for name, (count, kept) in s.get("written", {}).items()]
        told += [f"none of the {n} groups of {name} had different rewards: nothing learned there" for name, n in s.get("unmixed", {}).items()]
        return "; ".join(told)
    if stage == "evaluate":
        gain = f", gain {100 * s['gain']:+.1f} points [{100 * s['gain_low']:+.1f}, {100 * s['gain_high']:+.1f}]" if "gain" in s else ""
        return f"pass@1 {s['pass_at_1']:.1%} [{s['pass_at_1_low']:.1%}, {s['pass_at_1_high']:.1%}] on {s['problems']} held-out problems{gain}"
    return ""


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
