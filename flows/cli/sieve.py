"""What `dedup` and `decontaminate` have in common: rows stream by, those that go are told, those that stay are written."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from contextlib import nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from data.problems.source import Source
    from filters.clean import Verdict

SHOWN = 10


def sieve(args: argparse.Namespace, source: Source, verdicts: Iterable[Verdict], what: str, name: str) -> int:
    """Prints the rows that go (all with --json, else the first ten) and the counts; writes the others to --output."""
    from rich.markup import escape

    from data.errors import UserError
    from data.problems.writer import jsonl_writer
    from flows.cli.intake import console

    out = console()
    rows = gone = 0
    with jsonl_writer(args.output, reading=None if source.on_hub else source.file) if args.output else nullcontext(None) as write:
        for verdict in verdicts:
            rows += 1
            if not verdict.reason:
                if write is not None:
                    write(verdict.row, verdict.where)
                continue
            gone += 1
            if args.json:
                told = {"where": verdict.where, "reason": verdict.reason, "other": verdict.other, "gram": verdict.gram}
                print(json.dumps(told, ensure_ascii=False))
            elif gone <= SHOWN:
                out.print(f"  {escape(verdict.where)}: {escape(verdict.reason)}", soft_wrap=True)
        if not rows:
            raise UserError(f"{source}: no rows in it")
    if args.json:
        print(json.dumps({"rows": rows, name: gone, "kept": rows - gone}))
        return 0
    if gone > SHOWN:
        out.print(f"  … and {gone - SHOWN:,} more (--json names them all)")
    out.print(f"{source}: {gone:,} of {rows:,} rows {what}" + (f"; {rows - gone:,} written to {args.output}" if args.output else ""), soft_wrap=True)
    return 0
