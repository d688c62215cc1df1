"""Go on with a run after a stop or a crash. What is in the lake is not done again; what is in the ledger is not asked again."""

from __future__ import annotations

import argparse
from pathlib import Path

from flows.cli.torchrun import add_ranks, ranks_asked

HELP = "go on with a run after a stop or a crash"
EPILOG = """examples:
  synth resume runs/arithmetic-001
  synth resume runs/big-001 --ranks 1      its checkpoints go on with any number of ranks (sums then differ in their last bits)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", type=Path, metavar="DIR", help="the run folder")
    parser.add_argument("--prefect", action="store_true", help="as a Prefect flow, against PREFECT_API_URL or a server of our own")
    add_ranks(parser, "as the run began")
    parser.add_argument("--quiet", action="store_true", help="print the closing table only")


def main(args: argparse.Namespace) -> int:
    from flows.cli.drive import drive

    ranks = ranks_asked(args.ranks)
    if ranks == 0:
        return 0
    return drive(args.dir, None, prefect=args.prefect, quiet=args.quiet, ranks=ranks)
