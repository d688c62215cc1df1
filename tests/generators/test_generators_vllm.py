"""The engine against vLLM itself, where it is installed (`synth engine install vllm`, SYNTH_VLLM_PYTHON): log-probs, weights, adapters, JSON, deaths.

One server serves most of this file; it takes half a minute to start.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from data.errors import SynthError
from data.ledger import Ledger
from data.records import Completion, PolicyVersion, Request, Sampling
from generators.engines.agreement import compare
from generators.engines.environment import find_python
from generators.engines.folder import load_weights, open_folder
from generators.engines.fused import FusedDecoder
from generators.engines.ledgered import LedgeredEngine
from generators.engines.replay import ReplayEngine
from generators.engines.trial import SCHEMA, _is_valid, moved_policy
from generators.engines.vllm import VllmEngine
from generators.engines.vllm_settings import VllmSettings
from generators.engines.weights import FolderHolder, push
from pipelines.grpo.policy import Policy

ROOT = Path(__file__).parents[2]
BASE = ROOT / "data" / "policies" / "arithmetic"
RULE = Sampling(max_tokens=32)


def _absent() -> str:
    try:
        find_python()
    except SynthError as error:
        return str(error)
    return ""


pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(_absent()), reason=_absent())]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmEngine]:
    log = tmp_path_factory.mktemp("vllm") / "vllm.log"
    opened = VllmEngine(BASE, policy_id="p0", settings=VllmSettings(max_num_seqs=64, anneal=()), log=log)
    yield opened
    opened.close()


def prompts() -> list[str]:
    from generators.worlds.registry import get_world

    world = get_world("arithmetic")
    return [f"Q: {world.make(family, 1, 0, seed=0, split='heldout').prompt}\nA:" for family in world.families()[:8]]


def requests(policy_id: str, n: int = 32, **changes: Any) -> list[Request]:
    texts = prompts()
    return [replace(Request(policy_id, RULE, seed, seed, prompt=texts[seed % len(texts)]), **changes) for seed in range(n)]


@dataclass
class Gaps:
    """By sampled token, in nats. The trainer's model under transformers' float32 forward; true: its weights in float64."""

    to_trainer: Any
    engine_to_true: Any
    trainer_to_true: Any
    p: Any
    """The token's probability."""
    logits: float
    """The largest error of a float32 logit, up to the shift that a softmax does not see."""


def gaps_of(folder: Path, answers: list[Completion]) -> Gaps:
    policy, weights = Policy(folder), load_weights(folder)
    policy.model.set_attn_implementation("sdpa")
    exact = FusedDecoder(open_folder(folder)[0], weights, torch.float64)
    rows: list[Any] = []
    worst = 0.0
    with torch.no_grad():
        for c in answers:
            ids = torch.tensor([[*c.prompt_tokens.tolist(), *c.tokens.tolist()]])
            own, true = policy.model(input_ids=ids).logits[0], exact.head(exact.hidden(ids))[0]
            sampled = slice(len(c.prompt_tokens) - 1, -1)
            ours, wanted = (x.log_softmax(-1)[sampled].gather(-1, ids[0, len(c.prompt_tokens) :, None])[:, 0].double().numpy() for x in (own, true))
            error = (own.double() - true)[sampled]
            worst = max(worst, float((error - error.median(-1, keepdim=True).values).abs().max()))
            rows.append((np.abs(c.logp - ours), np.abs(c.logp - wanted), np.abs(ours - wanted), np.exp(wanted)))
    return Gaps(*map(np.concatenate, zip(*rows, strict=True)), worst)


def assert_equal(folder: Path, answers: list[Completion]) -> None:
    """As equal as two float32 forwards can be. Both round their logits, by e at most; d log p = (onehot - p) dl carries that into a log-prob at
    2 (1 - p) e, so that it vanishes where the token is certain and passes 1e-5 where it is not: measured over 4,584 tokens of four policies,
    2.6e-5 between the two, 1.7e-5 from float64 for vLLM and 1.9e-5 for transformers, all at p < 1/2. Neither can be blamed for it.
    """
    found = gaps_of(folder, answers)
    assert found.to_trainer[found.p >= 0.75].max() < 1e-5
    assert found.logits < 5e-5
    assert (found.to_trainer <= 3e-6 + 2 * (1 - found.p) * 2 * 1.5 * found.logits).all()  # engine and trainer, the engine's e half as large again
    assert found.to_trainer.mean() < 1e-6 and (found.to_trainer < 1e-5).mean() > 0.98
    assert found.engine_to_true.mean() < 1.5 * found.trainer_to_true.mean() + 2e-7


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> list[PolicyVersion]:
    return [moved_policy(BASE, tmp_path_factory.mktemp(f"moved{seed}"), seed) for seed in (1, 2, 3)]


def test_what_meets_vllms_own_classes() -> None:
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"VLLM_LOGGING_LEVEL": "ERROR"}
    script = Path(__file__).with_name("vllm_side_checks.py")
    done = subprocess.run([find_python(), script], env=env, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split()[-3:] == ["nccl", "ipc", "anneal"]


def test_log_probs_are_the_trainers_after_every_sync(engine: VllmEngine, moved: list[PolicyVersion]) -> None:
    for policy in (PolicyVersion("p0", str(BASE)), *moved):
        engine.update(policy)
        answers = list(engine.generate(requests(policy.id)))
        assert {c.policy_id for c in answers} == {policy.id} and len(answers) == 32
        assert_equal(Path(policy.path), answers)
        assert engine.agreement.last is not None and engine.agreement.last.largest < 1e-4


def test_log_probs_are_of_the_tempered_distribution(engine: VllmEngine) -> None:
    engine.update(PolicyVersion("p0", str(BASE)))
    answers = list(engine.generate(requests("p0", 8, sampling=Sampling(temperature=0.7, max_tokens=32))))
    policy = Policy(BASE)
    policy.model.set_attn_implementation("sdpa")
    for c in answers:
        ids = torch.tensor([[*c.prompt_tokens.tolist(), *c.tokens.tolist()]])
        with torch.no_grad():
            logits = policy.model(input_ids=ids).logits[0] / 0.7
        logp = logits.log_softmax(-1)[:-1].gather(-1, ids[0, 1:, None])[len(c.prompt_tokens) - 1 :, 0]
        np.testing.assert_allclose(c.logp, logp.numpy(), atol=5e-5)


def test_a_tied_head_left_out_is_noticed(engine: VllmEngine, moved: list[PolicyVersion], monkeypatch: pytest.MonkeyPatch) -> None:
    """What `with_head` is for: without it vLLM on a CPU keeps the old head. The check after the update refuses."""
    from generators.engines import weights

    engine.update(PolicyVersion("p0", str(BASE)))
    assert "lm_head.weight" not in load_weights(Path(moved[0].path)), "the shipped policy's head is tied"
    with monkeypatch.context() as patched:
        patched.setattr(weights, "with_head", dict)
        with pytest.raises(SynthError, match="disagree about policy moved-1"):
            engine.update(moved[0])
    engine.update(moved[0])
    assert engine.agreement.last is not None and engine.agreement.last.largest < 1e-4


def test_a_prefix_cache_that_is_kept_is_noticed(engine: VllmEngine, moved: list[PolicyVersion]) -> None:
    """vLLM keeps its cache over an update unless it is paused or told: `push` does both, and the check would see it if not."""
    engine.update(moved[1])
    held = FolderHolder(Path(moved[2].path))

    def forgetful(method: str, path: str, body: Any = None) -> Any:
        return {} if path.startswith(("/reset_prefix_cache", "/pause", "/resume")) else engine.tell(method, path, body)

    assert engine._transfer is not None
    list(engine.generate(requests(moved[1].id, 8)))
    compare(engine, FolderHolder(Path(moved[1].path)), 2, 4)  # its prompt is cached now
    push(forgetful, engine._transfer, held.weights(), moved[2].id)
    engine.policy_id = moved[2].id
    kept = compare(engine, held, 2, 8)
    assert engine.tell("POST", "/reset_prefix_cache")["success"]
    emptied = compare(engine, held, 2, 8)
    engine.held = moved[2]
    assert emptied.largest < 1e-4 < 1e-3 < kept.largest


def test_structured_answers_are_valid(engine: VllmEngine) -> None:
    rule = Sampling(max_tokens=64)
    asked = requests(engine.policy_id, 64, structured={"json_schema": SCHEMA}, sampling=rule)
    made = list(engine.generate(asked))
    assert [c.text for c in made if not _is_valid(c.text)] == [] and len(made) == 64
    picked = list(engine.generate(requests(engine.policy_id, 8, structured={"choice": ["left", "right"]})))
    assert {c.text for c in picked} <= {"left", "right"}
    matched = list(engine.generate(requests(engine.policy_id, 8, structured={"regex": "[ab]{3}[0-9]"})))
    assert all(len(c.text) == 4 and set(c.text[:3]) <= {"a", "b"} and c.text[3].isdigit() for c in matched)


def test_stop_strings_cut_the_text_and_keep_the_tokens(engine: VllmEngine) -> None:
    made = list(engine.generate(requests(engine.policy_id, 16, sampling=Sampling(max_tokens=32, stop=("####",)))))
    assert all("####" not in c.text for c in made)
    assert any("####" in engine.decode(c.tokens.tolist()) for c in made)


def test_a_kill_at_a_random_moment_costs_one_restart_and_nothing_recorded_is_made_again(
    engine: VllmEngine, moved: list[PolicyVersion], tmp_path: Path
) -> None:
    """Temperature 1, the process killed while it answers: what the ledger holds is never asked again, and a replay gives the same answers."""
    engine.update(moved[0])
    starts = engine.server.starts
    asked = requests(moved[0].id, 400, sampling=Sampling(max_tokens=48))
    sent: list[str] = []
    real = engine.send

    fatal = random.randint(20, 300)  # answers after which it is killed: by the clock, a quick host would be done before

    async def counted(request: Request) -> Completion:
        answer = await real(request)
        sent.append(request.key)
        if len(sent) == fatal:
            for child in psutil.Process(engine.server.pid).children():
                os.kill(child.pid, signal.SIGKILL)
        return answer

    engine.send = counted  # type: ignore[method-assign]
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        ledgered = LedgeredEngine(engine, ledger)
        made = list(ledgered.generate(asked))
        assert engine.server.starts == starts + 1
        assert len(made) == 400 and {(c.finish == "error", c.policy_id) for c in made} == {(False, moved[0].id)}
        assert len(sent) == len(set(sent)) == 400, "every key was answered once"
        assert_equal(Path(moved[0].path), made[-8:])  # the new server has the weights that the dead one had
        again = list(LedgeredEngine(engine, ledger).generate(asked))
        assert len(sent) == 400, "nothing recorded is generated again"
        first = {c.key: (c.tokens.tolist(), c.logp.tolist(), c.text) for c in made}
        assert {c.key: (c.tokens.tolist(), c.logp.tolist(), c.text) for c in again} == first
        assert {c.key: (c.tokens.tolist(), c.logp.tolist(), c.text) for c in ReplayEngine(ledger).generate(asked)} == first
    del engine.send


def test_adapters_are_hot_loaded_in_place_and_temperatures_anneal(engine: VllmEngine, tmp_path: Path) -> None:
    """A second server, once the first is gone: LoRA and the logits processor need flags of their own."""
    engine.close()
    from pipelines.grpo.policy import PolicySettings

    policy = Policy(BASE, PolicySettings(lora_rank=4))

    def trained(step: int) -> PolicyVersion:
        with torch.no_grad():
            for n, (_, parameter) in enumerate(policy.parameters()):
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1000 * step + n)))
        folder = tmp_path / f"step{step}"
        folder.mkdir()
        policy.save(folder)
        (folder / "state.json").write_text(json.dumps({"config": {"lora_rank": 4, "lora_alpha": 0.0}}))
        return PolicyVersion(f"a{step}", str(folder), 0, step)

    settings = VllmSettings(max_num_seqs=64, lora_rank=4, anneal=(1.4, 0.6, 8))
    with_lora = VllmEngine(BASE, policy_id="a0", settings=settings, log=tmp_path / "vllm.log")
    try:
        for step in (1, 2):
            version = trained(step)
            began = time.perf_counter()
            with_lora.update(version)
            assert time.perf_counter() - began < 10
            assert with_lora.agreement.last is not None and with_lora.agreement.last.largest < 1e-4
            answers = list(with_lora.generate(requests(version.id, 8)))
            assert {c.policy_id for c in answers} == {version.id}
            merged = Policy(Path(version.path))
            merged.model.set_attn_implementation("sdpa")
            for c in answers:
                ids = torch.tensor([[*c.prompt_tokens.tolist(), *c.tokens.tolist()]])
                steps = torch.arange(len(c.tokens)).clamp(max=8)
                with torch.no_grad():
                    logits = merged.model(input_ids=ids).logits[0][len(c.prompt_tokens) - 1 : -1] / (1.4 - 0.8 * steps / 8)[:, None]
                logp = logits.log_softmax(-1).gather(-1, torch.tensor(c.tokens.tolist())[:, None])[:, 0]
                np.testing.assert_allclose(c.logp, logp.numpy(), atol=5e-5)
    finally:
        with_lora.close()


def test_the_same_inside_one_process(moved: list[PolicyVersion]) -> None:
    import sysconfig

    script = Path(__file__).with_name("vllm_in_process_check.py")
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [find_python(), script, sysconfig.get_path("purelib"), moved[0].path]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0 and "in process" in done.stdout, done.stderr[-3000:]


def test_a_run_goes_through_and_its_replay_is_the_same_run(engine: VllmEngine, tmp_path: Path) -> None:
    engine.close()
    small = ["probe.problems=24", "train.steps=2", "train.prompts_per_step=12", "evaluate.problems=16", "strategies.frontier.budget=20"]
    options = [part for item in small for part in ("--set", item)]
    command = [sys.executable, "-m", "flows.cli.main", "run", "quick", "--engine", "vllm", "--quiet", "--out", str(tmp_path / "run"), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "run" / "logs" / "vllm.log").is_file()
    replay = [*command[:5], "--engine", f"replay:{tmp_path / 'run'}", "--quiet", "--out", str(tmp_path / "again"), *options]
    done = subprocess.run(replay, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (
        subprocess.run([*command[:3], "digest", str(tmp_path / name)], cwd=ROOT, capture_output=True, text=True, timeout=100, check=True).stdout
        for name in ("run", "again")
    )
    assert first == second != ""
