"""Looking at a run: watch, show, the event log, the public face and its notebook, preview and dry run. One small real run serves all."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

import synth
from flows.cli import watch
from flows.cli.events import EventLines, plain, read_events
from flows.cli.live import read_state, writer_of
from flows.cli.main import main
from pipelines.plan import Pilot, plan
from pipelines.recipe import load_recipe
from pipelines.run import read_lake
from tests.command import synth as said
from tests.small_run import OVERRIDES

ROOT = Path(__file__).parents[2]
SETS = [part for override in OVERRIDES for part in ("--set", override)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(run folder, the events that --json printed)"""
    folder = tmp_path_factory.mktemp("looking") / "run"
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli.main", "run", "--out", str(folder), "--json", *SETS], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return folder, [json.loads(line) for line in done.stdout.splitlines()]


def test_json_prints_events_and_nothing_else(finished):
    folder, events = finished
    assert [e["event"] for e in events if e["event"].startswith("run_")] == ["run_started", "run_done"]
    assert events[0]["recipe"]["train"]["steps"] == 3
    done = [(e["round"], e["stage"]) for e in events if e["event"] == "stage_done"]
    assert done[:2] == [(0, "seeds"), (0, "evaluate")]
    assert len(done) == 2 + 2 * 8
    logged = list(read_events(folder / "logs" / "events.jsonl"))
    assert [e["event"] for e in logged if "stage" in e["event"]] == [e["event"] for e in events if "stage" in e["event"]]


def test_watch_says_what_a_finished_run_came_to(finished, capsys):
    folder, _ = finished
    assert main(["watch", str(folder)]) == 0
    shown = capsys.readouterr().out
    for word in ("finished", "0 in flight", "20 proposed", "difficulty", "over 6 steps", "r0 ", "r2 "):
        assert word in shown, shown
    assert "left" not in shown


@pytest.mark.slow
def test_watch_sees_a_live_run_then_its_sudden_end(tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "flows.cli.main", "run", "--quiet", "--out", str(folder), *SETS, "--set", "train.steps=200", "--set", "rounds=9"]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        until = time.monotonic() + 120
        state = None
        while time.monotonic() < until and (state is None or not state.rewards or not state.total):  # the commit is seen before its event
            time.sleep(0.5)
            if (folder / "run.json").exists():
                with read_lake(folder) as lake:
                    state = read_state(folder, lake, time.time())
        assert state is not None
        assert (state.state, state.stage, state.round, state.total) == ("running", "train", 1, 200)
        assert writer_of(folder) == process.pid
        assert state.answers_per_second is not None
        assert 0 < state.answers_per_second < 1e6
        assert state.requests["done"] > 0
        assert state.seconds_left is None  # `evaluate` after training was never timed
        assert "running" in str(watch._lines(state)[0])
    finally:
        process.kill()
        process.wait()
    with read_lake(folder) as lake:
        state = read_state(folder, lake, time.time())
    assert (state.state, state.why) == ("stopped", "its process is gone")
    assert f"synth resume {folder}" in str(watch._lines(state))


def test_time_left_adds_what_the_last_round_took(finished, monkeypatch):
    folder, _ = finished
    monkeypatch.setattr("flows.cli.live.writer_of", lambda folder: 1)
    events = [{"event": e["event"], **{k: v for k, v in e.items() if k != "event"}} for e in read_events(folder / "logs" / "events.jsonl")]
    began = next(i for i, e in enumerate(events) if e["event"] == "stage_started" and (e["round"], e["stage"]) == (2, "select"))
    monkeypatch.setattr("flows.cli.live.read_events", lambda path: iter(events[: began + 1]))
    with read_lake(folder) as lake:
        state = read_state(folder, lake, time.time())
        took = dict(lake.query("SELECT stage, seconds FROM stages WHERE round = 2").iter_rows())
    assert (state.state, state.stage) == ("running", "select")
    assert state.seconds_left == pytest.approx(took["train"] + took["evaluate"], abs=took["select"])


def test_show_tells_a_problems_life(finished, capsys):
    folder, _ = finished
    with synth.open_run(folder) as run:
        trained = run.query("SELECT DISTINCT problem_id FROM rollouts WHERE stage = 'train' AND stream = 'main' ORDER BY 1").item(0, 0)
        candidate = run.query("SELECT problem_id, candidate_id FROM decisions WHERE stage = 'synthesize' ORDER BY 2").row(0)
        prompt = run.query(f"SELECT prompt FROM problems WHERE problem_id = '{candidate[0]}'").item()
    assert main(["show", str(folder), trained]) == 0
    shown = capsys.readouterr().out
    for word in (trained, "reference", "decisions", "selected", "answers", "in training", "step "):
        assert word in shown
    assert main(["show", str(folder), candidate[1][:16]]) == 0
    shown = capsys.readouterr().out
    assert prompt in shown
    assert "made from problem" in shown
    assert "proposed" in shown


@pytest.mark.parametrize(("ident", "sentence"), [("", "is no id"), ("x' OR 1", "is no id"), ("fffffffffff", "begins with"), ("0", "give more of it")])
def test_show_refuses_what_names_no_problem(finished, capsys, ident, sentence):
    assert main(["show", str(finished[0]), ident]) == 2
    assert sentence in capsys.readouterr().err


def test_diff_of_a_run_with_itself_and_of_two_rounds(finished, capsys):
    folder = str(finished[0])
    assert main(["diff", folder, folder]) == 0
    shown = capsys.readouterr().out
    for word in ("recipe: the same", "digest: equal", "+0.0 points", "alike on 20", "chance"):
        assert word in shown
    assert main(["diff", folder, folder, "--rounds", "0", "2"]) == 0
    assert "largest" in capsys.readouterr().out
    assert main(["diff", folder, folder, "--at-round", "7"]) == 2
    assert "no evaluation of round 7" in capsys.readouterr().err
    assert main(["diff", folder, "/nowhere"]) == 2


def test_diff_of_runs_that_only_synthesized_compares_what_they_made(finished, tmp_path):
    """Without an evaluation there is no policy to compare; what was made and refused is told against the lakes' own rows."""
    folders = [tmp_path / name for name in "ab"]
    for folder, budget in zip(folders, (6, 9)):
        more = ("--set", "only=synthesize", "--set", f"strategies.frontier.budget={budget}")
        assert said("run", "--quiet", "--out", folder, *SETS, *more).returncode == 0
    done = said("diff", *folders)
    assert done.returncode == 0 and "recipe: differs in strategies.frontier.budget" in done.stdout
    kept, proposed = [], []
    for folder in folders:
        with synth.open_run(folder) as run:
            proposed.append(run.query("SELECT count(*) AS n FROM decisions WHERE rule = 'proposed'")["n"][0])
            kept.append(set(run.query("SELECT problem_id FROM decisions WHERE stage = 'audit' AND kept")["problem_id"]))
    assert f"new problems kept: {len(kept[0])} → {len(kept[1])}, {len(kept[0] & kept[1])} in both" in done.stdout
    assert f"frontier: {len(kept[0])} of {proposed[0]} → {len(kept[1])} of {proposed[1]}" in done.stdout
    assert f"{folders[0]} and {folders[1]} evaluated none" in done.stdout.replace("\n", " ")
    assert "no evaluation of round 1" in said("diff", *folders, "--at-round", 1).stderr
    beside = said("diff", folders[0], finished[0])
    assert beside.returncode == 0 and "policies are not compared" in beside.stdout and "pass@1" not in beside.stdout


def test_the_public_face(finished):
    with synth.open_run(finished[0]) as run:
        assert {"problems", "rollouts", "decisions", "evals"} <= set(run.tables)
        whole = run.table("rollouts")
        lazy = run.scan("rollouts").filter(pl.col("outcome") == "pass").select("problem_id", "round")
        assert isinstance(lazy, pl.LazyFrame)
        assert lazy.collect().height == whole.filter(pl.col("outcome") == "pass").height > 0
        relation = run.relation("decisions").filter("kept").aggregate("stage, count(*) AS n", "stage")
        assert dict(relation.fetchall()) == dict(run.query("SELECT stage, count(*) FROM decisions WHERE kept GROUP BY stage").iter_rows())
        assert run.relation("SELECT 1 + 1").fetchone() == (2,)
        assert all(run.columns("evals")["comment"].to_list())
        assert set(run.scores()["metric"]) == {"pass@1", "pass@2", "avg@2", "majority@2", "cot-pass@1", "cot-pass@2"}
        with pytest.raises(ValueError, match="no table named 'problem'"):
            run.scan("problem")


def test_the_notebook_runs(finished):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    notebook = nbformat.read(ROOT / "flows" / "examples" / "first_look.ipynb", as_version=4)
    nbformat.validate(notebook)
    os.environ["SYNTH_RUN"] = str(finished[0])
    try:
        nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(ROOT)}}).execute()
    finally:
        del os.environ["SYNTH_RUN"]
    outputs = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.outputs]
    assert len(outputs) >= 6


def test_preview_shows_prompts_answers_and_verdicts_and_keeps_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--preview", "2", *SETS]) == 0
    shown = capsys.readouterr().out
    for stage in ("evaluate", "probe", "train"):
        assert f"{stage}  prompt, " in shown
    assert "frontier proposes, because: pass rate" in shown
    assert "Q: " in shown
    assert "reference" in shown
    assert list(tmp_path.iterdir()) == []
    assert main(["run", "--preview", "0"]) == 2


def test_dry_run_counts_and_keeps_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--dry-run", *SETS]) == 0
    shown = capsys.readouterr().out
    assert "every name and file of the recipe was found" in shown
    assert f"{20 * 2 * 3:,}" in shown  # evaluate: problems x n x (rounds + 1)
    assert "144 – 288" in shown  # train: 3 steps x 6 prompts x 4 answers x 2 rounds, once or twice
    assert "in all on this machine" in shown
    assert list(tmp_path.iterdir()) == []
    assert main(["run", "--dry-run", "--set", "problems.families=[\"agess\"]"]) == 2
    assert "did you mean 'ages'" in capsys.readouterr().err


def test_the_plan_adds_up():
    training = ["train.steps=10", "train.prompts_per_step=5", "train.group_size=8"]
    recipe = load_recipe("arithmetic", ["rounds=2", "probe.problems=100", "probe.most=16", "evaluate.n=4", *training])
    pilot = Pilot(20.0, 30.0, 1000.0, 0.5, 0.01, 0.001, 0.0001)
    lines = {line.stage: line for line in plan(recipe, train_problems=60, heldout_problems=50, pilot=pilot)}
    assert (lines["evaluate"].expected, lines["evaluate"].seconds) == (600, 12.0)
    assert lines["probe"].low == lines["probe"].high == 60 * 8 * 2  # no more problems than there are
    assert (lines["estimate"].low, lines["estimate"].high) == (0, 60 * 8 * 2)
    assert (lines["train"].low, lines["train"].high, lines["train"].expected) == (800, 1600, 1600)
    assert lines["train"].seconds == pytest.approx(1600 * 20 / 1000 + 800 * 0.01)
    unknown = plan(recipe, train_problems=60, heldout_problems=50, pilot=None)
    assert all(line.seconds is None for line in unknown)


def test_a_torn_or_foreign_log_is_read_as_far_as_it_goes(tmp_path):
    log = tmp_path / "events.jsonl"
    log.write_bytes(b'{"event": "a"}\nnot json\n[1]\n{"x": 1}\n\xff\xfe\n{"event": "b"}\n{"event": "c", "do')
    assert [e["event"] for e in read_events(log)] == ["a", "b"]
    assert list(read_events(tmp_path / "none")) == []


def test_a_log_that_cannot_be_written_does_not_stop_the_run():
    class Full:
        def write(self, text):
            raise OSError(28, "No space left on device")

    lines = EventLines(Full())  # type: ignore[arg-type]
    lines("stage_started", {})
    lines("stage_done", {})
    assert lines.stream is None


def test_events_are_plain_json():
    import numpy as np

    given = {"a": np.float32(0.5), "b": float("nan"), "c": (1, "x"), "d": Path("p"), "e": np.int64(3)}
    assert plain(given) == {"a": 0.5, "b": None, "c": [1, "x"], "d": "p", "e": 3.0}


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (59.4, "59 s"), (60, "1 min 00 s"), (3599, "59 min 59 s"), (3660, "1 h 01 min")])
def test_clock(seconds, text):
    assert watch.clock(seconds) == text


def test_spark_and_bar():
    assert watch.spark([0.0, 1.0]) == "▁█"
    assert watch.spark([2.0, 2.0]) == "▄▄"
    assert len(watch.spark([float(i) for i in range(1000)])) <= 48
    assert watch.bar(1, 2, 4) == "━━[dim]──[/]"
