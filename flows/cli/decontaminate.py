"""Find rows that give a held-out problem away: the same text once normalised, or a run of 13 words, numbers included, that they share."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "find rows that give held-out problems away"
EPILOG = """examples:
  synth decontaminate mine.jsonl --against gsm8k_test.jsonl.gz
  synth decontaminate mine.jsonl --against math500.jsonl.gz --against aime24.jsonl --output clean.jsonl
  synth decontaminate mine.csv --map prompt=text --against hf:openai/gsm8k:main@test --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from flows.cli.intake import add_against, add_file

    add_file(parser)
    add_against(parser, needed=True)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the rows that stay, as .jsonl or .jsonl.gz")
    parser.add_argument("--json", action="store_true", help="a JSON line per leak, then one with the counts")


def main(args: argparse.Namespace) -> int:
    from data.problems.readers import read_rows
    from filters.clean import find_leaks
    from filters.decontaminate import HeldoutIndex
    from flows.cli.intake import heldout_sets, sources
    from flows.cli.sieve import sieve

    (source,) = sources(args)
    index = HeldoutIndex(heldout_sets(args))
    rows = read_rows(source, all_columns=args.output is not None)
    return sieve(args, source, find_leaks(rows, source.map, index), f"give away one of {len(index):,} held-out problems", "leaks")
