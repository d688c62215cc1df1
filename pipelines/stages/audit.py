"""audit: candidates and their checks are examined before anything is trained on them.

Rules, in order; a candidate falls at the first it breaks, and the decision row names it: `heldout` (its text is a held-out
problem's), `duplicate` (its text is known already), `verifier` (the generic audits: its verifier can work with its
reference and accepts it, and refuses junk and other problems' answers).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from data.records import Problem
from filters.audit import audit_problem
from filters.dedup import normalise_texts
from pipelines.problems import heldout_problems, problems_by_id
from pipelines.run import Run
from pipelines.stages.base import Summary

SHARD = 200
COLUMNS = ("candidate_id", "problem_id", "strategy", "parents", "domain", "level")
NEIGHBOURS = 3
"""Other candidates whose answers each candidate's verifier must refuse."""


def audit_stage(run: Run, round: int) -> Summary:
    candidates = run.lake.query(
        f"SELECT {', '.join(COLUMNS)} FROM decisions WHERE round = ? AND stage = 'synthesize' ORDER BY candidate_id", (round,)
    )
    ids = candidates["problem_id"].to_list()
    problems = {p.id: p for p in problems_by_id(run, sorted(set(ids)))}
    texts = texts_of(list(problems.values()))
    heldout = set(texts_of(heldout_problems(run)).values())
    earlier = run.lake.query("SELECT prompt FROM problems WHERE round < ? AND split = 'train'", (round,))["prompt"].to_list()
    first = first_of(ids, texts, set(normalise_texts(earlier)))
    shards = range(0, len(ids), SHARD)
    for shard, start in enumerate(shards):
        if not run.lake.has_shard(round, "audit", shard):
            chunk = candidates.slice(start, SHARD)
            judged = list(judge([problems[i] for i in ids], range(start, start + chunk.height), texts, heldout, first))
            decisions = chunk.with_columns(
                pl.Series("rule", [rule for rule, _ in judged], pl.String),
                pl.Series("kept", [not why for _, why in judged], pl.Boolean),
                pl.Series("reason", [why or "passed every audit" for _, why in judged], pl.String),
            )
            run.lake.commit(round, "audit", shard, {"decisions": decisions})
        run.emit("progress", round=round, stage="audit", done=shard + 1, total=len(shards))
    counts = run.lake.query(
        "SELECT rule, count(*) FROM decisions WHERE round = ? AND stage = 'audit' AND NOT kept GROUP BY ALL ORDER BY ALL", (round,)
    )
    refused = {rule: int(count) for rule, count in counts.iter_rows()}
    return {"candidates": len(ids), "kept": len(ids) - sum(refused.values()), "refused": refused}


def texts_of(problems: Sequence[Problem]) -> dict[str, str]:
    """Normalised prompt by problem id."""
    return dict(zip([p.id for p in problems], normalise_texts([p.prompt for p in problems]), strict=True))


def first_of(ids: Sequence[str], texts: Mapping[str, str], earlier: set[str]) -> set[int]:
    """Positions of candidates whose text nobody had before: neither an earlier round nor an earlier position."""
    seen, first = set(earlier), set()
    for position, problem_id in enumerate(ids):
        if texts[problem_id] not in seen:
            seen.add(texts[problem_id])
            first.add(position)
    return first


def judge(problems: Sequence[Problem], positions: range, texts: Mapping[str, str], heldout: set[str], first: set[int]) -> Iterator[tuple[str, str]]:
    """(rule, why it is refused or '') for the candidates at `positions`."""
    for position in positions:
        problem = problems[position]
        if texts[problem.id] in heldout:
            yield "heldout", "its text is that of a held-out problem"
        elif position not in first:
            yield "duplicate", "its text is that of an earlier problem"
        else:
            others = [problems[(position + k) % len(problems)] for k in range(1, NEIGHBOURS + 1)]
            yield "verifier", audit_problem(problem, [p for p in others if p.id != problem.id]).reason
