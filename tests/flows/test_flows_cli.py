"""What a user types, and what comes back: exit status, one clear sentence, nothing lost."""

import gzip
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.cli.main import VERBS
from tests.command import synth, synth_process

TINY = [
    "rounds=1", "problems.per_cell=1", "problems.levels=[1]", "probe.problems=8", "probe.n=2", "strategies.frontier.budget=4", "train.steps=1",
    "train.prompts_per_step=4", "train.group_size=2", "evaluate.problems=8", "evaluate.n=1", "sampling.max_tokens=24",
]  # fmt: skip
SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"


def sets(*overrides: str) -> list[str]:
    return [word for override in overrides for word in ("--set", override)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "run"
    done = synth_process("run", *sets(*TINY), "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_help_shows_examples():
    said = synth_process("--help")
    assert said.returncode == 0
    assert "examples:" in said.stdout


def test_help_imports_nothing_heavy():
    heavy = ("torch", "transformers", "duckdb", "polars", "pydantic", "prefect")
    code = f"import sys; from flows.cli.main import parser; parser(); print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_examples(verb):
    said = synth(verb, "--help")
    assert said.returncode == 0
    assert "examples:" in said.stdout


def test_a_run_tells_what_it_did(finished):
    folder, said = finished
    for stage in ("seeds", "probe", "verify", "estimate", "synthesize", "audit", "select", "train", "evaluate"):
        assert re.search(rf"^  {stage} +\S", said, re.M), stage
    assert "pass@1 held-out" in said
    assert f"synth query {folder}" in said
    assert {p.name for p in folder.iterdir()} >= {"recipe.toml", "run.json", "catalog.sqlite", "lake", "ledger.sqlite", "policies", "report.html"}
    assert f"the report, one file for any browser: {folder / 'report.html'}" in said


def test_query_in_four_formats(finished, tmp_path):
    folder, _ = finished
    sql = "SELECT stage, count(*) AS n, list(DISTINCT shard) AS shards FROM rollouts GROUP BY stage ORDER BY stage"
    table = synth("query", folder, sql)
    assert table.returncode == 0
    assert table.stdout.split()[:3] == ["stage", "n", "shards"]
    rows = [json.loads(line) for line in synth("query", folder, sql, "--format", "json").stdout.splitlines()]
    assert [r["stage"] for r in rows] == ["evaluate", "probe", "train"]
    assert synth("query", folder, sql, "--format", "csv").stdout.splitlines()[0] == "stage,n,shards"
    raw = synth_process("query", folder, sql, "--format", "parquet", text=False).stdout
    assert raw[:4] == raw[-4:] == b"PAR1"
    earlier = synth("query", folder, "SELECT max(round) FROM rollouts", "--at-round", "0", "--format", "csv").stdout.split()
    assert earlier[-1] == "0"


def test_every_candidate_has_a_decision_and_every_kept_problem_a_reason(finished):
    folder, _ = finished
    sql = """
        SELECT count(*) AS n FROM problems p WHERE NOT EXISTS (SELECT 1 FROM decisions d WHERE d.problem_id = p.problem_id)
        UNION ALL SELECT count(*) FROM decisions WHERE reason = '' AND rule <> 'proposed'
    """
    assert synth("query", folder, sql, "--format", "csv").stdout.split()[1:] == ["0", "0"]


def test_report_is_written_where_one_says(finished, tmp_path):
    folder, _ = finished
    said = synth("report", folder, "--out", tmp_path / "r.html")
    assert said.returncode == 0 and str(tmp_path / "r.html") in said.stdout
    assert "synth run --set rounds=1" in (tmp_path / "r.html").read_text("utf-8")  # the very command
    assert synth("report", tmp_path).returncode == 2
    assert synth("report", folder, "--out", tmp_path / "no" / "r.html").stderr.startswith("synth: cannot write")


def test_digest_and_runs(finished):
    folder, _ = finished
    assert re.fullmatch(r"[0-9a-f]{32}\n", synth("digest", folder).stdout)
    tables = synth("digest", folder, "--tables").stdout
    assert re.search(r"rows  trajectories$", tables, re.M)
    assert "done" in synth("runs", folder.parent).stdout
    assert "1/1" in synth("runs", folder).stdout


def test_resume_of_a_finished_run_is_quick_and_changes_nothing(finished):
    folder, _ = finished
    before = synth("digest", folder).stdout
    again = synth_process("resume", folder)
    assert again.returncode == 0
    assert "(done before)" in again.stdout
    assert synth("digest", folder).stdout == before


def test_the_public_module_reads_a_run(finished):
    import synth as public

    with public.open_run(finished[0]) as run:
        assert run.recipe["rounds"] == 1
        assert run.table("evals").height == 16
        assert run.query("SELECT count(*) FROM evals", at_round=0).item() == 8
        assert re.fullmatch(r"[0-9a-f]{32}", run.digest())


def _file(tmp_path: Path, text: str | bytes, name: str = "mine.jsonl") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


GOOD = '{"prompt": "1+1?", "answer": "2"}\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + '{"answer": "2"}\n', r"mine\.jsonl, line 2: .*prompt"),
        (GOOD + '{"question": "2+2?"}\n', r"mine\.jsonl, line 2: .*answer"),
        (GOOD + "not json\n", r"mine\.jsonl, line 2: .*JSON"),
        ("", r"mine\.jsonl"),
        (b"\xff\xfe\x00", r"mine\.jsonl"),
    ],
)
def test_wrong_problems_file(tmp_path, text, said):
    done = synth("run", "--problems", _file(tmp_path, text), "--out", tmp_path / "run")
    _one_sentence(done, said)
    assert not (tmp_path / "run").exists()


def _one_sentence(done: subprocess.CompletedProcess, said: str) -> None:
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert re.search(said, done.stderr), done.stderr
    assert done.stderr.startswith("synth: ")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_wrong_input_of_run(tmp_path, finished):
    folder, _ = finished
    out = ("--out", tmp_path / "new")
    _one_sentence(synth("run", "arithmetc", *out), "did you mean 'arithmetic'")
    _one_sentence(synth("run", "nowhere.toml", *out), r"no such recipe file: nowhere\.toml")
    _one_sentence(synth("run", "--problems", "nowhere.jsonl", *out), r"nowhere\.jsonl")
    _one_sentence(synth("run", "--set", "train.step=3", *out), r"train\.steps")
    _one_sentence(synth("run", "--set", "train.steps=0", *out), r"synth: --set train\.steps: train\.steps: .*greater")  # not the shipped file's fault
    _one_sentence(synth("run", "--rounds", "0", *out), r"synth: --rounds: rounds: .*greater than or equal to 1")
    _one_sentence(synth("run", "--engine", "vlm", *out), r"synth: --engine vlm: .*'vllm'")
    _one_sentence(synth("run", tmp_path, *out), r"is a folder, not a recipe")
    _one_sentence(synth("run", "--set", "train.preset=gpro", *out), r"grpo")
    _one_sentence(synth("run", "--set", "train.objective.clip_hihg=0.3", *out), r"clip_high")
    _one_sentence(synth("run", "--set", "strategies.frontjer.budget=3", *out), r"did you mean 'frontier'")
    _one_sentence(synth("run", "--set", "problems.world=moon", *out), r"no world named 'moon'")
    _one_sentence(synth("run", "--set", 'problems.families=["totalz"]', *out), r"totalz.*totals")
    _one_sentence(synth("run", "--set", "problems.levels=[9]", *out), r"level 9")
    _one_sentence(synth("run", "--set", "policy.path=nowhere", *out), r"policy\.path: no model at 'nowhere'")
    _one_sentence(synth("run", "--out", folder), r"already holds a run; go on with `synth resume")
    assert not (tmp_path / "new").exists()


def test_wrong_folders(tmp_path, finished):
    folder, _ = finished
    (tmp_path / "empty").mkdir()
    for verb in ("resume", "digest"):
        _one_sentence(synth(verb, tmp_path / "empty"), "is not a run")
        _one_sentence(synth(verb, tmp_path / "none"), "no such folder")
    _one_sentence(synth("query", tmp_path / "empty", "SELECT 1"), "is not a run")
    _one_sentence(synth("query", folder, "SELECT nothing FROM evals"), "nothing")
    _one_sentence(synth("query", folder, "SELEC 1"), "syntax error")
    _one_sentence(synth("query", folder, " ;"), "the query is empty")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    _one_sentence(synth("run", "--out", tmp_path / "full"), "is not empty and is not a run")
    _one_sentence(synth("run", "--out", tmp_path / "full" / "thesis.tex"), "is a file")


def test_a_query_cannot_change_the_run(finished):
    folder, _ = finished
    before = synth("digest", folder).stdout
    for sql in ("DELETE FROM evals", "DROP TABLE evals", "INSERT INTO evals SELECT * FROM evals"):
        assert synth("query", folder, sql).returncode == 2
    assert synth("digest", folder).stdout == before


def test_interrupt_says_how_to_go_on(tmp_path):
    folder = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli.main", "run", *sets(*TINY), "--set", "train.steps=50", "--out", str(folder)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not (folder / "policies").is_dir():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    process.send_signal(2)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"synth resume {folder}" in errors
    assert "Traceback" not in errors
    assert "unfinished: round 1 of 1, after" in (folder / "report.html").read_text("utf-8")  # a report as far as it came


def test_a_users_own_data_file_is_named_when_it_hides_ours(tmp_path):
    (tmp_path / "data.py").write_text("mine = 1\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    for code in ("import synth", "from flows.cli.main import main; raise SystemExit(main(['--version']))"):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path)
        assert done.returncode != 0
        assert "data.py hides it; rename that file" in done.stderr


def test_the_users_own_problems_go_through_and_say_plainly_when_nothing_is_solved(tmp_path):
    """Three hard ones, one of GSM8K's kind, gzipped: no gradient, and no pretence."""
    rows = [{"question": f"What is the {n}th Fibonacci number modulo 9973, plus pi?", "answer": f"so it is\n#### {n}77777"} for n in range(100, 112)]
    path = tmp_path / "hard.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in rows).encode()))
    folder = tmp_path / "run"
    done = synth(
        "run", "--problems", path, *sets("rounds=1", "probe.n=2", "evaluate.n=1", "train.steps=2", "sampling.max_tokens=16"), "--out", folder
    )
    assert done.returncode == 0, done.stderr
    assert "0 of 11 problems solved: no gradient; use a stronger policy" in done.stdout
    assert re.search(r"rows +12 \(12 distinct\)\n.*median 10 .*\n.*answers +number 12\n.*verifier +math: 12 \(the answer is a number\)", done.stdout)
    steps = synth("query", folder, "SELECT count(*) FROM train_steps", "--format", "csv").stdout.split()
    assert steps[-1] == "0"


@pytest.mark.skipif(not (SHARED / "gsm8k_train.jsonl.gz").is_file(), reason="the GSM8K file is not here")
@pytest.mark.slow
def test_gsm8k_goes_through(tmp_path):
    folder = tmp_path / "run"
    overrides = sets("rounds=1", "probe.problems=64", "probe.n=2", "evaluate.problems=32", "evaluate.n=1", "train.steps=1", "sampling.max_tokens=48")
    done = synth("run", "--problems", SHARED / "gsm8k_train.jsonl.gz", *overrides, "--out", folder)
    assert done.returncode == 0, done.stderr
    counts = synth("query", folder, "SELECT split, count(*) FROM problems GROUP BY split ORDER BY split", "--format", "csv").stdout.split()
    assert counts[1] == "heldout,32"
    assert counts[2].startswith("train,74")


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of three megabytes that can be made larger or read-only; needs root."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip("cannot mount a small disk here")
    yield folder, lambda option: subprocess.run(["mount", "-o", f"remount,{option}", str(folder)], check=True)
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow  # tests/data/test_data_lake_trouble.py fills a disk in the quick suite
def test_a_full_disk_and_a_read_only_folder_lose_nothing(small_disk):
    disk, remount = small_disk
    folder = disk / "run"
    overrides = sets(*TINY, "problems.per_cell=10", "evaluate.problems=400", "evaluate.n=4")
    _one_sentence(synth_process("run", *overrides, "--out", folder), "disk full")
    assert synth("digest", folder).returncode == 0
    remount("ro")
    _one_sentence(synth("run", *overrides, "--out", disk / "other"), "read-only|Read-only")
    _one_sentence(synth("resume", folder), "read-only|Read-only")
    assert synth("query", folder, "SELECT count(*) FROM shards").returncode == 0
    remount("rw")
    remount("size=100m")
    assert synth_process("resume", folder, "--quiet").returncode == 0
