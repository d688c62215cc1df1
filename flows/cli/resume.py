"""Go on with a run after a stop or a crash. What is in the lake is not done again; what is in the ledger is not asked again."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "go on with a run after a stop or a crash"
EPILOG = """examples:
  synth resume runs/arithmetic-001
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", type=Path, metavar="DIR", help="the run folder")
    parser.add_argument("--prefect", action="store_true", help="as a Prefect flow, against PREFECT_API_URL or a server of our own")
    parser.add_argument("--quiet", action="store_true", help="print the closing table only")


def main(args: argparse.Namespace) -> int:
    from flows.cli.drive import drive

    return drive(args.dir, None, prefect=args.prefect, quiet=args.quiet)
