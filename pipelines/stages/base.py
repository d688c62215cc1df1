"""A stage and the seam through which it is called (plainly here; as a Prefect task in flows/)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipelines.run import Run

Summary = dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """`fn(run, round)` does what is not done yet and returns a JSON-able summary that depends on the run's content only."""

    name: str
    fn: Callable[[Run, int], Summary]
    title: str = ""
    generates: bool = False  # asks the engine (a GPU task for an orchestrator)


Call = Callable[[Run, Stage, int], Summary]


def run_stage(run: Run, stage: Stage, round: int) -> Summary:
    """Run a stage unless its line is in the lake already; exactly once, however often it is called."""
    done = run.lake.stage_info(round, stage.name)
    if done is not None:
        run.emit("stage_reused", round=round, stage=stage.name, summary=done)
        return done
    run.emit("stage_started", round=round, stage=stage.name, title=stage.title)
    start = time.perf_counter()
    summary = stage.fn(run, round)
    seconds = time.perf_counter() - start
    run.lake.finish_stage(round, stage.name, summary, seconds)
    run.emit("stage_done", round=round, stage=stage.name, summary=summary, seconds=seconds)
    return summary
