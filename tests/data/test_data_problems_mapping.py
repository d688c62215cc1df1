import json
from pathlib import Path

import pytest

from data.errors import UserError
from data.problems.mapping import columns_read, look_up, parse_map
from data.problems.readers import read_problems
from data.problems.rows import problem_from_row
from data.problems.source import Source, absolute, parse_source

ROW = {"q": "1+1?", "a.b": "dotted", "a": {"b": {"c": 2}}, "list": [{"x": 5}, None], "Body": "Two birds. ", "Ask": "How many?", "level": "hard"}


def mapped(row: dict, map: str):
    return problem_from_row(row, "f, line 1", source=Source("f", map=parse_map([map])))


def test_columns_inside_columns_and_columns_joined() -> None:
    assert look_up(ROW, "a.b") == "dotted"  # a column of that very name comes first
    assert look_up(ROW, "a.b.c") == 2
    assert look_up(ROW, "list.0.x") == 5
    assert look_up(ROW, "list.1.x") is None
    found = mapped(ROW, "prompt=Body+Ask,answer=a.b.c,level=")
    assert (found.prompt, found.reference, found.level) == ("Two birds. How many?", "2", 0)
    with pytest.raises(UserError, match="'level' must be a whole number"):
        mapped(ROW, "prompt=q,answer=a.b")


def test_maps_may_be_given_again_and_the_last_word_counts() -> None:
    assert parse_map(["prompt=q,answer=x", "answer=y"]) == {"prompt": "q", "answer": "y"}


def test_only_the_columns_asked_for_are_read() -> None:
    names = columns_read(parse_map(["prompt=Body+Ask,answer=extra.final,level="]))
    assert {"Body", "Ask", "extra", "domain", "licence", "license"} <= names
    assert not {"prompt", "question", "reference", "level"} & names


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("mine.jsonl", Source("mine.jsonl")),
        ("algebra=mine.jsonl", Source("mine.jsonl", "algebra")),
        ("hf:openai/gsm8k:main@test", Source("hf:openai/gsm8k:main", split="test")),
        ("maths=hf:a/b", Source("hf:a/b", "maths")),
        ("saved@dev", Source("saved", split="dev")),
        ("runs/a=b.jsonl", Source("runs/a=b.jsonl")),
    ],
)
def test_sources_as_users_write_them(text: str, source: Source) -> None:
    assert parse_source(text) == source


def test_a_path_that_exists_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a=b.jsonl", "x@y.jsonl"):
        Path(name).write_text('{"prompt": "1+1?", "answer": 2}')
        assert parse_source(name) == Source(name)
        assert absolute(parse_source(name)).path == str((tmp_path / name).resolve())
        assert read_problems(parse_source(name))[0].reference == "2"


def test_domains_of_the_file_are_for_rows_without_one(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text("\n".join(json.dumps(r) for r in ({"prompt": "a?", "answer": 1}, {"prompt": "b?", "answer": 1, "domain": "geometry"})))
    assert [p.domain for p in read_problems(parse_source(f"algebra={file}"))] == ["algebra", "geometry"]


def test_choices_in_every_way_that_data_sets_write_them() -> None:
    def read(answer: object, choices: object, prompt: str = "Which is even?"):
        return problem_from_row({"prompt": prompt, "answer": answer, "choices": choices}, "f, line 1")

    texts = ["one", "two", "three"]
    ways = [(1, texts), ("B", texts), ("(B)", texts), ("two", texts), ("1", texts), (1.0, texts), ("B", {"A": "one", "B": "two", "C": "three"}),
            ("2", {"text": texts, "label": ["1", "2", "3"]}), ("B", json.dumps(texts)), ("b", {"text": texts, "label": ["a", "b", "c"]})]  # fmt: skip
    for answer, choices in ways:
        found = read(answer, choices)
        assert (found.reference, found.prompt) == ("B", "Which is even?\n(A) one\n(B) two\n(C) three"), (answer, choices)
        assert found.meta["choices"] == texts
    assert read("B", texts, "One, two or three? (A) one (B) two (C) three").prompt == "One, two or three? (A) one (B) two (C) three"
    # the numbers are choices themselves: the text comes before the index
    assert read("1", ["3", "2", "1"]).reference == "C"


def test_tests_make_an_answer_needless() -> None:
    mbpp = Source("f", map={"prompt": "text", "tests": "test_list"})
    found = problem_from_row({"text": "Write f.", "test_list": ["assert f(1) == 2"]}, "f", source=mbpp)
    assert found.reference == ""
    assert found.spec == {"tests": [{"script": "assert f(1) == 2"}]}
    assert problem_from_row({"prompt": "f", "tests": '[{"call": "f(1)", "expected": 2}]'}, "f").spec["tests"] == [{"call": "f(1)", "expected": 2}]
