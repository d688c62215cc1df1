"""What is made inside a training step is stored with its reasons, and nothing later takes it for a training problem."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from data.records import Candidate, Group, GroupEdit, Problem, RolloutSpec, Sampling, Trajectory, Verdict
from data.tables import problem_row, rollout_row, trajectory_row
from filters.tables import decision_row, verdict_row
from generators.strategies.base import Decision
from pipelines.recipe import load_recipe
from pipelines.report import queries
from pipelines.report.streams import stream_section
from pipelines.run import Run
from pipelines.stages.online_rows import online_tables, trained_rewards
from pipelines.stages.probe import choose
from pipelines.stages.synthesize import solutions

TINY = ["rounds=2", "probe.problems=50"]


def rollout(problem: Problem, index: int, text: str = "#### 1") -> Trajectory:
    tokens = np.asarray([5, 6], np.int32)
    mask, logp = np.asarray([0, 1], np.uint8), np.asarray([np.nan, -0.1], np.float32)
    return Trajectory(problem.id, "p", tokens, mask, logp, Sampling(), index, index, "stop", text)


def group(problem: Problem, rewards: list[float], name: str = "g", stream: str = "s") -> Group:
    rollouts = tuple(rollout(problem, i) for i in range(len(rewards)))
    verdicts = tuple(Verdict("pass" if r else "fail", r, "", "math") for r in rewards)
    return Group(name, problem, rollouts, verdicts, np.asarray(rewards, np.float32), stream)


def test_problems_made_in_a_step_are_stored_once_and_never_probed(tmp_path: Path) -> None:
    seed, variant, main = Problem("What is 1 + 1 in all?", "2"), Problem("What is 4 - 2 in all?", "2", source="svs"), Problem("What is 3 + 1?", "4")
    specs = [RolloutSpec(p, 2, Sampling(), stream=stream) for p, stream in ((main, "main"), (variant, "svs.solve"), (variant, "again"))]
    candidate = Candidate(variant, 1, "svs", (seed.id, "rollout"))
    refused = Candidate(Problem("Never solved by anybody here?", "2"), 1, "svs", (seed.id, "other"))
    decided = [Decision(candidate, "band", True, "4 of 8"), Decision(candidate, "mixed", True, "4 of 8"), Decision(refused, "leak", False, "why")]
    rows = online_tables(specs, decided, {main.id}, round=1, step=3)
    assert sorted(r["problem_id"] for r in rows["problems"]) == sorted([variant.id, refused.problem.id])
    assert {r["split"] for r in rows["problems"]} == {"online"}
    with Run.create(tmp_path / "run", load_recipe("arithmetic", TINY)) as run:
        run.lake.commit(0, "seeds", 0, {"problems": [problem_row(p, 0, "seeds") for p in (seed, main)]})
        run.lake.commit(1, "train", 3, rows)
        assert run.lake.duplicate_keys() == {}
        assert {p.id for p in choose(run, 2)} == {seed.id, main.id}
        assert run.lake.query("SELECT reason FROM decisions WHERE problem_id = ? AND rule = 'band'", (variant.id,)).item() == "4 of 8"
        fates = queries.fates(run.lake)
        assert set(fates.select("strategy", "fate", "rule").iter_rows()) == {("svs", "selected", ""), ("svs", "refused", "leak")}
        # proposed by another strategy later and audited, it is a training problem like any other
        audited = decision_row(Candidate(variant, 1, "frontier"), "verifier", True, "passed", round=1, stage="audit", shard=0)
        run.lake.commit(1, "audit", 0, {"decisions": [audited]})
        assert {p.id for p in choose(run, 2)} == {seed.id, main.id, variant.id}
        assert variant.id not in {p.id for p in choose(run, 1)}


def test_rewards_that_training_used_are_found_in_the_edits() -> None:
    problem = Problem("q", "1")
    added, main = group(problem, [0.0, 1.0]), group(Problem("other", "1"), [1.0, 0.0], "m")
    edits = [GroupEdit.add(added), GroupEdit.set_reward("m", [0.5, 0.25]), GroupEdit.set_reward("elsewhere", [1.0]), GroupEdit.drop("m")]
    found = trained_rewards(edits, {"m": [r.id for r in main.rollouts]})
    assert [found[r.id] for r in (*added.rollouts, *main.rollouts)] == [0.0, 1.0, 0.5, 0.25] and len(found) == 4


def test_solutions_are_right_answers_of_this_rounds_probe(tmp_path: Path) -> None:
    one, two = Problem("What is 1 + 1 in all?", "2"), Problem("What is 5 + 1 in all?", "6")
    rollouts = [rollout(one, 0, "wrong"), rollout(one, 1, "right"), rollout(one, 2, "right, too"), rollout(two, 0, "wrong")]
    outcomes = ["fail", "pass", "pass", "fail"]
    verdicts = [Verdict(o, 0.0, "", "math", r.id, r.problem_id) for o, r in zip(outcomes, rollouts, strict=True)]  # type: ignore[arg-type]
    with Run.create(tmp_path / "run", load_recipe("arithmetic", TINY)) as run:
        run.lake.commit(1, "probe", 0, {"trajectories": [trajectory_row(r, 1, "probe") for r in rollouts]})
        run.lake.commit(1, "verify", 0, {"verdicts": [verdict_row(v, "p", round=1, stage="verify", shard=0) for v in verdicts]})
        assert solutions(run, 1, [one.id, two.id]) == {one.id: "right"}
        assert solutions(run, 2, [one.id]) == {} == solutions(run, 1, [])


def test_the_report_tells_streams(tmp_path: Path) -> None:
    problem = Problem("What is 1 + 1 in all?", "2")
    groups = [group(problem, [0.0, 1.0], "a", "main")]
    groups += [group(Problem(name, "2"), [first, 1.0], name, "svs.solve") for name, first in (("b", 1.0), ("c", 0.0))]
    rows = [
        rollout_row(r, 1, "train", g.stream, reward=v.reward, outcome=v.outcome, group_id=g.id)
        for g in groups
        for r, v in zip(g.rollouts, g.verdicts, strict=True)
    ]
    with Run.create(tmp_path / "run", load_recipe("arithmetic", TINY)) as run:
        run.lake.commit(1, "train", 1, {"rollouts": rows})
        section = stream_section(queries.streams(run.lake))
        assert section is not None
        ((_, streams),) = section.tables
        assert streams.rows[0] == ["1", "main", "1", "100.0%", "2", "50.0%", "50.0%", "2"]
        assert streams.rows[1:] == [["1", "svs.solve", "2", "50.0%", "4", "75.0%", "75.0%", "4"]]
    assert stream_section(pl.DataFrame({"stream": ["main"]})) is None
