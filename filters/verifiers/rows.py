"""Rows of `synth verify`: JSON lines in, JSON lines out (DESIGN section 8).

In: `{"id", "reference", "response", "prompt"?, "spec"?}` for answers, `{"id", "code", "tests", "prompt"?, "spec"?}` for programs.
Out: `{"id", "verdict", "reward", "reason", "ms"}`, and `isolation` and `integrity` where a verdict carries them.
`check_work` and `verify_work` are what a worker of `filters.verifiers.pool` runs; an item is a line with its number in front.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from data.errors import UserError
from data.problems_io import parse_line, reference_text
from data.records import Problem, Verdict
from data.text import storable
from filters.verifiers.base import NO_TOOLS, Tools, check_spec, get_verifier, verify_all

Row = tuple[Any, Problem, str]
"""id as given, problem, response"""

_encode = json.JSONEncoder(ensure_ascii=False).encode
LIKE = '{"id": 1, "reference": "42", "response": "… \\\\boxed{42}"}'
LIKE_CODE = '{"id": 1, "code": "def f(x): …", "tests": [{"call": "f(1)", "expected": 2}]}'


def read_row(line: bytes, name: str, where: str) -> Row | None:
    """One row for the verifier `name`, None where the line is blank. UserError names the place, the field and what would be right."""
    row = parse_line(line, where, LIKE_CODE if name == "code" else LIKE)
    if row is None:
        return None
    given = row.get("id")
    if given is None or isinstance(given, (dict, list, bool)):
        wrong = "is missing" if given is None else "must be a text or a number"
        raise UserError(f"{where}: field 'id' {wrong}; every row needs one to be found again")
    prompt = _text(row, "prompt", where, default="")
    spec = row.get("spec")
    if spec is not None and not isinstance(spec, dict):
        raise UserError(f"{where}: field 'spec' must be an object with the verifier's settings, got {_show(spec)}")
    spec = dict(spec or {})
    field = "response"
    if name == "code":
        field = "code" if "code" in row or "response" not in row else "response"
        if "tests" in row:
            spec["tests"] = row["tests"]
        elif "tests" not in spec:
            raise UserError(f"{where}: field 'tests' is missing; write {LIKE_CODE}")
    response = _text(row, field, where)
    reference = ""
    if row.get("reference") is not None:
        reference = reference_text(row["reference"], f"{where}: field 'reference'")
    elif name != "code" and getattr(get_verifier(name), "needs_reference", True):
        raise UserError(f"{where}: field 'reference' is missing; write {LIKE}")
    if wrong := check_spec(name, spec):
        raise UserError(f"{where}: {wrong}")
    problem = Problem(prompt, reference, name, spec)
    if name == "code" and (wrong := get_verifier(name).check_problem(problem)):
        raise UserError(f"{where}: {wrong}")
    return given, problem, response


def _text(row: dict[str, Any], name: str, where: str, default: str | None = None) -> str:
    value = row.get(name, default)
    if value is None and name not in row:
        raise UserError(f"{where}: field {name!r} is missing; the row has {', '.join(sorted(row)[:8])}")
    if not isinstance(value, str):
        if value is None and default is not None:
            return default
        raise UserError(f"{where}: field {name!r} must be a text, got {_show(value)}")
    return value


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "…"


def verdict_line(row_id: Any, verdict: Verdict, ms: float) -> bytes:
    """One line of output, without its newline."""
    said: dict[str, Any] = {
        "id": row_id,
        "verdict": verdict.outcome,
        "reward": round(verdict.reward, 6),
        "reason": storable(verdict.reason),
        "ms": round(ms, 3),
    }
    said |= {name: value for name in ("isolation", "integrity") if (value := getattr(verdict, name))}
    return _encode(said).encode("utf-8")


def numbered(number: int, line: bytes) -> bytes:
    """An item for a worker: the line with its number, so that an error can name it."""
    return b"%d %s" % (number, line.strip())


def read_item(item: bytes, name: str, file: str) -> Row | None:
    number, _, line = item.partition(b" ")
    return read_row(line, name, f"{file}, line {int(number)}")


def check_work(name: str, file: str) -> Callable[[list[bytes]], list[bytes]]:
    """Answers b"" to a row that is right, b"-" to a blank line, else the sentence that says what is wrong."""

    def work(items: list[bytes]) -> list[bytes]:
        answers = []
        for item in items:
            try:
                answers.append(b"" if read_item(item, name, file) is not None else b"-")
            except UserError as error:
                answers.append(" ".join(str(error).split()).encode("utf-8", "replace"))
        return answers

    get_verifier(name)
    return work


def verify_work(name: str, file: str, tools: Tools = NO_TOOLS) -> Callable[[list[bytes]], list[bytes]]:
    """Answers a line of output to each row, b"" to a blank or bad line (the check has counted it)."""

    def work(items: list[bytes]) -> list[bytes]:
        rows: list[Row | None] = []
        for item in items:
            try:
                rows.append(read_item(item, name, file))
            except UserError:
                rows.append(None)
        judged = iter(_timed([(row[1], row[2]) for row in rows if row is not None], tools))
        return [b"" if row is None else verdict_line(row[0], *next(judged)) for row in rows]

    get_verifier(name)
    return work


def _timed(pairs: Sequence[tuple[Problem, str]], tools: Tools) -> list[tuple[Verdict, float]]:
    """Verdicts with their milliseconds: the verifier's own where it takes them, else its share of the batch's."""
    start = time.perf_counter()
    verdicts = verify_all(pairs, tools)
    share = (time.perf_counter() - start) * 1e3 / max(1, len(pairs))
    return [(v, v.ms or share) for v in verdicts]


def rescued(item: bytes, why: str, name: str, file: str, ms: float) -> bytes:
    """The line for a row whose judging did not come back."""
    row = read_item(item, name, file)
    return b"" if row is None else verdict_line(row[0], Verdict("unknown", 0.0, why, name), ms)
