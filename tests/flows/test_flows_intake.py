"""`synth check-data`, `dedup`, `decontaminate` and what `synth run --problems` says first."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli.main import main

ROWS = [
    {"question": "Tom has 3 boxes with 4 pens each and gives 5 pens away. How many pens does he have left?", "final": 7, "extra": ["kept", 1]},
    {"question": "TOM has 3 boxes with 4 pens each, and gives 5 pens away! How many pens does he have left", "final": 7},
    {"question": "What is 8 times 7?", "final": "56"},
    {"question": "Name the capital of Norway.", "final": "Oslo"},
]
LEAK = {"prompt": "tom has 3 boxes with 4 pens each and gives 5 pens away, then he buys 2.", "answer": "9"}
MAP = ("--map", "prompt=question", "--map", "answer=final")


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "held.jsonl").write_text(json.dumps(LEAK))
    (tmp_path / "mine.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS))
    return tmp_path / "mine.jsonl"


def said(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main([str(w) for w in words]) == 0
    return capsys.readouterr().out


def test_check_data_says_what_came_in(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "check-data", mine, *MAP, "--against", mine.with_name("held.jsonl"))
    assert "4 (3 distinct, 1 repeat the text of another)" in out
    assert "2 give away a problem of held.jsonl" in out
    assert "line 1: shares 13 words with held.jsonl problem line 1: tom has 3 boxes with 4 pens each and gives 5 pens" in out
    assert "3 (the answer is a number)" in out
    found = json.loads(said(capsys, "check-data", mine, *MAP, "--json"))
    assert (found["rows"], found["duplicates"], found["leaks"]) == (4, 1, {})


def test_dedup_keeps_the_first_row_whole(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "dedup", mine, "--map", "prompt=question", "--output", mine.with_name("clean.jsonl.gz"))
    assert "line 2: the same text as" in out and "1 of 4 rows repeat the text of an earlier row; 3 written" in out
    kept = [json.loads(line) for line in gzip.decompress(mine.with_name("clean.jsonl.gz").read_bytes()).splitlines()]
    assert kept == [ROWS[0], ROWS[2], ROWS[3]]
    lines = [json.loads(line) for line in said(capsys, "dedup", mine, "--map", "prompt=question", "--json").splitlines()]
    assert lines[-1] == {"rows": 4, "duplicates": 1, "kept": 3}
    assert lines[0]["where"].endswith("line 2")


def test_decontaminate_leaves_no_leak(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    against = ("--against", mine.with_name("held.jsonl"), "--map", "prompt=question")
    assert main(["decontaminate", str(mine)]) == 2
    assert "--against is missing" in capsys.readouterr().err
    clean = mine.with_name("clean.jsonl")
    other = mine.with_name("other.jsonl")
    other.write_text(json.dumps({"final": "4"}))
    assert main(["decontaminate", str(mine), "--against", str(other), *MAP]) == 2  # the map is not for the held-out set
    assert "other.jsonl, line 1: no field 'prompt'" in capsys.readouterr().err
    lines = [json.loads(line) for line in said(capsys, "decontaminate", mine, *against, "--against-map", "prompt=prompt", "--json").splitlines()]
    assert lines[-1] == {"rows": 4, "leaks": 2, "kept": 2}
    assert lines[0]["gram"] == "tom has 3 boxes with 4 pens each and gives 5 pens away"[: len(lines[0]["gram"])]
    said(capsys, "decontaminate", mine, *against, "--output", clean)
    assert "0 of 2 rows give away" in said(capsys, "decontaminate", clean, *against)


def test_outputs_are_whole_or_absent(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, sentence in (
        (("dedup", mine, *MAP, "--output", mine), "is the file that is being read"),
        (("dedup", mine, *MAP, "--output", mine.with_name("x.csv")), "name it .jsonl or .jsonl.gz"),
        (("dedup", mine, *MAP, "--output", mine.with_name("none") / "x.jsonl"), "cannot be written"),
    ):
        assert main([str(w) for w in words]) == 2
        assert sentence in capsys.readouterr().err
    broken = mine.with_name("broken.jsonl")
    broken.write_text(json.dumps({"prompt": "a?"}) + "\n{")
    assert main(["dedup", str(broken), "--output", str(mine.with_name("out.jsonl"))]) == 2
    assert sorted(p.name for p in mine.parent.iterdir()) == ["broken.jsonl", "held.jsonl", "mine.jsonl"]


def test_a_map_without_a_file_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--map", "prompt=q"]) == 2
    assert capsys.readouterr().err.startswith("synth: --map says which column of a --problems file is what; give that file")


def test_a_run_shows_what_came_in_before_anything_is_written(mine: Path, tmp_path: Path) -> None:
    """Two files, one with a domain, mapped columns, a benchmark; the run itself is kept from beginning by a folder that is not empty."""
    other = tmp_path / "other.csv"
    other.write_text("question;final\n" + "".join(f"What is {n} plus {n + 1}?;{2 * n + 1}\n" for n in range(12)))
    words = ["run", "--problems", str(mine), "--problems", f"sums={other}", *MAP, "--set", f"evaluate.benchmarks.held={tmp_path / 'held.jsonl'}"]
    first, quiet = (
        subprocess.run([sys.executable, "-m", "flows.cli.main", *words, *more, "--out", str(tmp_path)], capture_output=True, text=True, timeout=120)
        for more in ([], ["--quiet"])
    )
    assert first.returncode == quiet.returncode == 2
    assert "is not empty and is not a run" in first.stderr
    assert "rows        16 (15 distinct, 1 repeat the text of another)" in first.stdout
    assert "domains     sums 12, without 4" in first.stdout
    assert "leaks       2 give away a problem of held" in first.stdout
    assert "held out    held: 1 problems" in first.stdout
    assert quiet.stdout == ""
