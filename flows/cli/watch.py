"""Watch a run from a second terminal: stage, rates, acceptance, difficulty, reward, requests in flight, errors, time left."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

    from flows.cli.live import RunState

HELP = "watch a run live, from a second terminal"
EPILOG = """examples:
  synth watch runs/arithmetic-001          refreshed until the run ends; Ctrl-C leaves the run alone
  synth watch runs/arithmetic-001 --once   one look, for scripts and logs
"""

BLOCKS = " ▁▂▃▄▅▆▇█"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", type=Path, metavar="DIR", help="the run folder")
    parser.add_argument("--once", action="store_true", help="print once and leave (the default where there is no terminal)")
    parser.add_argument("--every", type=float, default=2.0, metavar="SECONDS", help="time between two looks (default: 2)")


def main(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.live import Live

    from data.errors import UserError
    from flows.cli.live import read_state
    from pipelines.run import read_lake

    if not args.every > 0:
        raise UserError(f"--every {args.every}: give a number of seconds above 0")
    console = Console(highlight=False)
    with read_lake(args.dir) as lake:
        state = read_state(args.dir, lake, time.time())
        if args.once or not console.is_terminal:
            console.print(view(state))
            return 0
        with Live(view(state), console=console, auto_refresh=False) as live:
            while state.state == "running":
                time.sleep(args.every)
                state = read_state(args.dir, lake, time.time())
                live.update(view(state), refresh=True)
    return 0


def view(state: RunState) -> RenderableType:
    """The whole picture, a labelled line per question; lines that have nothing to say are left out."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    for label, text in _lines(state):
        grid.add_row(label, Text.from_markup(text))
    return grid


def _lines(state: RunState) -> list[tuple[str, str]]:
    from rich.markup import escape

    colour = {"running": "green", "finished": "bold", "stopped": "yellow"}[state.state]
    why = f": {escape(state.why)}" if state.why else ""
    lines = [("synth", f"[cyan]{escape(str(state.folder))}[/]  {escape(state.name)}, seed {state.seed}   [{colour}]{state.state}[/]{why}")]
    if state.state == "stopped":
        lines.append(("", f"nothing is lost, go on with: synth resume {escape(str(state.folder))}"))
    if state.stage and state.state != "finished":
        progress = f"  {bar(state.done, state.total)} {state.done}/{state.total}" if state.total else ""
        where = f"round {state.round} of {state.rounds}: [bold]{state.stage}[/]"
        lines.append(("stage", f"{where}{progress}  {clock(state.stage_seconds)}  {escape(state.note)}".rstrip()))
    if state.state == "running":
        lines.append(("left", "not known before each stage ran once" if state.seconds_left is None else f"about {clock(state.seconds_left)}"))
    if state.answers_per_second is not None:
        lines.append(("rate", f"{state.answers_per_second:,.0f} answers/s, {state.tokens_per_second:,.0f} tokens/s"))
    if state.requests.get("requests"):
        r = state.requests
        failed = f", [red]{r['failed']:,} failed[/]" if r["failed"] else ""
        lines.append(("requests", f"{r['done']:,} answered, {r['sent']:,} in flight, {r['repeats']:,} repeated{failed}"))
    if state.proposed:
        refused = ", ".join(f"{escape(rule)} {count}" for rule, count in sorted(state.refused.items()))
        judged = state.kept + sum(state.refused.values())
        share = f" ({state.kept / judged:.1%} of those audited)" if judged else ""
        lines.append(("candidates", f"{state.proposed:,} proposed, {state.kept:,} kept{share}" + (f"; refused: {refused}" if refused else "")))
    if state.pass_counts:
        most = max(state.pass_counts.values())
        shape = "".join(BLOCKS[-(-8 * state.pass_counts.get(k, 0) // most)] for k in range(state.probed_n + 1))
        lines.append(("difficulty", f"0 ▕{shape}▏ {state.probed_n} of {state.probed_n} passed, {sum(state.pass_counts.values()):,} problems"))
    if state.rewards:
        moved = f"{state.rewards[0]:.3f} → {state.rewards[-1]:.3f} over {len(state.rewards)} steps"
        lines.append(("reward", f"{spark(state.rewards)}  {moved}{_how(state)}"))
    if state.scores:
        scores = [f"r{round} {value:.1%} [dim]\\[{100 * low:.1f}, {100 * high:.1f}][/]" for round, value, low, high in state.scores]
        lines.append(("pass@1", "  ".join(scores)))
    lines.extend(("errors" if i == 0 else "", f"{count:,} × {escape(error)}") for i, (error, count) in enumerate(state.errors))
    return lines


def _how(state: RunState) -> str:
    """How the newest step was learned, where that is not the plain way."""
    stale = f", sampled {state.staleness} update behind" + (f" (ratio {state.ratio:.3f})" if state.ratio else "")
    return (stale if state.staleness else "") + (f", {state.ranks} ranks" if state.ranks and state.ranks > 1 else "")


def bar(done: int, total: int, width: int = 24) -> str:
    full = width * done // max(total, 1)
    return "━" * full + "[dim]" + "─" * (width - full) + "[/]"


def spark(values: list[float], width: int = 48) -> str:
    """The values as a line of blocks, from their least to their greatest; neighbours averaged where there are more than `width`."""
    step = max(1, -(-len(values) // width))
    means = [sum(values[i : i + step]) / len(values[i : i + step]) for i in range(0, len(values), step)]
    low, high = min(means), max(means)
    return "".join(BLOCKS[1 + round(7 * (v - low) / (high - low))] if high > low else BLOCKS[4] for v in means)


def clock(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
