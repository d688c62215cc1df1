"""Adaptive probing in a real run: only open problems are sampled on, and a run killed between two waves ends the same."""

from pathlib import Path

import polars as pl
import pytest

from pipelines.recipe import load_recipe
from pipelines.run import Run
from pipelines.stages import FIRST, ROUND
from pipelines.stages.base import run_stage
from pipelines.stages.estimate import open_problems
from tests.small_run import OVERRIDES

PROBING = [stage for stage in (*FIRST, *ROUND) if stage.name in ("seeds", "probe", "verify", "estimate")]
ADAPTIVE = [*OVERRIDES, "probe.n=3", "probe.most=9", "difficulty.band=sws", "problems.levels=[1, 2, 3, 4]", "probe.problems=40"]


def probe(folder: Path, *, dies_after_shards: int = 0) -> None:
    with Run.open(folder) if (folder / "run.json").exists() else Run.create(folder, load_recipe("arithmetic", ADAPTIVE)) as run:
        commit, left = run.lake.commit, [dies_after_shards]

        def fatal(round, stage, shard, *args):
            commit(round, stage, shard, *args)
            if stage == "estimate" and left[0]:
                left[0] -= 1
                if not left[0]:
                    raise KeyboardInterrupt

        run.lake.commit = fatal  # type: ignore[method-assign]
        for stage in PROBING:
            run_stage(run, stage, 0 if stage.name == "seeds" else 1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adaptive") / "run"
    probe(folder)
    return folder


def test_rollouts_are_spent_only_where_the_decision_was_open(whole):
    with Run.open(whole) as run:
        table = run.lake.query("SELECT problem_id, passes, n, decision FROM difficulty")
        extra = run.lake.query("SELECT problem_id, shard, count(*) AS answers FROM rollouts WHERE stage = 'estimate' GROUP BY ALL ORDER BY shard")
        summary = run.lake.stage_info(1, "estimate")
    assert set(table["n"]) <= {3, 6, 9}
    settled = table.filter(pl.col("n") < 9)
    assert 0 < settled.height < table.height  # some were settled early, some needed more
    assert set(settled["decision"]) <= {"in", "out"}
    assert "open" not in set(table["decision"])  # with all nine answers there is nothing left to ask
    assert set(extra["answers"]) == {3}
    assert table["n"].sum() == 3 * table.height + extra["answers"].sum() == summary["rollouts"]


@pytest.mark.parametrize("shards", [1, 3])
def test_a_run_stopped_between_waves_goes_on_where_it_was(whole, tmp_path, shards):
    folder = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        probe(folder, dies_after_shards=shards)
    probe(folder)
    with Run.open(folder) as stopped, Run.open(whole) as other:
        assert stopped.lake.digest().total == other.lake.digest().total
        assert not any(stopped.lake.duplicate_keys().values())
        assert stopped.lake.query("SELECT max(attempts) FROM requests").item() == 1  # nothing was asked twice


def test_who_is_asked_again():
    rows = pl.DataFrame({"problem_id": list("dcba"), "n": [8, 4, 7, 4], "unknowns": [0, 0, 1, 0], "decision": ["open", "open", "open", "in"]})
    assert open_problems(rows, 8, 16) == ["b", "d"]  # an answer nobody could judge was paid for all the same
    assert open_problems(rows, 8, 8) == []
    assert open_problems(rows, 8, 0) == []
