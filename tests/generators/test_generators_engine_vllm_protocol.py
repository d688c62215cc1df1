"""The vLLM engine against a stub that speaks vLLM's protocol: what is sent, in which order, and what happens when it goes wrong."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.errors import SynthError, UserError
from data.records import PolicyVersion, Request, Sampling
from generators.engines.scheduler import Scheduling
from generators.engines.trial import moved_policy
from generators.engines.vllm import VllmEngine
from generators.engines.vllm_settings import VllmSettings

STUB = Path(__file__).with_name("vllm_stub.py")
BASE = Path(__file__).parents[2] / "data" / "policies" / "arithmetic"
RULE = Sampling(max_tokens=8)
Open = Callable[..., VllmEngine]


@pytest.fixture
def open_stub(tmp_path: Path) -> Iterator[Open]:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {STUB} "$@"\n')
    python.chmod(0o755)
    opened: list[VllmEngine] = []

    def build(fault: str = "", policy: PolicyVersion | None = None, **changes: Any) -> VllmEngine:
        around = {"STUB_CALLS": str(tmp_path / "calls"), "STUB_FAULT": fault}
        settings = VllmSettings(python=str(python), device="cpu", environment=around, restarts=2, startup_seconds=60, **changes)
        opened.append(VllmEngine(
            BASE, policy=policy, policy_id="p0", settings=settings, log=tmp_path / "vllm.log", scheduling=Scheduling(backoff_s=0.05, tries=3)
        ))
        return opened[-1]

    yield build
    for engine in opened:
        engine.close()


@pytest.fixture
def moved(tmp_path: Path) -> PolicyVersion:
    (tmp_path / "moved").mkdir()
    return moved_policy(BASE, tmp_path / "moved")


def requests(policy_id: str, n: int = 8, **changes: Any) -> list[Request]:
    return [replace(Request(policy_id, RULE, seed, seed, prompt=f"{seed % 4}+{seed % 7}="), **changes) for seed in range(n)]


def calls(folder: Path) -> list[str]:
    return [json.loads(line)[0] for line in (folder / "calls").read_text().splitlines()]


def test_weights_go_in_order_and_are_answered_under_their_version(open_stub: Open, moved: PolicyVersion, tmp_path: Path) -> None:
    engine = open_stub()
    before = {c.key: c for c in engine.generate(requests("p0"))}
    assert {c.policy_id for c in before.values()} == {"p0"}
    assert all(len(c.tokens) == len(c.logp) > 0 and c.logp.max() <= 0 for c in before.values())
    (tmp_path / "calls").write_text("")
    engine.update(moved)
    order = ["/pause?mode=wait", "/init_weight_transfer_engine", "/start_weight_update", "/update_weights", "/finish_weight_update"]
    assert sorted(calls(tmp_path)[:2]) == sorted(order[:2])
    assert calls(tmp_path)[2:] == [*order[2:], "/reset_prefix_cache", "/resume"]
    assert engine.agreement.last is not None and engine.agreement.last.largest < 2e-5
    after = list(engine.generate(requests(moved.id)))
    assert {c.policy_id for c in after} == {moved.id}
    assert [c.finish for c in engine.generate(requests("p0", 1))] == ["error"], "the weights that this asks for are gone"
    (tmp_path / "calls").write_text("")
    engine.update(PolicyVersion("p1", str(BASE)))
    assert "/init_weight_transfer_engine" not in calls(tmp_path), "one handshake a server"
    assert not list(Path("/dev/shm").glob(f"synth-{__import__('os').getpid()}-*")), "nothing is left in shared memory"


def test_scores_are_the_embedded_engines(open_stub: Open) -> None:
    from generators.engines.local import LocalEngine

    engine, local = open_stub(), LocalEngine(BASE, policy_id="x")
    rows = [(str(n), list(range(3, 3 + n))) for n in range(70)]
    theirs = {s.key: s.logp for s in engine.score(rows)}
    for scored in local.score(rows):
        np.testing.assert_allclose(theirs[scored.key], scored.logp, rtol=1e-5, atol=1e-5)
    with pytest.raises(UserError, match="1024 tokens; vLLM scores up to 1023"):
        list(engine.score([("long", [5] * 1024)]))


@pytest.mark.parametrize(("fault", "least"), [("stale", 1e-3), ("head", 1e-3)])
def test_weights_that_did_not_arrive_stop_the_run(open_stub: Open, moved: PolicyVersion, fault: str, least: float) -> None:
    engine = open_stub(fault)
    with pytest.raises(SynthError, match=r"disagree about policy moved-1: .* where float32 explains"):
        engine.update(moved)
    assert engine.agreement.last is not None and engine.agreement.last.largest > least


def test_an_answer_under_another_version_is_no_answer(open_stub: Open) -> None:
    (answer,) = open_stub("version").generate(requests("p0", 1))
    assert answer.finish == "error" and "answered with weights 'another', not 'p0'" in answer.error


def test_a_server_with_half_the_weights_is_restarted_and_given_them_again(open_stub: Open, moved: PolicyVersion) -> None:
    engine = open_stub("half")
    engine.update(moved)
    engine.update(PolicyVersion("p2", str(BASE)))  # breaks off after its file; the new server has the moved weights, then these
    assert engine.server.starts == 2
    assert {c.policy_id for c in engine.generate(requests("p2"))} == {"p2"}


def test_a_death_costs_one_restart_and_the_weights_come_back(open_stub: Open, moved: PolicyVersion, tmp_path: Path) -> None:
    engine = open_stub()
    engine.update(moved)
    asked, died = requests(moved.id, 40), threading.Event()

    def source() -> Iterator[Request]:
        yield from asked[:20]
        died.wait()
        yield from asked[20:]

    stream = engine.generate(source())
    got = [next(stream) for _ in range(3)]
    with pytest.raises(SynthError):
        engine.tell("POST", "/die")
    died.set()
    got += list(stream)
    assert {c.key for c in got} == {r.key for r in asked} and len(got) == 40
    assert {(c.finish == "error", c.policy_id) for c in got} == {(False, moved.id)}
    assert engine.server.starts == 2
    assert calls(tmp_path).count("/finish_weight_update") == 2


def test_a_server_that_keeps_dying_ends_the_run_with_its_log(open_stub: Open) -> None:
    engine = open_stub()
    for _ in range(2):
        with pytest.raises(SynthError):
            engine.tell("POST", "/die")
        assert len(list(engine.generate(requests("p0", 2)))) == 2
    with pytest.raises(SynthError):
        engine.tell("POST", "/die")
    with pytest.raises(SynthError, match="died 3 times and is not started again"):
        list(engine.generate(requests("p0", 2)))


def test_it_opens_with_the_weights_of_a_resumed_run(open_stub: Open, moved: PolicyVersion) -> None:
    engine = open_stub(policy=moved)
    assert engine.agreement.last is not None
    assert {c.policy_id for c in engine.generate(requests(moved.id))} == {moved.id}


def test_sleep_frees_and_the_next_weights_wake_it_in_two_steps(open_stub: Open, moved: PolicyVersion, tmp_path: Path) -> None:
    engine = open_stub(sleep_level=2)
    list(engine.generate(requests("p0", 1)))
    (tmp_path / "calls").write_text("")
    engine.rest()
    engine.rest()
    engine.update(moved)
    said = [c for c in calls(tmp_path) if not c.startswith("/init")]
    assert said[0] == "/sleep?level=2&mode=wait"
    assert said[1:] == [
        *("/wake_up?tags=weights", "/start_weight_update", "/update_weights", "/finish_weight_update"),
        *("/wake_up?tags=kv_cache", "/reset_prefix_cache", "/resume"),
    ]
    engine.rest()
    assert [c.finish for c in engine.generate(requests(moved.id, 1))] != ["error"], "a request wakes it with the weights it had"


def test_adapters_are_loaded_in_place(open_stub: Open, tmp_path: Path) -> None:
    import torch

    class Adapted:
        def adapter(self) -> tuple[int, float, dict[str, Any]]:
            return 4, 8.0, {f"model.layers.0.self_attn.q_proj.lora_{x}.default.weight": torch.zeros(4, 4) for x in "AB"}

        def logprobs(self, rows: Any) -> Any:
            from generators.engines.weights import FolderHolder

            return FolderHolder(BASE).logprobs(rows)

    engine = open_stub(lora_rank=4)
    engine.update(PolicyVersion("a1", str(BASE), 0, 1), Adapted())  # type: ignore[arg-type]
    assert calls(tmp_path)[-5:] == ["/pause?mode=wait", "/v1/load_lora_adapter", "/update_weight_version", "/reset_prefix_cache", "/resume"]
    assert {c.policy_id for c in engine.generate(requests("a1", 2))} == {"a1"}
    with pytest.raises(UserError, match="the trainer has no adapters"):
        engine.update(PolicyVersion("a2", str(BASE)))


def test_requests_that_can_not_be_answered_are_data(open_stub: Open) -> None:
    engine = open_stub()
    for changes, said in (
        ({"prompt": None, "tokens": (5,) * 1024}, "nothing is left to sample"),
        ({"sampling": Sampling(max_tokens=0)}, "at least 1 token"),
        ({"prompt": None, "messages": ({"role": "user"},)}, "can't be turned into tokens"),
        ({"policy_id": "else"}, "this engine holds 'p0'"),
    ):
        (answer,) = engine.generate([replace(requests("p0", 1)[0], **changes)])
        assert answer.finish == "error" and said in answer.error
