"""Make or describe a shipped policy: a small model with its own tokenizer, trained from scratch on a world's train split."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "make or describe a shipped policy"
EPILOG = """examples:
  synth policy show arithmetic
  synth policy build arithmetic --out my-policy      trains it again, with a progress bar (under 30 minutes on 2 cores)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = verbs.add_parser("show", help="parameters, tokenizer, what it can do")
    show.add_argument("name", nargs="?", default="arithmetic", help="a shipped policy or a folder")
    build = verbs.add_parser("build", help="train it from scratch")
    build.add_argument("name", help="the shipped policy to make: arithmetic")
    build.add_argument("--out", type=Path, metavar="DIR", help="where to put it (default: ./NAME)")
    build.add_argument("--seed", type=int, default=0)
    build.add_argument("--steps", type=int, help="training steps (default: what made the shipped one)")
    build.add_argument("--threads", type=int, default=2)


def main(args: argparse.Namespace) -> int:
    return _show(args.name) if args.action == "show" else _build(args)
