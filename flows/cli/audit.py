"""Audit the judge of a data set: references accepted, junk and other answers refused, nothing executed, nothing breaks."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

HELP = "audit the judge of a data set"
EPILOG = """rows:  {"prompt": …, "answer": …, "verifier"?: "math", "spec"?: {…}, "oracle"?: a response that must be accepted}
       {"code": …, "tests": […]}                              for programs

examples:
  synth audit mine.jsonl.gz
  synth audit quiz.jsonl --verifier choice --output audit.jsonl      a record per row beside the table

exit status: 0 audited (whatever was found), 2 a row is wrong
"""

SHOWN = 10
COLUMNS = {
    "problems": "problems", "passed": "passed", "unjudged": "cannot be\njudged", "without_oracle": "without\noracle",
    "oracle_refused": "reference\nrefused", "junk_accepted": "junk\naccepted", "others_accepted": "others'\naccepted",
    "executed": "executed", "exceptions": "broke", "slowest_ms": "slowest\nms",
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="problems: .jsonl or .jsonl.gz")
    parser.add_argument("--verifier", default="math", metavar="NAME", help="who judges rows that do not say (default: math)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="a record per row: .jsonl")
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one per core)")
    parser.add_argument("--deadline", type=float, default=60.0, metavar="S", help="seconds an audit of one row may take (default: 60)")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def main(args: argparse.Namespace) -> int:
    import json
    from contextlib import nullcontext

    from rich.console import Console

    from data.errors import UserError
    from filters.verifiers.base import get_verifier

    get_verifier(args.verifier)
    if args.output is not None and (args.output.suffix != ".jsonl" or not args.output.absolute().parent.is_dir()):
        raise UserError(f"--output {args.output}: give a .jsonl file in a folder that exists")
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=140)
    records: dict[str, dict[str, Any]] = {}
    failed: list[Mapping[str, Any]] = []
    with open(args.output, "w", encoding="utf-8") if args.output is not None else nullcontext() as stream:
        for record in _audited(args):
            if stream is not None:
                stream.write(json.dumps(record, ensure_ascii=False) + "\n")
            _count(records.setdefault(record["verifier"], dict.fromkeys(COLUMNS, 0)), record)
            if not record["passed"] and len(failed) < SHOWN:
                failed.append(record)
    if not records:
        raise UserError(f"{args.file}: no problems in it")
    _show(console, args.file, records, failed)
    if "code" in records:
        _show_suites(console, args.file)
    return 0


def _audited(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A record per row, in the file's order; the first row that is wrong is an error."""
    import functools
    import json

    from rich.console import Console

    from data.errors import UserError
    from data.problems_io import read_lines
    from filters.audit_rows import items, rescued
    from filters.verifiers.pool import KillablePool
    from flows.cli.meter import meter
    from flows.cli.verify import worker_count

    options = {"file": str(args.file), "verifier": args.verifier}
    next(read_lines(args.file), None)
    rescue = functools.partial(rescued, **options)
    workers = worker_count(args.workers)
    with (
        KillablePool("filters.audit_rows:audit_work", options, rescue, workers=workers, deadline=args.deadline, scaled=True) as pool,
        meter(Console(stderr=True, highlight=False), "auditing", None, quiet=args.quiet) as tick,
    ):
        for answer in pool.run(items(read_lines(args.file))):
            record = json.loads(answer)
            if "wrong" in record:
                raise UserError(record["wrong"])
            tick(1)
            yield record


def _count(row: dict[str, Any], record: Mapping[str, Any]) -> None:
    row["problems"] += 1
    row["passed"] += record["passed"]
    row["unjudged"] += not record["judged"]
    row["without_oracle"] += not record["has_oracle"]
    row["oracle_refused"] += record["has_oracle"] and not record["oracle_accepted"]
    for name in ("junk_accepted", "others_accepted", "executed"):
        row[name] += record[name] > 0
    row["exceptions"] += record["exceptions"]
    row["slowest_ms"] = max(row["slowest_ms"], record["slowest_ms"])


def _show(console: Console, file: Path, records: Mapping[str, Mapping[str, Any]], failed: Sequence[Mapping[str, Any]]) -> None:
    console.print(_table(records))
    problems, passed = (sum(r[name] for r in records.values()) for name in ("problems", "passed"))
    console.print(f"{passed:,} of {problems:,} problems passed every audit")
    if failed:
        console.print(f"\n[bold]the first {len(failed)} that did not[/]" if problems - passed > len(failed) else "\n[bold]those that did not[/]")
        for record in failed:
            console.print(f"  {file}, line {record['line']} ({record['verifier']}): {record['reason']}", soft_wrap=True, markup=False)


def _table(records: Mapping[str, Mapping[str, Any]]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("verifier")
    for title in COLUMNS.values():
        table.add_column(title, justify="right")
    good = ("problems", "passed", "without_oracle", "slowest_ms")
    for name, row in sorted(records.items()):
        cells = [f"{row[c]:,.1f}" if c == "slowest_ms" else f"[red]{row[c]:,}[/]" if row[c] and c not in good else f"{row[c]:,}" for c in COLUMNS]
        table.add_row(name, *cells)
    return table


def _show_suites(console: Console, file: Path) -> None:
    """What the tests of program rows are worth: detection of known wrong programs, mutation score, how many tests would do."""
    import math
    from importlib.util import find_spec
    from itertools import islice

    from rich.table import Table

    from filters.audit_rows import program_rows

    if find_spec("filters.suites") is None:
        console.print("the tests of programs are not measured: filters.suites is not installed here")
        return
    from filters.suites import audit_rows

    rows, records = program_rows(file), []
    while chunk := list(islice(rows, 32)):
        records += audit_rows([row for _, row in chunk])

    def mean(values: Sequence[float]) -> str:
        known = [v for v in values if not math.isnan(v)]
        return f"{sum(known) / len(known):.3f} ({len(known)})" if known else "–"

    table = Table(box=None, pad_edge=False)
    for title in ("programs", "tests sound", "detection rate", "verifier accuracy", "mutation score", "tests", "would do", "isolation"):
        table.add_column(title, justify="right")
    table.add_row(
        f"{len(records):,}",
        f"{sum(r.passed for r in records):,}",
        *(mean([getattr(r, name) for r in records]) for name in ("detection_rate", "verifier_accuracy", "mutation_score")),
        f"{sum(r.tests for r in records):,}",
        f"{sum(len(r.minimal) for r in records):,}",
        ", ".join(sorted({r.isolation for r in records})),
    )
    console.print()
    console.print(table)
    for record in [r for r in records if not r.passed][:SHOWN]:
        console.print(f"  {file}, id {record.id}: {record.reason}", soft_wrap=True, markup=False)
