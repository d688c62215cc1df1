"""Rollouts one update behind, with the embedded engine in a thread: what is sampled when, and the same bits after a resume."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from data.keyed import keyed_seed
from data.records import Group, Problem, Request, Sampling, Trajectory, Verdict
from generators.engines.local import LocalEngine
from pipelines.grpo.config import GRPOConfig
from pipelines.grpo.one_step_off import OneStepOff
from pipelines.grpo.trainer import GRPOTrainer
from pipelines.policies import policy_folder

CONFIG = GRPOConfig(learning_rate=2e-3, threads=1)
SAMPLING = Sampling(max_tokens=12)


class Sampler:
    """Groups of the shipped policy: the reward is the share of spaces in what it writes."""

    def __init__(self, folder: Path) -> None:
        self.engine = LocalEngine(folder, policy_id="p", threads=1)
        self.threads: list[str] = []
        self.weights: dict[int, float] = {}

    def __call__(self, step: int) -> list[Group]:
        self.threads.append(threading.current_thread().name)
        self.weights[step] = float(self.engine.decoder.layers[0].down.double().sum())  # type: ignore[attr-defined]
        return list(self._groups(step))

    def _groups(self, step: int) -> Iterator[Group]:
        for p in range(3):
            prompt = f"Q: {step + p} + {p}\nA:"
            asked = [Request("p", SAMPLING, seed=keyed_seed(0, step, p, i) & 0xFFFFFFFF, index=i, prompt=prompt) for i in range(4)]
            answers = {c.key: c for c in self.engine.generate(asked)}
            rows, rewards = [], []
            for r in asked:
                c = answers[r.key]
                tokens, start = np.concatenate([c.prompt_tokens, c.tokens]), len(c.prompt_tokens)
                mask, logp = np.r_[np.zeros(start), np.ones(len(c.tokens))].astype(np.uint8), np.r_[np.full(start, np.nan), c.logp].astype(np.float32)
                rows.append(Trajectory(Problem(prompt).id, "p", tokens, mask, logp, SAMPLING, r.seed, r.index, "length", c.text))
                rewards.append(c.text.count(" ") / max(len(c.text), 1))
            verdicts = tuple(Verdict("pass", w, "", "spaces") for w in rewards)
            yield Group(f"{step}.{p}", Problem(prompt), tuple(rows), verdicts, np.array(rewards, np.float32))

    def load(self, trainer: GRPOTrainer) -> None:
        self.engine.decoder.load(trainer.policy.tensors())


@pytest.fixture(scope="module")
def folder() -> Path:
    torch.set_num_threads(1)
    return policy_folder("arithmetic")


def test_each_batch_is_one_update_old_and_a_resume_changes_no_bit(folder: Path, tmp_path: Path) -> None:
    sampler = Sampler(folder)
    driver = OneStepOff(GRPOTrainer(folder, CONFIG), sampler, sampler.load)
    hashes, ratios = [], []
    for step in range(4):
        driver.trainer.save(tmp_path / f"at{step}", extra={"ahead": driver.state_dict()})
        metrics = driver.step(last=step == 3)
        hashes.append(driver.trainer.weights_hash())
        ratios.append((metrics["ratio_mean"], metrics["mismatch_mean"]))
    assert sampler.threads[0] == "MainThread" and all(name != "MainThread" for name in sampler.threads[1:]) and len(sampler.threads) == 4
    assert sampler.weights[0] == sampler.weights[1] and len(set(sampler.weights.values())) == 3  # steps 0 and 1 by the first weights
    assert ratios[0][0] == 1 and all(r != 1 for r, _ in ratios[1:])
    for start in (1, 3):
        again = Sampler(folder)
        trainer = GRPOTrainer.resume(tmp_path / f"at{start}", CONFIG)
        resumed = OneStepOff(trainer, again, again.load)
        resumed.load_state_dict(trainer.extra["ahead"])
        for step in range(start, 4):
            resumed.step(last=step == 3)
            assert trainer.weights_hash() == hashes[step]


def test_a_sampler_that_breaks_is_heard(folder: Path) -> None:
    sampler = Sampler(folder)

    def sample(step: int) -> list[Group]:
        if step == 1:
            raise RuntimeError("the engine is gone")
        return sampler(step)

    with pytest.raises(RuntimeError, match="the engine is gone"):
        OneStepOff(GRPOTrainer(folder, CONFIG), sample, sampler.load).step()


def test_truncated_importance_takes_the_place_of_the_ratio(folder: Path) -> None:
    sampler = Sampler(folder)
    config = GRPOConfig(learning_rate=2e-3, threads=1, overrides={"tis_cap": 2.0})
    driver = OneStepOff(GRPOTrainer(folder, config), sampler, sampler.load)
    driver.step()
    assert driver.step(last=True)["ratio_mean"] == 1
