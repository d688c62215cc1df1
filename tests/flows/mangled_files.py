"""Three hundred and more files that are no file of problems, made the same on every machine: valid files, broken in one place each.

`mangled(folder)` writes them and yields cases. A case says which file, with which --map, and a pattern that its one sentence must hold:
the place (line, item, row) where there is one, the field where it is a field, what it is that is wrong.
"""

from __future__ import annotations

import datetime
import gzip
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


@dataclass(frozen=True)
class Case:
    name: str
    path: str  # what the user types
    said: str  # pattern
    map: str = ""


Row = dict[str, Any]
ROWS: list[Row] = [
    {
        "prompt": f"Zoë has {n} apples, “gives” {n // 2} away, and buys {n % 7} more.\nHow many are left?",
        "answer": str(n - n // 2 + n % 7),
        "level": n % 5,
    }
    for n in range(10, 70)
]

BAD_ROWS: list[tuple[str, str]] = [
    ('{"answer": "2"}', "no field 'prompt'"),
    ('{"promt": "1+1?", "answer": "2"}', "the nearest is 'promt'"),
    ('{"Question": "1+1?", "answer": "2"}', "--map prompt=Question"),
    ('{"prompt": null, "answer": "2"}', "'prompt' is null"),
    ('{"prompt": "", "answer": "2"}', "'prompt' must be a text that is not empty"),
    ('{"prompt": 7, "answer": "2"}', "'prompt' must be a text .* got number 7"),
    ('{"prompt": ["1+1?"], "answer": "2"}', "'prompt' must be a text .* got list"),
    ('{"prompt": {"text": "1+1?"}, "answer": "2"}', "'prompt' must be a text .* got object"),
    ('{"prompt": "1+1?"}', "no field 'answer'"),
    ('{"prompt": "1+1?", "answr": "2"}', "the nearest is 'answr'"),
    ('{"prompt": "1+1?", "answer": null}', "'answer' is null"),
    ('{"prompt": "1+1?", "answer": "  "}', "'answer' is empty"),
    ('{"prompt": "1+1?", "answer": true}', "'answer' must be a text or a number, got boolean"),
    ('{"prompt": "1+1?", "answer": [2]}', "--map answer=answer.0"),
    ('{"prompt": "1+1?", "answer": {"value": 2}}', "--map answer=answer.value"),
    ('{"prompt": "1+1?", "answer": 1e999}', "finite"),
    ('{"prompt": "1+1?", "answer": NaN}', "NaN is not JSON"),
    ('{"prompt": "1+1?", "answer": -Infinity}', "Infinity is not JSON"),
    ('{"prompt": "1+1?", "answer": "#### "}', "nothing after its '####'"),
    ('{"prompt": "1+1?", "prompt": "1+2?", "answer": "2"}', "the key 'prompt' appears twice"),
    ('{"prompt": "1+1?", "answer": "2", "extra": {"a": 1, "a": 2}}', "the key 'a' appears twice"),
    ('{"prompt": "1+1?", "answer": ' + "9" * 5000 + "}", "too many digits"),
    ('{"prompt": "1+1? \\u0000", "answer": "2"}', "NUL"),
    ('{"prompt": "1+1? \\ud83d", "answer": "2"}', "surrogate"),
    ('{"prompt": "1+1?", "answer": "2", "level": "hard"}', "'level' must be a whole number"),
    ('{"prompt": "1+1?", "answer": "2", "level": -3}', "'level' must be a whole number"),
    ('{"prompt": "1+1?", "answer": "2", "level": [1]}', "'level' must be a whole number"),
    ('{"prompt": "1+1?", "answer": "2", "concepts": [1, 2]}', "'concepts' must be a list of texts"),
    ('{"prompt": "1+1?", "answer": "2", "concepts": {"a": null}}', "'concepts' must be a list of texts"),
    ('{"prompt": "1+1?", "answer": "2", "domain": 5}', "'domain' must be a text"),
    ('{"prompt": "1+1?", "answer": "2", "spec": "strict"}', "'spec' must be an object"),
    ('{"prompt": "1+1?", "answer": "2", "spec": [1]}', "'spec' must be an object"),
    ('{"prompt": "1+1?", "answer": "2", "spec": "{broken"}', "'spec' looks like JSON and is not"),
    ('{"prompt": "1+1?", "answer": "2", "verifier": "mth"}', "did you mean 'math'"),
    ('{"prompt": "1+1?", "answer": "2", "verifier": 1}', "'verifier' must be a text"),
    ('{"prompt": "1+1?", "answer": "2", "choices": ["one"]}', "'choices' must be a list of 2 to"),
    ('{"prompt": "1+1?", "answer": "Z", "choices": ["1", "2"]}', "'answer' must be a letter up to B"),
    ('{"prompt": "1+1?", "answer": 9, "choices": ["1", "2"]}', "'answer' must be a letter up to B"),
    ('{"prompt": "1+1?", "answer": "A", "choices": [null, null]}', "'choices' must be a list of 2 to"),
    ('{"prompt": "f?", "tests": [1, 2]}', "'tests' must be a list of tests"),
    ('{"prompt": "f?", "tests": {"call": "f(1)"}}', "'tests' must be a list of tests"),
    ('{"prompt": "1+1?", "answer": "2", "id": {"a": 1}}', "'id' must be a text or a number"),
    ('{"prompt": "1+1?", "answer": "2", "licence": ["MIT"]}', "'licence' must be a text or a number"),
    ("not json at all", "not JSON at column 1"),
    ('{"prompt": "1+1?", "answer": "2"', "not JSON .*cut off"),
    ('{"prompt": "1+1?" "answer": "2"}', "not JSON at column"),
    ("{'prompt': '1+1?', 'answer': '2'}", "not JSON at column 2"),
    ('["1+1?", "2"]', "a JSON list, not an object"),
    ('"1+1?"', "a JSON text, not an object"),
    ("17", "a JSON number, not an object"),
    ("null", "a JSON null, not an object"),
    ("[" * 50_000, "nested too deeply"),
    ('{"prompt": "1+1?", "answer": "2"} trailing', "not JSON at column"),
]


def mangled(folder: Path) -> Iterator[Case]:
    folder.mkdir(parents=True, exist_ok=True)
    makers: tuple[Callable[[Path], Iterator[Case]], ...] = (bad_rows, encodings, torn_gzip, json_lists, ragged_csv, bad_parquet, other_files, maps)
    for make in makers:
        yield from make(folder)


def _write(folder: Path, name: str, body: bytes, said: str, map: str = "") -> Case:
    path = folder / name
    path.write_bytes(body)
    return Case(name, str(path), said, map)


def _lines(rows: list[Row]) -> list[str]:
    return [json.dumps(row, ensure_ascii=False) for row in rows]


def jsonl() -> bytes:
    return ("\n".join(_lines(ROWS)) + "\n").encode()


def csv(separator: str = ",") -> bytes:
    quote = '"'
    rows = [[row["prompt"], row["answer"], str(row["level"])] for row in ROWS]
    cells = [separator.join(f"{quote}{cell.replace(quote, 2 * quote)}{quote}" for cell in row) for row in rows]
    return "\r\n".join([separator.join(("prompt", "answer", "level")), *cells, ""]).encode()


def bad_rows(folder: Path) -> Iterator[Case]:
    """One bad row among good ones, at the beginning, in the middle and at the end; every second time gzipped."""
    for number, (bad, said) in enumerate(BAD_ROWS):
        for place in (0, 31, 60):
            lines = _lines(ROWS)
            lines.insert(place, bad)
            body = "\n".join(lines).encode("utf-8", "surrogatepass")
            packed = number % 2 == 1
            name = f"row-{number:02d}-{place:02d}.jsonl{'.gz' if packed else ''}"
            yield _write(folder, name, gzip.compress(body, mtime=0) if packed else body, rf"line {place + 1}: .*{said}")


def encodings(folder: Path) -> Iterator[Case]:
    bodies = {"jsonl": jsonl(), "json": json.dumps(ROWS, ensure_ascii=False).encode(), "csv": csv(), "tsv": csv("\t")}
    for kind, body in bodies.items():
        text = body.decode()
        for encoding in ("utf-16", "utf-16-le", "utf-16-be"):
            yield _write(folder, f"{encoding}.{kind}", text.encode(encoding), "UTF-16 text; save it as UTF-8")
        yield _write(folder, f"utf-32.{kind}", text.encode("utf-32-be"), "not text|UTF-16")
        for encoding in ("cp1252", "mac-roman"):
            yield _write(folder, f"{encoding}.{kind}", text.encode(encoding), "not UTF-8")
        yield _write(folder, f"latin-1.{kind}", text.replace("“", "'").replace("”", "'").encode("latin-1"), "not UTF-8")


def torn_gzip(folder: Path) -> Iterator[Case]:
    """Cut off, or with one byte changed: the checksum of gzip finds every one."""
    noise = random.Random(7)
    for kind, body in (("jsonl", jsonl()), ("csv", csv()), ("json", json.dumps(ROWS).encode())):
        whole = gzip.compress(body, mtime=0)
        for cut in (5, 11, len(whole) // 3, len(whole) // 2, len(whole) - 9, len(whole) - 1):
            yield _write(folder, f"cut-{cut}.{kind}.gz", whole[:cut], "not a whole gzip file")
        for _ in range(6):
            at = noise.randrange(20, len(whole) - 8)
            broken = whole[:at] + bytes([whole[at] ^ (1 << noise.randrange(8))]) + whole[at + 1 :]
            yield _write(folder, f"flip-{at}.{kind}.gz", broken, rf"flip-{at}\.{kind}\.gz")
        yield _write(folder, f"plain.{kind}.gz", body, "not a whole gzip file .*does not begin like one|not a whole gzip file")
        yield _write(folder, f"twice.{kind}.gz", gzip.compress(whole, mtime=0), "holds gzip data under another name")
        yield _write(folder, f"unnamed.{kind}", whole, r"holds gzip data under another name \(name it with \.gz\)")
    yield _write(folder, "empty.jsonl.gz", b"", "no problems in it")
    yield _write(folder, "nothing-inside.csv.gz", gzip.compress(b""), "no problems in it")


def json_lists(folder: Path) -> Iterator[Case]:
    whole = json.dumps(ROWS)
    for cut in (1, 10, len(whole) // 3, len(whole) // 2, len(whole) - 1):
        yield _write(folder, f"cut-{cut}.json", whole[:cut].encode(), "not JSON")
    for number, (bad, said) in enumerate(BAD_ROWS[:22]):
        body = "[" + ", ".join([*_lines(ROWS[:4]), bad]) + "]"
        whole_file = said in ("NaN is not JSON", "Infinity is not JSON", "too many digits") or "appears twice" in said
        yield _write(folder, f"item-{number:02d}.json", body.encode(), said if whole_file else f"item 5: .*{said}")
    for name, body, said in (
        ("object", {"data": ROWS}, "not a list of rows; give the list itself .*'data'"),
        ("text", "hello", "a JSON text, not a list"),
        ("number", 3, "a JSON number, not a list"),
        ("null", None, "a JSON null, not a list"),
        ("empty-list", [], "no problems in it"),
        ("lists", [["1+1?", "2"]], "item 1: a JSON list, not an object"),
        ("nulls", [None], "item 1: a JSON null, not an object"),
        ("empty-object", [{}], "item 1: no field 'prompt'.* no fields"),
        ("nested", [[[[{}]]]], "item 1: a JSON list"),
    ):
        yield _write(folder, f"{name}.json", json.dumps(body).encode(), said)
    yield _write(folder, "blank.json", b" \n\n ", "no problems in it")
    yield _write(folder, "empty.json", b"", "no problems in it")


def ragged_csv(folder: Path) -> Iterator[Case]:
    for name, separator in (("comma", ","), ("semicolon", ";"), ("tab", "\t"), ("bar", "|")):
        head = separator.join(("prompt", "answer", "domain"))
        good = [separator.join((f'"What is {n}{separator} doubled?"', str(2 * n), "d")) for n in range(5)]

        def body(*lines: str, head: str = head, good: list[str] = good) -> bytes:
            return "\n".join([head, *good, *lines, *good]).encode()

        cells: Callable[..., str] = separator.join
        yield _write(folder, f"{name}-few.csv", body(cells(("What is 3?", "3"))), r"line 7: has 2 fields where the header has 3, too few")
        yield _write(folder, f"{name}-many.csv", body(cells(("One", "two", "3", "3"))), rf"line 7: has 4 fields .*too many; .*{name}")
        yield _write(folder, f"{name}-open.csv", body(cells(('"What is 3?', "3", "d"))), r"line \d+: (a quote|a quoted text)")
        yield _write(folder, f"{name}-after.csv", body(cells(('"What" is 3?', "3", "d"))), r"line 7: a quoted text goes on after its closing quote")
        yield _write(folder, f"{name}-nul.csv", body(cells(("What\x00 is 3?", "3", "d"))), "NUL")
        yield _write(folder, f"{name}-no-answer.csv", body(cells(("What is 3?", "", "d"))), "line 7: field 'answer' is null")
        yield _write(folder, f"{name}-no-prompt.csv", body(cells(("", "3", "d"))), "line 7: field 'prompt' is null")
        double = "\n".join([cells(("prompt", "answer", "prompt")), *good])
        yield _write(folder, f"{name}-double.csv", double.encode(), "names the column 'prompt' twice")
        yield _write(folder, f"{name}-headless.csv", "\n".join(good).encode(), "line 2: no field 'prompt'")
        yield _write(folder, f"{name}-other.csv", "\n".join([cells(("prompts", "answers", "d")), *good]).encode(), "the nearest is 'prompts'")
        yield _write(folder, f"{name}-header.csv", head.encode(), "no problems in it")
        yield _write(folder, f"{name}-latin.csv", body(cells(("Zoë?", "3", "d"))).decode().encode("latin-1"), r"line 7: not UTF-8")
    yield _write(folder, "empty.csv", b"", "no problems in it")
    yield _write(folder, "blank.csv", b"\n\n\n", "no problems in it")
    yield _write(folder, "mac.csv", b'prompt,answer\r"1+1?",2\r"1+2?",3\r', "carriage return|line breaks|quoted text|no problems|no field")
    yield _write(folder, "wide-field.csv", b'prompt,answer\n"' + b"x" * 10_000_100 + b'",1\n', "longer than 10,000,000 bytes")
    yield _write(folder, "never-closed.csv", b'prompt,answer\n"' + b"x y z\n" * 2_000_000, "line 2: .*never closed")


def bad_parquet(folder: Path) -> Iterator[Case]:
    def table(**columns: pa.Array) -> bytes:
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(columns), sink)
        return sink.getvalue().to_pybytes()

    prompts, answers = [row["prompt"] for row in ROWS], [row["answer"] for row in ROWS]
    whole = table(prompt=pa.array(prompts), answer=pa.array(answers))
    for cut in (3, 4, 8, len(whole) // 4, len(whole) // 2, len(whole) - 20, len(whole) - 4, len(whole) - 1):
        yield _write(folder, f"cut-{cut}.parquet", whole[:cut], "not a (whole )?Parquet file")
    yield _write(folder, "empty.parquet", b"", "no problems in it")
    yield _write(folder, "text.parquet", jsonl(), "does not begin with PAR1")
    yield _write(folder, "marks-only.parquet", b"PAR1PAR1", "not a whole Parquet file")
    yield _write(folder, "noise.parquet", b"PAR1" + random.Random(3).randbytes(5000) + b"PAR1", "not a whole Parquet file")
    yield _write(folder, "no-end-mark.parquet", whole[:-4] + b"XXXX", "not a whole Parquet file")
    yield _write(folder, "zero-footer.parquet", whole[:-60] + bytes(52) + whole[-8:], "not a whole Parquet file")
    yield _write(folder, "long-footer.parquet", whole[:-8] + (2**31 - 1).to_bytes(4, "little") + b"PAR1", "not a whole Parquet file")
    yield _write(folder, "zero-page.parquet", whole[:4] + bytes(200) + whole[204:], "not a whole Parquet file")
    yield _write(folder, "unnamed-parquet.jsonl", whole, "holds a Parquet file under another name")
    yield _write(folder, "packed.parquet.gz", gzip.compress(whole, mtime=0), "gzipped Parquet")
    yield _write(folder, "no-rows.parquet", table(prompt=pa.array([], pa.string()), answer=pa.array([], pa.string())), "no problems in it")
    columns: dict[str, tuple[pa.Array, str]] = {
        "list": (pa.array([[a] for a in answers]), "answer=answer.0"),
        "struct": (pa.array([{"value": a} for a in answers]), "answer=answer.value"),
        "bool": (pa.array([True] * len(answers)), "got boolean"),
        "date": (pa.array([datetime.date(2020, 1, 1)] * len(answers)), "got date"),
        "time": (pa.array([datetime.datetime(2020, 1, 1)] * len(answers)), "got datetime"),
        "bytes": (pa.array([b"1"] * len(answers)), "got bytes"),
        "nan": (pa.array([float("nan")] * len(answers)), "finite"),
        "inf": (pa.array([float("inf")] * len(answers)), "finite"),
        "null": (pa.nulls(len(answers)), "'answer' is null"),
        "empty": (pa.array([""] * len(answers)), "'answer' is empty"),
        "nested-null": (pa.array([{"value": None}] * len(answers), pa.struct([("value", pa.string())])), "answer=answer.value"),
    }
    for name, (column, said) in columns.items():
        yield _write(folder, f"answer-{name}.parquet", table(prompt=pa.array(prompts), answer=column), f"row 1: .*{said}")
    yield _write(folder, "prompt-number.parquet", table(prompt=pa.array(range(60)), answer=pa.array(answers)), "row 1: field 'prompt' must be a text")
    yield _write(folder, "prompt-bytes.parquet", table(prompt=pa.array([p.encode() for p in prompts]), answer=pa.array(answers)), "got bytes")
    late = [*answers[:40], None, *answers[41:]]
    yield _write(folder, "late-null.parquet", table(prompt=pa.array(prompts), answer=pa.array(late)), "row 41: field 'answer' is null")
    yield _write(folder, "no-prompt.parquet", table(promt=pa.array(prompts), answer=pa.array(answers)), "row 1: .*the nearest is 'promt'")
    yield _write(folder, "no-answer.parquet", table(prompt=pa.array(prompts), final=pa.array(answers)), "row 1: no field 'answer'.*final")
    twice = pa.Table.from_arrays([pa.array(prompts), pa.array(answers), pa.array(answers)], names=["prompt", "answer", "answer"])
    sink = pa.BufferOutputStream()
    pq.write_table(twice, sink)
    yield _write(folder, "column-twice.parquet", sink.getvalue().to_pybytes(), "the column 'answer' twice")
    dated = table(prompt=pa.array(prompts), answer=pa.array(answers), spec=pa.array([{"at": datetime.date(2020, 1, 1)}] * 60))
    yield _write(folder, "spec-date.parquet", dated, "row 1: field 'spec' holds what JSON cannot")


def other_files(folder: Path) -> Iterator[Case]:
    for name in ("x.xlsx", "x.pdf", "x.txt", "x", "x.jsonl.zip", "x.yaml", "x.jsonl.bz2"):
        yield _write(folder, name, jsonl(), "not a kind of file that problems are read from")
    for number, (mark, said) in enumerate(
        ((b"PK\x03\x04", "zip archive"), (b"%PDF-1.7\n", "a PDF"), (b"BZh9", "bzip2"), (b"\xfd7zXZ\x00", "xz data"), (b"\x28\xb5\x2f\xfd", "zstd"),
         (b"SQLite format 3\x00", "SQLite"), (b"\x89PNG\r\n", "a picture"), (b"\x7fELF\x02\x01\x01\x00\x00", "not text"))
    ):  # fmt: skip
        yield _write(folder, f"disguise-{number}.jsonl", mark + random.Random(number).randbytes(500), said)
        yield _write(folder, f"disguise-{number}.csv", mark + random.Random(number).randbytes(500), said)
    yield _write(folder, "empty.jsonl", b"", "no problems in it")
    yield _write(folder, "blank.jsonl", b"\n \n\t\n", "no problems in it")
    yield _write(folder, "bom-only.jsonl", b"\xef\xbb\xbf", "no problems in it")
    yield _write(folder, "one-line.jsonl", b'{"prompt": "' + b"x" * 10_000_100 + b'", "answer": "1"}', "line 1: longer than 10,000,000 bytes")
    yield _write(folder, "bomb.jsonl.gz", gzip.compress(b"\n" + b" " * 40_000_000, mtime=0), "line 2: longer than 10,000,000 bytes")
    (folder / "folder.jsonl").mkdir()
    (folder / "folder.jsonl" / "inside.csv").write_bytes(csv())
    (folder / "bare").mkdir()
    yield Case("folder", str(folder / "folder.jsonl"), r"is a folder, and not one that datasets' save_to_disk wrote \(it holds inside\.csv\)")
    yield Case("bare folder", str(folder / "bare"), "is a folder")
    for name, state in (("damaged", b"{"), ("foreign", b'{"a": 1}'), ("hollow", b'{"_data_files": [{"filename": "nothing.arrow"}]}')):
        (folder / name).mkdir()
        (folder / name / "state.json").write_bytes(state)
        (folder / name / "dataset_info.json").write_bytes(b"{}")
        yield Case(f"{name} folder", str(folder / name), "a folder of datasets' save_to_disk, but damaged")
    yield Case("absent", str(folder / "bad-rows.jsonl"), "no such file")
    yield Case("near", str(folder / "wide-fields.csv"), r"no such file; did you mean wide-field\.csv")
    yield Case("absent folder", str(folder / "none" / "x.jsonl"), "no such file .*there is no folder")
    yield Case("absent domain", f"algebra={folder / 'none.jsonl'}", r"none\.jsonl: no such file")
    yield Case("nothing", "hf:", "names no file")
    yield Case("long name", str(folder / ("x" * 300 + ".jsonl")), "no such file")


def maps(folder: Path) -> Iterator[Case]:
    rows = [{"q": "1+1?", "extra": {"final": "2", "none": None}, "answer": "2", "list": ["2"]} for _ in range(3)]
    path = folder / "mapped.jsonl"
    path.write_bytes("\n".join(_lines(rows)).encode())
    for number, (map, said) in enumerate(
        (
            ("prompt=qq", "line 1: no field 'qq' .mapped to prompt.; the nearest is 'q'"),
            ("promt=q", "problems have no field 'promt'; did you mean 'prompt'"),
            ("q=prompt", "problems have no field 'q'; did you mean prompt=q"),
            ("prompt", "write field=column"),
            ("prompt=", "a problem needs its prompt"),
            ("prompt=q,answer=extra.final.x", "field 'extra.final.x' .mapped to answer. is null"),
            ("prompt=q,answer=extra.none", "field 'extra.none' .mapped to answer. is null"),
            ("prompt=q,answer=extra.missing", "field 'extra.missing' .mapped to answer. is null"),
            ("prompt=q,answer=list.7", "field 'list.7' .mapped to answer. is null"),
            ("prompt=q,answer=other.final", "no field 'other.final'"),
            ("prompt=q+qq", "no field 'qq' .mapped to prompt"),
            ("prompt=q+extra", "field 'extra' .part of prompt. must be a text"),
            ("prompt=extra", "'extra' must be a text that is not empty, got object"),
            ("prompt=q,answer=extra", "--map answer=extra.final"),
            ("prompt=q,domain=list", "field 'list' must be a text"),
        )
    ):
        yield Case(f"map {number}", str(path), said, map)
