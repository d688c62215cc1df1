"""The same run under Prefect: a task per stage, the same digest, no server left behind."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from flows.closed_loop import artifact_key
from tests import command

SMALL = [
    "rounds=1", "problems.per_cell=1", "problems.levels=[1, 2]", "probe.problems=12", "probe.n=4", "strategies.frontier.budget=8",
    "train.steps=2", "train.prompts_per_step=4", "train.group_size=4", "evaluate.problems=8", "evaluate.n=1", "sampling.max_tokens=32",
]  # fmt: skip


def run(folder: Path, *more: str) -> None:
    done = command.synth_process("run", *[w for o in SMALL for w in ("--set", o)], "--out", folder, *more)
    assert done.returncode == 0, done.stdout + done.stderr


def servers() -> list[str]:
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    return [line for line in listed.splitlines() if "prefect.server.api.server" in line]


@pytest.mark.prefect
@pytest.mark.slow
def test_the_same_digest_alone_and_under_prefect(tmp_path):
    run(tmp_path / "alone")
    before = servers()
    run(tmp_path / "flow", "--prefect")
    assert servers() == before
    assert command.synth("digest", tmp_path / "alone").stdout == command.synth("digest", tmp_path / "flow").stdout != ""
    again = command.synth_process("resume", tmp_path / "flow", "--prefect")
    assert again.returncode == 0
    assert "(done before)" in again.stdout


@pytest.mark.prefect
@pytest.mark.slow
def test_a_given_server_keeps_the_record_and_a_dead_flow_is_closed(tmp_path):
    """Against PREFECT_API_URL: the flow and a task per stage are there; a killed flow run is Crashed after the resume."""
    from flows.prefect_server import SETTINGS, _start, _wait

    home = tmp_path / "prefect"
    home.mkdir()
    environment = {**SETTINGS, "PREFECT_HOME": str(home)}
    os.environ.update(environment)
    server, url = _start(home)
    try:
        _wait(server, url, home)
        environment["PREFECT_API_URL"] = url
        folder = tmp_path / "run"
        words = [sys.executable, "-m", "flows.cli.main", "run", "--prefect", "--out", str(folder)]
        words += [w for o in [*SMALL, "train.steps=200"] for w in ("--set", o)]
        process = subprocess.Popen(words, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not list((folder / "policies").glob("r1-s0002")):
            assert process.poll() is None
            time.sleep(0.2)
        process.kill()
        process.wait()
        assert states(url) == ["RUNNING"]
        process = subprocess.Popen([*words[:3], "resume", "--prefect", str(folder)], env={**os.environ, **environment}, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while "CRASHED" not in states(url) and time.monotonic() < deadline:
            time.sleep(0.5)
        process.terminate()
        process.wait(60)
        assert "CRASHED" in states(url)
        tasks = {re.sub(r"-r\d+$", "", t["name"]) for t in ask(url, "task_runs/filter")}
        assert {"seeds", "probe", "verify", "estimate", "synthesize", "audit", "select"} <= tasks
    finally:
        server.terminate()
        server.wait(30)
        for key in SETTINGS:
            os.environ.pop(key, None)


def ask(url: str, path: str) -> list[dict]:
    request = urllib.request.Request(f"{url}/{path}", data=b"{}", headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def states(url: str) -> list[str]:
    return sorted(r["state"]["type"] for r in ask(url, "flow_runs/filter"))


def test_artifact_keys_are_what_prefect_allows():
    assert artifact_key("Arithmetic_001.x") == "synth-arithmetic-001-x"
