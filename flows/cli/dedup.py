"""Find rows that repeat the text of an earlier one: case, blanks, punctuation and typographic dress do not count, numbers and signs do."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "find rows with the text of an earlier row"
EPILOG = """examples:
  synth dedup mine.jsonl
  synth dedup mine.parquet --map prompt=question --output clean.jsonl.gz
  synth dedup mine.csv --json            a line per duplicate, then the counts
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from flows.cli.intake import add_file

    add_file(parser)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the rows that stay, as .jsonl or .jsonl.gz")
    parser.add_argument("--json", action="store_true", help="a JSON line per duplicate, then one with the counts")


def main(args: argparse.Namespace) -> int:
    from data.problems.readers import read_rows
    from filters.clean import find_duplicates
    from flows.cli.intake import sources
    from flows.cli.sieve import sieve

    (source,) = sources(args)
    rows = read_rows(source, all_columns=args.output is not None)
    return sieve(args, source, find_duplicates(rows, source.map), "repeat the text of an earlier row", "duplicates")
