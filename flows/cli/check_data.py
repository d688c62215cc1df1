"""Say what a file of problems holds before anything runs: rows, duplicates, answers, verifiers and why, leaks, what cannot be judged."""

from __future__ import annotations

import argparse

HELP = "what a file of problems holds, before anything runs"
EPILOG = """examples:
  synth check-data mine.jsonl
  synth check-data mine.csv --map prompt=question,answer=final
  synth check-data algebra=one.parquet geometry=two.jsonl.gz --against gsm8k_test.jsonl.gz
  synth check-data svamp.json --map prompt=Body+Question,answer=Answer      two columns make the problem
  synth check-data squad.parquet --map answer=answers.text.0                a column inside another
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from flows.cli.intake import add_against, add_file

    add_file(parser, several=True)
    add_against(parser, needed=False)
    parser.add_argument("--json", action="store_true", help="one JSON object")


def main(args: argparse.Namespace) -> int:
    import json

    from filters.decontaminate import HeldoutIndex
    from filters.intake import as_json, summarise
    from flows.cli.intake import console, heldout_sets, problems, show_summary, sources

    listed = sources(args)
    summary = summarise(problems(listed), HeldoutIndex(heldout_sets(args)))
    if args.json:
        print(json.dumps(as_json(summary), ensure_ascii=False))
    else:
        show_summary(console(), ", ".join(map(str, listed)), summary)
    return 0
