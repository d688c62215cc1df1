"""The `code` verifier: runs a program against its tests in the sandbox and believes only values that were compared outside of it.

A problem's `spec`: {"tests": [{"call": "f(1, 2)", "expected": 3} | {"input": stdin, "expected": stdout} | {"script": "assert f(1) == 2"}],
"entry"?: the function asked for, "setup"?: code that runs after the program, "prefix"?: code put before a response that does not define the entry,
"time_limit"?: CPU seconds per test, "rtol"?, "atol"?: float tolerance, "reward"?: "fraction" for the share of tests passed}.
`problem.reference`, where it is a program that passes its own tests, sets the deadlines: ten times what it needs itself, two seconds at least.
Where it is itself out of time, a program that is only late is `unknown`.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from data.errors import SynthError, UserError
from data.ids import content_hash
from data.records import Outcome, Problem, Verdict
from filters.sandbox.checks import Check, read_checks
from filters.sandbox.compare import ATOL, RTOL
from filters.sandbox.jobs import Limits, Runner, results
from filters.sandbox.judging import BESIDE, Cell, Planned, judge, plan
from filters.sandbox.remote import open_runner
from filters.verifiers.base import register_verifier

REFERENCE_FACTOR, REFERENCE_FLOOR = 10.0, 2.0
REFERENCE_LIMITS = Limits(test=60.0, total=300.0)
MAX_PROGRAM = 200_000  # characters
CACHED = 50_000

_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})[ \t]*([\w+#.-]*)[^\n]*\n(.*?)^[ \t]*\1[ \t]*$", re.M | re.S)


def extract_program(response: str, entry: str = "") -> str:
    """The program in a response: the last fenced Python block (one that defines `entry`, if any does), else the text itself."""
    text = response.replace("\r\n", "\n")
    if "```" not in text and "~~~" not in text:
        return text
    blocks = [(language.lower(), body) for _, language, body in _FENCE.findall(text)]
    python = [body for language, body in blocks if language in ("python", "py", "python3", "")] or [body for _, body in blocks]
    if not python:  # a fence that was never closed: the answer ended early
        return re.split(r"^[ \t]*(?:```|~~~)[^\n]*\n", text, maxsplit=1, flags=re.M)[-1]
    return next((body for body in reversed(python) if defines(body, entry)), python[-1])


def defines(program: str, entry: str) -> bool:
    name = re.escape(entry)
    return bool(entry) and re.search(rf"^(?:async[ \t]+)?(?:def|class)[ \t]+{name}\b|^{name}[ \t]*[:=]", program, re.M) is not None


@dataclass
class _Case:
    """One response on its way to a verdict."""

    problem: Problem
    program: str
    groups: list[list[Check]]  # the checks of each test
    limits: Limits
    planned: list[Planned]
    cells: dict[int, Cell]
    cpu: float = 0.0

    @property
    def checks(self) -> list[Check]:
        return [check for group in self.groups for check in group]

    def waiting(self, all_of_them: bool) -> list[Planned]:
        """Jobs still to run: none once a check has failed, unless every test counts."""
        if not all_of_them and any(c.outcome != "pass" for c in self.cells.values()):
            return []
        return [p for p in self.planned if p[1][0] not in self.cells]


class CodeVerifier:
    """Judges programs; batches keep every zygote busy. `runner` is where they run: this host's sandbox unless given (see `sandbox.remote`)."""

    name = "code"
    needs_reference = False
    deadline_s = 300.0  # of a row of `synth verify`: the sandbox keeps shorter ones itself

    def __init__(self, runner: Callable[[], Runner] | None = None) -> None:
        self._open = runner or open_runner
        self._cache: OrderedDict[str, Verdict] = OrderedDict()
        self._limits: dict[str, Limits] = {}
        self._slow: set[str] = set()  # problems whose reference itself is out of time or memory: a program's being so says nothing there
        self._lock = threading.Lock()

    def check_problem(self, problem: Problem) -> str:
        try:
            groups = self._groups(problem)
            self._limits_of(problem)
        except UserError as error:
            return str(error)
        return "" if any(groups) else "a program needs at least one test"

    def oracle(self, problem: Problem) -> str | None:
        """A response that must pass: the reference, where it is a program."""
        return problem.reference if _is_program(problem) else None

    def verify(self, problem: Problem, response: str) -> Verdict:
        return self.verify_batch([(problem, response)])[0]

    def verify_batch(self, pairs: Sequence[tuple[Problem, str]]) -> list[Verdict]:
        """Verdicts in order. Equal (problem, program) pairs run once. A problem whose tests cannot be read is `unknown`."""
        with self._lock:
            keys = [content_hash("code", p.id, r) for p, r in pairs]
            fresh = {k: pair for k, pair in zip(keys, pairs) if k not in self._cache}
            judged = dict(zip(fresh, self._judge(list(fresh.values()))))
            verdicts = [judged[k] if k in judged else self._cache[k] for k in keys]
            self._cache.update((k, v) for k, v in judged.items() if v.outcome != "unknown")
            while len(self._cache) > CACHED:
                self._cache.popitem(last=False)
        return verdicts

    def outcomes(self, problem: Problem, programs: Sequence[str]) -> list[list[Cell]]:
        """Per program, one cell per test (every test is run): what the matrices of `filters.suites` are made of."""
        from filters.sandbox.matrix import run_matrix

        groups = self._groups(problem)
        runner = self._open()
        self._time_references(runner, [problem])
        spec = problem.spec
        setup, entry = str(spec.get("setup", "")), str(spec.get("entry", ""))
        return run_matrix(runner, programs, groups, setup=setup, entry=entry, limits=self._limits_of(problem))

    # --- how a batch is judged --------------------------------------------------------------------------------------------------------------

    def _judge(self, pairs: list[tuple[Problem, str]]) -> list[Verdict]:
        verdicts: dict[int, Verdict] = {}
        cases: dict[int, _Case] = {}
        readable = []
        for i, (problem, response) in enumerate(pairs):
            why = self.check_problem(problem)
            program = extract_program(response, str(problem.spec.get("entry", "")))
            if why:
                verdicts[i] = Verdict("unknown", 0.0, why[:300], self.name)
            elif not program.strip() or len(program) > MAX_PROGRAM or "\0" in program:
                verdicts[i] = Verdict("fail", 0.0, "no program" if not program.strip() else "not a program that can be read", self.name)
            else:
                readable.append((i, problem, program))
        if not readable:
            return [verdicts[i] for i in range(len(pairs))]
        runner = self._open()
        self._time_references(runner, [p for _, p, _ in readable])
        for i, problem, program in readable:
            cases[i] = self._case(problem, program)
        self._run(runner, [c.planned[:1] for c in cases.values()], list(cases.values()))
        self._run(runner, [c.waiting(_counts_all(c.problem)) for c in cases.values()], list(cases.values()))
        verdicts.update((i, self._verdict(case, runner.isolation)) for i, case in cases.items())
        return [verdicts[i] for i in range(len(pairs))]

    def _run(self, runner: Runner, wanted: list[list[Planned]], cases: list[_Case]) -> None:
        """Run these jobs of each case. A job that missed a deadline with half its CPU time unused, or one set by a reference, is run once more with
        twice the time: a verdict must not hang on how busy the host was."""
        for again in (False, True):
            flat = [(case, item) for case, items in zip(cases, wanted) for item in items]
            late: dict[int, list[Planned]] = {}
            for (case, item), result in zip(flat, results(runner, [item[0] for _, item in flat])):
                case.cpu += result.cpu
                case.cells.update(zip(item[1], judge(case.checks, item, result)))
                near = result.cpu < case.limits.test / 2 or case.limits.test < Limits().test
                if result.status == "timeout" and near and not again:
                    limits = replace(item[0].limits, test=2 * item[0].limits.test, total=2 * item[0].limits.total)
                    late.setdefault(id(case), []).append((replace(item[0], limits=limits), item[1]))
            wanted = [late.get(id(case), []) for case in cases]

    def _case(self, problem: Problem, program: str) -> _Case:
        spec, groups, limits = problem.spec, self._groups(problem), self._limits_of(problem)
        entry = str(spec.get("entry", ""))
        if spec.get("prefix") and not defines(program, entry):
            program = f"{spec['prefix']}{program}"
        elif spec.get("prefix"):  # imports and helpers of the prompt that a full solution may lean on
            program = f"{_preamble(str(spec['prefix']), entry)}{program}"
        checks = [check for group in groups for check in group]
        seed = int(spec.get("seed", 0))
        planned = plan(program, checks, setup=str(spec.get("setup", "")), entry=entry, limits=limits, seed=seed)
        return _Case(problem, program, groups, limits, planned, {})

    def _verdict(self, case: _Case, isolation: str) -> Verdict:
        tests, at = [], 0
        for group in case.groups:
            tests.append([case.cells.get(i) for i in range(at, at + len(group))])
            at += len(group)
        done = [cell for cells in tests for cell in cells if cell is not None]
        passed = [all(c is not None and c.outcome == "pass" for c in cells) for cells in tests]
        outcome: Outcome = "pass" if all(passed) else "unknown" if all(c.outcome in ("pass", "broken") for c in done) else "fail"
        slow = outcome == "fail" and case.problem.id in self._slow and all(_unfinished(c) or c.outcome == "pass" for c in done)
        outcome = "unknown" if slow else outcome
        reward = float(outcome == "pass")
        if _counts_all(case.problem) and outcome == "fail":
            reward = sum(passed) / len(passed)
        bad = next((i for i, cells in enumerate(tests) if any(c is not None and c.outcome != "pass" for c in cells)), None)
        reason = f"all {len(tests)} tests passed"
        if bad is not None:
            cell = next(c for c in tests[bad] if c is not None and c.outcome != "pass")
            reason = f"test {bad + 1} of {len(tests)}: {cell.outcome}: {cell.detail}"
        if slow:
            reason = f"its reference itself takes more than {REFERENCE_LIMITS.test:g} s or the memory there is; {reason}"
        weak = BESIDE if any(check.kind == "beside" for check in case.checks) else ""
        said, ms = _printable(reason), 1e3 * case.cpu
        return Verdict(outcome, reward, said, self.name, problem_id=case.problem.id, ms=ms, isolation=isolation, integrity=weak)

    # --- what a problem says ----------------------------------------------------------------------------------------------------------------

    def _groups(self, problem: Problem) -> list[list[Check]]:
        spec = problem.spec
        tests = spec.get("tests") or ()
        if not isinstance(tests, Sequence) or isinstance(tests, str):
            raise UserError(f'"tests" must be a list, got {type(tests).__name__}')
        try:
            given = {"rtol": float(spec.get("rtol", RTOL)), "atol": float(spec.get("atol", spec.get("tolerance", ATOL)))}
            return read_checks(tests, entry=str(spec.get("entry", "")), **given)
        except (TypeError, ValueError) as error:
            raise UserError(f"the problem's tolerances must be numbers: {error}") from None

    def _limits_of(self, problem: Problem) -> Limits:
        given: Any = problem.spec.get("time_limit")
        if given is not None:
            try:
                seconds = min(max(float(given), 0.05), 600.0)
            except (TypeError, ValueError):
                raise UserError(f'"time_limit" must be CPU seconds per test, got {given!r}') from None
            return Limits(test=seconds, total=max(6 * seconds, 10.0))
        return self._limits.get(problem.id, Limits())

    def _time_references(self, runner: Runner, problems: Sequence[Problem]) -> None:
        """Deadlines for problems that bring a reference program and no limit of their own."""
        fresh = {p.id: p for p in problems if p.id not in self._limits and "time_limit" not in p.spec and _is_program(p)}
        if not fresh:
            return
        cases = []
        for problem in fresh.values():
            case = self._case(problem, extract_program(problem.reference, str(problem.spec.get("entry", ""))))
            case.planned = [(replace(job, limits=REFERENCE_LIMITS), indices) for job, indices in case.planned]
            cases.append(case)
        flat = [(case, item) for case in cases for item in case.planned]
        slowest: dict[str, tuple[float, float]] = {}
        for (case, item), result in zip(flat, results(runner, [item[0] for _, item in flat])):
            case.cells.update(zip(item[1], judge(case.checks, item, result)))
            most, total = slowest.get(case.problem.id, (0.0, 0.0))
            slowest[case.problem.id] = max(most, *result.times, 0.0), max(total, result.cpu)
        for case in cases:
            most, total = slowest[case.problem.id]
            held = all(c.outcome == "pass" for c in case.cells.values())
            if not held and all(_unfinished(c) or c.outcome == "pass" for c in case.cells.values()):
                self._slow.add(case.problem.id)
            test = max(REFERENCE_FLOOR, REFERENCE_FACTOR * most)
            self._limits[case.problem.id] = Limits(test, max(10.0, test, REFERENCE_FACTOR * total)) if held else Limits()


def _unfinished(cell: Cell) -> bool:
    """Whether time or memory ended it, not what it computed."""
    return cell.outcome == "timeout" or (cell.outcome == "error" and " raised MemoryError" in cell.detail)


def _counts_all(problem: Problem) -> bool:
    return problem.spec.get("reward") == "fraction"


def _is_program(problem: Problem) -> bool:
    text, entry = problem.reference, str(problem.spec.get("entry", ""))
    return bool(text.strip()) and (defines(text, entry) or bool(re.search(r"^(?:def|class|import|from|print)\b|\binput\(", text, re.M)))


def _preamble(prefix: str, entry: str) -> str:
    """What stands before the entry in a prompt: its imports and helper functions."""
    found = re.search(rf"^(?:async[ \t]+)?def[ \t]+{re.escape(entry)}\b", prefix, re.M)
    return prefix[: found.start()] if found else ""


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:300]


register_verifier("code", CodeVerifier)

__all__ = ["CodeVerifier", "SynthError", "extract_program"]
