"""The user's problems and the declared benchmarks on their way into a run: who is stored, who is refused, and which row says so."""

import json
from pathlib import Path

import numpy as np
import pytest

from data.errors import UserError
from data.records import Candidate, Group, Problem
from data.tables import problem_row
from filters.decontaminate import HeldoutIndex, HeldoutSet
from filters.tables import decision_row
from pipelines.problems import HELDOUT, benchmark_problems, count_problems, heldout_problems, heldout_sets
from pipelines.recipe import load_recipe
from pipelines.recipe_file import read_recipe_file, write_recipe_file
from pipelines.run import Run
from pipelines.stages import seeds
from pipelines.stages.audit import audit_stage
from pipelines.stages.evaluate import evaluate_stage
from pipelines.stages.leaks import refuse_leaks
from pipelines.stages.seeds import seeds_stage

LONG = "A farmer in the north of the country keeps {} sheep and {} goats in one field and sells half of the goats every year"
MINE = [{"prompt": f"Box {n} holds {n} red and {2 * n} blue balls; how many balls does it hold?", "answer": 3 * n} for n in range(1, 61)]
BENCH = [{"prompt": LONG.format(n, 3 * n) + f"; how many are left in year {n}?", "answer": n} for n in range(50, 56)]
PLANTED = {
    "exact": {**BENCH[0]},
    "dressed": {"prompt": BENCH[1]["prompt"].upper().replace(",", " , "), "answer": 51},
    "part": {"prompt": LONG.format(52, 156) + ". What do they eat?", "answer": 9},
    "honest": {"prompt": "A farmer in the north of the country keeps 7 sheep; how many legs do they have?", "answer": 28},
    "twin": {"prompt": MINE[3]["prompt"].replace(" ", "  "), "answer": 777},
    "again": MINE[4],
    "hopeless": {"prompt": "Write me a very long poem.", "answer": "x" * 5000},
}


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


def recipe_of(folder: Path, **changes):
    mine = write(folder / "mine.jsonl", [*MINE, *PLANTED.values()])
    bench = write(folder / "bench.jsonl", [*BENCH, {"prompt": "Draw a cat.", "answer": "y" * 5000}])
    other = write(folder / "other.jsonl", [BENCH[5], {"prompt": "What is 1 + 1 in base two?", "answer": "10"}])
    given = {"problems__files": [mine], "problems__world": "", "evaluate__benchmarks": {"bench": bench, "other": other}, **changes}
    return load_recipe("arithmetic", ["evaluate.problems=6"], **given)


@pytest.fixture
def run(tmp_path):
    with Run.create(tmp_path / "run", recipe_of(tmp_path)) as run:
        yield run


def rules(run: Run) -> dict[str, str]:
    """Prompt's beginning -> rule and reason of the seeds that were refused."""
    rows = run.lake.query("SELECT d.candidate_id, d.rule, d.reason FROM decisions d WHERE NOT kept AND stage = 'seeds'")
    return {i: f"{rule}: {reason}" for i, rule, reason in rows.iter_rows()}


def id_of(row: dict) -> str:
    return Problem(row["prompt"], str(row["answer"])).id


def test_every_seed_is_stored_or_refused_with_a_row_that_says_why(run):
    found = seeds_stage(run, 0)
    assert found == {"train": 55, "heldout": 6, "leaks": 3, "duplicates": 2, "unjudgeable": 1, "benchmarks": {"bench": 7, "other": 2}}
    refused = rules(run)
    by_name = {name: refused.get(id_of(row), "") for name, row in PLANTED.items()}
    held = {p.prompt: p.id for p in benchmark_problems(run)["bench"]}
    assert by_name["exact"] == f"heldout: its text is that of bench problem {held[BENCH[0]['prompt']]}"
    assert by_name["dressed"] == f"heldout: its text is that of bench problem {held[BENCH[1]['prompt']]}"
    assert by_name["part"].startswith(f"heldout: shares 13 words with bench problem {held[BENCH[2]['prompt']]}: ")
    assert "52 sheep and 156" in by_name["part"]
    assert by_name["honest"] == by_name["again"] == ""
    assert by_name["twin"].startswith(("duplicate: ", "heldout: "))
    assert by_name["hopeless"].startswith("unjudgeable: ")
    undecided = "SELECT count(*) FROM problems p WHERE NOT EXISTS (SELECT 1 FROM decisions d WHERE d.problem_id = p.problem_id)"
    assert run.lake.query(undecided).item() == 0
    assert run.lake.duplicate_keys() == {}
    assert count_problems(run.recipe)[1] == 6 + 9


def test_benchmarks_are_held_out_problems_that_know_their_sets(run):
    seeds_stage(run, 0)
    sets = heldout_sets(run)
    assert list(sets) == [HELDOUT, "bench", "other"]
    assert [len(problems) for problems in sets.values()] == [6, 6, 2]  # the cat cannot be judged, so nobody is asked to draw it
    assert {p.split for problems in sets.values() for p in problems} == {"heldout"}
    (shared,) = {p.id for p in sets["bench"]} & {p.id for p in sets["other"]}
    assert shared == id_of(BENCH[5])
    assert {p.id for p in heldout_problems(run)} <= {id_of(row) for row in (*MINE, *PLANTED.values())}
    assert run.heldout.hits(["draw a CAT"])[0].benchmark == "bench"  # and yet nothing like it is trained on


def test_the_share_held_out_does_not_depend_on_the_order_of_rows(tmp_path):
    held = []
    for name, rows in (("a", MINE), ("b", MINE[::-1])):
        (tmp_path / name).mkdir()
        file = write(tmp_path / name / "mine.jsonl", rows)
        with Run.create(tmp_path / name / "run", recipe_of(tmp_path / name, problems__files=[file])) as run:
            seeds_stage(run, 0)
            held.append({p.id for p in heldout_problems(run)})
    assert held[0] == held[1]
    assert len(held[0]) == 6


def test_a_run_killed_between_two_shards_of_seeds_has_the_same_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(seeds, "SHARD", 20)
    recipe = recipe_of(tmp_path)
    with Run.create(tmp_path / "whole", recipe) as whole:
        summary, digest = seeds_stage(whole, 0), whole.lake.digest().total
        assert len(whole.lake.shard_lines(0, "seeds")) == 4
    with Run.create(tmp_path / "torn", recipe) as torn:
        commit, left = torn.lake.commit, [2]

        def dying(*args, **kwargs):
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            return commit(*args, **kwargs)

        monkeypatch.setattr(torn.lake, "commit", dying)
        with pytest.raises(KeyboardInterrupt):
            seeds_stage(torn, 0)
    with Run.open(tmp_path / "torn") as torn:
        assert seeds_stage(torn, 0) == summary
        assert torn.lake.digest().total == digest
        assert torn.lake.duplicate_keys() == {}


def test_a_file_of_nothing_but_leaks_says_so(tmp_path):
    file = write(tmp_path / "leaks.jsonl", BENCH)
    with Run.create(tmp_path / "run", recipe_of(tmp_path, problems__files=[file], problems__heldout_share=0.0)) as run, pytest.raises(
        UserError, match="of the seeds 6 give held-out problems away, 0 are duplicates"
    ):
        seeds_stage(run, 0)


def test_a_candidate_that_leaks_is_refused_by_the_audit(run):
    seeds_stage(run, 0)
    held = next(p for p in heldout_problems(run) if len(p.prompt.split()) > 13)
    texts = {"own": f"Think well. {held.prompt} Why?", "bench": f"Say: {BENCH[3]['prompt']}", "fine": "How many legs do 9 cats have?"}
    candidates = {name: Candidate(Problem(text, "36", source="frontier"), 1, "frontier") for name, text in texts.items()}
    place = {"round": 1, "stage": "synthesize", "shard": 0}
    rows = [decision_row(c, "proposed", True, "", **place) for c in candidates.values()]
    run.lake.commit(1, "synthesize", 0, {"problems": [problem_row(c.problem, 1) for c in candidates.values()], "decisions": rows})
    assert audit_stage(run, 1) == {"candidates": 3, "kept": 1, "refused": {"heldout": 2}}
    audits = run.lake.query("SELECT candidate_id, rule, reason FROM decisions WHERE stage = 'audit'")
    decided = {i: (rule, reason) for i, rule, reason in audits.iter_rows()}
    assert decided[candidates["own"].id][0] == decided[candidates["bench"].id][0] == "heldout"
    assert held.id in decided[candidates["own"].id][1]
    assert id_of(BENCH[3]) in decided[candidates["bench"].id][1]


def test_the_world_is_matched_by_text_and_files_by_words_too(tmp_path):
    """Two world problems of one template share runs of words and are two problems; a file's may not."""
    with Run.create(tmp_path / "run", load_recipe("arithmetic", ["problems.per_cell=4", "evaluate.problems=200"])) as run:
        found = seeds_stage(run, 0)
        assert found["leaks"] == 0
        texts = run.lake.query("SELECT prompt FROM problems WHERE split = 'train'")["prompt"].to_list()
        words = HeldoutIndex([HeldoutSet("words", heldout_problems(run))])
        assert sum(hit is not None for hit in words.hits(texts)) > 0, "else this test could not tell the two rules apart"
        assert all(hit is None for hit in run.heldout.hits(texts))
        assert run.heldout.hits([heldout_problems(run)[0].prompt.upper()])[0].rule == "text"


def test_groups_that_a_strategy_made_of_a_held_out_problem_are_not_trained_on():
    held = Problem(BENCH[0]["prompt"], "50")
    index = HeldoutIndex([HeldoutSet("bench", [held])])
    problems = [Problem("What is 2 + 2?", "4"), Problem("now: " + held.prompt, "50"), Problem("What is 3 + 3?", "6")]
    groups = [Group(f"g{n}", p, (), (), np.zeros(0, np.float32), stream="ssp") for n, p in enumerate(problems)]
    kept, rows = refuse_leaks(groups, {problems[0].id}, index, round=2, step=5)
    assert [g.id for g in kept] == ["g0", "g2"]
    (row,) = rows
    assert (row["rule"], row["kept"], row["stage"], row["shard"], row["strategy"]) == ("heldout", False, "train", 5, "ssp")
    assert row["problem_id"] == problems[1].id
    assert held.id in row["reason"]


def test_files_in_a_recipe_are_strings_or_tables(tmp_path, monkeypatch):
    write(tmp_path / "a.jsonl", MINE)
    write(tmp_path / "b.jsonl", MINE)
    (tmp_path / "mine.toml").write_text(
        """
        [problems]
        world = ""
        files = ["a.jsonl", "sets=b.jsonl", {path = "hf:org/name:main", split = "dev", map = {prompt = "q", answer = "extra.final"}}]
        [evaluate]
        benchmarks = ["hf:openai/gsm8k:main@test", "a.jsonl"]
        """
    )
    monkeypatch.chdir(tmp_path.parent)  # found beside the recipe, wherever synth is started
    recipe = load_recipe(str(tmp_path / "mine.toml"))
    a, b, hub = recipe.problems.files
    assert (a.path, b.path, b.domain) == (str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl"), "sets")
    assert (str(hub), hub.source.map) == ("hf:org/name:main@dev", {"prompt": "q", "answer": "extra.final"})
    assert {name: str(part) for name, part in recipe.evaluate.benchmarks.items()} == {
        "gsm8k": "hf:openai/gsm8k:main@test",
        "a": str(tmp_path / "a.jsonl"),
    }
    write_recipe_file(tmp_path / "again.toml", recipe)
    assert read_recipe_file(tmp_path / "again.toml") == recipe
    assert load_recipe("arithmetic", [f"evaluate.benchmarks.mine={tmp_path}/a.jsonl"]).evaluate.benchmarks["mine"].path == str(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('files = [{pth = "a.jsonl"}]', "problems.files.0.p"),
        ("files = [3]", "problems.files.0"),
        ('files = [{path = "a.jsonl", map = {promt = "q"}}]', "problems have no field 'promt'; did you mean 'prompt'"),
        ('files = [""]', "an empty name"),
    ],
)
def test_wrong_files_in_a_recipe_are_one_sentence(tmp_path, table, said):
    (tmp_path / "mine.toml").write_text(f'[problems]\nworld = ""\n{table}\n')
    with pytest.raises(UserError, match=said) as error:
        load_recipe(str(tmp_path / "mine.toml"))
    assert "\n" not in str(error.value)


def test_wrong_benchmarks_are_one_sentence(tmp_path):
    twice, reserved = '["a/x.jsonl", "b/x.jsonl"]', '{heldout = "x.jsonl"}'
    for value, said in ((twice, "two benchmarks of one name"), (reserved, "cannot be named 'heldout'"), ("3", "dictionary")):
        with pytest.raises(UserError, match=said):
            load_recipe("arithmetic", [f"evaluate.benchmarks={value}"])


def test_a_problem_of_two_sets_is_answered_once_and_so_is_a_policy_that_did_not_change(run):
    seeds_stage(run, 0)
    evaluate_stage(run, 0)
    sampled = run.lake.query("SELECT count(*) FROM rollouts").item()
    again = evaluate_stage(run, 1)
    assert again["gain"] == 0.0
    assert run.lake.query("SELECT count(*) FROM rollouts").item() == sampled == (6 + 6 + 1) * run.recipe.evaluate.n
    rows = run.lake.query("SELECT round, benchmark, n, passes FROM evals WHERE problem_id = ? ORDER BY ALL", (id_of(BENCH[5]),))
    assert rows.select("round", "benchmark").rows() == [(0, "bench"), (0, "other"), (1, "bench"), (1, "other")]
    assert rows.select("n", "passes").n_unique() == 1
    assert run.lake.duplicate_keys() == {}
