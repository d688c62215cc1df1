"""The lake tables of this room: what judged, how hard it was, what was kept and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data.records import Candidate, Problem, Verdict
from data.schema import Column, table
from data.text import storable

VERDICTS = table(
    "verdicts",
    "One row per judged rollout.",
    Column("rollout_id", "VARCHAR", "Rollout that was judged."),
    Column("problem_id", "VARCHAR", "Problem it answers."),
    Column("policy_id", "VARCHAR", "Policy that wrote it."),
    Column("outcome", "VARCHAR", "pass, fail or unknown; unknown is neither of the others and counts in no pass rate."),
    Column("reward", "DOUBLE", "Reward in [0, 1]; 0 where the outcome is unknown."),
    Column("reason", "VARCHAR", "Why, in words."),
    Column("verifier", "VARCHAR", "Verifier that judged."),
    Column("ms", "DOUBLE", "Milliseconds that judging took.", digest=False),
    Column("isolation", "VARCHAR", "Sandbox level, empty where nothing was executed.", digest=False),
    Column("integrity", "VARCHAR", "Why this verdict is weaker than usual, empty where it is not."),
    key=("verifier", "rollout_id"),
)

DIFFICULTY = table(
    "difficulty",
    "One row per probed problem and policy: how many of its judged answers passed.",
    Column("problem_id", "VARCHAR", "Problem."),
    Column("policy_id", "VARCHAR", "Policy that was probed."),
    Column("domain", "VARCHAR", "Category or world family."),
    Column("level", "INTEGER", "World level, 0 = unknown."),
    Column("concepts", "VARCHAR[]", "Concepts the problem states."),
    Column("passes", "BIGINT", "Answers that passed."),
    Column("fails", "BIGINT", "Answers that failed."),
    Column("unknowns", "BIGINT", "Answers that could not be judged; not counted in n."),
    Column("n", "BIGINT", "Judged answers: passes + fails."),
    Column("pass_rate", "DOUBLE", "passes / n, null where n = 0."),
    Column("posterior_mean", "DOUBLE", "Mean of the pass rate's posterior, whose Beta prior is fitted to all problems of the policy."),
    Column("ci_low", "DOUBLE", "Lower end of the 95 % credible interval of the pass rate under that prior."),
    Column("ci_high", "DOUBLE", "Upper end of it."),
    Column("decision", "VARCHAR", "in or out of the recipe's band, or open: more answers would be needed to tell."),
    key=("round", "stage", "policy_id", "problem_id"),
)

DECISIONS = table(
    "decisions",
    "One row per decision on a candidate or problem: kept or refused, by which rule and why.",
    Column("candidate_id", "VARCHAR", "Candidate; the problem's own id where no strategy proposed it in this round."),
    Column("problem_id", "VARCHAR", "Problem the candidate proposes."),
    Column("strategy", "VARCHAR", "Strategy that proposed it, or the problem's source."),
    Column("parents", "VARCHAR[]", "Problems or rollouts it was made from."),
    Column("domain", "VARCHAR", "Category or world family."),
    Column("level", "INTEGER", "World level, 0 = unknown."),
    Column("rule", "VARCHAR", "Rule that decided, e.g. duplicate, heldout, audit, unjudged, band, budget, selected."),
    Column("kept", "BOOLEAN", "Whether it went on past this rule."),
    Column("reason", "VARCHAR", "Why, in words."),
    key=("round", "stage", "rule", "candidate_id"),
)


def verdict_row(verdict: Verdict, policy_id: str, *, round: int, stage: str, shard: int) -> dict[str, Any]:
    return {
        "round": round,
        "stage": stage,
        "shard": shard,
        "rollout_id": verdict.rollout_id,
        "problem_id": verdict.problem_id,
        "policy_id": policy_id,
        "outcome": verdict.outcome,
        "reward": float(verdict.reward),
        "reason": storable(verdict.reason),
        "verifier": verdict.verifier,
        "ms": float(verdict.ms),
        "isolation": verdict.isolation,
        "integrity": verdict.integrity,
    }


def difficulty_row(row: Mapping[str, Any], *, round: int, stage: str, shard: int) -> dict[str, Any]:
    """A row of `filters.difficulty.estimate` with its place in the run."""
    return {"round": round, "stage": stage, "shard": shard, **{name: row.get(name) for name in DIFFICULTY.names[3:]}}


def decision_row(
    subject: Candidate | Problem, rule: str, kept: bool, reason: str, *, round: int, stage: str, shard: int
) -> dict[str, Any]:
    """A decision on a candidate, or on a problem that no strategy proposed (a seed, the user's own)."""
    candidate = subject if isinstance(subject, Candidate) else None
    problem = subject.problem if isinstance(subject, Candidate) else subject
    return {
        "round": round,
        "stage": stage,
        "shard": shard,
        "candidate_id": subject.id,
        "problem_id": problem.id,
        "strategy": candidate.strategy if candidate else problem.source,
        "parents": list(candidate.parents) if candidate else [],
        "domain": problem.domain,
        "level": problem.level,
        "rule": rule,
        "kept": kept,
        "reason": storable(reason),
    }
