"""One set of problems through every kind of file: the same problems, with the same ids."""

import gzip
import json
from decimal import Decimal
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import UserError
from data.problems.datasets_in import choose_split
from data.problems.delimited import find_separator, read_delimited
from data.problems.readers import iter_problems, read_problems, read_rows
from data.problems.source import Source, parse_source

ROWS = [
    {"prompt": f"Zoë said: \"{n}, {n + 1}; what follows?\"\n| Say\tit.", "answer": str(n + 2), "level": n % 4, "domain": "counting", "id": f"r{n}"}
    for n in range(30)
]
COLUMNS = ["prompt", "answer", "level", "domain", "id"]


def as_csv(separator: str, bom: bool = False) -> bytes:
    def cell(value: object) -> str:
        return '"' + str(value).replace('"', '""') + '"'

    text = "\r\n".join([separator.join(COLUMNS), *(separator.join(cell(row[c]) for c in COLUMNS) for row in ROWS)])
    return text.encode("utf-8-sig" if bom else "utf-8")


def write_all(folder: Path) -> list[Source]:
    lines = "\n".join(json.dumps(row) for row in ROWS).encode()
    bodies = {
        "a.jsonl": lines,
        "b.ndjson": b"\xef\xbb\xbf" + lines,
        "c.JSONL.gz": gzip.compress(lines),
        "d.json": json.dumps(ROWS, indent=1).encode(),
        "e.json.gz": gzip.compress(json.dumps(ROWS).encode()),
        "lines.json": lines,
        "f.csv": as_csv(","),
        "g.csv": as_csv(";", bom=True),
        "h.tsv": as_csv("\t"),
        "i.csv.gz": gzip.compress(as_csv("|")),
    }
    for name, body in bodies.items():
        (folder / name).write_bytes(body)
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "j.parquet", row_group_size=7)
    data = datasets.Dataset.from_list(ROWS)
    data.save_to_disk(folder / "k")
    datasets.DatasetDict({"train": data, "test": data.select(range(3))}).save_to_disk(folder / "l")
    return [*(Source(str(folder / name)) for name in bodies), *(Source(str(folder / name)) for name in ("j.parquet", "k", "l"))]


def test_every_kind_of_file_gives_the_same_problems(tmp_path: Path) -> None:
    sources = write_all(tmp_path)
    wanted = read_problems(sources[0])
    assert [p.prompt for p in wanted] == [row["prompt"] for row in ROWS]
    assert wanted[5].meta == {"user_id": "r5"}
    for source in sources[1:]:
        found = read_problems(source)
        assert found == wanted, source
        assert [p.id for p in found] == [p.id for p in wanted]


def test_rows_know_their_places(tmp_path: Path) -> None:
    sources = {source.file.name: source for source in write_all(tmp_path)}
    places = {name: [where.rpartition(", ")[2] for where, _ in read_rows(sources[name])][:3] for name in ("a.jsonl", "d.json", "f.csv", "j.parquet")}
    assert places["a.jsonl"] == ["line 1", "line 2", "line 3"]
    assert places["d.json"] == ["item 1", "item 2", "item 3"]
    assert places["f.csv"] == ["line 2", "line 4", "line 6"]  # every record of it has two lines
    assert places["j.parquet"] == ["row 1", "row 2", "row 3"]


def test_a_split_is_chosen_and_named(tmp_path: Path) -> None:
    write_all(tmp_path)
    assert len(read_problems(parse_source(f"{tmp_path}/l@test"))) == 3
    assert len(read_problems(Source(str(tmp_path / "l"), usual="test"))) == 3
    with pytest.raises(UserError, match="no split 'tset'; did you mean 'test'"):
        read_problems(parse_source(f"{tmp_path}/l@tset"))
    with pytest.raises(UserError, match="no split 'validation'"):
        choose_split(parse_source("hf:a/b@validation"), ["train", "test"])
    with pytest.raises(UserError, match=r"which split\? It has dev, test; write hf:a/b@dev"):
        choose_split(parse_source("hf:a/b"), ["dev", "test"])


def test_a_hub_data_set_is_loaded_by_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same call that asks the hub takes a local folder of data files: the path is real, only the network is left out."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "train.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS))
    found = list(iter_problems(Source(f"hf:{tmp_path / 'mine'}")))
    assert [p.prompt for _, p in found] == [row["prompt"] for row in ROWS]
    assert found[2][0].endswith("(split train), row 3")


def test_a_hub_that_cannot_be_reached_is_said(tmp_path: Path) -> None:
    """A closed port of this machine stands for the hub; a fresh interpreter, since the address is read on import."""
    import os
    import subprocess
    import sys

    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    for offline in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-m", "flows.cli.main", "check-data", "hf:openai/gsm8k:main@test"],
            capture_output=True, text=True, timeout=120, env={**environment, "HF_HUB_OFFLINE": offline},
        )  # fmt: skip
        assert done.returncode == 2, done.stderr
        assert "hf:openai/gsm8k:main: the Hugging Face hub cannot be reached from here" in done.stderr
        assert done.stderr.count("\n") == 1, done.stderr


def test_parquet_values_of_other_types(tmp_path: Path) -> None:
    rows = {
        "prompt": ["a?", "b?", "c?"],
        "answer": pa.array([Decimal("1.50"), Decimal("2.00"), Decimal("-30")], pa.decimal128(10, 2)),
        "level": pa.array([1.0, 2.0, None]),
        "spec": pa.array([{"extract": "strict", "other": None}, None, {"extract": None, "other": None}]),
        "concepts": pa.array([["x"], [], None], pa.list_(pa.string())),
        "domain": pa.array(["d", "d", "e"]).dictionary_encode(),
        "source": ["forum"] * 3,
        "license": ["MIT"] * 3,
        "picture": [b"\xff"] * 3,
    }
    pq.write_table(pa.table(rows), tmp_path / "x.parquet")
    a, b, c = read_problems(tmp_path / "x.parquet")
    assert [p.reference for p in (a, b, c)] == ["1.5", "2", "-30"]
    assert [p.level for p in (a, b, c)] == [1, 2, 0]
    assert (a.spec, b.spec, c.spec) == ({"extract": "strict"}, {}, {})
    assert (a.concepts, b.concepts, c.domain) == (("x",), (), "e")
    assert a.meta == {"source": "forum", "licence": "MIT"}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(*[st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)] * 2), min_size=1, max_size=6),
    st.sampled_from(",;\t|"),
)
def test_what_csv_writes_comes_back(tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, str]], separator: str) -> None:
    """Python's own writer as the oracle; every text that is not blank comes back as it was."""
    import csv

    file = tmp_path_factory.mktemp("csv") / "x.csv"
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter=separator, quoting=csv.QUOTE_ALL)
        writer.writerow(["prompt", "answer"])
        writer.writerows(cells)
    kept = [{"prompt": a if a.strip() else None, "answer": b if b.strip() else None} for a, b in cells if a.strip() or b.strip()]
    assert [row for _, row in read_delimited(file)] == kept


def test_the_separator_is_found_where_texts_are_full_of_others() -> None:
    assert find_separator(["prompt;answer\n", '"a, b, c, d";1\n', '"e, f, g";2\n']) == ";"
    assert find_separator(["prompt,answer\n", "a; b; c; d,1\n", "e; f,2\n"]) == ","
    assert find_separator(["question\tfinal\n", "one, two\t3\n"]) == "\t"
    assert find_separator(["prompt\n", "one; two\n", "three\n"]) in ",;\t|"
