"""synthesize: every strategy proposes candidates; each is a shard of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from data.records import Candidate, Completion, Generate, Request, with_problem
from data.tables import check_row, problem_row
from filters.tables import decision_row
from generators.embedding import embedder
from generators.strategies.base import RoundContext, Strategy
from pipelines.history import rollout_history
from pipelines.problems import problems_by_id
from pipelines.run import Run
from pipelines.stages.base import Summary
from pipelines.stages.estimate import band
from pipelines.teacher import Teachers


def synthesize_stage(run: Run, round: int) -> Summary:
    counts: dict[str, int] = {}
    for shard, strategy in enumerate(run.strategies):
        if not run.lake.has_shard(round, "synthesize", shard):
            _propose(run, round, shard, strategy)
        run.emit("progress", round=round, stage="synthesize", done=shard + 1, total=len(run.strategies), note=strategy.name)
    rows = run.lake.query(
        "SELECT strategy, count(*) FROM decisions WHERE round = ? AND stage = 'synthesize' AND kept GROUP BY ALL ORDER BY ALL", (round,)
    ).rows()
    counts.update({name: int(count) for name, count in rows})
    refused = run.lake.query(
        "SELECT rule, count(*) FROM decisions WHERE round = ? AND stage = 'synthesize' AND NOT kept GROUP BY ALL ORDER BY ALL", (round,)
    ).rows()
    told = {"refused": {rule: int(count) for rule, count in refused}} if refused else {}
    return {"candidates": sum(counts.values()), "by_strategy": counts, **told}


def _propose(run: Run, round: int, shard: int, strategy: Strategy) -> None:
    candidates: dict[str, Candidate] = {}
    asked: set[str] = set()  # requests that the strategy made: they belong to this shard

    def generate(requests: Iterable[Request]) -> Iterator[Completion]:
        return run.engine().generate(noted(requests))

    def noted(requests: Iterable[Request]) -> Iterator[Request]:
        for request in requests:
            asked.add(request.key)
            yield request

    teachers = Teachers(run, asked.add)
    context = _context(run, round, strategy, generate, teachers)
    try:
        for candidate in strategy.propose(context):
            candidates.setdefault(candidate.id, candidate)
    finally:
        teachers.close()
    decided = {(d.rule, d.candidate.id): d for d in context.decided}
    problems = {d.candidate.problem.id: with_problem(d.candidate.problem, split="refused") for d in decided.values() if not d.kept}
    problems |= {c.problem.id: c.problem for c in candidates.values()}
    known = run.lake.known_ids("problems", sorted(problems))
    where: dict[str, Any] = {"round": round, "stage": "synthesize", "shard": shard}
    checks = {check.id: check for c in candidates.values() for check in c.checks}
    decisions = [decision_row(d.candidate, d.rule, d.kept, d.reason, **where) for _, d in sorted(decided.items())]
    run.lake.commit(
        round,
        "synthesize",
        shard,
        {
            "problems": [problem_row(p, round, "synthesize") for i, p in sorted(problems.items()) if i not in known],
            "requests": run.ledger.rows(sorted(asked), **where),
            "checks": [check_row(check, round, "synthesize") for _, check in sorted(checks.items())],
            "decisions": [*decisions, *(decision_row(c, "proposed", True, c.reason, **where) for _, c in sorted(candidates.items()))],
        },
        {"strategy": strategy.name, "candidates": len(candidates)},
    )


def _context(run: Run, round: int, strategy: Strategy, generate: Generate, teachers: Teachers) -> RoundContext:
    recipe = run.recipe
    part = recipe.strategies[strategy.name]
    difficulty = run.lake.query(
        """
        SELECT problem_id, domain, level, concepts, passes, n, pass_rate, policy_id, round FROM difficulty
        WHERE round <= ? ORDER BY round, problem_id
        """,
        (round,),
    )
    history = rollout_history(run.lake, round)
    ids = sorted({*difficulty["problem_id"].to_list(), *history["problem_id"].to_list()})
    inside = band(run)
    return RoundContext(
        round=round,
        seed=recipe.seed,
        budget=part.budget,
        difficulty=difficulty,
        problems={p.id: p for p in problems_by_id(run, ids)},
        band=(float(inside.lo), float(inside.hi)),
        group_size=recipe.train.group_size,
        policy_id=run.policy().id,
        sampling=recipe.sampling.sampling(),
        generate=generate,
        embed=(lambda texts: run.engine().embed(texts)) if recipe.engine.answering == "local" else None,  # a server that generates embeds nothing
        world=run.world,
        render=run.render,
        settings=part.model_dump(),
        history=history,
        model=run.model,
        dialect=recipe.policy.dialect,
        structured=recipe.policy.dialect == "instruct" and "structured" in run.engine().capabilities,
        teacher=teachers,
        embedder=embedder,
        heldout=lambda texts: [hit.reason if hit else "" for hit in run.heldout.hits(texts)] if texts else [],
        solutions=lambda ids: solutions(run, round, ids),
    )


def solutions(run: Run, round: int, ids: Sequence[str]) -> dict[str, str]:
    """A right answer of the policy to each of those problems that this round's probe saw solved: the first by sample index."""
    rows = run.lake.query(
        """
        SELECT t.problem_id, arg_min(t.text, (t.sample, t.rollout_id)) AS text FROM trajectories t JOIN verdicts v USING (rollout_id)
        WHERE t.round = ? AND t.stage = 'probe' AND v.outcome = 'pass' AND t.problem_id IN (SELECT unnest(?)) GROUP BY ALL ORDER BY 1
        """,
        (round, list(ids)),
    )
    return dict(rows.iter_rows())
