"""Three hundred mangled files: each is one clear sentence and exit status 2, whatever verb reads it; never a traceback."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mangled_files import ROWS, Case, csv, jsonl, mangled

from data.errors import UserError
from data.problems.readers import read_problems
from flows.cli.main import main


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    return list(mangled(tmp_path_factory.mktemp("mangled")))


def fault(case: Case, code: int, out: str, error: str) -> str:
    """Why this is not the one sentence that a user should see; '' where it is."""
    if code != 2:
        return f"exit status {code}: {out[-200:]} {error[-300:]}"
    if not error.startswith("synth: ") or error.count("\n") != 1 or out:
        return f"not one sentence: {out!r} {error!r}"
    sentence = error.removeprefix("synth: ").rstrip("\n")
    if not re.search(case.said, sentence):
        return f"says {sentence!r}, wanted {case.said!r}"
    if len(sentence) > 420 + len(case.path) or re.search(r"Traceback|Error\(|<class|0x[0-9a-f]{6}", sentence):
        return f"not fit for a user: {sentence!r}"
    named = case.path == "hf:" or case.map or Path(case.path.partition("=")[2] or case.path).name[:200] in sentence
    return "" if named else f"does not name the file: {sentence!r}"


def test_every_mangled_file_is_one_clear_sentence(cases: list[Case], capsys: pytest.CaptureFixture[str]) -> None:
    assert len(cases) >= 300
    assert len({(case.path, case.map) for case in cases}) == len(cases)
    faults = []
    for case in cases:
        code = main(["check-data", case.path, *(["--map", case.map] if case.map else [])])
        said = capsys.readouterr()
        if why := fault(case, code, said.out, said.err):
            faults.append(f"{case.name}: {why}")
    assert not faults, "\n".join(faults)


def test_the_files_they_are_made_from_are_well(tmp_path: Path) -> None:
    """Else the test above could not fail."""
    for name, body in (("a.jsonl", jsonl()), ("a.csv", csv()), ("b.csv", csv(";")), ("a.tsv", csv("\t")), ("c.csv", csv("|"))):
        (tmp_path / name).write_bytes(body)
        read = read_problems(tmp_path / name)
        assert [(p.prompt, p.reference, p.level) for p in read] == [(r["prompt"], r["answer"], r["level"]) for r in ROWS], name


@pytest.mark.parametrize("verb", [("run", "--problems"), ("dedup",), ("decontaminate", "--against")])
def test_a_handful_through_the_real_command(cases: list[Case], verb: tuple[str, ...], tmp_path: Path) -> None:
    for case in (cases[3], next(c for c in cases if c.name.startswith("cut-") and c.name.endswith("jsonl.gz")), cases[-20]):
        words = [*verb, case.path, *(["--out", str(tmp_path / "run")] if verb[0] == "run" else [])]
        if verb[0] == "decontaminate":
            words.append(case.path)
        done = subprocess.run([sys.executable, "-m", "flows.cli.main", *words], capture_output=True, text=True, timeout=120)
        assert done.returncode == 2, (case, done.stdout, done.stderr)
        assert done.stderr.startswith("synth: ") and done.stderr.count("\n") == 1
        assert not (tmp_path / "run").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    """As nobody, who may look at the folder but not into the file."""
    for name in ("mine.jsonl", "mine.parquet"):
        file = tmp_path / name
        file.write_bytes(jsonl())
        file.chmod(0)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    # Whatever is imported late is imported first, as root: nobody may not look into every environment.
    (tmp_path / "open.jsonl").write_bytes(jsonl())
    pq.write_table(pa.table({"prompt": [r["prompt"] for r in ROWS], "answer": [r["answer"] for r in ROWS]}), tmp_path / "open.parquet")
    for name in ("mine.jsonl", "mine.parquet"):
        readable = str(tmp_path / name.replace("mine", "open"))
        code = f"import os, sys; from flows.cli.main import main; main(['check-data', {readable!r}]); os.setuid(65534); sys.exit(main(sys.argv[1:]))"
        done = subprocess.run([sys.executable, "-c", code, "check-data", str(tmp_path / name)], capture_output=True, text=True, timeout=120)
        assert done.returncode == 2, done.stderr
        assert "no permission to read it" in done.stderr
        assert done.stderr.count("\n") == 1


def test_any_flipped_byte_of_a_parquet_file_is_a_user_error_or_another_text(tmp_path: Path) -> None:
    """Parquet keeps no checksum by default, so some changes go unseen; none may crash."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"prompt": [r["prompt"] for r in ROWS], "answer": [r["answer"] for r in ROWS]}), sink)
    whole = sink.getvalue().to_pybytes()
    refused = 0
    for at in range(0, len(whole), 7):
        file = tmp_path / "x.parquet"
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            read_problems(file)
        except UserError as error:
            refused += 1
            assert "\n" not in str(error) and "x.parquet" in str(error)
    assert refused > 50
