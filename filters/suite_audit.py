"""Runs what a suite's measures need: the reference, known right and wrong programs and mutants of the reference, against every test.

A row is `{"id", "code": reference program, "tests": […], "entry"?, "setup"?, "wrong"?: [programs], "right"?: [programs], "strong_tests"?: […]}`.
Mutants that no test rejects are compared with the reference on further inputs (`strong_tests`, and calls grown from the tests' own): those that
agree everywhere count as equivalent and leave the mutation score.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from data.errors import SynthError, UserError
from filters import suites
from filters.mutants import mutants
from filters.near_inputs import near_calls
from filters.sandbox import wire
from filters.sandbox.checks import Check, read_checks
from filters.sandbox.jobs import Job, Limits, Runner
from filters.sandbox.judging import BESIDE, Cell
from filters.sandbox.matrix import run_matrix

MUTANTS, NEAR_CALLS = 16, 32  # per problem


@dataclass(frozen=True)
class SuiteRecord:
    """What one problem's tests are worth. Rates are nan where there was nothing to measure them on."""

    id: str
    tests: int
    reference_accepted: bool
    right: int
    right_accepted: int
    wrong: int  # the pool that the next measures are relative to
    detected: int
    detection_rate: float
    verifier_accuracy: float
    depc: int
    depc_ratio: float
    auc_at_n: float
    kill_rate: float
    correlation: float
    saturation: float
    mutants: int
    mutants_killed: int
    mutants_equivalent: int
    mutation_score: float
    minimal: tuple[int, ...]  # tests that reject what the whole suite rejects
    idle: tuple[int, ...]  # tests that reject nothing
    isolation: str
    integrity: str
    passed: bool
    reason: str


def audit_suites(
    rows: Iterable[Mapping[str, Any]], *, runner: Runner | None = None, mutants_each: int = MUTANTS, near_each: int = NEAR_CALLS
) -> list[SuiteRecord]:
    """One record per row, in order. Raises `UserError` for a row without program or tests."""
    if runner is None:
        from filters.sandbox.levels import open_sandbox

        runner = open_sandbox()
    return [audit_suite(row, runner, where=f"row {i + 1}", mutants_each=mutants_each, near_each=near_each) for i, row in enumerate(rows)]


def audit_suite(
    row: Mapping[str, Any], runner: Runner, *, where: str = "row", mutants_each: int = MUTANTS, near_each: int = NEAR_CALLS
) -> SuiteRecord:
    code, tests = row.get("code"), row.get("tests")
    if not isinstance(code, str) or not isinstance(tests, Sequence) or isinstance(tests, str) or not tests:
        raise UserError(f'{where}: an audit of tests needs "code" (a reference program) and "tests" (a list with at least one)')
    entry, setup = str(row.get("entry", "")), str(row.get("setup", ""))
    try:
        groups = read_checks(tests, entry=entry)
        strong = [c for group in read_checks(row.get("strong_tests") or (), entry=entry) for c in group]
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    right, wrong = _programs(row, "right", where), _programs(row, "wrong", where)
    checks = [c for group in groups for c in group]
    limits = reference_limits(runner, code, checks, setup=setup, entry=entry)
    made = [m.code for m in mutants(code, mutants_each, key=str(row.get("id", where)))]
    context: dict[str, Any] = {"setup": setup, "entry": entry, "limits": limits}
    cells = run_matrix(runner, [code, *right, *wrong, *made], groups, **context)
    accepted = [all(c.outcome == "pass" for c in row_cells) for row_cells in cells]
    first_wrong, first_made = 1 + len(right), 1 + len(right) + len(wrong)
    kills, mutant_kills = kill_matrix(cells[first_wrong:first_made], len(groups)), kill_matrix(cells[first_made:], len(groups))
    equivalent = [bool(a) for a in accepted[first_made:]]
    survivors = [program for program, same in zip(made, equivalent) if same]
    if survivors and accepted[0]:
        calls = near_calls([c.text for c in checks if c.kind == "call"], near_each, key=code)
        further = [*strong, *expected_of_reference(runner, code, calls, **context)]
        found = run_matrix(runner, survivors, [[c] for c in further], **context) if further else [[] for _ in survivors]
        agreeing = {program for program, row_cells in zip(survivors, found) if all(c.outcome == "pass" for c in row_cells)}
        equivalent = [same and program in agreeing for program, same in zip(made, equivalent)]
    pool = kills if wrong else mutant_kills[:, ~np.asarray(equivalent, bool)] if made else kills
    reasons = [
        "" if accepted[0] else f"the reference fails its own tests: {_first_failure(cells[0])}",
        "" if all(accepted[1:first_wrong]) else f"{accepted[1:first_wrong].count(False)} of {len(right)} right programs are refused",
        ""
        if not any(accepted[first_wrong:first_made])
        else f"{accepted[first_wrong:first_made].count(True)} of {len(wrong)} wrong programs are accepted",
    ]
    reason = "; ".join(r for r in reasons if r)
    p, rho = suites.mean_kill_rate(pool), suites.kill_correlation(pool)
    return SuiteRecord(
        id=str(row.get("id", where)),
        tests=len(groups),
        reference_accepted=accepted[0],
        right=len(right),
        right_accepted=sum(accepted[1:first_wrong]),
        wrong=len(wrong),
        detected=int(kills.any(axis=0).sum()),
        detection_rate=suites.detection_rate(kills),
        verifier_accuracy=suites.verifier_accuracy(kills),
        depc=suites.depc(pool),
        depc_ratio=suites.depc_ratio(pool),
        auc_at_n=suites.auc_at_n(suites.accuracy_curve([pool])),
        kill_rate=p,
        correlation=rho,
        saturation=suites.saturation_bound(p, rho) if pool.shape[1] else float("nan"),
        mutants=len(made),
        mutants_killed=int(mutant_kills.any(axis=0).sum()),
        mutants_equivalent=sum(equivalent),
        mutation_score=suites.mutation_score(mutant_kills, equivalent),
        minimal=tuple(suites.greedy_minimal_suite(pool)),
        idle=tuple(int(i) for i in np.flatnonzero(~pool.any(axis=1))) if pool.shape[1] else (),
        isolation=runner.isolation,
        integrity=BESIDE if any(c.kind == "beside" for c in checks) else "",
        passed=not reason,
        reason=reason,
    )


def kill_matrix(cells: Sequence[Sequence[Cell]], tests: int) -> suites.Kills:
    """bool[tests, programs] from cells[program][test]: anything but a pass rejects. A job that the sandbox lost is an error, not a rejection."""
    if any(c.outcome == "broken" for row in cells for c in row):
        raise SynthError("the sandbox lost a program; its tests cannot be audited")
    return np.array([[c.outcome != "pass" for c in row] for row in cells], bool).reshape(len(cells), tests).T


def reference_limits(runner: Runner, code: str, checks: Sequence[Check], *, setup: str = "", entry: str = "") -> Limits:
    """Deadlines for programs that are compared with a reference: ten times its own CPU time, and half a second at least."""
    from filters.sandbox.judging import plan

    jobs = [job for job, _ in plan(code, checks, setup=setup, entry=entry, limits=Limits(60.0, 300.0))]
    results = runner.run(jobs)
    slowest = max((t for r in results for t in r.times), default=0.0)
    total = max((r.cpu for r in results), default=0.0)
    test = max(0.5, 10 * slowest)
    return Limits(test, max(5.0, 2 * test, 10 * total))


def expected_of_reference(
    runner: Runner, code: str, calls: Sequence[str], *, setup: str = "", entry: str = "", limits: Limits | None = None
) -> list[Check]:
    """Checks whose expected values are what the reference gives: calls on which it raises, or gives no plain value twice alike, are left out."""
    if not calls:
        return []
    job = Job("calls", code, calls=tuple(calls), setup=setup, entry=entry, limits=limits or Limits())
    once, twice = runner.run([job, replace(job, seed=1)])
    checks = []
    for call, raw, again in zip(calls, once.records[1:], twice.records[1:]):
        try:
            record = json.loads(raw)
            value = wire.decode(record[1]) if raw == again and record[0] == "v" else wire.Opaque("")
        except (wire.WireError, ValueError, TypeError, RecursionError):
            continue
        if not isinstance(value, wire.Opaque) and not hasattr(value, "__next__"):
            checks.append(Check("call", call, "==", value))
    return checks


def _programs(row: Mapping[str, Any], name: str, where: str) -> list[str]:
    given = row.get(name) or []
    if not isinstance(given, Sequence) or isinstance(given, str) or not all(isinstance(p, str) for p in given):
        raise UserError(f'{where}: "{name}" must be a list of programs')
    return list(given)


def _first_failure(cells: Sequence[Cell]) -> str:
    return next((f"test {i + 1}: {c.detail}" for i, c in enumerate(cells) if c.outcome != "pass"), "")[:200]


def suite_table(records: Sequence[SuiteRecord]) -> pl.DataFrame:
    """One row over all problems: how many, true acceptance, DR (mean and pooled), VAcc, DEPC per test, AUC@N, pooled mutation score."""
    frame = pl.DataFrame([asdict(r) for r in records], infer_schema_length=None)
    known = pl.col("mutants") - pl.col("mutants_equivalent")
    return frame.select(
        problems=pl.len(),
        passed=pl.col("passed").sum(),
        tests=pl.col("tests").sum(),
        reference_refused=(~pl.col("reference_accepted")).sum(),
        right_accepted=pl.col("right_accepted").sum() / pl.col("right").sum(),
        detection_rate=pl.col("detection_rate").fill_nan(None).mean(),
        detection_rate_pooled=pl.col("detected").sum() / pl.col("wrong").sum(),
        verifier_accuracy=pl.col("verifier_accuracy").fill_nan(None).mean(),
        depc_ratio=pl.col("depc_ratio").fill_nan(None).mean(),
        auc_at_n=pl.col("auc_at_n").fill_nan(None).mean(),
        mutants=known.sum(),
        mutation_score=pl.col("mutants_killed").sum() / known.sum(),
    )
