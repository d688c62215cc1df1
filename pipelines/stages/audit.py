"""audit: candidates and their checks are examined before anything is trained on them.

Rules, in order; a candidate falls at the first it breaks, and each leaves its decision row: `unjudgeable` (its verifier
cannot work with its reference), `heldout` (its text is a held-out problem's), `duplicate` (its text is known already),
`verifier` (the generic audits: the reference is accepted, junk and other problems' answers are refused).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from data.records import Problem
from filters.audit import audit_problem
from filters.dedup import normalise
from filters.tables import decision_row
from filters.verifiers.base import get_verifier
from pipelines.problems import heldout_problems, problems_by_id
from pipelines.run import Run
from pipelines.stages.base import Summary

SHARD = 500


def audit_stage(run: Run, round: int) -> Summary:
    rows = run.lake.query(
        "SELECT candidate_id, problem_id, strategy, parents FROM decisions WHERE round = ? AND stage = 'synthesize' ORDER BY candidate_id", (round,)
    )
    candidates = list(rows.iter_rows(named=True))
    problems = {p.id: p for p in problems_by_id(run, sorted({c["problem_id"] for c in candidates}))}
    heldout = {normalise(p.prompt) for p in heldout_problems(run)}
    known = {normalise(text) for (text,) in run.lake.query("SELECT prompt FROM problems WHERE round < ? AND split = 'train'", (round,)).iter_rows()}
    shards = [candidates[i : i + SHARD] for i in range(0, len(candidates), SHARD)]
    for shard, chunk in enumerate(shards):
        where = {"round": round, "stage": "audit", "shard": shard}
        judged = list(_judge(chunk, problems, heldout, known))  # also while resuming: later shards need `known`
        if not run.lake.has_shard(round, "audit", shard):
            decisions = [
                decision_row(
                    **{k: c[k] for k in ("candidate_id", "problem_id", "strategy", "parents")}, rule=rule, kept=not reason, reason=reason, **where
                )
                for c, rule, reason in judged
            ]
            run.lake.commit(round, "audit", shard, {"decisions": decisions})
        run.emit("progress", round=round, stage="audit", done=shard + 1, total=len(shards))
    counts = run.lake.query(
        "SELECT rule, kept, count(*) FROM decisions WHERE round = ? AND stage = 'audit' GROUP BY ALL ORDER BY ALL", (round,)
    ).rows()
    refused: Counter[str] = Counter()
    for rule, kept, count in counts:
        if not kept:
            refused[rule] += int(count)
    return {"candidates": len(candidates), "kept": len(candidates) - sum(refused.values()), "refused": dict(sorted(refused.items()))}


def _judge(
    chunk: Sequence[dict[str, Any]], problems: dict[str, Problem], heldout: set[str], known: set[str]
) -> Iterator[tuple[dict[str, Any], str, str]]:
    """(candidate, rule, why it is refused or '') per candidate; adds the texts it keeps to `known`."""
    others = list(problems.values())
    for position, candidate in enumerate(chunk):
        problem = problems[candidate["problem_id"]]
        text = normalise(problem.prompt)
        if why := get_verifier(problem.verifier).check_problem(problem):
            yield candidate, "unjudgeable", why
        elif text in heldout:
            yield candidate, "heldout", "its text is that of a held-out problem"
        elif text in known:
            yield candidate, "duplicate", "its text is that of an earlier problem"
        else:
            neighbours = [others[(position + k) % len(others)] for k in (1, 2, 3)]
            why = audit_problem(problem, others=[p for p in neighbours if p.id != problem.id])
            if not why:
                known.add(text)
            yield candidate, "verifier", why
