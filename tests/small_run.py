"""A run small enough for tests, in a process of its own that can be killed at a chosen moment.

    python -m tests.small_run FOLDER [POINT COUNT]

begins (or goes on with) the run in FOLDER and kills itself with SIGKILL the COUNT-th time it comes to POINT, one of
before_commit, after_commit, before_record, after_record, after_checkpoint, before_stage_line, before_merge.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

OVERRIDES = [
    "rounds=2",
    "problems.per_cell=2",
    "problems.levels=[1, 2]",
    "probe.problems=24",
    "probe.n=4",
    "probe.shard=8",
    "strategies.frontier.budget=20",
    "select.problems=40",
    "train.steps=3",
    "train.prompts_per_step=6",
    "train.group_size=4",
    "evaluate.problems=20",
    "evaluate.n=2",
    "evaluate.shard=10",
    "engine.batch_rows=16",
    "sampling.max_tokens=32",
]


def arm(point: str, count: int) -> None:
    from data.lake import Lake
    from data.ledger import Ledger
    from pipelines.grpo.trainer import GRPOTrainer

    owner, method = {
        "commit": (Lake, "commit"),
        "record": (Ledger, "record"),
        "checkpoint": (GRPOTrainer, "save"),
        "stage_line": (Lake, "finish_stage"),
        "merge": (Lake, "merge"),
    }[point.split("_", 1)[1]]
    original = getattr(owner, method)
    left = [count]

    def fatal(*args, **kwargs):
        left[0] -= 1
        if point.startswith("before") and left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if point.startswith("after") and left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, method, fatal)


def main(folder: Path, point: str = "", count: int = 0) -> None:
    from pipelines.loop import run_loop
    from pipelines.recipe import load_recipe
    from pipelines.run import Run, is_run

    if point:
        arm(point, count)
    run = Run.open(folder) if is_run(folder) else Run.create(folder, load_recipe("arithmetic", OVERRIDES))
    with run:
        run_loop(run)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *(sys.argv[2:3]), *(int(a) for a in sys.argv[3:4]))
