"""One rank of a training under torchrun (two gloo processes in the tests), or all of it alone.

    torchrun --nproc-per-node 2 tests/pipelines/grpo_ranks.py FOLDER CONFIG.json steps|resume

steps: 3 steps from FOLDER/policy, a checkpoint after each in FOLDER/at{n}-{ranks}; resume: from FOLDER/at1-2, the two steps that are left.
Rank 0 prints the metrics and the weights' hash of every step as JSON lines.
"""

from __future__ import annotations

import json
import sys
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


def main(folder: Path, config: Path, what: str) -> None:
    import torch

    from pipelines.grpo.config import GRPOConfig
    from pipelines.grpo.ranks import Ranks
    from pipelines.grpo.trainer import GRPOTrainer

    torch.set_num_threads(1)
    ranks = Ranks.join()
    settings = GRPOConfig(**json.loads(config.read_text()))
    if what == "steps":
        trainer = GRPOTrainer(folder / "policy", settings, ranks=ranks)
    else:
        trainer = GRPOTrainer.resume(folder / "at1-2", settings, ranks=ranks)
    while trainer.step_count < 3:
        metrics = trainer.step(make_groups(trainer.step_count))
        digest = trainer.save(folder / f"{'at' if what == 'steps' else 'again'}{trainer.step_count}-{ranks.size}")
        if ranks.first:
            print(json.dumps({"step": trainer.step_count, "hash": digest, **metrics}), flush=True)
    ranks.wait()
    if ranks.size > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
