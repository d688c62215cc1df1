"""Make or describe a shipped policy: a small model with its own tokenizer, trained from scratch on a world's train split."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

HELP = "make or describe a shipped policy"
EPILOG = """examples:
  synth policy show arithmetic
  synth policy build writer --out w --without ages   a policy that was taught nothing about ages
  synth policy build arithmetic --out s --levels 1,2 --steps 1200 --without ages   a small student of easy problems
  synth policy build arithmetic --out my-policy      trains it again, with a progress bar (under 30 minutes on 2 cores)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = verbs.add_parser("show", help="parameters, tokenizer, what it can do")
    show.add_argument("name", nargs="?", default="arithmetic", help="a shipped policy or a folder")
    build = verbs.add_parser("build", help="train it from scratch")
    build.add_argument("name", help="the shipped policy to make: arithmetic, writer or teacher")
    build.add_argument("--out", type=Path, metavar="DIR", help="where to put it (default: ./NAME)")
    build.add_argument("--seed", type=int, default=0)
    build.add_argument("--steps", type=int, help="training steps (default: what made the shipped one)")
    build.add_argument("--threads", type=int, default=2)
    build.add_argument("--levels", type=_levels, default=(), metavar="N,N", help="teach problems of these levels only, such as 1,2")
    build.add_argument("--begin", type=Path, metavar="DIR", help="what the first phase of its training made, which is then not repeated")
    build.add_argument("--without", action="append", default=[], metavar="FAMILY", help="teach nothing about this family (repeatable)")


def _levels(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of levels; write for example 1,2")
    return tuple(int(part) for part in parts)


def main(args: argparse.Namespace) -> int:
    return _show(args.name) if args.action == "show" else _build(args)


def _show(name: str) -> int:
    from rich.console import Console
    from rich.table import Table

    from pipelines.policies import policy_folder
    from pipelines.policy_card import describe_policy

    console = Console(highlight=False)
    card = describe_policy(policy_folder(name))
    made = card.get("trained_on", {})
    console.print(f"[bold]{card['name']}[/]  {card['architecture']}, {card['parameters']:,} parameters, weights {card['weights_hash'][:12]}")
    console.print(f"  vocabulary {card['vocabulary']}, context {card['context']} tokens, dialect {card.get('dialect', 'instruct')}")
    if made:
        console.print(
            f"  trained from scratch on world {made['world']}, split {made['split']}, in {made['minutes']:.0f} minutes on {made['threads']} threads"
        )
    heldout = card.get("heldout")
    if not heldout:
        return 0
    low, high = heldout["interval"]
    samples = heldout["samples"]
    console.print(
        f"  solves {heldout['pass@1']:.1%} [{low:.1%}, {high:.1%}] of {heldout['problems']} held-out problems at temperature 1,"
        f" {heldout[f'pass@{samples}']:.1%} within {samples} tries",
        soft_wrap=True,
    )
    cells = {(c["family"], c["level"]): c["pass@1"] for c in heldout["cells"]}
    levels = sorted({level for _, level in cells})
    table = Table(box=None, header_style="bold", pad_edge=False, title="held-out pass@1 by family and level", title_justify="left")
    table.add_column("family")
    for level in levels:
        table.add_column(f"level {level}", justify="right")
    for family in dict.fromkeys(family for family, _ in cells):
        table.add_row(family, *(f"{cells[family, level]:.0%}" if (family, level) in cells else "" for level in levels))
    console.print(table)
    if writing := card.get("writing"):
        console.print(_writing(writing))
    return 0


def _writing(writing: dict[str, Any]) -> Table:
    from rich.table import Table

    title = f"what it writes for {writing['problems']} held-out problems"
    table = Table(box=None, header_style="bold", pad_edge=False, title=title, title_justify="left")
    for column in ("task", "temperature", "readable", "as asked", "95 % interval"):
        table.add_column(column, justify="left" if column == "task" else "right")
    for of in writing["tasks"]:
        right = of["right"]
        readable = f"{of['readable']['share']:.1%}" if "readable" in of else ""
        table.add_row(of["task"], f"{of['temperature']:g}", readable, f"{right['share']:.1%}", f"[{right['low']:.1%}, {right['high']:.1%}]")
    return table


def _build(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from pipelines.pretrain import build_policy

    out = args.out or Path(args.name)
    console = Console(highlight=False)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        task = bars.add_task(f"training {args.name}", total=None, note="")
        printed = ""

        def progress(done: int, total: int, loss: float, note: str) -> None:
            nonlocal printed
            bars.update(task, completed=done, total=total, note=f"loss {loss:.3f}  {note}")
            if note and note != printed and not console.is_terminal:
                printed = note
                console.print(f"{done}/{total} loss {loss:.3f} {note}", soft_wrap=True)

        build_policy(args.name, out, seed=args.seed, steps=args.steps, threads=args.threads, progress=progress, without=args.without,
                     levels=args.levels, begin=args.begin)  # fmt: skip
    return _show(str(out))
