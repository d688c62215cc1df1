"""What of each strategy's candidates got through which rule, and whether the references of those that got through are right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import polars as pl

from data.lake import Lake
from filters.verifiers.base import verify_all
from filters.verifiers.votes import wilson
from generators.worlds.base import World
from pipelines.report.figure import Section, Table, count, label, percent, share

RULES = (
    "unreadable", "proof", "plan", "copy", "leak", "repeated", "duplicate", "heldout", "quality", "answer", "unjudged", "band", "mixed", "weights",
    "verifier", "budget",
)  # fmt: skip
"""In the order in which candidates meet them within a stage; other rules follow by name."""


@dataclass(frozen=True)
class Truth:
    """Accepted problems of one strategy against the world's own reading of their texts."""

    accepted: int
    wrong: int
    unparseable: int

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the share of wrong references, unparseable texts counted as wrong (Wilson)."""
        return wilson(self.wrong + self.unparseable, self.accepted)


def steps(lake: Lake) -> pl.DataFrame:
    """strategy, rule, refused: by the first rule that refused them; candidates that no rule refused have rule ''. Written ones only."""
    place = " ".join(f"WHEN '{rule}' THEN {i}" for i, rule in enumerate(RULES))
    return lake.query(
        f"""
        WITH ranked AS (
            SELECT strategy, round, candidate_id, kept, rule,
                   CASE stage WHEN 'audit' THEN 100 WHEN 'select' THEN 200 ELSE 0 END + CASE rule {place} ELSE {len(RULES)} END AS place
            FROM decisions WHERE candidate_id <> problem_id
        ), each AS (
            SELECT strategy, round, candidate_id, arg_min(rule, (place, rule)) FILTER (NOT kept) AS rule, min(place) FILTER (NOT kept) AS place
            FROM ranked GROUP BY ALL
        )
        SELECT strategy, coalesce(rule, '') AS rule, count(*) AS refused FROM each
        GROUP BY strategy, rule, place ORDER BY strategy, place NULLS LAST, rule
        """
    )


def funnel(rows: pl.DataFrame) -> Table:
    """Strategy, rule, how many entered, how many it refused, what share went on."""
    cells = []
    for (strategy,), part in rows.group_by("strategy", maintain_order=True):
        left = int(part["refused"].sum())
        for rule, refused in part.filter(pl.col("rule") != "").select("rule", "refused").iter_rows():
            cells.append([label(str(strategy), 30), label(rule, 30), count(left), count(refused), share(left - refused, left)])
            left -= refused
        cells.append([label(str(strategy), 30), "passed every rule", count(left), "", ""])
    return Table(["strategy", "rule", "entered", "refused", "went on"], cells, numeric_from=2)


def truths(lake: Lake, world: World) -> dict[str, Truth]:
    """By strategy: every problem that a model wrote and no rule refused, its reference checked against what the world reads in its text.

    A problem that only its round's room kept out (rule budget) counts as accepted: nothing was found wrong with it.
    """
    rows = lake.query(
        """
        SELECT DISTINCT d.strategy, p.problem_id, p.prompt, p.reference, p.verifier
        FROM (SELECT strategy, problem_id FROM decisions GROUP BY ALL HAVING bool_and(kept OR rule = 'budget')) d
        JOIN problems p USING (problem_id)
        WHERE p.source = d.strategy AND p.source NOT IN ('world', 'seed', 'user') AND p.reference <> ''
        ORDER BY ALL
        """
    )
    found: dict[str, Truth] = {}
    for (strategy,), part in rows.group_by("strategy", maintain_order=True):
        read = [world.read(prompt) for prompt in part["prompt"]]
        pairs = [(problem, reference) for problem, reference in zip(read, part["reference"], strict=True) if problem is not None]
        outcomes = [v.outcome for v in verify_all([(p, f"#### {reference}") for p, reference in pairs])]
        found[str(strategy)] = Truth(part.height, sum(o != "pass" for o in outcomes), sum(p is None for p in read))
    return found


def truth_table(found: Mapping[str, Truth]) -> Table:
    cells = []
    for strategy, truth in sorted(found.items()):
        low, high = truth.interval
        wrong = truth.wrong + truth.unparseable
        span = f"{percent(low)} to {percent(high)}"
        cells.append([label(strategy, 30), count(truth.accepted), count(truth.wrong), count(truth.unparseable), share(wrong, truth.accepted), span])
    return Table(["strategy", "accepted", "reference wrong", "unparseable", "wrong in all", "95 % interval"], cells)


def with_funnel(section: Section, lake: Lake, world: World | None) -> Section:
    """The section with the funnel of every strategy that refused something, and the truth where the world can tell it."""
    rows = steps(lake)
    tables = list(section.tables)
    if rows.filter(pl.col("rule") != "").height:
        tables.append(("Acceptance, rule by rule, all rounds", funnel(rows)))
    found = truths(lake, world) if world is not None else {}
    if found:
        tables.append(("Accepted problems that a model wrote, read by the world itself (a text it cannot read counts as wrong)", truth_table(found)))
    return section if section.empty else replace(section, tables=tables)
