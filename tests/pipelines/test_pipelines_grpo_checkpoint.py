"""Checkpoints: bit-exact resume at every step, loadable by transformers, whole or not there."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

from data.errors import SynthError, UserError
from data.records import Group, Problem, Sampling, Trajectory, Verdict
from pipelines.grpo import checkpoint
from pipelines.grpo.checkpoint import weights_hash, write_folder
from pipelines.grpo.config import GRPOConfig
from pipelines.grpo.learner import Learner
from pipelines.grpo.trainer import GRPOTrainer

SIZE = {
    "vocab_size": 30,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
}


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    path = tmp_path / "seed"
    Qwen3ForCausalLM(Qwen3Config(**SIZE, max_position_embeddings=64, tie_word_embeddings=True)).save_pretrained(path)
    (path / "tokenizer.json").write_text('{"the": "tokenizer"}')
    (path / "card.json").write_text('{"pass@1": 0.4}')
    (path / "chat_template.jinja").write_text("{{ messages }}")
    return path


def batch(step: int, flat: bool = False) -> list[Group]:
    rng = np.random.default_rng(step)
    groups = []
    for g in range(3):
        problem, prompt, rows = Problem(f"{step}.{g}"), rng.integers(0, 30, 4), []
        rewards = np.ones(4, np.float32) if flat else np.array([1, 0, 0, 1], np.float32)
        for i in range(4):
            tokens = np.r_[prompt, rng.integers(0, 30, int(rng.integers(2, 8)))].astype(np.int32)
            mask = np.r_[np.zeros(4), np.ones(len(tokens) - 4)].astype(np.uint8)
            rows.append(Trajectory(problem.id, "v", tokens, mask, np.full(len(tokens), -3, np.float32), Sampling(max_tokens=8), i, i, "stop", ""))
        groups.append(Group(f"{step}.{g}", problem, tuple(rows), tuple(Verdict("pass", float(r), "", "t") for r in rewards), rewards))
    return groups


SETTINGS = {
    "plain": GRPOConfig(learning_rate=1e-3, warmup_steps=3, weight_decay=0.01),
    "several_updates": GRPOConfig(learning_rate=1e-3, minibatches=2),
    "kl": GRPOConfig(learning_rate=1e-3, overrides={"kl_coef": 0.1}),
    "adaptive_kl": GRPOConfig(learning_rate=1e-3, overrides={"kl_coef": {"schedule": "adaptive", "start": 0.1, "target": 1e-4}}),
    "stateful_advantages": GRPOConfig(preset="dcpo", learning_rate=1e-3, minibatches=2, epochs=2),
    "replay": GRPOConfig(learning_rate=1e-3, minibatches=2, overrides={"replay_share": 0.7, "replay_capacity": 4, "dynamic_sampling": True}),
}
MOVES_WHEN_FLAT = ("kl", "adaptive_kl", "stateful_advantages")  # a step of flat groups changes the weights all the same


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_resume_is_bit_exact_at_every_step(tmp_path: Path, policy: Path, name: str) -> None:
    """Prompts come again every other step; step 2 has no reward to compare: a checkpoint of an untouched optimizer is legal too."""
    config, steps = SETTINGS[name], 5
    straight = GRPOTrainer(policy, config)
    hashes, metrics = [], []
    for step in range(steps):
        straight.save(tmp_path / f"at{step}", extra={"cursor": step})
        metrics.append(straight.step(batch(step % 2, flat=step == 2)))
        hashes.append(straight.weights_hash())
    assert len(set(hashes)) == (steps if name in MOVES_WHEN_FLAT else steps - 1)
    for start in range(steps):
        resumed = GRPOTrainer.resume(tmp_path / f"at{start}", config)
        assert resumed.step_count == start and resumed.extra == {"cursor": start}
        for step in range(start, steps):
            assert resumed.step(batch(step % 2, flat=step == 2)) == metrics[step]
            assert resumed.weights_hash() == hashes[step]
            resumed.save(tmp_path / "again")  # saving must not disturb, and a chain of resumes must hold
            resumed = GRPOTrainer.resume(tmp_path / "again", config)


class Killed(BaseException):
    """Not an Exception: nothing on the way may take it for an error of its own."""


@pytest.mark.parametrize("name", ["several_updates", "stateful_advantages", "replay"])
def test_killed_at_every_optimizer_update_and_resumed(tmp_path: Path, policy: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the updates of one batch, too: what is resumed is the last durable step, and the hashes are those of the undisturbed run."""
    config, steps = SETTINGS[name], 3
    straight, hashes, updates = GRPOTrainer(policy, config), [], 0
    for step in range(steps):
        straight.step(batch(step % 2))
        hashes.append(straight.weights_hash())
    updates = straight.update_count
    assert updates > steps
    original = Learner.update
    for fatal in range(updates):
        done = [0]

        def counted(self: Learner, *args: object, fatal: int = fatal, done: list[int] = done) -> float:
            if done[0] == fatal:
                raise Killed
            done[0] += 1
            return original(self, *args)  # type: ignore[arg-type]

        monkeypatch.setattr(Learner, "update", counted)
        trainer, folder = GRPOTrainer(policy, config), tmp_path / f"killed{fatal}"
        trainer.save(folder)
        with pytest.raises(Killed):
            for step in range(steps):
                trainer.step(batch(step % 2))
                trainer.save(folder)
        monkeypatch.setattr(Learner, "update", original)
        trainer = GRPOTrainer.resume(folder, config)
        for step in range(trainer.step_count, steps):
            trainer.step(batch(step % 2))
            assert trainer.weights_hash() == hashes[step]


def test_a_checkpoint_is_a_transformers_folder_of_its_own(tmp_path: Path, policy: Path) -> None:
    """Tokenizer files travel along even when the folder they came from is gone."""
    trainer = GRPOTrainer(policy, SETTINGS["plain"])
    for path in policy.iterdir():
        path.unlink()
    policy.rmdir()
    trainer.step(batch(0))
    digest = trainer.save(tmp_path / "out", extra={"strategies": {"svs": [1, 2]}})
    assert (tmp_path / "out/tokenizer.json").read_text() == '{"the": "tokenizer"}' and (tmp_path / "out/chat_template.jinja").exists()
    assert not (tmp_path / "out/card.json").exists()  # it described other weights
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert weights_hash(dict(model.named_parameters())) == digest == trainer.weights_hash()
    assert "synth_packed" not in (tmp_path / "out/config.json").read_text()
    state = json.loads((tmp_path / "out/state.json").read_text())
    assert state["step"] == 1 and state["weights_hash"] == digest and state["extra"] == {"strategies": {"svs": [1, 2]}}
    assert state["config"]["learning_rate"] == 1e-3


def test_saving_over_a_checkpoint_replaces_it_and_leaves_nothing_beside(tmp_path: Path, policy: Path) -> None:
    trainer = GRPOTrainer(policy, SETTINGS["plain"])
    trainer.save(tmp_path / "c/latest")
    (tmp_path / "c/latest/stale").write_text("x")
    (tmp_path / "c/.latest.dead.part").mkdir()
    trainer.step(batch(0))
    digest = trainer.save(tmp_path / "c/latest")
    assert os.listdir(tmp_path / "c") == ["latest"] and not (tmp_path / "c/latest/stale").exists()
    assert GRPOTrainer.resume(tmp_path / "c/latest", SETTINGS["plain"]).weights_hash() == digest


def test_a_crash_while_writing_leaves_the_old_checkpoint(tmp_path: Path, policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = GRPOTrainer(policy, SETTINGS["plain"])
    digest = trainer.save(tmp_path / "c/latest")
    trainer.step(batch(0))

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "_sync", full)
    with pytest.raises(OSError, match="No space"):
        trainer.save(tmp_path / "c/latest")
    monkeypatch.undo()
    assert os.listdir(tmp_path / "c") == ["latest"]
    assert GRPOTrainer.resume(tmp_path / "c/latest", SETTINGS["plain"]).weights_hash() == digest


def test_every_file_is_synced_before_the_folder_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    seen: list[tuple[str, bool]] = []
    monkeypatch.setattr(checkpoint, "_sync", lambda p: (synced.append(p.name), seen.append((p.name, (tmp_path / "out").exists()))))
    write_folder(tmp_path / "out", lambda part: [(part / n).write_text(n) for n in ("b", "a")] and None)
    assert synced[:2] == ["a", "b"] and synced[-1] == tmp_path.name
    assert [late for _, late in seen] == [False, False, False, True]


def test_damage_is_noticed(tmp_path: Path, policy: Path) -> None:
    trainer = GRPOTrainer(policy, SETTINGS["plain"])
    trainer.step(batch(0))
    for name in ("optimizer.safetensors", "model.safetensors"):
        trainer.save(tmp_path / "c")
        content = bytearray((tmp_path / "c" / name).read_bytes())
        content[-5] ^= 1
        (tmp_path / "c" / name).write_bytes(content)
        with pytest.raises(SynthError, match="damaged"):
            GRPOTrainer.resume(tmp_path / "c", SETTINGS["plain"])
    trainer.save(tmp_path / "c")
    (tmp_path / "c/optimizer.safetensors").write_bytes(b"\x10")
    with pytest.raises(SynthError, match="damaged"):
        GRPOTrainer.resume(tmp_path / "c", SETTINGS["plain"])


def test_a_policy_folder_is_no_checkpoint(policy: Path) -> None:
    with pytest.raises(UserError, match=r"no state\.json"):
        GRPOTrainer.resume(policy, SETTINGS["plain"])


def test_the_hash_sees_names_types_shapes_and_bits() -> None:
    base = {"a": torch.zeros(2, 3), "b": torch.ones(1)}
    variants = [
        {"a": torch.zeros(3, 2), "b": torch.ones(1)},
        {"a": torch.zeros(2, 3), "c": torch.ones(1)},
        {"a": torch.zeros(2, 3), "b": -torch.ones(1)},
    ]
    variants += [{"a": torch.zeros(2, 3), "b": torch.ones(1, dtype=torch.float64)}, {"a": -torch.zeros(2, 3), "b": torch.ones(1)}]
    assert len({weights_hash(v) for v in [base, *variants]}) == 6
    assert weights_hash(dict(reversed(base.items()))) == weights_hash(base)
    weights_hash({"half": torch.zeros(3, dtype=torch.bfloat16)})


def test_a_reference_that_changed_under_a_run_is_refused(tmp_path: Path, policy: Path) -> None:
    trainer = GRPOTrainer(policy, SETTINGS["kl"])
    trainer.step(batch(0))
    trainer.save(tmp_path / "c")
    trainer.policy.model.save_pretrained(policy)
    with pytest.raises(SynthError, match=r"reference .* has changed"):
        GRPOTrainer.resume(tmp_path / "c", SETTINGS["kl"]).step(batch(1))


def test_a_folder_that_lacks_weights_is_refused(tmp_path: Path, policy: Path) -> None:
    """transformers would fill the gap with random numbers and a warning."""
    tensors = load_file(policy / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, policy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks weights .*layers\.1\.mlp\.up_proj"):
        GRPOTrainer(policy, SETTINGS["plain"])
    (policy / "model.safetensors").write_bytes(b"\x10\x00")
    with pytest.raises(UserError, match="does not load"):
        GRPOTrainer(policy, SETTINGS["plain"])
