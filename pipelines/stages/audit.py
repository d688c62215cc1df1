"""audit: candidates and their checks are examined before anything is trained on them.

Rules, in order; a candidate falls at the first it breaks, and the decision row names it: `heldout` (it gives a held-out problem
away, see `filters.decontaminate`; the row names the problem and the shared words), `duplicate` (its text is known already),
`verifier` (the generic audits: its verifier can work with its reference and accepts it, and refuses junk and other problems'
answers).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from data.records import Problem
from filters.audit import audit_problem
from filters.decontaminate import Hit
from filters.dedup import normalise_texts, normalised
from pipelines.problems import problems_by_id
from pipelines.run import Run
from pipelines.stages.base import Summary

SHARD = 200
COLUMNS = ("candidate_id", "problem_id", "strategy", "parents", "domain", "level")
NEIGHBOURS = 3
"""Other candidates whose answers each candidate's verifier must refuse."""


def audit_stage(run: Run, round: int) -> Summary:
    candidates = run.lake.query(
        f"SELECT {', '.join(COLUMNS)} FROM decisions WHERE round = ? AND stage = 'synthesize' AND kept ORDER BY candidate_id", (round,)
    )
    ids = candidates["problem_id"].to_list()
    problems = {p.id: p for p in problems_by_id(run, sorted(set(ids)))}
    texts = texts_of(list(problems.values()))
    distinct = list(problems.values())
    hits = dict(zip(problems, run.heldout.hits([p.prompt for p in distinct]), strict=True))
    first = first_of(ids, texts, known_texts(run, round, texts))
    shards = range(0, len(ids), SHARD)
    for shard, start in enumerate(shards):
        if not run.lake.has_shard(round, "audit", shard):
            chunk = candidates.slice(start, SHARD)
            judged = list(judge([problems[i] for i in ids], range(start, start + chunk.height), hits, first))
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


def known_texts(run: Run, round: int, texts: Mapping[str, str]) -> set[str]:
    """Those of `texts` that a training problem of an earlier round has."""
    earlier = run.lake.query("SELECT prompt FROM problems WHERE round < ? AND split = 'train'", (round,))
    known = earlier.select(text=normalised(pl.col("prompt"))).filter(pl.col("text").is_in(list(texts.values())))
    return set(known["text"].to_list())


def first_of(ids: Sequence[str], texts: Mapping[str, str], earlier: set[str]) -> set[int]:
    """Positions of candidates whose text nobody had before: neither an earlier round nor an earlier position."""
    seen, first = set(earlier), set()
    for position, problem_id in enumerate(ids):
        if texts[problem_id] not in seen:
            seen.add(texts[problem_id])
            first.add(position)
    return first


def judge(problems: Sequence[Problem], positions: range, hits: Mapping[str, Hit | None], first: set[int]) -> Iterator[tuple[str, str]]:
    """(rule, why it is refused or '') for the candidates at `positions`; `hits` by problem id."""
    for position in positions:
        problem = problems[position]
        hit = hits[problem.id]
        if hit is not None:
            yield "heldout", hit.reason
        elif position not in first:
            yield "duplicate", "its text is that of an earlier problem"
        else:
            others = [problems[(position + k) % len(problems)] for k in range(1, NEIGHBOURS + 1)]
            yield "verifier", audit_problem(problem, [p for p in others if p.id != problem.id]).reason
