"""What the run took: seconds, tokens, requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from pipelines.report import charts, words
from pipelines.report.figure import Figure, Section, Table, count, duration, label, short
from pipelines.report.palette import SERIES
from pipelines.report.queries import STAGE_ORDER

MAX_COLOURS = 8


def cost_section(costs: pl.DataFrame) -> Section:
    if costs.is_empty():
        return replace(words.COST, empty="No stage has finished yet.")
    order = {stage: i for i, stage in enumerate(STAGE_ORDER)}
    costs = costs.with_columns(order=pl.col("stage").replace_strict(order, default=len(order), return_dtype=pl.Int64)).sort("round", "order", "stage")
    seconds = costs.filter(pl.col("seconds") > 0).group_by("stage").agg(pl.col("seconds").sum()).sort("seconds", "stage", descending=[True, False])
    whole = float(costs["seconds"].sum() or 0)
    drawn = seconds["stage"].head(MAX_COLOURS).to_list()
    rounds = costs["round"].unique().sort().to_list()
    names = [f"round {r}" for r in rounds[-40:]]
    rows = [
        {"name": f"round {r}", "kind": s, "amount": t, "text": f"round {r}, {s}: {duration(t)}"}
        for r, s, t in costs.select("round", "stage", "seconds").iter_rows()
        if t and s in drawn and r in rounds[-40:]
    ]
    alt = f"{duration(whole)} in all" + "".join(f", {s} {duration(t)}" for s, t in seconds.head(4).iter_rows()) + "."
    sums = ["seconds", "rollouts", "prompt_tokens", "response_tokens", "trained_tokens", "requests", "resent", "repeats", "failed"]
    heads = ["time", "answers", "tokens read", "tokens written", "tokens trained on", "requests", "sent again", "repeats", "failed"]
    by_stage = costs.group_by("stage", "order").agg(pl.col(c).sum() for c in sums).sort("order", "stage")
    total = costs.select(pl.col(c).sum() for c in sums).row(0)
    cells = [[label(row["stage"], 30), duration(row["seconds"]), *_amounts(row, sums[1:])] for row in by_stage.iter_rows(named=True)]
    cells.append(["all", duration(total[0]), *(count(v) for v in total[1:])])
    detail = [[str(row["round"]), label(row["stage"], 30), duration(row["seconds"]), *_amounts(row, sums[1:])] for row in costs.iter_rows(named=True)]
    figures = []
    if rows:
        kinds = [(stage, SERIES[i % len(SERIES)]) for i, stage in enumerate(s for s in STAGE_ORDER if s in drawn)]
        kinds += [(s, SERIES[(len(kinds) + i) % len(SERIES)]) for i, s in enumerate(s for s in drawn if s not in STAGE_ORDER)]
        table = Table(["round", "stage", *heads], detail, numeric_from=2)
        figures.append(Figure("seconds", "Seconds per round and stage", charts.parts(rows, names, kinds, shares=False), alt, table=table))
    tables = [("Per stage, all rounds together", Table(["stage", *heads], cells))]
    written, trained = total[sums.index("response_tokens")], total[sums.index("trained_tokens")]
    note = f"{alt} {short(written)} tokens written, {short(trained)} of them trained on."
    return replace(words.COST, figures=figures, tables=tables, note=note)


def _amounts(row: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Nothing, rather than 0, for a stage that asks for nothing."""
    asks = any(row[name] for name in names)
    return [count(row[name] or 0) if asks else "" for name in names]
