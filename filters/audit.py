"""Generic audits of a problem's verifier: it must accept the reference, refuse junk and other problems' answers, and never break.

Why: reasoning-gym 0.1.25 gives full marks to any non-empty string in one task and to "0" in two more, and raises on junk in three;
a data set whose judge can be fooled so cheaply must not reach training. Works with every verifier that `filters.verifiers` knows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

import polars as pl

from data.records import Outcome, Problem
from filters.verifiers.base import Verifier, get_verifier

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
    exceptions: int
    slowest_ms: float  # CPU time of the slowest verdict
    passed: bool
    reason: str


def numbered_answer(problem: Problem) -> str:
    """The reference, stated as the final answer of a response."""
    return f"#### {problem.reference}"


def audit_problem(
    problem: Problem,
    others: Sequence[Problem] = (),
    *,
    oracle: Callable[[Problem], str] = numbered_answer,
    time_limit_ms: float = TIME_LIMIT_MS,
) -> AuditRecord:
    """Audit the verifier on one problem. `others`: problems whose answers must be refused unless they equal this one's.

    Two references are different answers when the verifier itself, asked about either, does not accept the other: so an other
    problem counts only if *its* verifier refuses this problem's oracle; one-sided acceptance is what the audit is after.
    """
    verifier = get_verifier(problem.verifier)
    why = verifier.check_problem(problem)
    watch = _Watch(verifier)
    accepted = watch.ask(problem, oracle(problem))
    junk = [text for text in (*JUNK, problem.prompt) if text.strip() != problem.reference.strip()]
    junk_accepted = [text for text in junk if watch.ask(problem, text) == "pass"]
    tried = [o for o in others if o.reference.strip() != problem.reference.strip() and o.verifier == problem.verifier]
    verdicts = [watch.ask(problem, oracle(o)) for o in tried]
    wrongly = [o for o, v in zip(tried, verdicts, strict=True) if v == "pass" and watch.ask(o, oracle(problem)) != "pass"]
    reasons = [
        f"cannot be judged: {why}" if why else "",
        "" if accepted == "pass" else f"the reference itself gets {accepted}",
        f"junk accepted: {junk_accepted[0][:40]!r}" if junk_accepted else "",
        f"another problem's answer accepted: {wrongly[0].reference[:40]!r}" if wrongly else "",
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
        exceptions=watch.exceptions,
        slowest_ms=watch.slowest,
        passed=not reason,
        reason=reason,
    )


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


def audit_problems(
    problems: Iterable[Problem], *, neighbours: int = 4, oracle: Callable[[Problem], str] = numbered_answer, time_limit_ms: float = TIME_LIMIT_MS
) -> list[AuditRecord]:
    """Audit each problem against the answers of the `neighbours` problems that follow it, the last ones wrapping round."""
    listed = list(problems)
    records = []
    for i, problem in enumerate(listed):
        others = [listed[(i + step) % len(listed)] for step in range(1, min(neighbours, len(listed) - 1) + 1)]
        records.append(audit_problem(problem, others, oracle=oracle, time_limit_ms=time_limit_ms))
    return records


def audit_table(records: Sequence[AuditRecord]) -> pl.DataFrame:
    """One row per verifier: problems, passed, and how many failed each audit."""
    schema = {
        "problem_id": pl.String,
        "verifier": pl.String,
        **dict.fromkeys(("judged", "oracle_accepted"), pl.Boolean),
        **dict.fromkeys(("junk_accepted", "junk_tried", "others_accepted", "others_tried", "others_unknown", "exceptions"), pl.Int64),
        "slowest_ms": pl.Float64,
        "passed": pl.Boolean,
        "reason": pl.String,
    }
    return (
        pl.DataFrame([asdict(r) for r in records], schema=schema)
        .group_by("verifier")
        .agg(
            problems=pl.len(),
            passed=pl.col("passed").sum(),
            unjudged=(~pl.col("judged")).sum(),
            oracle_refused=(~pl.col("oracle_accepted")).sum(),
            junk_accepted=(pl.col("junk_accepted") > 0).sum(),
            others_accepted=(pl.col("others_accepted") > 0).sum(),
            exceptions=pl.col("exceptions").sum(),
            slowest_ms=pl.col("slowest_ms").max(),
        )
        .sort("verifier")
    )
