"""Ask a run's lake in SQL, also while the run is going: you see whole shards only and hold nobody up."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HELP = "ask a run's lake in SQL"
EPILOG = """examples:
  synth query runs/arithmetic-001 "SHOW TABLES"
  synth query runs/arithmetic-001 "SELECT round, avg(passes / n) AS pass_at_1 FROM evals GROUP BY round ORDER BY round"
  synth query runs/arithmetic-001 "SELECT rule, kept, count(*) FROM decisions GROUP BY ALL" --format csv
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", type=Path, metavar="DIR", help="the run folder")
    parser.add_argument("sql", metavar="SQL", help="a query; DESCRIBE TABLE shows what a column means")
    parser.add_argument("--format", choices=["table", "csv", "json", "parquet"], default="table")
    parser.add_argument("--at-round", type=int, metavar="N", help="as the run stood after round N")


def main(args: argparse.Namespace) -> int:
    from data.errors import UserError
    from pipelines.run import read_lake

    with read_lake(args.dir) as lake:
        if not args.sql.strip(" \n;"):
            raise UserError("the query is empty; give one SQL statement, e.g. 'SHOW TABLES'")
        try:
            rows = lake.query(args.sql, at_round=args.at_round)
        except UserError as error:  # DuckDB's text without the quoted line: one sentence
            raise UserError(" ".join(str(error).partition("\n\nLINE ")[0].split())) from None
    if args.format == "csv":
        import csv

        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(rows.columns)
        writer.writerows(rows.iter_rows())
    elif args.format == "json":
        import json

        for record in rows.iter_rows(named=True):
            print(json.dumps(record, ensure_ascii=False, default=str))
    elif args.format == "parquet":
        rows.write_parquet(sys.stdout.buffer)
    else:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, header_style="bold", pad_edge=False)
        for name, kind in rows.schema.items():
            table.add_column(Text(name), justify="right" if kind.is_numeric() else "left", overflow="fold")
        for row in rows.iter_rows():
            table.add_row(*(Text(_shown(value)) for value in row))
        console = Console(highlight=False)
        if not console.is_terminal:
            console = Console(highlight=False, width=10_000)  # a file or a pipe has no width to fold to
        console.print(table)
    return 0


def _shown(value: object) -> str:
    if value is None:
        return "·"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)
