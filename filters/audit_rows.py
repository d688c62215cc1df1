"""Rows of `synth audit`: anyone's data set, a problem a line, audited in killable workers.

A row: `{"prompt", "answer" | "reference", "verifier"?, "spec"?, "oracle"?}`; `oracle` is a response that must be accepted, where the
reference alone does not make one. Rows of programs (`code` and `tests`) need the `code` verifier: their reference solution is `code`.
An item for a worker holds the row and the rows before it, whose answers must be refused.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data.errors import UserError
from data.problems_io import parse_line, problem_from_row, read_lines
from data.records import Problem, with_problem
from filters.audit import EXECUTION_AUDITS, AuditRecord, audit_problem
from filters.verifiers.base import check_spec, get_verifier, verifier_names

NEIGHBOURS = 3
LIKE = '{"prompt": "…", "answer": "42", "verifier": "math"}'


def read_problem(line: bytes, where: str, verifier: str = "math") -> Problem | None:
    """The problem of a line, None where it is blank; `verifier` where the row names none. UserError says what is wrong."""
    row = parse_line(line, where, LIKE)
    if row is None:
        return None
    name = row.get("verifier") or ("code" if "tests" in row else verifier)
    if not isinstance(name, str):
        raise UserError(f"{where}: field 'verifier' must be a text")
    if name == "code":
        row = _program(row, where)
    try:
        needs_answer = getattr(get_verifier(name), "needs_reference", True)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    problem = problem_from_row({**row, "verifier": name}, where, needs_answer=needs_answer and name != "code")
    if wrong := check_spec(name, problem.spec):
        raise UserError(f"{where}: {wrong}")
    if isinstance(row.get("oracle"), str):
        problem = with_problem(problem, meta={**problem.meta, "oracle": row["oracle"]})
    return problem


def _program(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A row of a program as a problem of the `code` verifier."""
    if "code" not in verifier_names():
        raise UserError(f"{where}: a row of a program needs the code verifier, which is not installed here")
    spec = dict(row.get("spec") or {})
    if "tests" in row:
        spec["tests"] = row["tests"]
    if "tests" not in spec:
        raise UserError(f"{where}: field 'tests' is missing; a program is judged by its tests")
    program = row.get("code") or row.get("answer") or row.get("reference")
    found = {k: v for k, v in row.items() if k not in ("tests", "code", "answer", "reference")} | {"spec": spec}
    found.setdefault("prompt", "Write the program that passes the tests.")
    return found | ({"oracle": f"```python\n{program}\n```"} if isinstance(program, str) else {})


def program_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, row) of the rows that hold a program and tests, as `filters.suites.audit_rows` takes them: a spec's settings lie flat beside."""
    for number, line in read_lines(file):
        row = parse_line(line, f"{file}, line {number}", LIKE)
        if row is None:
            continue
        spec = row.get("spec") or {}
        tests, program = row.get("tests", spec.get("tests")), row.get("code") or row.get("answer") or row.get("reference")
        if tests and isinstance(program, str):
            yield number, {**spec, **row, "id": str(row.get("id", f"line {number}")), "tests": tests, "code": program}


def items(lines: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
    """Items for `audit_work`: [number, line, the lines before it] as JSON."""
    before: deque[str] = deque(maxlen=NEIGHBOURS)
    for number, line in lines:
        text = line.decode("utf-8", "surrogateescape").strip()
        if text:
            yield json.dumps([number, text, list(before)]).encode()
            before.append(text)


def audit_work(file: str, verifier: str) -> Callable[[list[bytes]], list[bytes]]:
    """Answers each item with its audit record as JSON, or with {"wrong": sentence}."""
    seen: Counter[str] = Counter()

    def work(given: list[bytes]) -> list[bytes]:
        return [json.dumps(answer(item)).encode() for item in given]

    def answer(item: bytes) -> dict[str, Any]:
        number, text, before = json.loads(item)
        try:
            problem = _problem(text, f"{file}, line {number}")
            others = [_problem(t, "") for t in before]
        except UserError as error:
            return {"wrong": str(error)}
        seen[problem.verifier] += 1
        record = audit_problem(problem, others, execution=seen[problem.verifier] <= EXECUTION_AUDITS)
        return {"line": number, **asdict(record)}

    def _problem(text: str, where: str) -> Problem:
        problem = read_problem(text.encode("utf-8", "surrogateescape"), where, verifier)
        if problem is None:
            raise UserError(f"{where}: the line is blank")
        return problem

    return work


def rescued(item: bytes, why: str, file: str, verifier: str) -> bytes:
    """The record of a problem whose audit did not come back."""
    number, text, _ = json.loads(item)
    problem = read_problem(text.encode("utf-8", "surrogateescape"), f"{file}, line {number}", verifier) or Problem("")
    record = AuditRecord(problem.id, problem.verifier, True, False, 0, 0, 0, 0, 0, 0, 1, 0.0, False, f"the audit did not come back: {why}", False)
    return json.dumps({"line": number, **asdict(record)}).encode()
