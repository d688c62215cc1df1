"""Verifiers that ask a model get the run's own engine, in every stage that judges; and the recipe's settings reach problems from files."""

import json

import pytest

from data.errors import UserError
from pipelines.check import check_names
from pipelines.loop import run_loop
from pipelines.recipe import load_recipe
from pipelines.run import Run
from tests.small_run import OVERRIDES

ROWS = [{"prompt": f"Say why {n} is more than {n - 1}.", "answer": str(n), "verifier": "judge"} for n in range(2, 14)]


@pytest.fixture
def judged(tmp_path):
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS), "utf-8")
    small = ["rounds=1", "probe.problems=4", "probe.n=2", "evaluate.problems=2", "evaluate.n=1", "train.steps=1"]
    recipe = load_recipe("arithmetic", [*OVERRIDES, *small], problems__files=[str(file)], problems__world="", verifiers={"judge": {"max_tokens": 48}})
    with Run.create(tmp_path / "run", recipe) as run:
        run_loop(run)
        yield run


def test_the_runs_engine_is_asked_and_its_answers_are_kept(judged):
    """The shipped policy is no judge: its answers say nothing readable, so the verdicts are unknown, but for a reason of the judge's."""
    asked = dict(judged.lake.query("SELECT stage, count(*) FROM requests WHERE purpose = 'judge' GROUP BY stage").iter_rows())
    assert asked.keys() == {"verify", "evaluate"}
    assert min(asked.values()) > 0
    reasons = judged.lake.query("SELECT DISTINCT outcome, reason FROM verdicts").rows()
    assert {outcome for outcome, _ in reasons} <= {"unknown", "fail"}
    assert not any("no model" in reason for _, reason in reasons)
    assert not judged.lake.duplicate_keys()


def test_the_recipes_settings_are_in_each_problem(judged):
    specs = {spec for (spec,) in judged.lake.query("SELECT DISTINCT spec FROM problems").iter_rows()}
    assert {json.loads(s)["max_tokens"] for s in specs} == {48}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ('verifiers.math={extract = "lastnumber"}', "verifiers.math"),
        ("verifiers.judge={vote = 3}", "did you mean 'votes'"),
        ("verifiers.mth={}", "did you mean 'math'"),
    ],
)
def test_wrong_settings_are_said_before_the_run(override, said):
    with pytest.raises(UserError, match=said):
        check_names(load_recipe("arithmetic", [override]))
