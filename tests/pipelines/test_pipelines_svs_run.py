"""SvS as a whole run: stored, told, and the same after a kill in the middle of a step."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.run import read_lake
from tests.benchmarks import bench_svs

ROOT = Path(__file__).parents[2]
OVERRIDES = [
    "policy.path=arithmetic", "problems.per_cell=2", "problems.levels=[1, 2, 3]", "probe.problems=40", "probe.n=4",
    "select.problems=40", "train.steps=4", "train.tokens=900", "train.prompts_per_step=8", "train.group_size=4", "evaluate.problems=12",
    "evaluate.n=2", "engine.batch_rows=16", "strategies.svs.source=[0.01, 0.99]", "strategies.svs.sources=4",
]  # fmt: skip
CODE = """
import sys
from pathlib import Path
from pipelines.loop import run_loop
from pipelines.recipe import load_recipe
from pipelines.run import Run, is_run
from tests.small_run import arm
folder, point, *overrides = sys.argv[1:]
if point != "-":
    arm(point, 1)
with (Run.open(Path(folder)) if is_run(Path(folder)) else Run.create(Path(folder), load_recipe("svs", overrides))) as run:
    run_loop(run)
"""


def play(folder: Path, point: str = "-") -> int:
    return subprocess.run([sys.executable, "-c", CODE, str(folder), point, *OVERRIDES], cwd=ROOT, capture_output=True).returncode


@pytest.mark.slow
def test_a_run_of_svs_is_stored_and_the_same_after_a_kill(tmp_path: Path) -> None:
    assert play(tmp_path / "whole") == 0
    assert play(tmp_path / "killed", "after_checkpoint") == -9
    assert play(tmp_path / "killed") == 0
    digests = []
    for name in ("whole", "killed"):
        with read_lake(tmp_path / name) as lake:
            digests.append(lake.digest().total)
            assert lake.duplicate_keys() == {}
            steps, tokens = lake.query("SELECT count(*), sum(tokens) FROM train_steps").row(0)
            assert steps < 4 and 900 - 4 * 64 < tokens <= 900  # the budget ended it, short of it by less than a group
            written = lake.query("SELECT count(*) FROM rollouts WHERE stream = 'svs.write'").item()
            decided = lake.query("SELECT count(DISTINCT candidate_id) FROM decisions WHERE strategy = 'svs'").item()
            assert written == decided > 0  # every writing has its row
            named = "SELECT problem_id FROM rollouts UNION SELECT problem_id FROM decisions"
            assert lake.query(f"SELECT count(*) FROM ({named}) ANTI JOIN problems USING (problem_id)").item() == 0
            assert set(lake.query("SELECT DISTINCT split FROM problems WHERE source = 'svs'")["split"]) == {"online"}
    assert digests[0] == digests[1]
    found, wrong = bench_svs.measures(tmp_path / "whole"), bench_svs.references(tmp_path / "whole")
    assert bench_svs.finished(tmp_path / "whole") and found["at"].tolist() == [0, tokens] and found["sampled"] > tokens
    assert found["pass_1"].shape == found["pass_16"].shape == (2, 12) and (found["entropy"] > 0).all()
    assert len(wrong["written"]) == written > len(wrong["solved"]) >= len(wrong["trained"])  # each gate holds back what was behind it
