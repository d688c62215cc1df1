"""Programs × tests: one outcome per cell, every test run also after one has failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from filters.sandbox.checks import Check
from filters.sandbox.jobs import Limits, Runner
from filters.sandbox.judging import Cell, Planned, judge, plan

MAX_RESTARTS = 16  # of one program after crashes and timeouts; what is left then counts as failed like the last


def run_matrix(
    runner: Runner, programs: Sequence[str], groups: Sequence[Sequence[Check]], *, setup: str = "", entry: str = "", limits: Limits | None = None
) -> list[list[Cell]]:
    """cells[p][t] for program p and test t (the worst of the test's checks). Equal programs run once.

    A program that dies or hangs in one call is started again behind it, so one bad cell does not spoil its row.
    """
    checks = [check for group in groups for check in group]
    unique = list(dict.fromkeys(programs))
    cells: dict[str, dict[int, Cell]] = {p: {} for p in unique}
    waiting = [(p, item) for p in unique for item in plan(p, checks, setup=setup, entry=entry, limits=limits)]
    for restart in range(MAX_RESTARTS + 1):
        if not waiting:
            break
        results = runner.run([item[0] for _, item in waiting])
        again: list[tuple[str, Planned]] = []
        for (program, item), result in zip(waiting, results):
            found = judge(checks, item, result)
            reached = len(result.records)  # the first record says that the program was loaded
            job, indices = item
            stopped = job.kind == "calls" and 1 <= reached <= len(indices) and result.status != "broken" and _loaded(result.records)
            if stopped and restart < MAX_RESTARTS:
                cells[program].update(zip(indices[:reached], found[:reached]))
                if reached < len(indices):
                    again.append((program, (replace(job, calls=job.calls[reached:]), indices[reached:])))
            else:
                cells[program].update(zip(indices, found))
        waiting = again
    rows = []
    for program in programs:
        row, at = [], 0
        for group in groups:
            row.append(_worst([cells[program][i] for i in range(at, at + len(group))]))
            at += len(group)
        rows.append(row)
    return rows


def _loaded(records: tuple[bytes, ...]) -> bool:
    return records[0] == b'["loaded"]'


def _worst(cells: list[Cell]) -> Cell:
    order = ("broken", "error", "timeout", "fail", "pass")
    return min(cells, key=lambda c: order.index(c.outcome))
