"""Killed anywhere, resumed: the same digest as the uninterrupted run, and nothing generated twice but what was in flight."""

import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from data.ledger import Ledger
from pipelines.recipe import load_recipe
from pipelines.run import Run, read_lake

ROOT = Path(__file__).parents[2]


def start(folder: Path, *fault: object) -> subprocess.Popen:
    """A process of its own on this checkout's code, whatever is installed."""
    return subprocess.Popen([sys.executable, "-m", "tests.small_run", str(folder), *map(str, fault)], cwd=ROOT, stderr=subprocess.PIPE)


def finish(folder: Path) -> None:
    process = start(folder)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()[-2000:]


def digest(folder: Path) -> dict[str, str]:
    with read_lake(folder) as lake:
        assert lake.duplicate_keys() == {}
        return {name: table.hex for name, table in lake.digest().tables.items()}


def repeated(folder: Path) -> int:
    ledger = Ledger.open(folder / "ledger.sqlite", write=False)
    try:
        return len(ledger.repeated())
    finally:
        ledger.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The uninterrupted run: its digest and its seconds."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    began = time.monotonic()
    finish(folder)
    seconds = time.monotonic() - began
    with read_lake(folder) as lake:
        trained = lake.query("SELECT count(*) FROM train_steps WHERE groups > 0").item()
        assert trained == 6, "the run is meant to train in every step"
    assert repeated(folder) == 0
    return folder, digest(folder), seconds


def killed_at(folder: Path, faults: Sequence[tuple[str, int]]) -> None:
    """One run that dies at each point in turn, the COUNT-th time that the process begun after the death before comes to it; then its end."""
    for point, count in faults:
        process = start(folder, point, count)
        process.communicate(timeout=300)
        assert process.returncode == -signal.SIGKILL, f"the run ended before {point} {count}"
    finish(folder)


@pytest.mark.parametrize(
    "faults",
    [
        (("after_checkpoint", 2),),
        pytest.param((("after_record", 3), ("before_commit", 7), ("after_checkpoint", 2)), marks=pytest.mark.slow),
        pytest.param(
            (("before_record", 8), ("after_commit", 8), ("before_stage_line", 2), ("before_merge", 1), ("after_checkpoint", 2)),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["once", "three times", "five times"],
)
def test_killed_at_chosen_points_it_is_the_same_run(whole, tmp_path, faults):
    folder = tmp_path / "run"
    killed_at(folder, faults)
    assert digest(folder) == whole[1]
    assert repeated(folder) <= 16 * len(faults)  # one decode batch (engine.batch_rows) may have been in flight at each


@pytest.mark.slow
def test_killed_twenty_times_at_random(whole, tmp_path):
    """Twenty kills, anywhere: imports, stages, optimizer steps, commits, merges; a run that gets through makes room for the next."""
    rng = random.Random(20)
    folder, kills, killed_here, finished = tmp_path / "run-0", 0, 0, 0
    while kills < 20:
        process = start(folder)
        try:
            process.wait(timeout=rng.uniform(0.3, 1.0) * (4 + whole[2] / 4))
        except subprocess.TimeoutExpired:
            process.kill()
            kills, killed_here = kills + 1, killed_here + 1
        else:
            assert process.returncode == 0, process.stderr.read().decode()[-2000:]
            assert digest(folder) == whole[1]
            assert repeated(folder) <= 16 * killed_here
            finished, killed_here = finished + 1, 0
            folder = tmp_path / f"run-{finished}"
        finally:
            process.wait()
            process.stderr.close()
    finish(folder)
    assert digest(folder) == whole[1]
    assert repeated(folder) <= 16 * killed_here


def test_resuming_a_finished_run_does_nothing(whole):
    before = whole[1]
    finish(whole[0])
    assert digest(whole[0]) == before
    assert repeated(whole[0]) == 0


@pytest.mark.slow
def test_readers_see_whole_shards_and_hold_nobody_up(whole, tmp_path):
    """A notebook with an open read transaction and a second process that keeps asking, for the whole of a run."""
    folder = tmp_path / "run"
    process = start(folder)
    while not (folder / "run.json").is_file():
        assert process.poll() is None
        time.sleep(0.01)
    asked = 0
    with read_lake(folder) as notebook, notebook._session.cursor(None) as held:
        held.execute("BEGIN")
        before = held.execute("SELECT count(*) FROM shards").fetchall()
        while process.poll() is None:
            with read_lake(folder) as lake:
                rows = lake.query(
                    """
                    SELECT s.round, s.stage, s.shard, CAST(s.rows->>'rollouts' AS BIGINT) AS promised, count(r.rollout_id) AS found
                    FROM shards s LEFT JOIN rollouts r USING (round, stage, shard) GROUP BY ALL
                    """
                )
            for round, stage, shard, promised, found in rows.iter_rows():
                assert (promised or 0) == found, (round, stage, shard)
            asked += 1
        assert held.execute("SELECT count(*) FROM shards").fetchall() == before  # its own moment, to the end
    assert process.returncode == 0
    process.stderr.close()
    assert asked >= 3
    assert digest(folder) == whole[1]


def test_a_second_writer_is_refused_by_name(whole):
    from data.errors import UserError

    with Run.open(whole[0]):
        process = start(whole[0])
        _, errors = process.communicate(timeout=120)
        assert process.returncode != 0
        assert str(whole[0]) in errors.decode()
        with pytest.raises(UserError, match=str(whole[0])):
            Run.open(whole[0])


def test_a_changed_recipe_is_refused_and_says_which_key(whole, tmp_path):
    from data.errors import UserError

    recipe = load_recipe("arithmetic")
    run = Run.create(tmp_path / "run", recipe)
    run.close()
    path = tmp_path / "run" / "recipe.toml"
    path.write_text(re.sub(r"learning_rate = \S+", "learning_rate = 1e-4", path.read_text()))
    with pytest.raises(UserError, match=r"train\.learning_rate"):
        Run.open(tmp_path / "run")
