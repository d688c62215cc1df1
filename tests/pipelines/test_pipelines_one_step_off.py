"""`train.staleness = 1`: who samples what, that it happens beside the update, and the same run however it was interrupted."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from data.errors import SynthError, UserError
from data.lake import Lake
from data.ledger import Ledger
from data.records import Completion, GroupEdit, PolicyVersion, Request, Sampling
from generators.engines.base import Engine
from generators.strategies.base import BaseStrategy, StepContext
from pipelines import run as run_module
from pipelines.grpo.config import GRPOConfig
from pipelines.grpo.one_step_off import Overlap, refuse_stale
from pipelines.grpo.trainer import GRPOTrainer
from pipelines.loop import run_loop
from pipelines.recipe import StrategyPart, load_recipe
from pipelines.run import Run, is_run, read_lake

ROOT = Path(__file__).parents[2]
STEPS = 4
SMALL = [
    "train.staleness=1",
    f"train.steps={STEPS}",
    "train.prompts_per_step=4",
    "train.group_size=6",
    "problems.per_cell=1",
    "problems.levels=[1, 2]",
    "problems.heldout_share=0",
    "sampling.max_tokens=32",
]


class Killed(BaseException):
    """As sudden as a kill for everything that is in the folder."""


class Remembering(BaseStrategy):
    """Drops a group by how many steps it has seen: what it remembers decides what is learned."""

    name = "remembering"

    def __init__(self) -> None:
        self.seen = 0

    def online(self, ctx: StepContext) -> Any:
        self.seen += 1
        groups = yield list(ctx.main)
        return [GroupEdit.scale(groups[self.seen % len(groups)].id, 1.0 + self.seen)]

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state_dict(self, state: Any) -> None:
        self.seen = state["seen"]


def go(folder: Path, changes: tuple[str, ...] = (), strategy: bool = False) -> None:
    run = Run.open(folder) if is_run(folder) else Run.create(folder, load_recipe("train", [*SMALL, *changes]))
    with run:
        if strategy:
            run.__dict__["strategies"] = [Remembering()]
            run.recipe = run.recipe.model_copy(update={"strategies": {"remembering": StrategyPart()}})
        run_loop(run)


def digest(folder: Path) -> dict[str, str]:
    with read_lake(folder) as lake:
        assert lake.duplicate_keys() == {}
        return {name: table.hex for name, table in lake.digest().tables.items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    go(folder)
    return folder


def test_every_step_but_the_first_is_sampled_one_update_behind(whole: Path) -> None:
    with read_lake(whole) as lake:
        rows = lake.query("SELECT step, policy_id, sampled_by, staleness, ratio_mean, groups, groups_sampled FROM train_steps ORDER BY step").rows()
        made = [by for _, by, *_ in rows]
        base = rows[0][2]
        assert [r[2] for r in rows] == [base, base, *made[: STEPS - 2]]
        assert [r[3] for r in rows] == [0, 1, 1, 1]
        trained = [r for r in rows if r[5]]
        assert len(trained) == STEPS and trained[0][4] == 1 and all(r[4] != 1 for r in trained[1:])
        assert any(r[6] > 4 for r in rows), "no step was refilled"
        # Each rollout lies in the shard that learned from it, under the policy that sampled it, token ranges included.
        found = "SELECT DISTINCT shard, policy_id FROM rollouts WHERE stage = 'train' ORDER BY ALL"
        assert lake.query(found).rows() == [(r[0], r[2]) for r in rows]
        other = "SELECT count(*) FROM trajectories WHERE stage = 'train' AND NOT contains(CAST(version_spans AS VARCHAR), policy_id)"
        assert lake.query(other).item() == 0
        stored = {key for (key,) in lake.query("SELECT key FROM requests").iter_rows()}
    ledger = Ledger.open(whole / "ledger.sqlite", write=False)
    try:
        asked = {k for (k,) in ledger._con.execute("SELECT key FROM requests")}
    finally:
        ledger.close()
    assert asked == stored, "something was sampled past the last step"
    assert sorted(p.name for p in (whole / "policies").iterdir()) == ["r1-s0003", "r1-s0004"]


@pytest.mark.parametrize("strategy", [pytest.param(False, marks=pytest.mark.slow), True], ids=["plain", "with a strategy's memory"])
def test_stopped_before_and_after_every_commit(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: bool) -> None:
    """Every optimizer step's commit fails once before and once after it was made; each time another process would go on."""
    wanted = digest(whole)
    if strategy:
        go(tmp_path / "whole", strategy=True)
        wanted = digest(tmp_path / "whole")
    original, stops = Lake.commit, []

    def commit(self: Lake, round: int, stage: str, shard: int, *args: Any) -> Any:
        if stage == "train" and (shard, "before") not in stops:
            stops.append((shard, "before"))
            raise Killed
        result = original(self, round, stage, shard, *args)
        if stage == "train" and (shard, "after") not in stops:
            stops.append((shard, "after"))
            raise Killed
        return result

    monkeypatch.setattr(Lake, "commit", commit)
    for _ in range(2 * STEPS):
        with pytest.raises(Killed):
            go(tmp_path / "run", strategy=strategy)
    go(tmp_path / "run", strategy=strategy)
    assert len(stops) == 2 * STEPS
    assert digest(tmp_path / "run") == wanted
    ledger = Ledger.open(tmp_path / "run" / "ledger.sqlite", write=False)
    try:
        assert ledger.repeated() == []  # all that was sampled ahead was found again
    finally:
        ledger.close()


class Streaming:
    """The embedded engine as an external one looks: it streams, and nobody knows its batches."""

    capabilities = frozenset({"logprobs", "tokens", "update"})

    def __init__(self, engine: Engine, begins: Any) -> None:
        self.engine, self.begins = engine, begins

    def generate(self, requests: Any) -> Iterator[Completion]:
        for request in requests:
            self.begins(request)
            yield from self.engine.generate([request])

    def update(self, policy: PolicyVersion) -> None:
        self.engine.update(policy)

    def close(self) -> None:
        self.engine.close()


def with_engine(monkeypatch: pytest.MonkeyPatch, begins: Any) -> None:
    original = run_module.open_run_engine
    monkeypatch.setattr(run_module, "open_run_engine", lambda run: Streaming(original(run), begins))


def test_generation_and_update_really_happen_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Update k waits until the engine is asked for step k + 1, the engine waits until update k has begun: in turn neither could go on."""
    updating = [threading.Event() for _ in range(STEPS)]
    asked = [threading.Event() for _ in range(STEPS + 1)]
    met: list[int] = []
    original = GRPOTrainer.step

    def step(self: GRPOTrainer, *args: Any, **kwargs: Any) -> dict[str, float]:
        k = self.step_count
        updating[k].set()
        if k + 1 < STEPS:
            assert asked[k + 1].wait(60), f"nothing was sampled during update {k}"
            met.append(k)
        return original(self, *args, **kwargs)

    def begins(request: Request) -> None:
        if request.purpose == "train":
            sampled = sum(e.is_set() for e in updating)
            if sampled and not asked[sampled].is_set():
                assert not updating[sampled].is_set()
                asked[sampled].set()

    monkeypatch.setattr(GRPOTrainer, "step", step)
    with_engine(monkeypatch, begins)
    go(tmp_path / "run")
    assert met == list(range(STEPS - 1))


def test_a_sampler_that_breaks_costs_no_update(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = [65]  # 24 or 48 rollouts a step: it breaks while the second or the third is sampled

    def begins(request: Request) -> None:
        left[0] -= 1
        if not left[0]:
            raise SynthError("the engine is gone")

    with monkeypatch.context() as patched:
        with_engine(patched, begins)
        with pytest.raises(SynthError, match="the engine is gone"):
            go(tmp_path / "run")
    with read_lake(tmp_path / "run") as lake:
        done = lake.query("SELECT max(step) FROM train_steps").item()
    assert done, "it broke before anything was learned"
    assert (tmp_path / "run" / "policies" / f"r1-s{done:04d}").is_dir() and not (tmp_path / "run" / "policies" / f"r1-s{done + 1:04d}").exists()
    go(tmp_path / "run")
    with read_lake(tmp_path / "run") as lake:
        assert lake.query("SELECT count(*) FROM train_steps").item() == STEPS


def test_an_interruption_ends_the_update_too(tmp_path: Path) -> None:
    ended = threading.Event()

    def learn() -> None:
        assert ended.wait(60)

    def sample() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Overlap(ended.set) as overlap:
        overlap.run(learn, sample)
    assert ended.is_set()


def test_a_cancelled_trainer_leaves_the_weights_alone(whole: Path) -> None:
    from pipelines.policies import policy_folder
    from tests.pipelines.grpo_ranks import make_groups

    trainer = GRPOTrainer(policy_folder("arithmetic"), GRPOConfig(threads=1))
    before = trainer.weights_hash()
    trainer.cancel()
    with pytest.raises(SynthError, match="cancelled"):
        trainer.step(make_groups(0))
    assert trainer.weights_hash() == before


@pytest.mark.parametrize(
    ("changes", "ratio_is_one"),
    [
        (("train.preset=dcpo", "train.learning_rate=1e-3"), False),
        (("train.preset=dapo", "train.objective.tis_cap=2.0"), True),
        (("train.preset=gspo", "train.trainer.minibatches=2"), False),
    ],
    ids=["adaptive clip", "truncated importance", "two updates"],
)
def test_objectives_take_stale_rollouts(tmp_path: Path, changes: tuple[str, ...], ratio_is_one: bool) -> None:
    """The ratio of stale rollouts starts at the sampler's log-probs, unless importance weights correct the lag."""
    go(tmp_path / "run", (*changes, "train.steps=3"))
    with read_lake(tmp_path / "run") as lake:
        rows = lake.query("SELECT staleness, ratio_mean, mismatch_mean, grad_norm FROM train_steps WHERE groups > 0 ORDER BY step").rows()
    assert [r[0] for r in rows] == [0, 1, 1] and all(r[3] > 0 for r in rows[1:])
    _, ratio, mismatch, _ = rows[-1]  # after two updates, or after one where the first step's rewards were all equal
    assert (ratio == 1) == ratio_is_one and (mismatch > 1e-5) == ratio_is_one


@pytest.mark.parametrize(
    ("config", "sampling", "says"),
    [
        ({"preset": "rloo"}, Sampling(), "its ratio has no bound"),
        ({"overrides": {"reject_high": 2.0}}, Sampling(), "it would reject nothing"),
        ({"stop_mismatch": 0.5}, Sampling(), "stop_mismatch watches"),
        ({"temperature": 0.7}, Sampling(), "is not sampling.temperature = 1.0"),
        ({}, Sampling(top_p=0.9), "set top_p = 1"),
    ],
)
def test_what_cannot_take_stale_rollouts_is_refused_with_the_reason(config: dict[str, Any], sampling: Sampling, says: str) -> None:
    with pytest.raises(UserError, match=says):
        refuse_stale(GRPOConfig(**config), sampling)


@pytest.mark.parametrize(
    "config", [{"preset": "rloo", "overrides": {"tis_cap": 2.0}}, {"preset": "sapo"}, {"overrides": {"reject_high": 2.0, "tis_cap": 2.0}}, {}]
)
def test_what_can_is_not_refused(config: dict[str, Any]) -> None:
    refuse_stale(GRPOConfig(**config), Sampling())


def small_run(folder: Path, *fault: object) -> int:
    command = [sys.executable, "-m", "tests.small_run", str(folder), *map(str, fault), "train.staleness=1"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, timeout=300, check=False).returncode


@pytest.mark.slow
def test_killed_while_both_are_at_work(tmp_path: Path) -> None:
    """Two whole rounds with everything around the train stage, each of whose kills comes while a step is learned or sampled ahead."""
    faults = [("before_record", 8), ("after_update", 2), ("before_update", 1), ("after_checkpoint", 1), ("after_commit", 9), ("after_record", 6)]
    for point, count in faults:
        assert small_run(tmp_path / "killed", point, count) == -9, f"the run ended before {point} {count}"
    for name in ("killed", "whole"):
        assert small_run(tmp_path / name) == 0
    assert digest(tmp_path / "killed") == digest(tmp_path / "whole")
