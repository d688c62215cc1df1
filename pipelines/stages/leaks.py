"""The last gate before the trainer: groups that strategies made during a step, whose problems no audit has seen."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from data.records import Candidate, Group
from filters.decontaminate import HeldoutIndex
from filters.tables import decision_row


def refuse_leaks(
    groups: Sequence[Group], audited: Collection[str], heldout: HeldoutIndex, *, round: int, step: int
) -> tuple[list[Group], list[dict[str, Any]]]:
    """(groups that may be trained on, decision rows of the others). `audited`: ids of problems that passed the audit or were seeds."""
    new = [g for g in groups if g.problem.id not in audited]
    hits = {g.id: hit for g, hit in zip(new, heldout.hits([g.problem.prompt for g in new]), strict=True) if hit is not None} if new else {}
    rows = [
        decision_row(Candidate(g.problem, round, g.stream, (g.id,)), "heldout", False, hits[g.id].reason, round=round, stage="train", shard=step)
        for g in new
        if g.id in hits
    ]
    return [g for g in groups if g.id not in hits], rows
