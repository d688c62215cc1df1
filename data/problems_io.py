"""The user's own problems, read from a JSON Lines file; every refusal names the file, the line, the field and the remedy."""

from __future__ import annotations

import codecs
import gzip
import json
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data.errors import UserError
from data.records import Problem

PROMPT_FIELDS = ("prompt", "question", "problem")
ANSWER_FIELDS = ("answer", "reference")
MAX_LINE = 10_000_000  # bytes


def read_problems(path: str | Path, *, split: str = "train") -> list[Problem]:
    """Problems of `path` (FILE.jsonl or FILE.jsonl.gz), one JSON object a line, in file order, duplicates included.

    Fields: prompt | question | problem, answer | reference; and if wanted domain | subject, level, concepts, verifier, spec, id.
    An answer with GSM8K's `#### 42` becomes "42", its worked solution goes to meta["solution"]; other fields are not read.
    Raises UserError on the first line that is wrong.
    """
    file = Path(path)
    problems = [problem_from_row(row, f"{file}, line {number}", split=split) for number, row in read_rows(file)]
    if not problems:
        raise UserError(f'{file}: no problems in it; each line should be like {{"prompt": "…", "answer": "42"}}')
    return problems


def read_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of every line that is not blank."""
    for number, line in read_lines(file):
        row = parse_line(line, f"{file}, line {number}")
        if row is not None:
            yield number, row


def read_lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """(line number, line) of a .jsonl or .jsonl.gz file, one line in memory at a time; a byte order mark is taken off."""
    if not file.name.endswith((".jsonl", ".jsonl.gz")):
        raise UserError(f"{file}: not a .jsonl or .jsonl.gz file; give one JSON object per line")
    if not file.exists():
        raise UserError(f"{file}: no such file")
    if file.is_dir():
        raise UserError(f"{file}: is a folder; give a .jsonl or .jsonl.gz file")
    number = 0
    try:
        with gzip.open(file, "rb") if file.name.endswith(".gz") else open(file, "rb") as stream:
            for number, line in enumerate(stream, start=1):
                yield number, line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
    except PermissionError as error:
        raise UserError(f"{file}: no permission to read it") from error
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UserError(f"{file}: not a whole gzip file (it breaks after line {number}); compress it anew or give plain .jsonl") from error


def parse_line(line: bytes, where: str, like: str = '{"prompt": "…", "answer": "…"}') -> dict[str, Any] | None:
    """The JSON object of a line, None where it is blank; `where` (file and line) and `like` (a right row) go into the error."""
    if len(line) > MAX_LINE:
        raise UserError(f"{where}: longer than {MAX_LINE:,} bytes; a problem must be on a line of its own")
    try:
        text = line.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not UTF-8 (byte {error.start + 1}); save the file as UTF-8") from error
    if not text:
        return None
    try:
        row = _decode(text)
        if "\\u" in text:  # an escape may name half a pair, which no table can store
            json.dumps(row, ensure_ascii=False).encode()
            if "\\u0000" in text:
                raise UserError(f"{where}: holds a NUL character (\\u0000), which no table can store; leave it out")
    except UnicodeEncodeError as error:
        raise UserError(f"{where}: holds half of a surrogate pair (\\ud8xx), which is no character; write the character itself") from error
    except (ValueError, RecursionError) as error:  # not JSON, NaN, or a number of thousands of digits
        torn = " (the line seems to be cut off)" if not text.endswith("}") else ""
        column = f" at column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise UserError(f"{where}: not JSON{column}{torn}; each line must be one JSON object") from error
    if not isinstance(row, dict):
        raise UserError(f"{where}: a JSON {_json_type(row)}, not an object; write {like}")
    return row


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_decode = json.JSONDecoder(parse_constant=_no_constant).decode


def problem_from_row(row: Mapping[str, Any], where: str, *, split: str = "train", needs_answer: bool = True) -> Problem:
    """One problem; `where` (file and line) goes into the error. needs_answer: false where its verifier can do without a reference."""
    prompt_field, prompt = _first_field(row, PROMPT_FIELDS, where)
    if not isinstance(prompt, str) or not prompt.strip():
        raise UserError(f"{where}: field {prompt_field!r} must be a text that is not empty, got {_show(prompt)}")
    answer_field, reference = "answer", ""
    if needs_answer or any(row.get(name) is not None for name in ANSWER_FIELDS):
        answer_field, answer = _first_field(row, ANSWER_FIELDS, where)
        reference = reference_text(answer, f"{where}: field {answer_field!r}")
    meta: dict[str, Any] = {}
    if "####" in reference:
        solution, _, reference = reference.rpartition("####")
        meta["solution"], reference = solution.strip(), reference.strip()
        if not reference:
            raise UserError(f"{where}: field {answer_field!r} has nothing after its '####'")
    elif answer_field == "answer" and isinstance(row.get("solution"), str):
        meta["solution"] = row["solution"]
    if "id" in row:
        meta["user_id"] = str(row["id"])
    return Problem(
        prompt=prompt.strip(),
        reference=reference,
        verifier=_typed(row, "verifier", str, "a text", "math", where),
        spec=_typed(row, "spec", dict, "an object", {}, where),
        domain=_typed(row, "domain", str, "a text", _typed(row, "subject", str, "a text", "", where), where),
        level=_level(row.get("level"), where),
        concepts=_concepts(row.get("concepts"), where),
        source="user",
        split="heldout" if split == "heldout" else "train",
        meta=meta,
    )


def _first_field(row: Mapping[str, Any], names: Sequence[str], where: str) -> tuple[str, Any]:
    for name in names:
        if row.get(name) is not None:
            return name, row[name]
    raise UserError(f"{where}: no field {' or '.join(repr(n) for n in names)}; the row has {', '.join(sorted(map(str, row))[:8]) or 'no fields'}")


def reference_text(answer: Any, where: str) -> str:
    """A reference as text; numbers as a person writes them (3.0 is "3")."""
    if isinstance(answer, bool) or not isinstance(answer, (str, int, float)):
        raise UserError(f"{where} must be a text or a number, got {_show(answer)}")
    if isinstance(answer, float):
        if not math.isfinite(answer):
            raise UserError(f"{where} must be a finite number, got {answer}")
        return str(int(answer)) if answer.is_integer() and abs(answer) < 1e15 else repr(answer)
    if not str(answer).strip():
        raise UserError(f"{where} is empty; give the final answer")
    return str(answer).strip()


def _typed(row: Mapping[str, Any], name: str, kind: type, wanted: str, default: Any, where: str) -> Any:
    value = row.get(name)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise UserError(f"{where}: field {name!r} must be {wanted}, got {_show(value)}")
    return value


def _level(value: Any, where: str) -> int:
    """3, "3" and MATH's "Level 3" alike; 0 where none is given."""
    if value is None:
        return 0
    text = str(value).removeprefix("Level ").strip()
    if isinstance(value, bool) or not text.isascii() or not text.isdigit() or len(text) > 6:
        raise UserError(f"{where}: field 'level' must be a whole number from 0, got {_show(value)}")
    return int(text)


def _concepts(value: Any, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise UserError(f"{where}: field 'concepts' must be a list of texts, got {_show(value)}")
    return tuple(value)


def _json_type(value: Any) -> str:
    return {list: "list", str: "text", int: "number", float: "number", bool: "boolean", type(None): "null"}.get(type(value), type(value).__name__)


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return f"{_json_type(value)} {text if len(text) <= 40 else text[:37] + '…'}" if value is not None else "null"


def summarise(
    problems: Iterable[Problem], *, check: Callable[[Problem], str] | None = None, kind: Callable[[str], str] | None = None
) -> dict[str, Any]:
    """What a file of problems holds: rows, distinct, duplicates, unparseable (with five examples), answer_kinds, domains, verifiers.

    `check` says why a problem cannot be judged ("" where it can) and `kind` names the kind of a reference; both come from the room
    above (`get_verifier(p.verifier).check_problem`, `filters.verifiers.math.reference_kind`).
    """
    listed = list(problems)
    refused = [(p, why) for p in listed if (why := check(p) if check else "")]
    distinct = len({p.id for p in listed})
    return {
        "rows": len(listed),
        "distinct": distinct,
        "duplicates": len(listed) - distinct,
        "unparseable": len(refused),
        "unparseable_examples": [{"problem_id": p.id, "reference": p.reference[:80], "reason": why} for p, why in refused[:5]],
        "answer_kinds": dict(sorted(Counter(kind(p.reference) for p in listed).items())) if kind else {},
        "domains": dict(sorted(Counter(p.domain for p in listed).items())),
        "verifiers": dict(sorted(Counter(p.verifier for p in listed).items())),
    }
