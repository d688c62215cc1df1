"""Print a run's digest: an order-independent hash of every table's digest columns. Two runs that computed the same have the same."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "print the digest of a run"
EPILOG = """examples:
  synth digest runs/arithmetic-001
  synth digest runs/arithmetic-001 --tables          a line per table
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", type=Path, metavar="DIR", help="the run folder")
    parser.add_argument("--at-round", type=int, metavar="N", help="as the run stood after round N")
    parser.add_argument("--tables", action="store_true", help="also a line per table")


def main(args: argparse.Namespace) -> int:
    from data.errors import SynthError
    from pipelines.run import read_lake

    with read_lake(args.dir) as lake:
        twice = {name: count for name, count in lake.duplicate_keys().items() if count}
        digest = lake.digest(at_round=args.at_round)
    if args.tables:
        for name, value in sorted(digest.tables.items()):
            print(f"{value.hex}  {value.rows:>9} rows  {name}")
    print(digest.total)
    if twice:
        raise SynthError(f"keys that appear twice: {', '.join(f'{n} in {t}' for t, n in twice.items())}; this run's lake is damaged")
    return 0
