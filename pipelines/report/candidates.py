"""What became of every candidate, and what the verdicts were: the two places where a run loses data, each loss with its rule."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from pipelines.report import charts, words
from pipelines.report.figure import Figure, Section, Table, count, label, plural, share, short
from pipelines.report.palette import var
from pipelines.report.queries import STAGE_ORDER

MAX_BARS = 40
MAX_RULES = 8
SHOWN_ROWS = 16
"""A table up to this long is open from the start."""
HUES = ("c3", "c4", "c5", "c6", "c7", "c8", "unknown", "fail")
STAGE_NAMES = {"verify": "probe"}  # the verdicts of stage verify are on what the probe sampled


def fate_section(fates: pl.DataFrame) -> Section:
    if fates.is_empty():
        return replace(words.CANDIDATES, empty="No problem has been considered yet.")
    rules = (
        fates.filter(pl.col("fate") == "refused")
        .group_by("rule")
        .agg(pl.col("candidates").sum())
        .sort("candidates", "rule", descending=[True, False])
    )
    named = rules["rule"].head(MAX_RULES).to_list()
    kinds = [("selected", var("accent")), ("admitted", var("c2")), *((f"refused: {label(r, 30)}", var(h)) for r, h in zip(named, HUES))]
    kinds += [("refused: other rules", var("quiet"))] if rules.height > MAX_RULES else []
    kinds.append(("not decided yet", var("line")))
    rows, totals, cells = [], {}, []
    for (round, strategy), part in fates.group_by("round", "strategy", maintain_order=True):
        name = f"round {round} · {label(str(strategy), 24)}"
        by: dict[str, int] = {}
        refusals = []
        for _, _, fate, stage, rule, n in part.iter_rows():
            if fate == "refused":
                refusals.append((stage, rule, n))
            kind = {"selected": "selected", "admitted": "admitted", "open": "not decided yet"}.get(fate) or (
                f"refused: {label(rule, 30)}" if rule in named else "refused: other rules"
            )
            by[kind] = by.get(kind, 0) + n
        totals[name] = sum(by.values())
        rows += [{"name": name, "kind": k, "amount": n, "text": f"{name}: {count(n)} of {count(totals[name])} {k}"} for k, n in by.items()]
        refusals.sort(key=lambda r: (STAGE_ORDER.index(r[0]) if r[0] in STAGE_ORDER else 5, r[1]))
        told = ", ".join(f"{count(n)} {label(rule, 30)} ({label(stage, 20)})" for stage, rule, n in refusals) or "none"
        kept = by.get("selected", 0) + by.get("admitted", 0)
        cells.append([str(round), label(str(strategy), 30), count(totals[name]), told, count(kept), count(by.get("not decided yet", 0))])
        later = [name for name in totals if not name.startswith("round 0 ")]  # round 0 takes everything in; its bar would dwarf the others
    drawn = (later or list(totals))[-MAX_BARS:]
    drawn_rows = [r for r in rows if r["name"] in set(drawn)]
    all_refused = int(rules["candidates"].sum())
    alt = f"{count(sum(totals.values()))} considered in all, {count(all_refused)} refused" + (
        ": " + ", ".join(f"{count(n)} by {label(r, 30)}" for r, n in rules.iter_rows()) + "." if all_refused else "."
    )
    table = Table(["round", "source", "considered", "refused, by rule (stage)", "kept", "not decided yet"], cells, numeric_from=2, wordy=(3,))
    chart = charts.parts(drawn_rows, drawn, [k for k in kinds if k[0] in {r["kind"] for r in drawn_rows}], shares=False)
    note = f"The last {len(drawn)} of {len(later)} bars are drawn; the numbers below are complete." if len(drawn) < len(later) else ""
    small = len(cells) <= SHOWN_ROWS
    figure = Figure("fates", "Considered, by round and source", chart, alt, note=note, table=None if small else table)
    return replace(words.CANDIDATES, figures=[figure], tables=[("The same in numbers", table)] if small else [], note=alt)


def verdict_section(mix: pl.DataFrame, reasons: pl.DataFrame) -> Section:
    if mix.is_empty():
        return replace(words.VERDICTS, empty="No answer has been judged yet.")
    place = {stage: i for i, stage in enumerate(STAGE_ORDER)}
    wide = (
        mix.pivot("outcome", index=["round", "stage"], values="answers")
        .with_columns(order=pl.col("stage").replace_strict(place, default=9, return_dtype=pl.Int64))
        .sort("round", "order", "stage")
        .fill_null(0)
    )
    outcomes = [o for o in ("pass", "fail", "unknown") if o in wide.columns]
    rows, names, cells = [], [], []
    for row in wide.iter_rows(named=True):
        total = sum(row[o] for o in outcomes)
        name = f"round {row['round']} · {label(STAGE_NAMES.get(row['stage'], row['stage']), 24)}"
        names.append(name)
        rows += [
            {"name": name, "kind": o, "amount": row[o], "text": f"{name}: {count(row[o])} of {count(total)} {o} ({share(row[o], total)})"}
            for o in outcomes
        ]
        shares = [f"{count(row[o])} ({share(row[o], total)})" for o in outcomes]
        cells.append([str(row["round"]), label(STAGE_NAMES.get(row["stage"], row["stage"]), 30), count(total), *shares])
    drawn = names[-MAX_BARS:]
    totals: dict[str, int] = {o: int(mix.filter(pl.col("outcome") == o)["answers"].sum()) for o in outcomes}
    judged = sum(totals.values())
    alt = f"{short(judged)} answers judged: " + ", ".join(f"{share(n, judged)} {o}" for o, n in totals.items()) + "."
    figure = Figure(
        "verdicts",
        "Verdicts by round and stage",
        charts.parts([r for r in rows if r["name"] in set(drawn)], drawn, [(o, var(o)) for o in outcomes], shares=True),
        alt,
        note="" if len(drawn) == len(names) else f"The last {len(drawn)} of {len(names)} bars are drawn; the table has all.",
        table=Table(["round", "stage", "answers", *outcomes], cells, numeric_from=2),
    )
    tables = []
    for outcome, title in (("fail", "Most frequent reasons of fail"), ("unknown", "Most frequent reasons of unknown")):
        part = reasons.filter(pl.col("outcome") == outcome)
        if part.height:
            whole = totals.get(outcome, 0)
            lines = [
                [count(n), share(n, whole), label(reason, 120), "" if example == reason else label(example, 90)]
                for _, reason, n, example in part.iter_rows()
            ]
            width = 4 if any(line[3] for line in lines) else 3
            tables.append((title, Table(["answers", "share", "reason", "for instance"][:width], [line[:width] for line in lines], numeric_from=9)))
    note = alt if judged and "unknown" in totals else alt + " None was unknown."
    return replace(words.VERDICTS, figures=[figure], tables=tables, note=note + ("" if reasons.height else f" {plural(0, 'reason')} to list."))
