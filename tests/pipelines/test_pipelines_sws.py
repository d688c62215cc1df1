"""SwS in a run: what its history is, what its funnel and its truth say, and a whole small run with the shipped writer."""

from itertools import product
from pathlib import Path

import pytest

from data.records import Candidate, Problem
from data.tables import problem_row
from filters.decontaminate import HeldoutIndex, HeldoutSet
from filters.tables import decision_row
from generators.worlds.registry import get_world
from pipelines.history import rollout_history
from pipelines.loop import run_loop
from pipelines.policies import SHIPPED_POLICIES
from pipelines.problems import side_of
from pipelines.recipe import load_recipe
from pipelines.report import write_report
from pipelines.report.candidates import fate_section
from pipelines.report.funnel import Truth, funnel, steps, truths, with_funnel
from pipelines.report.queries import fates
from pipelines.run import Run

WORLD = get_world("arithmetic")
needs_writer = pytest.mark.skipif(not (SHIPPED_POLICIES / "writer" / "config.json").is_file(), reason="the writer policy is not here")
SMALL = [
    "rounds=2", "problems.per_cell=2", "problems.levels=[1, 2]", "probe.problems=26", "probe.n=4", "probe.shard=13", "select.problems=80",
    "strategies.sws.budget=40", "train.steps=6", "train.tokens=200", "train.prompts_per_step=8", "train.group_size=4", "evaluate.problems=26",
    "evaluate.n=1", "engine.batch_rows=64",
]  # fmt: skip


@pytest.fixture
def run(tmp_path):
    with Run.create(tmp_path / "run", load_recipe("quick")) as run:
        yield run


def _answered(run, round, stage, shard, problem, passes, n, stream="main", unknown=0):
    ids = [f"{round}{stage}{shard}{stream}{problem.id}{i}" for i in range(n + unknown)]
    outcomes = ["pass"] * passes + ["fail"] * (n - passes) + ["unknown"] * unknown
    rollouts = [{"rollout_id": i, "problem_id": problem.id, "stream": stream, "finish": "stop"} for i in ids]
    verdicts = [{"rollout_id": i, "problem_id": problem.id, "policy_id": "p", "outcome": o, "verifier": "math"} for i, o in zip(ids, outcomes)]
    run.lake.commit(round, stage, shard, {"rollouts": rollouts, "verdicts": verdicts})


def test_history_has_one_row_per_problem_and_visit_in_time_order(run):
    one, other, held = Problem("1 + 1?", "2", domain="x", level=1), Problem("2 + 2?", "4", domain="y"), Problem("3?", "3", split="heldout")
    run.lake.commit(0, "seeds", 0, {"problems": [problem_row(p, 0) for p in (one, other, held)]})
    _answered(run, 1, "verify", 0, one, 1, 4, "probe")
    _answered(run, 1, "estimate", 1, one, 2, 4, "probe", unknown=1)  # an adaptive wave of the same visit
    _answered(run, 1, "verify", 1, other, 0, 0, "probe", unknown=3)
    _answered(run, 1, "train", 2, one, 3, 4)
    _answered(run, 1, "train", 1, one, 0, 4)
    _answered(run, 1, "train", 3, one, 4, 4, "svs.solve")  # what a strategy made of it is no visit
    _answered(run, 2, "verify", 0, one, 4, 4, "probe")
    _answered(run, 2, "verify", 1, held, 4, 4, "probe")
    rows = rollout_history(run.lake, 1)
    told = [(i == one.id, d, r, s, k, n) for i, d, r, s, k, n in rows.select("problem_id", "domain", "round", "step", "passes", "n").rows()]
    assert sorted(told[:2]) == [(False, "y", 1, 0, 0, 0), (True, "x", 1, 0, 3, 8)]
    assert told[2:] == [(True, "x", 1, 1, 0, 4), (True, "x", 1, 2, 3, 4)]
    assert rollout_history(run.lake, 2).height == 5


def _decided(run):
    """Ten candidates: 2 unreadable, 3 of low quality, 1 outside the band, 4 proposed, of which the audit refuses one."""
    texts = ["Tom has 5 pens. He gets 7 more. How many pens does Tom have now?", "Tom has 5 pens. She gets 7 more. How many pens does Tom have now?",
             "A bus goes 20 miles in 4 hours. What is its speed in miles per hour?", "Ann has many."]  # fmt: skip
    references = ["12", "12", "6", "1"]
    made = [Candidate(Problem(t, r, domain="x", source="sws"), 1, "sws", ("w", str(i))) for i, (t, r) in enumerate(zip(texts, references))]
    fallen = [Candidate(Problem(f"bad {i}", source="sws"), 1, "sws", ("w", f"f{i}")) for i in range(6)]
    where = {"round": 1, "stage": "synthesize", "shard": 0}
    rules = ["unreadable"] * 2 + ["quality"] * 3 + ["band"]
    rows = [decision_row(c, rule, False, "so", **where) for c, rule in zip(fallen, rules)]
    rows += [decision_row(c, "proposed", True, "so", **where) for c in made]
    run.lake.commit(1, "synthesize", 0, {"problems": [problem_row(c.problem, 1) for c in made], "decisions": rows})
    audited = [decision_row(c, "duplicate" if c is made[3] else "verifier", c is not made[3], "so", round=1, stage="audit", shard=0) for c in made]
    run.lake.commit(1, "audit", 0, {"decisions": audited})


def test_the_funnel_counts_every_candidate_once_in_the_order_of_the_rules(run):
    _decided(run)
    assert [tuple(row) for row in funnel(steps(run.lake)).rows] == [
        ("sws", "unreadable", "10", "2", "80.0%"),
        ("sws", "quality", "8", "3", "62.5%"),
        ("sws", "band", "5", "1", "80.0%"),
        ("sws", "duplicate", "4", "1", "75.0%"),
        ("sws", "passed every rule", "3", "", ""),
    ]


def test_accepted_references_are_read_again_and_unparseable_counts_as_wrong(run):
    _decided(run)
    assert truths(run.lake, WORLD) == {"sws": Truth(accepted=3, wrong=1, unparseable=1)}
    low, high = Truth(3, 1, 1).interval
    assert low < 2 / 3 < high
    section = with_funnel(fate_section(fates(run.lake)), run.lake, WORLD)
    assert [title for title, _ in section.tables][-2:] == [
        "Acceptance, rule by rule, all rounds",
        "Accepted problems that a model wrote, read by the world itself (a text it cannot read counts as wrong)",
    ]


def test_the_report_of_a_run_without_candidates_has_no_funnel(run):
    assert with_funnel(fate_section(fates(run.lake)), run.lake, WORLD).tables == fate_section(fates(run.lake)).tables


def test_a_text_whose_numbers_are_held_out_is_a_hit_although_no_such_problem_was_made():
    made = {split: WORLD.make("ages", 1, 3, seed=99, split=split).prompt for split in ("train", "heldout")}
    index = HeldoutIndex([HeldoutSet("heldout", [])], lambda text: side_of(WORLD, text))
    train, heldout, other = index.hits([made["train"], made["heldout"], "No story at all."])
    assert train is None and other is None
    assert heldout.reason == "the numbers it tells in ages belong to the held-out side"


@needs_writer
@pytest.mark.slow
def test_a_whole_run_gives_every_candidate_a_reason_and_the_same_digest_twice(tmp_path: Path):
    digests = []
    for name in ("one", "two"):
        with Run.create(tmp_path / name, load_recipe("sws", SMALL)) as run:
            run_loop(run)
            digests.append(run.lake.digest().total)
            if name == "two":
                continue
            asked = "SELECT count(*) FROM requests WHERE purpose = 'sws.write'"
            orders = run.lake.query(asked).item()
            decided = run.lake.query("SELECT count(DISTINCT candidate_id), min(length(reason)) FROM decisions WHERE strategy = 'sws'").row(0)
            assert orders == 40 == decided[0] and decided[1] > 0
            assert run.lake.query("SELECT count(*) FROM problems WHERE source = 'sws' AND split NOT IN ('train', 'refused')").item() == 0
            for p, split in product(run.lake.query("SELECT prompt, split FROM problems WHERE source = 'sws'").rows(), ("train",)):
                read = WORLD.read(p[0])
                assert p[1] != split or read is None or read.split == "train"
            tokens = run.lake.query("SELECT round, sum(tokens) FROM train_steps GROUP BY 1").rows()
            assert tokens and all(100 < total <= 200 for _, total in tokens)  # less than a group is missing (test_pipelines_stages)
            page = write_report(tmp_path / name).read_text("utf-8")
            assert "Acceptance, rule by rule" in page
    assert digests[0] == digests[1]
