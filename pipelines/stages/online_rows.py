"""What strategies made and decided inside a training step, as rows: every problem asked about is in `problems`, every decision has its reason.

Such problems have the split `online`: nothing probes, selects or evaluates them later.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from data.records import GroupEdit, Problem, RolloutSpec, with_problem
from data.tables import problem_row
from filters.tables import decision_row
from generators.strategies.base import Decision


def online_tables(
    asked: Iterable[RolloutSpec], decided: Sequence[Decision], known: Collection[str], *, round: int, step: int
) -> dict[str, list[dict[str, Any]]]:
    """Rows of `problems` and `decisions` of one step. `asked`: its specs; `known`: ids of problems that the lake has already."""
    made: dict[str, Problem] = {}
    for problem in [*(spec.problem for spec in asked), *(d.candidate.problem for d in decided)]:
        if problem.id not in known:
            made.setdefault(problem.id, with_problem(problem, split="online"))
    rows = {(d.rule, d.candidate.id): decision_row(d.candidate, d.rule, d.kept, d.reason, round=round, stage="train", shard=step) for d in decided}
    return {"problems": [problem_row(p, round, "train") for _, p in sorted(made.items())], "decisions": [rows[key] for key in sorted(rows)]}


def trained_rewards(edits: Iterable[GroupEdit], rollouts: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Reward by rollout id where a strategy set another than the verifier's; `rollouts`: ids per group, as judged."""
    found: dict[str, float] = {}
    for edit in edits:
        if edit.kind == "add" and edit.group is not None:
            found |= {r.id: float(reward) for r, reward in zip(edit.group.rollouts, edit.group.rewards, strict=True)}
        elif edit.kind == "set_reward" and edit.rewards is not None:
            ids = rollouts.get(edit.group_id, ())
            if len(ids) == len(edit.rewards):
                found |= {i: float(reward) for i, reward in zip(ids, edit.rewards, strict=True)}
    return found
