"""Drives a run from the command line: progress, interruption, the closing table."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from pipelines.recipe import Recipe


def drive(folder: Path, recipe: Recipe | None, *, prefect: bool, quiet: bool, events: bool = False, ranks: int | None = None) -> int:
    """Begin (with a recipe) or go on with (without one) the run in `folder`; the exit status.

    events: print the run's events as JSON lines on standard output, and nothing else. ranks: of the trainer, where not as the run began.
    """
    from rich.console import Console

    from flows.cli.display import display
    from flows.cli.events import EventLines, EventLog
    from flows.cli.summary import closing
    from pipelines.check import check_ranks
    from pipelines.run import Run

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=120)  # a file or a pipe has no width of its own
    interrupted: list[int] = []
    opened, path = False, None

    def stop(signum: int, frame: FrameType | None) -> None:
        interrupted.append(signum)
        raise KeyboardInterrupt

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, stop)
    log = EventLog(folder)
    try:
        with display(console, quiet=quiet or events) as shown, contextlib.closing(log):
            listeners = (EventLines(sys.stdout) if events else shown, log)

            def listener(kind: str, data: Mapping[str, Any]) -> None:
                for each in listeners:
                    each(kind, data)

            run = Run.create(folder, recipe, listener=listener) if recipe is not None else Run.open(folder, listener=listener)
            opened = True
            try:
                with run:
                    if ranks is not None:
                        check_ranks(ranks, run.recipe.train.trainer.get("device", "auto"), "--ranks")
                        run.trainer_ranks = ranks
                    _record(folder)
                    run.emit("run_started", folder=str(folder), recipe=run.recipe, model=run.model, resumed=recipe is None, requests=run.ledger.counts())
                    if prefect:
                        from flows.closed_loop import run_with_prefect

                        run_with_prefect(run)
                    else:
                        from pipelines.loop import run_loop

                        run_loop(run)
                    run.emit("run_done", folder=str(folder))
            except BaseException as error:
                if not interrupted:
                    listener("run_failed", {"error": f"{type(error).__name__}: {error}"})
                    raise
                # Whatever it came out as: libraries turn the interruption into errors of their own (DuckDB: "Query interrupted").
                listener("interrupted", {})
                print(f"\nsynth: interrupted; nothing is lost, go on with: synth resume {folder}", file=sys.stderr)
        if not interrupted and not events:
            closing(console, folder)
    finally:  # of a run that was interrupted or failed, too
        if opened:
            failed = sys.exc_info()[0] is not None  # then the run's own error is the one sentence to read
            path = _report(folder, warn=not failed)
    if interrupted:
        return 130
    if path is not None and not events:
        console.print(f"the report, one file for any browser: {path}", soft_wrap=True)
    return 0


def _record(folder: Path) -> None:
    from pipelines.report.commands import record_command

    if Path(sys.argv[0]).name in ("synth", "main.py"):  # not where another program drives
        record_command(folder, ["synth", *sys.argv[1:]])


def _report(folder: Path, *, warn: bool = True) -> Path | None:
    """The run's report, as far as the run came; a report that fails is a warning and nothing more."""
    try:
        from pipelines.report import write_report

        return write_report(folder)
    except KeyboardInterrupt:  # they will not wait for it
        print(f"synth: no report was written; `synth report {folder}` writes it", file=sys.stderr)
    except Exception as error:  # noqa: BLE001 - the run is worth more than its report
        if warn:
            print(f"synth: the report could not be written ({error}); try again with `synth report {folder}`", file=sys.stderr)
    return None
