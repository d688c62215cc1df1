"""Compare two runs: which recipe keys differ, whether they computed the same, what each made, whose policy is better on what both answered."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

    from data.lake import Lake
    from pipelines.compare import Yield

HELP = "compare two runs on the same held-out problems"
EPILOG = """examples:
  synth diff runs/arithmetic-001 runs/arithmetic-002
  synth diff runs/arithmetic-001 runs/arithmetic-002 --at-round 1     both as they stood after round 1
  synth diff runs/arithmetic-001 runs/arithmetic-001 --rounds 0 3     one run, two of its rounds
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", type=Path, metavar="DIR", help="the run to compare with")
    parser.add_argument("b", type=Path, metavar="DIR", help="the run that is compared")
    parser.add_argument("--at-round", type=int, metavar="N", help="the policies after round N (default: after the last evaluation of each)")
    parser.add_argument("--rounds", type=int, nargs=2, metavar=("N", "M"), help="the first run after round N, the second after round M")
    parser.add_argument("--problems", type=int, default=5, metavar="N", help="problems with the largest difference to show, each way (default: 5)")


def main(args: argparse.Namespace) -> int:
    from rich.console import Console

    from data.errors import UserError
    from pipelines.compare import compare, compare_yields
    from pipelines.recipe import check_recipe, differing_keys
    from pipelines.run import read_lake, run_file

    console = Console(highlight=False)
    recipes = [check_recipe(run_file(folder)["recipe"], f"{folder}/run.json") for folder in (args.a, args.b)]
    keys = differing_keys(*recipes)
    rounds = tuple(args.rounds or (args.at_round, args.at_round))
    with read_lake(args.a) as one, read_lake(args.b) as other:
        evals = [_evals(lake, round) for lake, round in ((one, rounds[0]), (other, rounds[1]))]
        digests = [lake.digest().total for lake in (one, other)]
        made = compare_yields(one, other, rounds)
        silent = list(dict.fromkeys(str(folder) for folder, rows in zip((args.a, args.b), evals) if rows.is_empty()))
        found = [] if silent else compare(*evals)
        if silent and (made.strategies.is_empty() or any(round is not None for round in rounds)):
            asked = sorted({f" of round {round}" for round in rounds if round is not None})
            raise UserError(f"{silent[0]} holds no evaluation{asked[0] if asked else ''}; a run evaluates after every round")
        if not silent and not found:
            raise UserError(f"{args.a} and {args.b} share no evaluated problem; runs can be compared where they hold out the same problems")
        console.print("recipe: " + (f"differs in {', '.join(keys)}" if keys else "the same"), soft_wrap=True)
        console.print("digest: " + ("equal, they computed the same" if digests[0] == digests[1] else "differs"))
        _yields(console, made)
        if silent:
            console.print(f"policies are not compared: {' and '.join(silent)} evaluated none", soft_wrap=True)
        for c in found:
            points, low, high = (100 * x for x in c.difference)
            sure = "the second is better" if low > 0 else "the first is better" if high < 0 else "no difference that chance does not explain"
            change = f"{points:+.1f} points [{low:+.1f}, {high:+.1f}] on {c.problems:,} problems: {sure}"
            console.print(f"[bold]{c.benchmark}[/]: pass@1 {c.a:.1%} → {c.b:.1%}, {change}", soft_wrap=True)
            unpaired = f"; {c.unpaired:,} were answered in one run only" if c.unpaired else ""
            console.print(f"  better on {c.better:,} problems, worse on {c.worse:,}, alike on {c.problems - c.better - c.worse:,}{unpaired}")
        if found:
            _extremes(console, evals[0], evals[1], one, args.problems)
    return 0


def _yields(console: Console, made: Yield) -> None:
    if made.strategies.is_empty():
        return
    console.print(f"new problems kept: {made.kept[0]:,} → {made.kept[1]:,}, {made.shared:,} in both")
    for row in made.strategies.iter_rows(named=True):
        before, after = (f"{row[f'kept{b}']:,} of {row[f'proposed{b}']:,}" for b in ("", "_b"))
        console.print(f"  {row['strategy']}: {before} → {after}", markup=False)
    if not made.rules.is_empty():
        rules = (f"{row['rule']} {row['refused']:,} → {row['refused_b']:,}" for row in made.rules.iter_rows(named=True))
        console.print(f"  refused by {', '.join(rules)}", markup=False, soft_wrap=True)


def _evals(lake: Lake, round: int | None) -> pl.DataFrame:
    wanted = "(SELECT max(round) FROM evals)" if round is None else str(int(round))
    return lake.query(f"SELECT benchmark, problem_id, n, passes FROM evals WHERE round = {wanted}")


def _extremes(console: Console, a: pl.DataFrame, b: pl.DataFrame, lake: Lake, most: int) -> None:
    """The problems with the largest gains and losses, whose whole life `synth show` tells."""
    import polars as pl

    gain = pl.col("passes_b") / pl.col("n_b") - pl.col("passes") / pl.col("n")
    both = a.join(b, on=["benchmark", "problem_id"], suffix="_b").with_columns(gain=gain)
    prompts = dict(lake.query("SELECT problem_id, prompt FROM problems WHERE split = 'heldout'").iter_rows())
    for title, rows in (
        ("largest gains", both.filter(pl.col("gain") > 0).sort("gain", "problem_id", descending=[True, False])),
        ("largest losses", both.filter(pl.col("gain") < 0).sort("gain", "problem_id")),
    ):
        if most > 0 and not rows.is_empty():
            console.print(f"\n[bold]{title}[/]")
            for row in rows.head(most).iter_rows(named=True):
                change = f"{row['passes']}/{row['n']} → {row['passes_b']}/{row['n_b']}"
                line = f"  {row['problem_id'][:12]}  {change}  {prompts.get(row['problem_id'], '')[:100]}"
                console.print(line, markup=False, emoji=False, soft_wrap=True)
