import gzip
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import UserError
from data.problems_io import problem_from_row, read_problems

SHARED = Path(__file__).parents[3] / "shared" / "data"
GOOD = b'{"prompt": "1+1?", "answer": "2"}\n'


def test_fields_and_their_other_names(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    rows = [
        {
            "prompt": "a?",
            "answer": "1",
            "domain": "d",
            "level": 3,
            "concepts": ["x", "y"],
            "verifier": "math",
            "spec": {"extract": "last_number"},
            "id": 7,
        },
        {"question": "b?", "answer": "2+3=<<2+3=5>>5\n#### 5"},
        {"problem": "c?", "reference": 27.0, "subject": "Algebra", "level": "Level 5", "solution": "…"},
        {"question": "d?", "answer": 0.5},
        {"question": "e?", "answer": 0},
    ]
    file.write_text("\ufeff" + "\r\n\n".join(json.dumps(r) for r in rows), encoding="utf-8")
    a, b, c, d, e = read_problems(file)
    assert (a.prompt, a.reference, a.domain, a.level, a.concepts, a.spec["extract"], a.meta["user_id"]) == (
        "a?",
        "1",
        "d",
        3,
        ("x", "y"),
        "last_number",
        "7",
    )
    assert (b.reference, b.meta["solution"], b.source, b.verifier) == ("5", "2+3=<<2+3=5>>5", "user", "math")
    assert (c.reference, c.domain, c.level) == ("27", "Algebra", 5)
    assert (d.reference, e.reference) == ("0.5", "0")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", None, "a.jsonl: no such file"),
        ("a.docx", GOOD, "a.docx: not a kind of file that problems are read from (.docx)"),
        ("a.jsonl", b"", "no problems in it"),
        ("a.jsonl", b"\n \n", "no problems in it"),
        ("a.jsonl", GOOD + b'{"prompt": "1+', "line 2: not JSON at column 12 (it seems to be cut off)"),
        ("a.jsonl", GOOD + GOOD + b"hello\n", "line 3: not JSON"),
        ("a.jsonl", b'["a"]', "line 1: a JSON list, not an object"),
        ("a.jsonl", GOOD + b'{"text": "x", "answer": "2"}', "line 2: no field 'prompt' or 'question' or 'problem'; the row has answer, text"),
        ("a.jsonl", GOOD + b'{"prompt": "x"}', "line 2: no field 'answer' or 'reference'"),
        ("a.jsonl", b'{"prompt": "x", "answer": null}', "line 1: field 'answer' is null"),
        ("a.jsonl", b'{"prompt": " ", "answer": "1"}', "line 1: field 'prompt' must be a text that is not empty"),
        ("a.jsonl", b'{"prompt": 5, "answer": "1"}', "line 1: field 'prompt' must be a text that is not empty, got number 5"),
        ("a.jsonl", b'{"prompt": "x", "answer": ["1"]}', "line 1: field 'answer' must be a text or a number, got list"),
        ("a.jsonl", b'{"prompt": "x", "answer": true}', "line 1: field 'answer' must be a text or a number, got boolean true"),
        ("a.jsonl", b'{"prompt": "x", "answer": ""}', "line 1: field 'answer' is empty"),
        ("a.jsonl", b'{"prompt": "x", "answer": "so\\n####"}', "line 1: field 'answer' has nothing after its '####'"),
        ("a.jsonl", b'{"prompt": "x", "answer": NaN}', "line 1: not JSON"),
        ("a.jsonl", b'{"prompt": "x", "answer": 1e999}', "line 1: field 'answer' must be a finite number"),
        ("a.jsonl", b'{"prompt": "x", "answer": ' + b"9" * 5000 + b"}", "line 1: not JSON"),
        ("a.jsonl", b'{"prompt": "x \\ud800", "answer": 1}', "line 1: holds half of a surrogate pair"),
        ("a.jsonl", b'{"prompt": "x \\u0000", "answer": 1}', "line 1: holds a NUL character"),
        ("a.jsonl", b"[" * 100_000, "line 1: not JSON"),
        ("a.jsonl", b'{"prompt": "x", "answer": 1, "spec": "strict"}', "line 1: field 'spec' must be an object, got text"),
        ("a.jsonl", b'{"prompt": "x", "answer": 1, "level": "hard"}', "line 1: field 'level' must be a whole number"),
        ("a.jsonl", b'{"prompt": "x", "answer": 1, "concepts": [1]}', "line 1: field 'concepts' must be a list of texts"),
        ("a.jsonl", GOOD + b'{"prompt": "\xff\xfe", "answer": "1"}', "line 2: not UTF-8 (byte 13)"),
        ("a.jsonl.gz", GOOD, "not a whole gzip file"),
        ("a.jsonl.gz", gzip.compress(GOOD * 50)[:-12], "not a whole gzip file"),
    ],
)
def test_every_fault_is_one_clear_sentence(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        read_problems(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(file))


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        read_problems(tmp_path / "x.jsonl")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3), max_leaves=5
)


@given(st.dictionaries(st.sampled_from(["prompt", "question", "answer", "reference", "level", "spec", "domain", "concepts", "id"]), json_values))
def test_any_row_gives_a_problem_or_a_user_error(row: dict) -> None:
    try:
        problem = problem_from_row(row, "f, line 1")
    except UserError as error:
        assert str(error).startswith("f, line 1")
    else:
        assert problem.prompt
        assert problem.reference


def test_gsm8k_train_goes_through() -> None:
    file = SHARED / "gsm8k_train.jsonl.gz"
    if not file.exists():
        pytest.skip("gsm8k_train is not on this machine")
    problems = read_problems(file)
    assert len(problems) == 7473
    assert all("####" not in p.reference and p.meta["solution"] for p in problems)
