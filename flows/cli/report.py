"""Write the report of a run as one HTML file: what it did, whether the policy got better, and examples to look at; also while it is going."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "write a run's report as one HTML file"
EPILOG = """examples:
  synth report runs/arithmetic-001                    writes runs/arithmetic-001/report.html
  synth report runs/arithmetic-001 --out /tmp/r.html
  synth report runs/arithmetic-001 --open             and opens it in a browser
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", type=Path, metavar="DIR", help="the run folder")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write it (default: DIR/report.html)")
    parser.add_argument("--open", action="store_true", help="open it in a browser afterwards")


def main(args: argparse.Namespace) -> int:
    from pipelines.report import write_report

    path = write_report(args.dir, args.out)
    print(f"{path}  {path.stat().st_size / 1e6:.1f} MB; open it in a browser, it needs no network")
    if args.open:
        import webbrowser

        webbrowser.open(path.resolve().as_uri())
    return 0
