"""Ranks from the command line: the same training as alone, a dead rank is one sentence, one rank goes on from two, no process is left."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from data.errors import SynthError, UserError
from flows.cli.main import main
from flows.cli.torchrun import ranks_asked
from pipelines.check import _check_gpus
from pipelines.grpo.rank_group import RankGroup, visible
from pipelines.grpo.remote import RemoteTrainer
from pipelines.grpo.wire import frame, receive
from pipelines.recipe import load_recipe
from pipelines.run import read_lake

ROOT = Path(__file__).parents[2]
needs_two_cores = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two ranks need two cores")
TRAIN = [
    "--steps",
    "3",
    "--heldout",
    "0",
    "--quiet",
    "--set",
    "train.prompts_per_step=6",
    "--set",
    "train.group_size=4",
    "--set",
    "sampling.max_tokens=32",
]


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def gone(pids: list[int], seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(alive, pids))


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    rows = [{"prompt": f"What is {a} + {b}?", "answer": str(a + b)} for a in range(2, 6) for b in range(3, 7)]
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@needs_two_cores
def test_a_dead_rank_stops_the_run_and_one_rank_goes_on(
    problems: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two ranks make the first step; one dies in the second; a run on one rank takes up their checkpoint."""
    assert main(["train", str(problems), "--out", str(tmp_path / "one"), *TRAIN]) == 0
    pids: list[int] = []
    original = RemoteTrainer.step

    def step(self: RemoteTrainer, *args, **kwargs):  # type: ignore[no-untyped-def]
        pids[:] = [*self.group.pids, self.group._torchrun.pid]
        if self.step_count == 1:
            os.kill(self.group.pids[1], signal.SIGKILL)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(RemoteTrainer, "step", step)
    capsys.readouterr()
    assert main(["train", str(problems), "--out", str(tmp_path / "two"), "--ranks", "2", *TRAIN]) == 1
    said = capsys.readouterr().err
    assert "of the trainer's 2 died" in said and f"synth resume {tmp_path / 'two'}" in said and "Traceback" not in said
    assert len(pids) == 3 and gone(pids)
    assert sorted(p.name for p in (tmp_path / "two/policies/r1-s0001/shards").iterdir())
    assert main(["resume", str(tmp_path / "two"), "--ranks", "1", "--quiet"]) == 0
    columns = "step, ranks, rollouts, tokens, grad_norm, loss, entropy, reward_mean"
    rows = {}
    for name in ("one", "two"):
        with read_lake(tmp_path / name) as lake:
            rows[name] = lake.query(f"SELECT {columns} FROM train_steps ORDER BY step").rows()
    assert [r[1] for r in rows["one"]] == [1, 1, 1] and [r[1] for r in rows["two"]] == [2, 1, 1]
    first = dict(zip(columns.split(", "), zip(rows["one"][0], rows["two"][0], strict=True), strict=True))
    assert first["grad_norm"][0] > 0
    assert math.isclose(*first["grad_norm"], rel_tol=1e-6) and math.isclose(*first["entropy"], rel_tol=1e-6)
    assert first["tokens"][0] == first["tokens"][1] and first["reward_mean"][0] == first["reward_mean"][1]


def test_no_process_outlives_a_killed_run(tmp_path: Path) -> None:
    """kill -9 of the process that started the ranks: nobody is left to close them."""
    code = (
        "import sys, time; from pathlib import Path; from pipelines.grpo.rank_group import RankGroup\n"
        "group = RankGroup(2, threads=1, home=Path(sys.argv[1])); print(*group.pids, group._torchrun.pid, flush=True); time.sleep(600)"
    )
    run = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    pids = [int(word) for word in run.stdout.readline().split()]
    assert len(pids) == 3 and all(map(alive, pids))
    run.kill()
    run.wait()
    run.stdout.close()
    assert gone(pids)


def test_what_a_rank_refuses_is_the_runs_sentence(tmp_path: Path) -> None:
    group = RankGroup(1, threads=1, home=tmp_path)
    with pytest.raises(UserError, match="is not a policy folder"):
        group.ask({"do": "open", "policy": str(tmp_path), "resume": False, "config": {}})
    assert gone(group.pids) and group._torchrun.poll() is not None
    with pytest.raises(SynthError, match="were closed"):
        group.ask({"do": "step"})


def test_a_rank_that_fails_for_a_reason_nobody_thought_of_is_the_runs_sentence_too(tmp_path: Path) -> None:
    group = RankGroup(2, threads=1, home=tmp_path)
    with pytest.raises(SynthError, match=r"rank \d of the trainer failed: ValueError: a rank cannot 'dance'; nothing is lost, go on with"):
        group.ask({"do": "dance"})
    assert gone(group.pids) and "Traceback" in (tmp_path / "logs" / "ranks.log").read_text()


def test_frames_carry_every_number_and_text() -> None:
    import socket

    message = {"numbers": [0.1, 1e-300, -0.0, 3.0], "text": "é\ud800\n", "none": None}
    one, two = socket.socketpair()
    one.sendall(frame(message) * 2)
    assert receive(two) == message and receive(two) == message
    one.sendall(frame({"a": 1})[:-1])
    one.close()
    assert receive(two) is None
    two.close()


def test_groups_travel_bit_for_bit() -> None:
    from pipelines.grpo.replay import group_from_json, group_to_json
    from tests.pipelines.grpo_ranks import make_groups

    for group in make_groups(1):
        back = group_from_json(json.loads(frame(group_to_json(group))[8:]))
        assert back.id == group.id and back.rewards.tobytes() == group.rewards.tobytes()
        for a, b in zip(back.rollouts, group.rollouts, strict=True):
            assert all(np.asarray(getattr(a, k)).tobytes() == np.asarray(getattr(b, k)).tobytes() for k in ("tokens", "loss_mask", "logp"))


@pytest.mark.parametrize(
    ("devices", "shown", "wanted"), [([0, 1], None, "0,1"), ([4, 5], "", "4,5"), ([0, 2], "3,5,7", "3,7"), ([1], "GPU-a, GPU-b", "GPU-b")]
)
def test_gpus_are_counted_among_those_that_are_shown(devices: list[int], shown: str | None, wanted: str) -> None:
    assert visible(devices, shown) == wanted


def test_a_gpu_that_is_not_shown_is_refused() -> None:
    with pytest.raises(UserError, match="names GPU 3, but CUDA_VISIBLE_DEVICES=0,1 shows 2"):
        visible([0, 3], "0,1")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--ranks", "0"], "--ranks 0: give 1 or more"),
        (["--ranks", "64"], "every rank needs a core of its own"),
        (["--set", "train.ranks=2", "--set", "train.devices=[0]"], "must be one GPU for each of train.ranks = 2"),
        (["--set", "train.ranks=2", "--set", "train.trainer.device=cuda:1"], "is one GPU"),
        (["--set", "train.trainer.device=tpu"], "device must be auto, cpu, cuda or cuda:N"),
        (["--set", "train.staleness=2"], "train.staleness: input should be less than or equal to 1 (got 2)"),
        (["--preset", "rloo", "--set", "train.staleness=1"], "its ratio has no bound"),
    ],
)
def test_wrong_values_are_one_sentence(problems: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    assert main(["train", str(problems), "--out", str(tmp_path / "run"), *arguments]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["train.staleness=1", "engine.vllm.sleep_level=1"], "they work at once"),
        (["train.ranks=2", "train.devices=[0, 1]"], "vLLM would start on the first GPUs"),
        (["train.ranks=2", "train.devices=[0, 1]", 'engine.vllm.environment={CUDA_VISIBLE_DEVICES = "1,2"}'], "vLLM is given GPU 1, too"),
        (["train.ranks=2", "train.devices=[0, 1]", 'engine.vllm.environment={CUDA_VISIBLE_DEVICES = "2,3"}'], ""),
    ],
)
def test_the_engine_and_the_trainer_have_gpus_of_their_own(monkeypatch: pytest.MonkeyPatch, changes: list[str], says: str) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    recipe = load_recipe("arithmetic", ["engine.kind=vllm", *changes])
    if not says:
        return _check_gpus(recipe)
    with pytest.raises(UserError, match=says):
        _check_gpus(recipe)
    return None


def test_torchruns_first_process_is_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ranks_asked(None) is None and ranks_asked(3) == 3
    for key, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4", "RANK": "0"}.items():
        monkeypatch.setenv(key, value)
    assert ranks_asked(None) == 4 and ranks_asked(4) == 4
    with pytest.raises(UserError, match="give one of them"):
        ranks_asked(2)
    monkeypatch.setenv("RANK", "2")
    assert ranks_asked(None) == 0
    monkeypatch.setenv("WORLD_SIZE", "8")
    with pytest.raises(UserError, match="one machine"):
        ranks_asked(None)


def small_run(folder: Path, *arguments: object) -> int:
    command = [sys.executable, "-m", "tests.small_run", str(folder), *map(str, arguments), "train.ranks=2", "rounds=1", "train.staleness=1"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, timeout=400, check=False).returncode


@pytest.mark.slow
@needs_two_cores
def test_two_ranks_killed_and_resumed_are_the_same_run(tmp_path: Path) -> None:
    """At a chosen point of every kind, with the step ahead being sampled meanwhile."""
    for fault in (("before_commit", 7), ("after_record", 4), ("after_update", 1), ("after_checkpoint", 1)):
        assert small_run(tmp_path / "killed", *fault) == -9, fault
    digests = []
    for name in ("killed", "whole"):
        assert small_run(tmp_path / name) == 0
        with read_lake(tmp_path / name) as lake:
            assert lake.query("SELECT DISTINCT ranks FROM train_steps").rows() == [(2,)]
            digests.append({name: table.hex for name, table in lake.digest().tables.items()})
    assert digests[0] == digests[1]


@pytest.mark.slow
@needs_two_cores
def test_started_by_torchrun(problems: Path, tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1"]
    command = [*launch, "--nproc-per-node", "2", "-m", "flows.cli.main", "train", str(problems), "--out", str(tmp_path / "run"), *TRAIN]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    with read_lake(tmp_path / "run") as lake:
        assert lake.query("SELECT step, ranks FROM train_steps ORDER BY step").rows() == [(1, 2), (2, 2), (3, 2)]
