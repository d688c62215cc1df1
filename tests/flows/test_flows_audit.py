"""`synth audit`: a table of what a data set's judge gets right and wrong, and rows that are wrong named."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.command import synth

ROWS = [
    {"prompt": "1 + 1?", "answer": "2"},
    {"question": "2 + 2?", "answer": "two and two make #### 4"},
    {"prompt": "colour?", "answer": "B", "verifier": "choice", "spec": {"options": ["red", "blue"]}},
    {"prompt": "who?", "answer": "Ann Lee", "verifier": "answer"},
    {"prompt": "24", "verifier": "logic", "spec": {"kind": "countdown", "numbers": [3, 8, 3, 8], "target": 24}},
    {"prompt": "no comma", "verifier": "instruction", "spec": {"instructions": [{"id": "punctuation:no_comma"}]}, "oracle": "none here"},
    {"prompt": "sum", "answer": "SELECT sum(x) FROM t", "verifier": "sql", "spec": {"tables": "CREATE TABLE t(x INTEGER)"}},
]


def audit(tmp_path: Path, rows: list[dict], *more: str) -> subprocess.CompletedProcess:
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return synth("audit", file, "--workers", 1, *more)


def test_good_rows_pass_and_bad_ones_are_told_by_line(tmp_path):
    bad = [
        {"prompt": "which?", "answer": "Z", "verifier": "choice", "spec": {"options": ["red", "blue"]}},
        {"prompt": "with comma", "verifier": "instruction", "spec": {"instructions": [{"id": "punctuation:no_comma"}]}, "oracle": "one, two"},
        {"prompt": "none", "answer": "SELECT x FROM t WHERE 1 = 2", "verifier": "sql", "spec": {"tables": "CREATE TABLE t(x INTEGER)"}},
    ]
    done = audit(tmp_path, ROWS + bad, "--output", str(tmp_path / "records.jsonl"))
    assert done.returncode == 0, done.stderr
    assert "7 of 10 problems passed every audit" in done.stdout
    assert "line 8 (choice): cannot be judged: the reference 'Z' names none of the options" in done.stdout
    assert "line 9 (instruction): the reference itself gets fail" in done.stdout
    assert "returns nothing on every database" in done.stdout
    records = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    assert [r["line"] for r in records] == list(range(1, 11))
    assert [r["passed"] for r in records] == [True] * 7 + [False] * 3
    assert records[1]["others_tried"] == 1 and all(r["executed"] == 0 for r in records)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "q", "answer": "1", "verifier": "chioce"}, "line 8: no verifier named 'chioce'; did you mean 'choice'?"),
        ({"prompt": "q", "answer": "A", "verifier": "choice", "spec": {"options": ["x"]}}, "line 8: spec.options: give at least two options"),
        ({"prompt": "q"}, "line 8: no field 'answer' or 'reference'"),
        ({"code": "x = 1"}, "line 8: no field 'prompt'"),
    ],
)
def test_a_wrong_row_costs_a_sentence(tmp_path, row, said):
    done = audit(tmp_path, [*ROWS, row])
    assert done.returncode == 2
    assert said in done.stderr and "Traceback" not in done.stderr


def test_nothing_to_audit(tmp_path):
    assert audit(tmp_path, []).returncode == 2
