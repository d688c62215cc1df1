"""A run answered by an endpoint, again: from its ledger with nobody listening, and after kill -9, the batch endpoint's too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stub_endpoint import Reply, Stub
from stub_provider import Line, Provider, well
from test_flows_endpoint import adds_up

from data.ledger import Ledger
from flows.cli.main import main
from pipelines.run import read_lake

ROOT = Path(__file__).parents[2]
SMALL = [
    *("only=synthesize", "rounds=1", "problems.per_cell=2", "problems.levels=[1, 2]", "probe.problems=24", "probe.n=4", "probe.shard=8"),
    *("probe.most=12", "difficulty.band=sws", "strategies.frontier.budget=10", "strategies.paraphrase.share=0", "engine.scheduler.concurrency=4"),
]
"""Three shards, and waves that are asked ahead."""


def words(engine: str, out: Path, *more: str) -> list[str]:
    return ["run", "quick", "--engine", engine, "--out", str(out), "--quiet", *(w for setting in (*SMALL, *more) for w in ("--set", setting))]


def process(engine: str, out: Path, *more: str) -> subprocess.Popen[bytes]:
    asked = ["resume", str(out), "--quiet"] if (out / "run.json").is_file() else words(engine, out, *more)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-m", "flows.cli.main", *asked], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)


def digest(out: Path) -> dict[str, str]:
    with read_lake(out) as lake:
        assert not any(lake.duplicate_keys().values())
        return {name: table.hex for name, table in lake.digest().tables.items()}


def counts(out: Path) -> dict[str, int]:
    with Ledger.open(out / "ledger.sqlite", write=False) as ledger:
        return ledger.counts()


def test_an_endpoints_run_is_repeated_from_its_ledger_with_nobody_listening(tmp_path: Path) -> None:
    with Stub(adds_up, owner="other") as stub:
        assert main(words(f"openai:{stub.url}", tmp_path / "run")) == 0
        asked = stub.asked
        assert asked > 96 and not stub.now
    assert main(words(f"replay:{tmp_path / 'run'}", tmp_path / "again")) == 0
    assert stub.asked == asked
    assert digest(tmp_path / "again") == digest(tmp_path / "run")
    assert main(["resume", str(tmp_path / "again"), "--quiet"]) == 0 and stub.asked == asked


@pytest.mark.slow
def test_killed_at_10_50_and_90_percent_it_ends_the_same_and_pays_twice_no_more_than_was_sent_and_not_durable(tmp_path: Path) -> None:
    """The probe is judged beside its sampling and waves are asked for ahead: neither costs a row or a request more."""
    with Stub(adds_up, owner="other") as stub:
        assert main(words(f"openai:{stub.url}", tmp_path / "whole")) == 0
        total = len(stub.answered)
    running: list[subprocess.Popen[bytes]] = []

    def fatal(stub: Stub, path: str, body: dict[str, Any]) -> Reply:
        if running and shares and len(stub.answered) >= shares[0] * total:
            shares.pop(0)
            running.pop().kill()
        return adds_up(stub, path, body)

    shares = [0.1, 0.5, 0.9]
    with Stub(fatal, owner="other") as stub:
        for _ in range(3):
            started = process(f"openai:{stub.url}", tmp_path / "run")
            running.append(started)
            assert started.wait(120) == -signal.SIGKILL, "the run ended before it was killed"
        assert main(["resume", str(tmp_path / "run"), "--quiet"]) == 0
        paid_twice = sum(n - 1 for n in stub.answered.values())
    assert digest(tmp_path / "run") == digest(tmp_path / "whole")
    told = counts(tmp_path / "run")
    # What a kill may cost is what was sent and not yet durable: the window of 64. `synth requests` counts it.
    assert paid_twice <= told["attempts"] - told["requests"] <= 3 * 64
    assert told["sent"] == 0  # what was asked ahead and not needed after all is in flight no more


def sums(line: Line) -> Line:
    made = well(line)
    answer = adds_up(None, line["url"], {k: v for k, v in line["body"].items() if k not in ("logprobs", "return_token_ids")})  # type: ignore[arg-type]
    made["response"]["body"] = answer.body
    return made


@pytest.mark.slow
@pytest.mark.parametrize("seam", ["created", "looked at", "downloaded"])
def test_killed_with_a_providers_batch_in_flight_it_is_taken_up_and_not_uploaded_twice(tmp_path: Path, seam: str) -> None:
    """SIGKILL before the provider's answer arrives: the batch is made and nobody knows its id, it is waited for, its answers are on their way."""
    batched = ("engine.openai.batch=true", "probe.most=0")
    with Provider(sums) as provider:
        assert main(words(f"openai:{provider.url}", tmp_path / "whole", *batched)) == 0
        assert (provider.uploads, len(provider.batches)) == (1, 1)  # all shards of the probe are one batch
    with Provider(sums, polls=1 if seam == "downloaded" else 2) as provider:
        started = process(f"openai:{provider.url}", tmp_path / "run", *batched)
        provider.seen = kills(started, seam)
        assert started.wait(120) == -signal.SIGKILL
        with Ledger.open(tmp_path / "run" / "ledger.sqlite", write=False) as ledger:
            assert ledger.counts()["sent"] == 96 and ledger.counts()["done"] == 0
        assert main(["resume", str(tmp_path / "run"), "--quiet"]) == 0
        assert (provider.uploads, len(provider.batches)) == (1, 1)
        assert len(provider.paid) == 96 and set(provider.paid.values()) == {1}
        assert provider.asked <= 8  # the probing of what it understands, and not one question outside the batch
    assert digest(tmp_path / "run") == digest(tmp_path / "whole")


def kills(started: subprocess.Popen[bytes], seam: str) -> Callable[[str], None]:
    def seen(what: str) -> None:
        if what == seam and started.poll() is None:
            started.kill()
            started.wait()

    return seen
