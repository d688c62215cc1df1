"""Wrong words on the command line: one sentence, exit status 2, nothing begun."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.command import synth

SAID = {
    "rnu": "there is no verb 'rnu', did you mean run?",
    "frobnicate": "there is no verb 'frobnicate'; `synth --help`",
    "--verison": "there is no --verison, did you mean --version?",
    "run --roundz 3": "run: there is no --roundz, did you mean --rounds?",
    "run --roundz=3": "run: there is no --roundz, did you mean --rounds?",
    "run --r 3": "run: --r could be --rounds or --ranks",
    "run --rounds x": "run: --rounds must be a whole number, got 'x'",
    "run --rounds": "run: --rounds needs a value",
    "run a b": "run: 'b' is one word too many",
    "run -z": "run: there is no -z",
    "query": "query: DIR and SQL are missing; `synth query --help`",
    "query a b --format xml": "query: --format must be one of table, csv, json, parquet, got 'xml'",
    "query a b --format tabel": "got 'tabel', did you mean table?",
    "verify --verifier math --inptu a.jsonl --output b.jsonl": "verify: there is no --inptu, did you mean --input?",
    "verify --verifier math --output b.jsonl": "verify: --input is missing",
    "policy": "policy: ACTION is missing",
    "policy shwo": "policy: there is no action 'shwo', did you mean show?",
    "policy zzz": "policy: there is no action 'zzz': there are show, build",
    "engine install vllm --bulid cpu": "engine install: there is no --bulid, did you mean --build?; `synth engine install --help`",
}


@pytest.mark.parametrize("words", SAID)
def test_one_sentence_says_what_is_wrong_and_what_would_be_right(words: str) -> None:
    done = synth(*words.split())
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("synth: ") and SAID[words] in done.stderr
    assert done.stderr.count("\n") == 1 and "usage:" not in done.stderr


def test_right_words_are_taken_as_before() -> None:
    assert synth("run", "--help").returncode == 0 and "usage: synth run" in synth("run", "--help").stdout
    assert synth("--version").stdout.startswith("synth ")
    assert "usage: synth" in synth().stdout
    assert "would be right" not in synth("presets", "grpo").stderr and synth("presets", "grpo").returncode == 0


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=12), min_size=1, max_size=4))
def test_no_words_end_in_a_traceback(words: list[str]) -> None:
    """After a verb that reads nothing before its words are right."""
    done = synth("presets", *words, "one", "too many")
    assert done.returncode in (0, 2) and "Traceback" not in done.stderr
    assert done.returncode == 0 or done.stderr.startswith("synth: ")
