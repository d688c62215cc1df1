"""`synth verify`: the rows of the contract in and out, bad rows named, a killed run taken up where it stopped."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.command import synth, synth_process

ROOT = Path(__file__).parents[2]


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def sums(n: int) -> list[dict]:
    return [{"id": i, "reference": str(i), "response": f"so \\boxed{{{i + (i % 3 == 0)}}}"} for i in range(n)]


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def timeless(rows: list[dict]) -> list[dict]:
    return [{k: v for k, v in row.items() if k != "ms"} for row in rows]


def test_verdicts_come_in_order_with_the_fields_of_the_contract(tmp_path):
    rows = [*sums(300), {"id": "späť", "reference": 0.5, "response": "#### 1/2", "prompt": "half?", "spec": {}, "other": [1]}]
    with gzip.open(tmp_path / "in.jsonl.gz", "wt") as stream:
        stream.write("\n\n".join(json.dumps(r) for r in rows))
    said = synth_process("verify", "--verifier", "math", "--input", tmp_path / "in.jsonl.gz", "--output", tmp_path / "out.jsonl", "--workers", 2)
    assert said.returncode == 0, said.stderr
    assert "301 rows: 201 pass, 100 fail, 0 unknown" in said.stdout
    out = read(tmp_path / "out.jsonl")
    assert [o["id"] for o in out] == [r["id"] for r in rows]
    assert [o["verdict"] for o in out] == ["fail" if isinstance(r["id"], int) and r["id"] % 3 == 0 else "pass" for r in rows]
    assert all(list(o) == ["id", "verdict", "reward", "reason", "ms"] and o["reward"] == float(o["verdict"] == "pass") for o in out)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('{"id": 3, "reference": "1"}', "line 3: field 'response' is missing; the row has id, reference"),
        ('{"reference": "1", "response": "1"}', "line 3: field 'id' is missing"),
        ('{"id": 3, "response": "1"}', "line 3: field 'reference' is missing"),
        ('{"id": 3, "reference": [1], "response": "1"}', "line 3: field 'reference' must be a text or a number, got list [1]"),
        ('{"id": 3, "reference": "1", "response": 1}', "line 3: field 'response' must be a text, got 1"),
        ('{"id": 3, "reference": "1", "response": "1", "spec": 4}', "line 3: field 'spec' must be an object"),
        ('{"id": 3, "reference"', "line 3: not JSON"),
        ("[1]", "line 3: a JSON list, not an object"),
    ],
)
def test_a_bad_row_is_named_before_anything_is_written(tmp_path, row, said):
    (tmp_path / "in.jsonl").write_text('{"id": 1, "reference": "1", "response": "1"}\n\n' + row + "\n")
    done = synth("verify", "--verifier", "math", "--input", tmp_path / "in.jsonl", "--output", tmp_path / "out.jsonl", "--workers", 1)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{tmp_path / 'in.jsonl'}, {said}" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out.jsonl").exists()
    done = synth("verify", "--verifier", "math", "--input", tmp_path / "in.jsonl", "--output", tmp_path / "out.jsonl", "--workers", 1, "--skip-bad")
    assert done.returncode == 0
    assert "1 bad rows left out" in done.stdout and said in done.stderr
    assert [o["id"] for o in read(tmp_path / "out.jsonl")] == [1]


def test_wrong_arguments_cost_a_sentence(tmp_path):
    rows = write(tmp_path / "in.jsonl", sums(1))
    (tmp_path / "out.jsonl").write_text("{}\n")
    (tmp_path / "empty.jsonl").write_text("\n")
    for changes, said in [
        ({"--verifier": "maths"}, "no verifier named 'maths'; did you mean 'math'?"),
        ({"--input": tmp_path / "none.jsonl"}, "none.jsonl: no such file"),
        ({"--input": tmp_path / "empty.jsonl"}, "empty.jsonl: no rows in it"),
        ({"--output": tmp_path / "out.jsonl"}, "is there already; --resume goes on with it, --overwrite begins anew"),
        ({"--output": tmp_path / "no" / "x.jsonl"}, "no such folder"),
        ({"--output": rows}, "is the input"),
        ({"--verifier": "judge"}, "verifier 'judge' asks a model: give --judge local --model FOLDER"),
        ({"--judge": "local"}, "verifier 'math' asks no model"),
        ({"--deadline": 0}, "--deadline 0: give a number of seconds above 0"),
        ({"--workers": 0}, "--workers 0: give a number from 1"),
    ]:
        options = {"--verifier": "math", "--input": rows, "--output": tmp_path / "new.jsonl", **changes}
        done = synth("verify", *[word for pair in options.items() for word in pair])
        assert done.returncode == 2, done
        assert said in done.stderr, done.stderr


def test_killed_and_resumed_is_as_if_never_killed(tmp_path):
    rows = write(tmp_path / "in.jsonl", sums(12_000))
    command = ["verify", "--verifier", "math", "--input", rows, "--workers", 2, "--quiet"]
    assert synth(*command, "--output", tmp_path / "whole.jsonl").returncode == 0
    out = tmp_path / "out.jsonl"
    for _ in range(3):
        before = out.stat().st_size if out.exists() else 0
        more = ["--resume"] if before else []
        run = subprocess.Popen(
            [sys.executable, "-m", "flows.cli.main", *map(str, command), "--output", str(out), *more], cwd=ROOT, stdout=subprocess.DEVNULL
        )
        while run.poll() is None and not (out.exists() and out.stat().st_size > before):
            time.sleep(0.005)
        run.send_signal(signal.SIGKILL)
        run.wait()
        assert out.stat().st_size > before
    with open(out, "ab") as stream:
        stream.write(b'{"id": 77')  # torn in the middle of a line
    done = synth(*command, "--output", out, "--resume")
    assert done.returncode == 0, done.stderr
    assert "of them before)" in done.stdout
    assert timeless(read(out)) == timeless(read(tmp_path / "whole.jsonl"))
    again = synth(*command, "--output", out, "--resume")
    assert again.returncode == 0 and "12,000 rows (12,000 of them before)" in again.stdout
    assert len(read(out)) == 12_000
    other = write(tmp_path / "other.jsonl", [{**row, "id": -row["id"] - 1} for row in sums(10)])
    done = synth("verify", "--verifier", "math", "--input", other, "--output", out, "--resume")
    assert done.returncode == 2 and "belongs to another input" in done.stderr


def test_interrupted_says_how_to_go_on(tmp_path):
    rows = write(tmp_path / "in.jsonl", sums(60_000))
    command = ["verify", "--verifier", "math", "--input", rows, "--output", tmp_path / "out.jsonl", "--quiet"]
    run = subprocess.Popen([sys.executable, "-m", "flows.cli.main", *map(str, command)], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "out.jsonl").exists():
        time.sleep(0.01)
    os.kill(run.pid, signal.SIGTERM)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "--resume" in said and "Traceback" not in said


def test_settings_of_a_verifier_are_checked_row_by_row(tmp_path):
    good = {"id": 1, "reference": "B", "response": "(B)", "spec": {"options": ["red", "blue"]}}
    rows = write(tmp_path / "in.jsonl", [good, {**good, "id": 2, "spec": {"options": ["red"]}}])
    done = synth("verify", "--verifier", "choice", "--input", rows, "--output", tmp_path / "out.jsonl")
    assert done.returncode == 2 and "line 2: spec.options: give at least two options" in done.stderr
    done = synth("verify", "--verifier", "choice", "--input", rows, "--output", tmp_path / "out.jsonl", "--skip-bad")
    assert done.returncode == 0 and [o["verdict"] for o in read(tmp_path / "out.jsonl")] == ["pass"]


def test_a_weak_judge_is_asked_and_passes_nobody(tmp_path):
    spec = {"max_tokens": 16, "votes": 1}
    rows = write(tmp_path / "in.jsonl", [{"id": i, "reference": "42", "response": f"It is {i}.", "spec": spec} for i in (41, 42)])
    done = synth("verify", "--verifier", "judge", "--input", rows, "--output", tmp_path / "out.jsonl", "--judge", "local")
    assert done.returncode == 0, done.stderr
    assert [o["verdict"] for o in read(tmp_path / "out.jsonl")] == ["unknown", "unknown"]


def test_a_row_that_takes_too_long_is_unknown_and_the_others_are_judged(tmp_path):
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT max(x) FROM c"
    spec = {"tables": "CREATE TABLE t(x INTEGER)", "databases": ["INSERT INTO t VALUES (1)"], "steps": 10**12}
    row = {"reference": "SELECT x FROM t", "spec": spec}
    rows = write(tmp_path / "in.jsonl", [{"id": i, "response": endless if i == 3 else "SELECT x FROM t", **row} for i in range(8)])
    done = synth("verify", "--verifier", "sql", "--input", rows, "--output", tmp_path / "out.jsonl", "--workers", 1, "--deadline", 1)
    assert done.returncode == 0, done.stderr
    out = read(tmp_path / "out.jsonl")
    assert [o["verdict"] for o in out] == ["pass"] * 3 + ["unknown"] + ["pass"] * 4
    assert out[3]["reason"] == "judging took more than 1 s" and "killed and replaced" in done.stdout
