"""Programs × tests: one outcome per cell, every test run also after one has failed."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from filters.sandbox import wire
from filters.sandbox.checks import Check
from filters.sandbox.jobs import Limits, Runner, results
from filters.sandbox.judging import Cell, Planned, judge, plan

MAX_RESTARTS, MAX_HANGS = 8, 3  # of one program, after crashes and after timeouts; what is left then counts as failed like the last
SHARD = 256  # programs whose jobs are given to the sandbox together
CACHED = 20_000  # rows kept in memory

_rows: OrderedDict[str, list[Cell]] = OrderedDict()


def run_matrix(
    runner: Runner, programs: Sequence[str], groups: Sequence[Sequence[Check]], *, setup: str = "", entry: str = "", limits: Limits | None = None
) -> list[list[Cell]]:
    """cells[p][t] for program p and test t (the worst of the test's checks)."""
    return list(stream_matrix(runner, programs, groups, setup=setup, entry=entry, limits=limits))


def stream_matrix(
    runner: Runner, programs: Sequence[str], groups: Sequence[Sequence[Check]], *, setup: str = "", entry: str = "", limits: Limits | None = None
) -> Iterator[list[Cell]]:
    """Rows of the matrix in the programs' order, a shard of programs at a time: who stores them as they come loses one shard when killed.

    Equal programs run once, and so does a program that was asked about before with the same tests (in this process; lost jobs are not kept).
    A program that dies or hangs in one call is started again behind it, so one bad cell does not spoil its row.
    """
    tests = repr((runner.isolation, [[_identity(c) for c in group] for group in groups], setup, entry, limits))
    checks = [check for group in groups for check in group]
    for start in range(0, len(programs), SHARD):
        shard = programs[start : start + SHARD]
        keys = {p: hashlib.blake2b(f"{tests}\0{p}".encode("utf-8", "surrogatepass"), digest_size=16).hexdigest() for p in dict.fromkeys(shard)}
        rows = {p: _rows[k] for p, k in keys.items() if k in _rows}
        fresh = [p for p in keys if p not in rows]
        for program, cells in _run_shard(runner, fresh, checks, setup=setup, entry=entry, limits=limits).items():
            rows[program] = _by_test(cells, groups)
            if not any(c.outcome == "broken" for c in rows[program]):
                _rows[keys[program]] = rows[program]
        while len(_rows) > CACHED:
            _rows.popitem(last=False)
        yield from (rows[p] for p in shard)


def _identity(check: Check) -> tuple[Any, ...]:
    """What makes a check this one; the expected value as the wire writes it, for `repr` refuses integers of many digits."""
    return (replace(check, expected=None), wire.dumps(check.expected))


def _run_shard(runner: Runner, programs: Sequence[str], checks: Sequence[Check], **context: Any) -> dict[str, dict[int, Cell]]:
    """program -> check -> cell."""
    cells: dict[str, dict[int, Cell]] = {p: {} for p in programs}
    waiting = [(p, item) for p in programs for item in plan(p, checks, **context)]
    for restart in range(MAX_RESTARTS + 1):
        if not waiting:
            break
        again: list[tuple[str, Planned]] = []
        for (program, item), result in zip(waiting, results(runner, [item[0] for _, item in waiting])):
            found = judge(checks, item, result)
            reached = len(result.records)  # the first record says that the program was loaded
            job, indices = item
            stopped = job.kind == "calls" and 1 <= reached < len(indices) and result.status != "broken" and _loaded(result.records)
            if stopped and restart < (MAX_HANGS if result.status == "timeout" else MAX_RESTARTS):
                cells[program].update(zip(indices[:reached], found[:reached]))
                again.append((program, (replace(job, calls=job.calls[reached:]), indices[reached:])))
            else:
                cells[program].update(zip(indices, found))
        waiting = again
    return cells


def _by_test(cells: dict[int, Cell], groups: Sequence[Sequence[Check]]) -> list[Cell]:
    row, at = [], 0
    for group in groups:
        row.append(_worst([cells[i] for i in range(at, at + len(group))]))
        at += len(group)
    return row


def _loaded(records: tuple[bytes, ...]) -> bool:
    return records[0] == b'["loaded"]'


def _worst(cells: list[Cell]) -> Cell:
    order = ("broken", "error", "timeout", "fail", "pass")
    return min(cells, key=lambda c: order.index(c.outcome))
