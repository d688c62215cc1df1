"""No barrier where the data allows none: answers are judged while others are written, the next ones are asked for before all is decided.

That things overlap is shown by each waiting for the other; that nothing changes by the digest of the same run, one after the other.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import pipelines.rollout
from data.records import Request, RolloutSpec
from generators.engines.local import LocalEngine
from pipelines.judging import Judge
from pipelines.recipe import load_recipe
from pipelines.rollout_stream import RolloutStream
from pipelines.run import Run
from pipelines.stages import FIRST, ROUND, probe, train_rollouts, waves
from pipelines.stages.base import run_stage
from pipelines.stages.rows import rollouts_of, sampled_tables
from pipelines.stages.train_rollouts import sample
from pipelines.stages.verify import verify_stage
from tests.pipelines.answering import Answering, NeverCancels
from tests.small_run import OVERRIDES

STAGES = {stage.name: stage for stage in (*FIRST, *ROUND)}
ADAPTIVE = [*OVERRIDES, "probe.n=3", "probe.most=9", "difficulty.band=sws", "problems.levels=[1, 2, 3, 4]", "probe.problems=40"]
PATIENCE_S = 30


def made(folder: Path, engine: Answering | None, stages: Sequence[str], settings: Sequence[str] = OVERRIDES) -> Run:
    """A run after these stages, answered by `engine` or, without one, by the embedded engine."""
    run = Run.create(folder, load_recipe("arithmetic", settings))
    with pytest.MonkeyPatch.context() as patch:
        if engine is not None:
            patch.setattr("pipelines.run.open_run_engine", lambda run: engine)
            run.engine()
    for name in stages:
        run_stage(run, STAGES[name], 0 if name in ("seeds", "evaluate") else 1)
    return run


def digest(run: Run) -> dict[str, str]:
    assert not any(run.lake.duplicate_keys().values())
    return {name: table.hex for name, table in run.lake.digest().tables.items()}


def one_after_the_other(run: Run, round: int) -> dict[str, Any]:
    """The probe as plainly as it can be said: a shard, its rows, the next."""
    part, problems = run.recipe.probe, probe.choose(run, round)
    rollouts, shards = rollouts_of(run, round, "probe"), range(0, len(problems), part.shard)
    for number, start in enumerate(shards):
        specs = [RolloutSpec(p, part.n, run.recipe.sampling.sampling(), stream="probe") for p in problems[start : start + part.shard]]
        run.lake.commit(round, "probe", number, sampled_tables(run, round, "probe", number, specs, rollouts.sample(specs)))
    return {"problems": len(problems), "rollouts": len(problems) * part.n, "shards": len(shards)}


@pytest.fixture
def judging(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What the judges do: `began` when one is asked for the first time, which then waits for `go_on`."""
    seen: dict[str, Any] = {"began": threading.Event(), "go_on": threading.Event(), "threads": set()}
    verify_all = pipelines.rollout.verify_all

    def judge(*args: Any) -> Any:
        seen["threads"].add(threading.current_thread().name)
        first = not seen["began"].is_set()
        seen["began"].set()
        if first:
            assert seen["go_on"].wait(PATIENCE_S), "nothing went on while this was judged"
        return verify_all(*args)

    monkeypatch.setattr(pipelines.rollout, "verify_all", judge)
    yield seen
    seen["go_on"].set()


def test_the_embedded_engine_samples_a_shard_while_the_one_before_is_judged(tmp_path: Path, judging: dict[str, Any]) -> None:
    generate_batch, calls = LocalEngine.generate_batch, Counter[str]()

    def generate(self: LocalEngine, batch: Sequence[Request]) -> Any:
        calls["batches"] += 1
        if calls["batches"] == 3:  # of 16 rows: shard 0 has two of them
            assert judging["began"].wait(PATIENCE_S), "nothing is judged before all is sampled"
            judging["go_on"].set()
        return generate_batch(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalEngine, "generate_batch", generate)
        run = made(tmp_path / "beside", None, ["seeds", "probe"])
    assert [line["shard"] for line in run.lake.shard_lines(1, "verify")] == [0, 1]  # the last one has nothing to be judged beside
    run_stage(run, STAGES["verify"], 1)
    assert judging["threads"] == {"synth-judge_0", "MainThread"}
    with run, made(tmp_path / "serial", None, ["seeds"]) as serial:
        serial.lake.finish_stage(1, "probe", one_after_the_other(serial, 1), 0.0)
        serial.lake.finish_stage(1, "verify", verify_stage(serial, 1), 0.0)
        assert digest(run) == digest(serial)


def test_an_engine_that_streams_is_judged_within_a_shard_and_asked_for_the_next(tmp_path: Path, judging: dict[str, Any]) -> None:
    """The first answer of all is held back until another one is judged and the third shard was asked for."""
    third = threading.Event()

    def hold(request: Request) -> None:
        if len({r.problem_id for r in engine.asked}) > 16:
            third.set()
        if request.key == engine.asked[0].key:
            assert judging["began"].wait(PATIENCE_S), "nothing is judged before its shard is whole"
            assert third.wait(PATIENCE_S), "a shard is asked for only when the one before is whole"
            judging["go_on"].set()

    engine = Answering(hold)
    with made(tmp_path / "beside", engine, ["seeds", "probe", "verify"]) as run, made(tmp_path / "serial", Answering(), ["seeds"]) as serial:
        assert judging["threads"] == {"synth-judge_0"}
        serial.lake.finish_stage(1, "probe", one_after_the_other(serial, 1), 0.0)
        serial.lake.finish_stage(1, "verify", verify_stage(serial, 1), 0.0)
        assert digest(run) == digest(serial)
        assert run.lake.query("SELECT count(DISTINCT outcome) FROM verdicts").item() == 2


def test_an_interrupted_probe_commits_whole_shards_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C reaches the verifiers' processes, too: what they say from then on is no verdict."""
    commit = probe.commit_verdicts

    def interrupted(*args: Any) -> None:
        if args[2] == 1:
            raise KeyboardInterrupt
        commit(*args)

    run = made(tmp_path / "run", Answering(), ["seeds"])
    monkeypatch.setattr(probe, "commit_verdicts", interrupted)
    with run, pytest.raises(KeyboardInterrupt):
        run_stage(run, STAGES["probe"], 1)
    monkeypatch.undo()
    monkeypatch.setattr("pipelines.run.open_run_engine", lambda run: Answering())
    with Run.open(tmp_path / "run") as again, made(tmp_path / "whole", Answering(), ["seeds", "probe", "verify"]) as whole:
        assert [line["shard"] for line in again.lake.shard_lines(1, "verify")] == [0]
        for name in ("probe", "verify"):
            run_stage(again, STAGES[name], 1)
        assert digest(again) == digest(whole)


def test_verifiers_that_ask_the_embedded_engine_do_not_ask_it_beside_itself(tmp_path: Path, judging: dict[str, Any]) -> None:
    judging["go_on"].set()
    rows = tmp_path / "mine.jsonl"
    rows.write_text("".join(f'{{"prompt": "Say why {n} is more than 1.", "answer": "{n}", "verifier": "judge"}}\n' for n in range(2, 8)), "utf-8")
    settings = [*OVERRIDES, "probe.n=1", "probe.shard=2", f'problems.files=["{rows}"]', "problems.world=", "problems.heldout_share=0"]
    with made(tmp_path / "run", None, ["seeds", "probe"], [*settings, "verifiers.judge={max_tokens = 8}"]) as run:
        assert judging["threads"] == {"MainThread"}
        asked = dict(run.lake.query("SELECT shard, count(*) FROM requests WHERE stage = 'verify' GROUP BY 1").rows())
        assert asked and set(asked) < {0, 1, 2}  # in the shard they belong to; the last is the stage verify's own


def test_evaluation_goes_from_shard_to_shard_without_a_barrier(tmp_path: Path) -> None:
    """The first answer waits for a request of the second shard."""
    second = threading.Event()

    def hold(request: Request) -> None:
        if len({r.problem_id for r in engine.asked}) > 10:
            second.set()
        if request.key == engine.asked[0].key:
            assert second.wait(PATIENCE_S)

    engine = Answering(hold)
    with made(tmp_path / "beside", engine, ["seeds", "evaluate"]) as run, pytest.MonkeyPatch.context() as patch:
        patch.setattr(RolloutStream, "has_room", False)  # so that a shard begins when the one before is judged
        with made(tmp_path / "serial", Answering(), ["seeds", "evaluate"]) as serial:
            assert digest(run) == digest(serial) and run.lake.query("SELECT count(*) FROM evals").item() == 20


# What is asked for ahead


def in_the_end(run: Run) -> Counter[str]:
    """How the ledger's requests ended; none may be left as sent."""
    states = run.ledger.counts()
    assert states["sent"] == states["failed"] == 0
    kept = {key for (key,) in run.lake.query("SELECT key FROM requests").iter_rows()}
    assert len(kept) <= states["done"]
    return Counter(done=states["done"], cancelled=states["cancelled"], unused=states["done"] - len(kept))


PROBING = ["seeds", "probe", "verify", "estimate"]


def test_the_next_wave_is_asked_for_while_the_last_answer_of_this_one_is_on_its_way(tmp_path: Path) -> None:
    """Held back until somebody asks ahead: an answer of the first wave. Waves with a barrier would wait for ever."""
    ahead = threading.Event()

    def hold(request: Request) -> None:
        if request.purpose == "estimate":
            if request.priority == 0:
                ahead.set()
            elif request.index == 0 and request.problem_id == min(r.problem_id for r in engine.asked if r.purpose == "estimate"):
                assert ahead.wait(PATIENCE_S), "the next wave waits for the whole of this one"

    engine = Answering(hold)
    with made(tmp_path / "ahead", engine, PROBING, ADAPTIVE) as run, made(tmp_path / "waves", NeverCancels(), PROBING, ADAPTIVE) as other:
        assert digest(run) == digest(other)
        assert in_the_end(other) == Counter(done=other.ledger.counts()["requests"])
        assert run.lake.query("SELECT count(*) FROM rollouts WHERE stage = 'estimate'").item() > 0
        # The estimate of who stays open is good: hardly an answer is bought for nothing.
        assert in_the_end(run)["unused"] <= 0.1 * run.ledger.counts()["done"]


def test_what_the_plan_does_not_ask_for_is_cancelled_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody is asked on ahead here, and those requests are answered once it is known who is wanted: the others never."""
    monkeypatch.setattr(waves, "decide", lambda *_: "open")
    settled, planned = [*ADAPTIVE, "difficulty.certainty=0.7"], threading.Event()
    cancel_ahead, calls = RolloutStream.cancel_ahead, Counter[str]()

    def plan_stands(self: RolloutStream, *, but: Any = ()) -> None:
        cancel_ahead(self, but=but)
        calls["plans"] += 1
        if calls["plans"] == 2:  # the first wave's comes before anybody was asked ahead
            threading.Thread(target=lambda: (engine.told.wait(PATIENCE_S), planned.set()), daemon=True).start()

    monkeypatch.setattr(RolloutStream, "cancel_ahead", plan_stands)
    engine = Answering(lambda request: request.priority > 0 or request.purpose != "estimate" or planned.wait(PATIENCE_S))
    with made(tmp_path / "ahead", engine, PROBING, settled) as run:
        monkeypatch.undo()
        with made(tmp_path / "waves", NeverCancels(), PROBING, settled) as other:
            assert digest(run) == digest(other)
            assert in_the_end(run)["cancelled"] >= 3 and in_the_end(run)["unused"] == 0
            assert in_the_end(other) == Counter(done=other.ledger.counts()["requests"])


DYNAMIC = [*OVERRIDES, "train.generation_batches=3", "train.prompts_per_step=8", "strategies.paraphrase.share=0.25"]


def facts(sampled: train_rollouts.Sampled) -> list[Any]:
    groups = [(g.id, [r.id for r in g.rollouts], g.rewards.tolist()) for g in sampled.groups]
    return [sampled.cursor, groups, [list(b.trajectories) for b in sampled.batches], [v.rollout_id for b in sampled.batches for v in b.verdicts]]


def flat_half(references: dict[str, str]) -> Callable[[Request], str]:
    """Problems of an even number are always answered wrong: their groups teach nothing and are replaced."""

    def answer(request: Request) -> str:
        right = int(request.problem_id[-1], 16) % 2 and request.index % 2
        return f" so\n#### {references.get(request.problem_id, '?') if right else 'no'}"

    return answer


def test_the_place_of_a_flat_group_is_filled_while_others_are_still_written(tmp_path: Path) -> None:
    """An answer of the first batch waits for a request of the second."""
    ahead = threading.Event()

    def hold(request: Request) -> None:
        if request.priority == 1:
            ahead.set()
        elif request.key == held[0]:
            assert ahead.wait(PATIENCE_S), "the second batch waits for the whole of the first"

    held: list[str] = [""]
    references: dict[str, str] = {}

    def answer(request: Request) -> str:
        if not held[0] and int(request.problem_id[-1], 16) % 2:
            held[0] = request.key
        return flat_half(references)(request)

    found = []
    for name, engine in {"ahead": Answering(hold, answer), "batches": NeverCancels(answer=flat_half(references))}.items():
        with made(tmp_path / name, engine, ["seeds"], DYNAMIC) as run:
            ids = run.lake.query("SELECT problem_id FROM problems WHERE split = 'train' ORDER BY 1")["problem_id"].to_list()
            problems = probe.problems_by_id(run, ids[:20])
            references |= {p.id: p.reference for p in problems}
            sampled = sample(run, 1, 1, 0, problems, run.policy())
            assert len(sampled.batches) > 1 and sampled.groups
            found.append(facts(sampled))
            states = run.ledger.counts()
            wanted = sum(len(made) for b in sampled.batches for made in b.trajectories.values())
            # A paraphrase that teaches something takes a flat group's place too, so that a prompt may have been asked for ahead in vain.
            assert states["sent"] == 0 and (states["requests"] == wanted if name == "batches" else states["done"] >= wanted)
            purposes = Counter(r.purpose for r in engine.asked)
            assert set(purposes) == {"train", "paraphrase"}  # a strategy's own groups are its own in the ledger's account
    assert found[0] == found[1]


def test_a_cancelled_group_is_not_made_again(tmp_path: Path) -> None:
    from data.errors import SynthError

    with made(tmp_path / "run", Answering(), ["seeds"]) as run:
        (problem, other) = probe.choose(run, 1)[:2]
        specs = [RolloutSpec(p, 2, run.recipe.sampling.sampling(), stream="probe") for p in (problem, other)]
        with RolloutStream(rollouts_of(run, 1, "probe")) as stream:
            stream.ask_ahead(specs)
            stream.ask_ahead(specs)
            assert not stream.open
            stream.cancel_ahead(but={specs[0].group_id})
            with pytest.raises(SynthError, match="was cancelled"):
                stream.ask([specs[1]])
            with pytest.raises(SynthError, match="n = 2 and is wanted with n = 3"):
                stream.ask([RolloutSpec(problem, 3, run.recipe.sampling.sampling(), stream="probe")])
        assert Judge(run).requests(1, "probe", 0) == []
