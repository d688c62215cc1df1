"""List the runs below a folder: how far each has come and what it gained."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "list the runs below a folder"
EPILOG = """examples:
  synth runs                 runs below ./runs
  synth runs /data/runs
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", nargs="?", type=Path, default=Path("runs"), metavar="DIR", help="folder to look in (default: runs)")


def main(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from data.errors import UserError
    from flows.cli.summary import rounds_of
    from pipelines.run import is_run, read_lake, run_file

    if not args.dir.is_dir():
        raise UserError(f"no such folder: {args.dir}; give the folder that holds your runs")
    folders = [args.dir] if is_run(args.dir) else sorted(p for p in args.dir.iterdir() if p.is_dir() and is_run(p))
    if not folders:
        print(f"no runs in {args.dir}; `synth run` makes one")
        return 0
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column, justify in (("run", "left"), ("recipe", "left"), ("seed", "right"), ("round", "right"), ("state", "left"), ("pass@1", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for folder in folders:
        recipe = run_file(folder)["recipe"]
        with read_lake(folder) as lake:
            rounds = rounds_of(lake)
        evaluated = [r for r in rounds if r.pass_at_1 is not None]
        done = bool(evaluated) and evaluated[-1].round == recipe["rounds"]
        gain = (
            f"{evaluated[0].pass_at_1:.1%} → {evaluated[-1].pass_at_1:.1%}"
            if len(evaluated) > 1
            else (f"{evaluated[0].pass_at_1:.1%}" if evaluated else "")
        )
        state = "done" if done else "unfinished"
        table.add_row(
            str(folder), recipe["name"], str(recipe["seed"]), f"{max((r.round for r in rounds), default=0)}/{recipe['rounds']}", state, gain
        )
    Console(highlight=False).print(table)
    return 0
