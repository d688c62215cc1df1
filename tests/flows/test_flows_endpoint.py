"""`synth run --engine openai:URL`: data from an endpoint on loopback, and one sentence where it can't be."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from stub_endpoint import Reply, Stub, completion

from data.ledger import Ledger
from flows.cli.main import main
from pipelines.run import read_lake

SMALL = [
    *("problems.per_cell=2", "problems.levels=[1, 2]", "probe.problems=24", "probe.n=4", "probe.shard=8"),
    *("strategies.frontier.budget=10", "strategies.paraphrase.share=0", "rounds=1"),
]


def adds_up(stub: Stub, path: str, body: dict[str, Any]) -> Reply:
    """Adds all numbers, in two answers of three; gives neither token ids nor log-probs."""
    if wrong := [name for name in ("return_token_ids", "logprobs") if name in body]:
        return Reply({"error": {"message": f"unknown field {wrong[0]}"}}, status=400)
    asked = body.get("prompt") or body["messages"][-1]["content"]
    numbers = [int(n) for n in re.findall(r"\d+", asked)]
    lot = int(hashlib.sha256(str(body["seed"]).encode()).hexdigest(), 16) % 3
    return Reply(completion(body, path, f" the numbers add up\n#### {sum(numbers) if lot else 0}"), delay=0.005)


def run(stub: Stub | str, out: Path, *more: str, only: str = "synthesize") -> int:
    url = stub if isinstance(stub, str) else stub.url
    words = ["run", "quick", "--engine", f"openai:{url}", "--out", str(out), "--quiet", "--set", f"only={only}"]
    return main([*words, *(w for setting in (*SMALL, *more) for w in ("--set", setting))])


def test_data_is_made_with_an_endpoint_and_nothing_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_KEY", "sk-secret-123")
    with Stub(adds_up, owner="other") as stub:
        stub.bodies = []
        out = tmp_path / "run"
        assert run(stub, out, "engine.openai.key_env=STUB_KEY") == 0
        assert all(h["authorization"] == "Bearer sk-secret-123" for h in stub.headers)
        asked = stub.asked
        assert main(["resume", str(out), "--quiet"]) == 0 and stub.asked <= asked + 4  # the probe's tries, and not one question
    with read_lake(out) as lake:
        kinds = dict(lake.query("SELECT outcome, count(*) FROM verdicts GROUP BY 1").rows())
        assert kinds["pass"] >= 1 and kinds["fail"] >= 1 and sum(kinds.values()) == 96
        assert lake.query("SELECT count(*) FROM requests WHERE model = 'stub'").item() == 96
        assert lake.query("SELECT count(*) FROM train_steps").item() == 0
        assert lake.query("SELECT count(*) FROM decisions WHERE stage = 'synthesize'").item() > 0
        assert {row[0] for row in lake.query("SELECT DISTINCT stage FROM stages").rows()} == {
            *("seeds", "probe", "verify", "estimate", "synthesize", "audit", "select")
        }
    assert 'model = "stub"' in (out / "recipe.toml").read_text()
    assert json.loads((out / "run.json").read_text())["recipe"]["engine"]["kind"] == "openai"
    for file in out.rglob("*"):
        assert not file.is_file() or b"sk-secret" not in file.read_bytes(), file


@pytest.mark.parametrize(
    ("more", "only", "words"),
    [
        ((), "", r'the weights behind an endpoint can\'t be trained from here; set only = "synthesize"'),
        (("engine.openai.key_env=sk-1234abcd",), "synthesize", "give the NAME of an environment variable"),
        (("engine.openai.key_env=UNSET_NAME",), "synthesize", r"names \$UNSET_NAME, which is not set"),
        (("engine.openai.api_key=sk-1234abcd",), "synthesize", "unknown key"),
        (("engine.scheduler.concurrency=0",), "synthesize", "engine.scheduler.concurrency"),
        ((), "synthesize", "nobody answers .*start the endpoint"),
    ],
)
def test_what_cannot_be_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], only: str, words: str) -> None:
    assert run("http://127.0.0.1:9", tmp_path / "run", *more, only=only) == 2
    said = capsys.readouterr().err
    assert re.search(words, said) and "sk-1234" not in said and said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_kind_that_there_is_not_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "quick", "--engine", "opanai:http://x", "--out", str(tmp_path / "run")]) == 2
    assert "--engine opanai:http://x: there is no engine 'opanai'; did you mean 'openai'?" in capsys.readouterr().err
    assert main(["run", "quick", "--engine", "local:http://x", "--out", str(tmp_path / "run")]) == 2
    assert "local" in capsys.readouterr().err
    assert main(["run", "quick", "--engine", "openai", "--out", str(tmp_path / "run")]) == 2
    assert "needs an address" in capsys.readouterr().err


def test_a_dry_run_asks_nothing_and_says_what_the_answers_may_cost(capsys: pytest.CaptureFixture[str]) -> None:
    price = ["--set", "engine.price_per_million.output=10", "--set", "sampling.max_tokens=50"]
    small = [w for setting in SMALL for w in ("--set", setting)]
    words = ["run", "quick", "--engine", "openai:http://127.0.0.1:9", "--set", "only=synthesize", "--dry-run", *small, *price]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "at most 0.05 for these answers" in said  # 24 problems x 4 answers x 50 tokens x 10 per million = 0.048
    assert "train" not in [line.split()[0] for line in said.splitlines() if line.strip()]


def test_an_interruption_keeps_what_was_answered(tmp_path: Path) -> None:
    """SIGINT in the middle of generation: exit 130, and the resumed run asks only for what is missing."""
    import os
    import signal
    import subprocess
    import sys
    import time

    root = Path(__file__).parents[2]
    out = tmp_path / "run"
    with Stub(adds_up, owner="other") as stub:
        stub.behave = lambda s, path, body: Reply(adds_up(s, path, body).body, status=adds_up(s, path, body).status, delay=0.3)
        words = [sys.executable, "-m", "flows.cli.main", "run", "quick", "--engine", f"openai:{stub.url}", "--out", str(out), "--quiet"]
        words += [w for setting in (*SMALL, "only=synthesize", "engine.scheduler.concurrency=4") for w in ("--set", setting)]
        started = subprocess.Popen(words, cwd=root, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(root)})
        deadline = time.monotonic() + 60
        while sum(stub.answered.values()) < 12 and time.monotonic() < deadline:
            time.sleep(0.02)
        started.send_signal(signal.SIGINT)
        _, said = started.communicate(timeout=60)
        assert started.returncode == 130 and "go on with: synth resume" in said, said
        with Ledger.open(out / "ledger.sqlite", write=False) as ledger:
            left = ledger.counts()
        assert left["sent"] == 0 and left["cancelled"] > 0  # nobody waits for these
        stub.behave = adds_up
        assert main(["resume", str(out), "--quiet"]) == 0
        repeats = sum(n - 1 for n in stub.answered.values())
        assert len(stub.answered) == 96 and repeats <= 4  # what was on its way
