"""synthesize: every strategy proposes candidates; each is a shard of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from data.records import Candidate, Completion, Generate, Request
from data.tables import check_row, problem_row
from filters.tables import decision_row
from generators.strategies.base import RoundContext, Strategy
from pipelines.problems import problems_by_id
from pipelines.run import Run
from pipelines.stages.base import Summary
from pipelines.stages.estimate import band


def synthesize_stage(run: Run, round: int) -> Summary:
    counts: dict[str, int] = {}
    for shard, strategy in enumerate(run.strategies):
        if not run.lake.has_shard(round, "synthesize", shard):
            _propose(run, round, shard, strategy)
        run.emit("progress", round=round, stage="synthesize", done=shard + 1, total=len(run.strategies), note=strategy.name)
    rows = run.lake.query(
        "SELECT strategy, count(*) FROM decisions WHERE round = ? AND stage = 'synthesize' GROUP BY ALL ORDER BY ALL", (round,)
    ).rows()
    counts.update({name: int(count) for name, count in rows})
    return {"candidates": sum(counts.values()), "by_strategy": counts}


def _propose(run: Run, round: int, shard: int, strategy: Strategy) -> None:
    candidates: dict[str, Candidate] = {}
    asked: set[str] = set()  # requests that the strategy made: they belong to this shard

    def generate(requests: Iterable[Request]) -> Iterator[Completion]:
        listed = list(requests)
        asked.update(r.key for r in listed)
        return run.engine().generate(listed)

    for candidate in strategy.propose(_context(run, round, strategy, generate)):
        candidates.setdefault(candidate.id, candidate)
    problems = {c.problem.id: c.problem for c in candidates.values()}
    known = run.lake.known_ids("problems", sorted(problems))
    where: dict[str, Any] = {"round": round, "stage": "synthesize", "shard": shard}
    checks = {check.id: check for c in candidates.values() for check in c.checks}
    run.lake.commit(
        round,
        "synthesize",
        shard,
        {
            "problems": [problem_row(p, round, "synthesize") for i, p in sorted(problems.items()) if i not in known],
            "requests": run.ledger.rows(sorted(asked), **where),
            "checks": [check_row(check, round, "synthesize") for _, check in sorted(checks.items())],
            "decisions": [decision_row(c, "proposed", True, c.reason, **where) for _, c in sorted(candidates.items())],
        },
        {"strategy": strategy.name, "candidates": len(candidates)},
    )


def _context(run: Run, round: int, strategy: Strategy, generate: Generate) -> RoundContext:
    recipe = run.recipe
    part = recipe.strategies[strategy.name]
    difficulty = run.lake.query(
        """
        SELECT problem_id, domain, level, concepts, passes, n, pass_rate, policy_id, round FROM difficulty
        WHERE round <= ? ORDER BY round, problem_id
        """,
        (round,),
    )
    ids = difficulty["problem_id"].unique().sort().to_list()
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
        embed=lambda texts: run.engine().embed(texts),
        world=run.world,
        render=run.render,
        settings=part.model_dump(),
    )
