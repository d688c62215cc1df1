"""Judge a file of responses with a verifier, in killable processes; output in the input's order, and a killed run can be taken up again."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rich.console import Console

    from flows.cli.verdict_file import VerdictFile

HELP = "judge a file of responses"
EPILOG = """rows in:   {"id": 1, "reference": "42", "response": "… \\\\boxed{42}", "prompt"?: …, "spec"?: {…}}       for answers
           {"id": 1, "code": "def f(x): …", "tests": [{"call": "f(1)", "expected": 2}], …}              for programs
rows out:  {"id": 1, "verdict": "pass|fail|unknown", "reward": 1.0, "reason": "equal", "ms": 0.03}

examples:
  synth verify --verifier math --input answers.jsonl --output verdicts.jsonl
  synth verify --verifier answer --input qa.jsonl.gz --output verdicts.jsonl --workers 8
  synth verify --verifier math --input answers.jsonl --output verdicts.jsonl --resume      go on where it stopped
  synth verify --verifier judge --input essays.jsonl --output verdicts.jsonl --judge local --model FOLDER
"""

SHOWN_BAD = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--verifier", required=True, metavar="NAME", help="who judges (a wrong name lists them all)")
    parser.add_argument("--input", required=True, type=Path, metavar="FILE", help="rows to judge: .jsonl or .jsonl.gz")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE", help="where the verdicts go: .jsonl")
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one per core)")
    parser.add_argument("--deadline", type=float, metavar="S", help="seconds before a row is unknown (default: 10, programs 120)")
    parser.add_argument("--resume", action="store_true", help="go on with an output that was begun")
    parser.add_argument("--overwrite", action="store_true", help="begin anew where the output is there already")
    parser.add_argument("--skip-bad", action="store_true", help="leave out rows that are wrong instead of refusing the file")
    parser.add_argument("--judge", metavar="ENGINE", help="the engine that judges ask, e.g. local")
    parser.add_argument("--model", default="arithmetic", metavar="PATH", help="the judge's model: a folder or a shipped policy (default: arithmetic)")
    parser.add_argument("--quiet", action="store_true", help="no progress, only the closing line")


def main(args: argparse.Namespace) -> int:
    import shlex
    import signal
    import sys
    from types import FrameType

    from data.errors import UserError
    from filters.verifiers.base import get_verifier
    from flows.cli.verdict_file import VerdictFile

    verifier = get_verifier(args.verifier)
    workers = worker_count(args.workers)
    if args.deadline is not None and not args.deadline > 0:
        raise UserError(f"--deadline {args.deadline:g}: give a number of seconds above 0")
    if getattr(verifier, "asks_model", False) and not args.judge:
        raise UserError(f"verifier {args.verifier!r} asks a model: give --judge local --model FOLDER")
    if args.judge and not hasattr(verifier, "bind"):
        raise UserError(f"--judge {args.judge}: verifier {args.verifier!r} asks no model; leave --judge out")
    output = VerdictFile.open(args.output, args.input, args.verifier, resume=args.resume, overwrite=args.overwrite, skip_bad=args.skip_bad)

    def stop(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    try:
        with output:
            return _verify(args, verifier, workers, output)
    except KeyboardInterrupt:
        again = shlex.join(a for a in sys.argv[1:] if a not in ("--overwrite", "--resume"))
        print(f"\nsynth: interrupted; what is judged is kept, go on with: synth {again} --resume", file=sys.stderr)
        return 130


def worker_count(asked: int | None) -> int:
    """Processes to start: as many as asked for, or one per core."""
    import os

    from data.errors import UserError

    if asked is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not 1 <= asked <= 1024:
        raise UserError(f"--workers {asked}: give a number from 1 to 1024")
    return asked


def _verify(args: argparse.Namespace, verifier: Any, workers: int, output: VerdictFile) -> int:
    """Every row is checked before the first is judged, so that a bad one costs seconds and not a night."""
    import time

    from rich.console import Console

    from data.errors import UserError
    from flows.cli.meter import meter

    console = Console(stderr=True, highlight=False)
    rows, bad = _check(args, workers, output, console)
    if not rows and not output.rows:
        raise UserError(f"{args.input}: no rows in it" + (f" that are right ({bad} are wrong)" if bad else ""))
    began = time.monotonic()
    with meter(console, "judging", rows, quiet=args.quiet) as tick:
        if args.judge:
            for answer in _ask_model(args, output.items()):
                tick(output.write(answer))
            killed = 0
        else:
            killed = _judge(args, verifier, workers, output, tick)
    seconds = time.monotonic() - began
    said = ", ".join(f"{count:,} {outcome}" for outcome, count in output.counts.items())
    before = f" ({output.resumed:,} of them before)" if output.resumed else ""
    notes = f"; {bad:,} bad rows left out" * bool(bad) + f"; {killed} workers killed and replaced" * bool(killed)
    print(f"{output.rows:,} rows{before}: {said}; {rows / max(seconds, 1e-9):,.0f} rows/s with {workers} worker{'s' * (workers > 1)}{notes}")
    return 0


def _check(args: argparse.Namespace, workers: int, output: VerdictFile, console: Console) -> tuple[int, int]:
    """(right rows, bad rows) of those that are left; a bad one is an error, or said and counted under --skip-bad."""
    from data.errors import UserError
    from filters.verifiers.pool import KillablePool
    from flows.cli.meter import meter

    rows = bad = 0
    options = {"name": args.verifier, "file": str(args.input)}
    with (
        KillablePool("filters.verifiers.rows:check_work", options, lambda item, why: why.encode(), workers=workers, deadline=60.0) as pool,
        meter(console, "checking", None, quiet=args.quiet) as tick,
    ):
        for answer in pool.run(output.items()):
            tick(1)
            if answer in (b"", b"-"):
                rows += answer == b""
                continue
            bad += 1
            if not args.skip_bad:
                raise UserError(answer.decode("utf-8"))
            if bad <= SHOWN_BAD:
                console.print(f"skipped: {answer.decode('utf-8')}", soft_wrap=True, markup=False)
    return rows, bad


def _judge(args: argparse.Namespace, verifier: Any, workers: int, output: VerdictFile, tick: Callable[[int], None]) -> int:
    """Judges the rows that are left in worker processes; how many of those had to be killed."""
    import functools

    from filters.verifiers.pool import KillablePool
    from filters.verifiers.rows import rescued

    options = {"name": args.verifier, "file": str(args.input)}
    scaled = hasattr(verifier, "verify_batch")  # it has deadlines of its own, and this one is for where they fail
    deadline = args.deadline or getattr(verifier, "deadline_s", 120.0 if scaled else 10.0)
    rescue = functools.partial(rescued, ms=deadline * 1e3, **options)
    with KillablePool("filters.verifiers.rows:verify_work", options, rescue, workers=workers, deadline=deadline, scaled=scaled) as pool:
        for answer in pool.run(output.items()):
            tick(output.write(answer))
        return pool.killed


def _ask_model(args: argparse.Namespace, items: Iterator[bytes]) -> Iterator[bytes]:
    """Judges ask one model, which batches for itself: no worker processes, 64 rows at a time."""
    from itertools import islice

    from data.errors import UserError
    from filters.verifiers.base import Tools
    from filters.verifiers.rows import verify_work
    from generators.engines.registry import open_engine
    from pipelines.policies import policy_folder

    options = {} if ":" in args.judge else {"path": policy_folder(args.model), "policy_id": "judge"}
    engine = open_engine(args.judge, **options)
    try:
        engine.render_chat([{"role": "user", "content": "?"}])
        dialect: Literal["instruct", "compact"] = "instruct"
    except UserError:
        dialect = "compact"  # the model has no chat template
    try:
        work = verify_work(args.verifier, str(args.input), Tools(generate=engine.generate, policy_id="judge", dialect=dialect))
        while chunk := list(islice(items, 64)):
            yield from work(chunk)
    finally:
        engine.close()
