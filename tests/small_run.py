"""A run small enough for tests, in a process of its own that can be killed at a chosen moment.

    python -m tests.small_run FOLDER [POINT COUNT] [KEY=VALUE …]

begins (or goes on with) the run in FOLDER and kills itself with SIGKILL the COUNT-th time it comes to POINT, one of
before_commit, after_commit, before_record, after_record, before_update, after_update, after_checkpoint, before_stage_line, before_merge.
KEY=VALUE changes the recipe that it begins with.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
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


def arm(point: str, count: int, remote: bool = False) -> None:
    from data.lake import Lake
    from data.ledger import Ledger
    from pipelines.grpo.remote import RemoteTrainer
    from pipelines.grpo.trainer import GRPOTrainer

    trainer = RemoteTrainer if remote else GRPOTrainer
    owner, method = {
        "commit": (Lake, "commit"),
        "record": (Ledger, "record"),
        "update": (trainer, "step"),
        "checkpoint": (trainer, "save"),
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


def main(folder: Path, point: str = "", count: int = 0, changes: Sequence[str] = ()) -> None:
    from pipelines.loop import run_loop
    from pipelines.recipe import load_recipe
    from pipelines.run import Run, is_run

    if point:
        arm(point, count, remote=any(c.startswith("train.ranks") for c in changes))
    run = Run.open(folder) if is_run(folder) else Run.create(folder, load_recipe("arithmetic", [*OVERRIDES, *changes]))
    with run:
        run_loop(run)


if __name__ == "__main__":
    fault = [a for a in sys.argv[2:] if "=" not in a]
    main(Path(sys.argv[1]), *fault[:1], *map(int, fault[1:2]), changes=[a for a in sys.argv[2:] if "=" in a])
