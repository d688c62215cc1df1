"""From a program and its checks to jobs, and from what the jobs emitted to an outcome per check."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal

from filters.sandbox import wire
from filters.sandbox.checks import Check
from filters.sandbox.compare import holds, same_text
from filters.sandbox.jobs import Job, Limits, Result

CellOutcome = Literal["pass", "fail", "error", "timeout", "broken"]
BESIDE = "a test script ran in the program's own process"
MAX_ECHO = 120


@dataclass(frozen=True)
class Cell:
    """How one program did on one check: its value was right or wrong, it raised or ended, it took too long, or the sandbox lost it."""

    outcome: CellOutcome
    detail: str = ""


Planned = tuple[Job, tuple[int, ...]]  # a job and which checks it answers


def plan(code: str, checks: Sequence[Check], *, setup: str = "", entry: str = "", limits: Limits | None = None, seed: int = 0) -> list[Planned]:
    """Calls share one process (as the asserts of a script do), everything else has its own."""
    base = Job("calls", code, setup=setup, entry=entry, limits=limits or Limits(), seed=seed)
    jobs: list[Planned] = []
    calls: dict[str, list[int]] = {}
    for i, check in enumerate(checks):
        if check.kind == "call":
            calls.setdefault(check.setup, []).append(i)
    for imports, group in calls.items():
        given = "\n".join(part for part in (setup, imports) if part)
        jobs.append((replace(base, calls=tuple(checks[i].text for i in group), setup=given), tuple(group)))
    for i, check in enumerate(checks):
        if check.kind == "stdin":
            jobs.append((replace(base, kind="stdin", stdin=check.text), (i,)))
        elif check.kind in ("judge", "beside"):
            jobs.append((replace(base, kind=check.kind, script=check.text, names=check.names), (i,)))
    return jobs


def judge(checks: Sequence[Check], planned: Planned, result: Result) -> list[Cell]:
    """One cell per check that the job answers. Only complete, well-formed records count; silence is never a pass."""
    job, indices = planned
    if result.status == "broken":
        return [Cell("broken", "the sandbox lost this job")] * len(indices)
    if job.kind == "stdin":
        return [_judge_stdin(checks[indices[0]], result)]
    records = [_record(r) for r in result.records]
    loaded = bool(records) and records[0] == ["loaded"]
    if not loaded:
        return [_ended(result, records[0] if records else None, "while it was loaded")] * len(indices)
    if job.kind in ("judge", "beside"):
        last = records[1] if len(records) > 1 else None
        if last == ["pass"] and result.status == "ended":
            return [Cell("pass")]
        failed = last is not None and last[0] == "x" and last[1] == "AssertionError"
        return [Cell("fail", _said("an assert failed", last)) if failed else _ended(result, last, "in the test script")]
    cells = []
    for place, index in enumerate(indices, start=1):
        record = records[place] if place < len(records) else None
        cells.append(_judge_call(checks[index], record, result))
    return cells


def _record(raw: bytes) -> Any:
    try:
        data = json.loads(raw.decode())  # as text: json would guess the encoding of bytes
    except (ValueError, RecursionError):
        return ["?"]
    return data if isinstance(data, list) and data and isinstance(data[0], str) else ["?"]


def _judge_call(check: Check, record: Any, result: Result) -> Cell:
    if record is not None and record[0] == "x":
        kind = str(record[1]) if len(record) > 1 else ""
        if check.op == "raises":
            return Cell("pass") if kind == check.expected else Cell("fail", f"{check.text[:MAX_ECHO]} raised {kind}, not {check.expected}")
        return Cell("error", _said(f"{check.text[:MAX_ECHO]} raised", record))
    if record is None or record[0] != "v" or len(record) != 2:
        return _ended(result, None, f"in {check.text[:MAX_ECHO]}")
    try:
        got = wire.decode(record[1])
    except (wire.WireError, ValueError, TypeError, RecursionError, ArithmeticError, AttributeError):
        return Cell("error", f"{check.text[:MAX_ECHO]} gave a value that cannot be read")
    if check.op == "raises":
        return Cell("fail", f"{check.text[:MAX_ECHO]} raised nothing, expected {check.expected}")
    how = {"rtol": check.rtol, "atol": check.atol, "from_json": check.from_json}
    if holds(check.op, check.expected, got, **how):
        return Cell("pass")
    relation = "expected" if check.op == "==" else f"expected {check.op}"
    wanted = "" if check.op in ("true", "false") else f" {_short(check.expected)}"
    return Cell("fail", f"{check.text[:MAX_ECHO]} gave {_short(got)}, {relation}{wanted}")


def _judge_stdin(check: Check, result: Result) -> Cell:
    record = _record(result.records[0]) if result.records else None
    if record != ["done"]:
        return _ended(result, record, "on this input")
    if result.status != "ended":
        return _ended(result, None, "on this input")
    got = result.stdout.decode("utf-8", "replace")
    if same_text(check.expected, got, check.rtol, check.atol):
        return Cell("pass")
    return Cell("fail", f"printed {_short(got)}, expected {_short(check.expected)}")


def _ended(result: Result, record: Any, where: str) -> Cell:
    if record is not None and record[0] == "x":
        return Cell("error", _said(f"raised {where}:", record))
    if result.status == "timeout":
        return Cell("timeout", f"took too long {where} ({result.cpu:.1f} s of CPU time)")
    if result.status == "output":
        return Cell("error", f"wrote too much {where}")
    by = f" by signal {result.signal}" if result.signal else ""
    return Cell("error", f"ended{by} {where}")


def _said(what: str, record: Any) -> str:
    return " ".join(part for part in (what, *(str(p) for p in record[1:3] if p)) if part)[:300]


class _Shown(reprlib.Repr):
    """`repr`, but of an iterator what it would give: its address would differ in every run that tells the same."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 20
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdeque = self.maxdict = self.maxstring = self.maxlong = MAX_ECHO
        self.maxother = MAX_ECHO

    def repr_list_iterator(self, value: Any, level: int) -> str:
        return f"iterator over {self.repr1(list(islice(value, MAX_ECHO)), level)}"


_SHOWN = _Shown()


def _short(value: Any) -> str:
    try:
        text = repr(value)
        if " object at 0x" in text:
            text = _SHOWN.repr(value)
    except (ValueError, RecursionError):  # an int of more digits than Python prints
        text = f"a {type(value).__name__}"
    return text if len(text) <= MAX_ECHO else text[: MAX_ECHO - 1] + "…"
