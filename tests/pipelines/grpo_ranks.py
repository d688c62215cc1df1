"""One rank of a training under torchrun (two gloo processes in the tests), or all of it alone.

    torchrun --nproc-per-node 2 tests/pipelines/grpo_ranks.py FOLDER CONFIG.json

3 steps from FOLDER/policy with a checkpoint after each in FOLDER/at{n}, then the last two steps again, resumed from FOLDER/at1.
Rank 0 prints the metrics and the weights' hash of every step as JSON lines.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

VOCAB = 40


def make_groups(step: int) -> list:  # type: ignore[type-arg]
    from data.records import Group, Problem, Sampling, Trajectory, Verdict

    rng = np.random.default_rng(step)
    groups = []
    for g in range(5):
        problem, prompt, rows = Problem(f"{step % 2}.{g}"), rng.integers(0, VOCAB, 4 + g), []
        rewards = np.array([1, 0, 0, 1], np.float32)
        for i in range(4):
            tokens = np.r_[prompt, rng.integers(0, VOCAB, int(rng.integers(2, 9)))].astype(np.int32)
            mask = np.r_[np.zeros(len(prompt)), np.ones(len(tokens) - len(prompt))].astype(np.uint8)
            rows.append(Trajectory(problem.id, "v", tokens, mask, np.full(len(tokens), -3, np.float32), Sampling(max_tokens=9), i, i, "stop", ""))
        groups.append(Group(f"{step}.{g}", problem, tuple(rows), tuple(Verdict("pass", float(r), "", "t") for r in rewards), rewards))
    return groups


def train(trainer, folder: Path, name: str) -> Iterator[dict[str, float | str]]:  # type: ignore[no-untyped-def]
    """Up to 3 steps with a checkpoint after each: metrics and the weights' hash."""
    while trainer.step_count < 3:
        metrics = trainer.step(make_groups(trainer.step_count))
        yield {**metrics, "hash": trainer.save(folder / f"{name}{trainer.step_count}")}


def main(folder: Path, config: Path) -> None:
    import torch

    from pipelines.grpo.config import GRPOConfig
    from pipelines.grpo.ranks import Ranks
    from pipelines.grpo.trainer import GRPOTrainer

    torch.set_num_threads(1)
    ranks = Ranks.join()
    settings = GRPOConfig(**json.loads(config.read_text()))
    for what in ("at", "again"):
        trainer = GRPOTrainer(folder / "policy", settings, ranks=ranks) if what == "at" else GRPOTrainer.resume(folder / "at1", settings, ranks=ranks)
        for line in train(trainer, folder, what):
            if ranks.first:
                print(json.dumps(line), flush=True)
    ranks.wait()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
