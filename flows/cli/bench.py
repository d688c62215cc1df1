"""Run a benchmark of tests/benchmarks side by side with what one would pick instead; one JSON line per figure."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "run a benchmark"
EPILOG = """examples:
  synth bench            the names
  synth bench engine
  synth bench lake -- --commits 1000
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="a benchmark (none: list them)")
    parser.add_argument("--json", action="store_true", help="accepted for scripts; the output is JSON lines in any case")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="arguments of the benchmark, after --")


def main(args: argparse.Namespace) -> int:
    import runpy
    import sys

    from data.errors import UserError

    folder = Path("tests") / "benchmarks"
    names = sorted(p.stem.removeprefix("bench_") for p in folder.glob("bench_*.py"))
    if not names:
        raise UserError("no benchmarks here: they live in tests/benchmarks of a source checkout; start `synth bench` in its top folder")
    if args.name is None:
        print("\n".join(names))
        return 0
    if args.name not in names:
        raise UserError(f"no benchmark named {args.name!r}; there are: {', '.join(names)}")
    before = sys.argv
    sys.argv = [f"bench_{args.name}", *[a for a in args.rest if a not in ("--", "--json")]]
    try:
        runpy.run_path(str(folder / f"bench_{args.name}.py"), run_name="__main__")
    finally:
        sys.argv = before
    return 0
