"""Generic audits of a problem's verifier: it must accept the reference, refuse junk and other problems' answers, execute nothing, never break.

Why: reasoning-gym 0.1.25 gives full marks to any non-empty string in one task and to "0" in two more, and raises on junk in three;
a data set whose judge can be fooled so cheaply must not reach training. Works with every verifier that `filters.verifiers` knows.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

import polars as pl

from data.ids import canonical_json
from data.records import Outcome, Problem
from filters.audit_execution import canary_file, executions, payloads
from filters.verifiers.base import NO_TOOLS, Tools, Verifier, bound, get_verifier

JUNK: tuple[str, ...] = (
    "",
    " ",
    "I don't know",
    "####",
    "\\boxed{}",
    "<answer></answer>",
    "The answer is",
    "Thought process:",
    ":",
    ".",
    "None",
    "nan",
    "#### " + "x" * 10_000,
    "1 " * 50_000,
    "{" * 20_000,
)
"""Answers that are right for no problem: empty, the "master keys" that fool judges (arXiv 2507.08794), and large texts."""

TIME_LIMIT_MS = 2_000.0
EXECUTION_AUDITS = 50


@dataclass(frozen=True)
class AuditRecord:
    """One problem's audit. `passed` is all of: judged, oracle accepted, nothing wrong accepted, no exception, in time."""

    problem_id: str
    verifier: str
    judged: bool  # check_problem had nothing against it
    oracle_accepted: bool
    junk_accepted: int
    junk_tried: int
    others_accepted: int
    others_tried: int
    others_unknown: int
    executed: int  # payloads that were executed
    exceptions: int
    slowest_ms: float  # CPU time of the slowest verdict
    passed: bool
    reason: str
    has_oracle: bool = True  # whether there is a response that must be accepted


def known_answer(problem: Problem) -> str | None:
    """A response that must be accepted: the row's own `oracle`, what the verifier builds, else the reference as final answer; None if none."""
    if "oracle" in problem.meta:
        return str(problem.meta["oracle"])
    build: Callable[[Problem], str] | None = getattr(get_verifier(problem.verifier), "oracle", None)
    if build is not None:
        return build(problem)
    needed = getattr(get_verifier(problem.verifier), "needs_reference", True)
    return f"#### {problem.reference}" if needed else None


def audit_problem(
    problem: Problem,
    others: Sequence[Problem] = (),
    *,
    oracle: Callable[[Problem], str | None] = known_answer,
    tools: Tools = NO_TOOLS,
    execution: bool = False,
    time_limit_ms: float = TIME_LIMIT_MS,
) -> AuditRecord:
    """Audit the verifier on one problem. `others`: problems whose answers must be refused unless they equal this one's.

    Two references are different answers when the verifier itself, asked about either, does not accept the other: so an other
    problem counts only if *its* verifier refuses this problem's oracle; one-sided acceptance is what the audit is after.
    execution: also try the payloads of `filters.audit_execution`; a property of the verifier rather than of the problem, and slower.
    Verifiers that check an answer outright (`outright`) may rightly accept another problem's; those that judge form only
    (`form_only`) may rightly accept words without sense.
    """
    verifier = bound(get_verifier(problem.verifier), tools)
    why = verifier.check_problem(problem)
    watch = _Watch(verifier)
    right = oracle(problem) if tools.generate is not None or not getattr(verifier, "asks_model", False) else None
    accepted = watch.ask(problem, right) if right is not None else None
    junk = [text for text in _junk(problem, form_only=getattr(verifier, "form_only", False)) if text != right]
    junk_accepted = [text for text in junk if watch.ask(problem, text) == "pass"]
    tried = [(o, answer) for o in _rivals(problem, others, verifier) if (answer := oracle(o)) is not None and right is not None]
    verdicts = [watch.ask(problem, answer) for _, answer in tried]
    wrongly = [o for (o, _), v in zip(tried, verdicts, strict=True) if v == "pass" and watch.ask(o, right or "") != "pass"]
    executed = watch.executed(problem) if execution else []
    reasons = [
        f"cannot be judged: {why}" if why else "",
        "" if accepted in ("pass", None) else f"the reference itself gets {accepted}",
        f"junk accepted: {junk_accepted[0][:40]!r}" if junk_accepted else "",
        f"another problem's answer accepted: {wrongly[0].reference[:40]!r}" if wrongly else "",
        f"a response was executed: {executed[0][:60]!r}" if executed else "",
        f"the verifier broke {watch.exceptions} times: {watch.error}" if watch.exceptions else "",
        f"a verdict took more than {time_limit_ms:g} ms" if watch.slowest > time_limit_ms else "",
    ]
    reason = "; ".join(r for r in reasons if r)
    return AuditRecord(
        problem_id=problem.id,
        verifier=problem.verifier,
        judged=not why,
        oracle_accepted=accepted == "pass",
        junk_accepted=len(junk_accepted),
        junk_tried=len(junk),
        others_accepted=len(wrongly),
        others_tried=len(tried),
        others_unknown=sum(v == "unknown" for v in verdicts),
        executed=len(executed),
        exceptions=watch.exceptions,
        slowest_ms=watch.slowest,
        passed=not reason,
        reason=reason,
        has_oracle=right is not None,
    )


def _junk(problem: Problem, *, form_only: bool) -> list[str]:
    """Junk that is no right answer here: not the reference, nor a text that the problem's own settings name ("None" may be an option)."""
    if form_only:
        return ["", " "]
    named = canonical_json(dict(problem.spec)).casefold()
    known = (problem.reference.strip().casefold(), "")
    texts = (*JUNK, problem.prompt) if problem.prompt.strip() else JUNK
    return [t for t in texts if not t.strip() or (t.strip().casefold() not in known and f'"{t.strip().casefold()}"' not in named)]


def _rivals(problem: Problem, others: Sequence[Problem], verifier: Verifier) -> list[Problem]:
    if getattr(verifier, "outright", False):
        return []
    return [o for o in others if o.reference.strip() != problem.reference.strip() and o.verifier == problem.verifier]


class _Watch:
    """Asks a verifier and keeps count of what must not happen. Time is this thread's CPU time: a busy host makes no judge slow."""

    def __init__(self, verifier: Verifier) -> None:
        self.verifier = verifier
        self.exceptions, self.slowest, self.error = 0, 0.0, ""

    def ask(self, problem: Problem, response: str) -> Outcome:
        start = time.thread_time()
        try:
            outcome = self.verifier.verify(problem, response).outcome
        except Exception as error:  # noqa: BLE001 - that it raises is the finding
            self.exceptions, self.error, outcome = self.exceptions + 1, f"{type(error).__name__}: {error}"[:120], "unknown"
        self.slowest = max(self.slowest, (time.thread_time() - start) * 1e3)
        return outcome

    def executed(self, problem: Problem) -> list[str]:
        """Payloads that left their file behind, or made the interpreter run code of theirs."""
        found = []
        with canary_file() as canary:
            texts = payloads(canary)
            for text in texts:
                with executions(canary) as heard:
                    self.ask(problem, text)
                if heard or canary.exists():
                    found.append(text)
                    canary.unlink(missing_ok=True)
        return found


def audit_problems(
    problems: Iterable[Problem],
    *,
    neighbours: int = 4,
    oracle: Callable[[Problem], str | None] = known_answer,
    tools: Tools = NO_TOOLS,
    time_limit_ms: float = TIME_LIMIT_MS,
) -> list[AuditRecord]:
    """Audit each problem against the answers of the `neighbours` problems that follow it, the last ones wrapping round.

    The first `EXECUTION_AUDITS` problems of each verifier are also given payloads to execute.
    """
    listed = list(problems)
    seen: Counter[str] = Counter()
    records = []
    for i, problem in enumerate(listed):
        others = [listed[(i + step) % len(listed)] for step in range(1, min(neighbours, len(listed) - 1) + 1)]
        seen[problem.verifier] += 1
        execution = seen[problem.verifier] <= EXECUTION_AUDITS
        records.append(audit_problem(problem, others, oracle=oracle, tools=tools, execution=execution, time_limit_ms=time_limit_ms))
    return records


def audit_table(records: Sequence[AuditRecord]) -> pl.DataFrame:
    """One row per verifier: problems, passed, and how many failed each audit."""
    schema = {
        "problem_id": pl.String,
        "verifier": pl.String,
        **dict.fromkeys(("judged", "oracle_accepted"), pl.Boolean),
        **dict.fromkeys(("junk_accepted", "junk_tried", "others_accepted", "others_tried", "others_unknown", "executed", "exceptions"), pl.Int64),
        "slowest_ms": pl.Float64,
        "passed": pl.Boolean,
        "reason": pl.String,
        "has_oracle": pl.Boolean,
    }
    return (
        pl.DataFrame([asdict(r) for r in records], schema=schema)
        .group_by("verifier")
        .agg(
            problems=pl.len(),
            passed=pl.col("passed").sum(),
            unjudged=(~pl.col("judged")).sum(),
            without_oracle=(~pl.col("has_oracle")).sum(),
            oracle_refused=(pl.col("has_oracle") & ~pl.col("oracle_accepted")).sum(),
            junk_accepted=(pl.col("junk_accepted") > 0).sum(),
            others_accepted=(pl.col("others_accepted") > 0).sum(),
            executed=(pl.col("executed") > 0).sum(),
            exceptions=pl.col("exceptions").sum(),
            slowest_ms=pl.col("slowest_ms").max(),
        )
        .sort("verifier")
    )
