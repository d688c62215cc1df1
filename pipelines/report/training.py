"""What the optimizer saw, step by step, and how hard the probed problems were in each round."""

from __future__ import annotations

from typing import Any

import polars as pl

from filters.difficulty import Band
from pipelines.report import charts
from pipelines.report.figure import Figure, Section, Table, count, percent, plural

CURVES: tuple[tuple[str, str, str, str], ...] = (
    ("reward_mean", "Reward", ".2f", "mean reward of the trained answers; should drift up within a round"),
    ("entropy", "Entropy", ".3f", "nats a token: how undecided the policy is; a plunge towards 0 is collapse"),
    ("response_length_mean", "Answer length", ".1f", "tokens an answer; a sudden climb or fall deserves a look at the answers"),
    ("grad_norm", "Gradient norm", ".2f", "before clipping; spikes are unstable steps"),
    ("kl", "KL to the first policy", ".3f", "how far the policy has moved, where the objective asks for it"),
    ("clip_share", "Clipped tokens", ".1%", "share of tokens whose ratio was clipped; far above a few per cent means steps too large"),
)
MAX_HISTOGRAMS = 6
EXACT = 16
"""Pass counts are shown one by one up to this many answers a problem, beyond it in tenths."""


def steps_section(steps: pl.DataFrame, skipped: list[str]) -> Section:
    section = {
        "id": "training",
        "link": "Training",
        "title": "How did training go?",
        "look": "One point per optimizer step, counted over all rounds; the bold line is a moving mean. Each round trains on newly chosen problems near the "
        "edge of what the policy can do, so reward may start lower than the round before.",
        "bad": "Reward that falls while a round lasts, entropy that collapses towards zero, spikes of the gradient norm, answers that grow without end.",
    }
    if steps.is_empty():
        return Section(**section, empty=" ".join(skipped) or "No optimizer step has been taken yet.")
    at = steps["at"].to_list()
    smooth = 4 if steps.height >= 20 else 0
    starts = [{"at": row["at"], "label": f"round {row['round']}"} for row in steps.group_by("round", maintain_order=True).agg(pl.col("at").first()).iter_rows(named=True)]
    if len(starts) > 8:
        starts = [{**s, "label": s["label"].removeprefix("round ") if i % -(-len(starts) // 8) == 0 else ""} for i, s in enumerate(starts)]
    figures = []
    for column, title, format, note in CURVES:
        if column in steps.columns and steps[column].drop_nulls().len() and (column not in ("kl", "clip_share") or steps[column].max() != 0):
            figures.append(_curve(steps, {title: column}, title, format, note, starts, at, smooth))
    rates = {"sampling": "sampled_per_second", "training": "trained_per_second"}
    rates = {name: column for name, column in rates.items() if steps[column].drop_nulls().len()}
    if rates:
        figures.append(_curve(steps, rates, "Throughput", "~s", "tokens a second, while sampling and while training; a steady fall means that something fills up", starts, at, smooth))
    per_point = int(steps["per_point"][0])
    note = " ".join([*([f"Each point is the mean of {per_point} steps."] if per_point > 1 else []), *skipped])
    return Section(**section, figures=figures, layout="three", note=note)


def _curve(
    steps: pl.DataFrame, columns: dict[str, str], title: str, format: str, note: str, starts: list[dict[str, Any]], at: list[int], smooth: int
) -> Figure:
    rows = [
        {"at": a, "series": name, "value": v, "text": f"step {a} (round {r}): {v:{_python(format)}}"}
        for name, column in columns.items()
        for a, r, v in zip(at, steps["round"], steps[column])
        if v is not None
    ]
    spec = charts.curve(rows, starts, format=format, series=list(columns), smooth=smooth)
    told = []
    for name, column in columns.items():
        values = steps[column].drop_nulls()
        head, tail = values.head(max(1, len(values) // 10)).mean(), values.tail(max(1, len(values) // 10)).mean()
        told.append(f"{name}: {head:{_python(format)}} in the first steps, {tail:{_python(format)}} in the last.")
    by_round = steps.group_by("round", maintain_order=True).agg(pl.len().alias("points"), *(pl.col(c).first().alias(f"{c}_0") for c in columns.values()), *(pl.col(c).mean().alias(f"{c}_1") for c in columns.values()), *(pl.col(c).last().alias(f"{c}_2") for c in columns.values()))
    heads = [f"{word} {name}" if len(columns) > 1 else word for name in columns for word in ("first", "mean", "last")]
    cells = [
        [str(row["round"]), *("–" if row[f"{c}_{i}"] is None else f"{row[f'{c}_{i}']:{_python(format)}}" for c in columns.values() for i in (0, 1, 2))]
        for row in by_round.iter_rows(named=True)
    ]
    return Figure(f"curve-{next(iter(columns.values()))}", title, spec, " ".join(told), note=note, table=Table(["round", *heads], cells))


def _python(format: str) -> str:
    """A d3 number format as Python's."""
    return ",.0f" if format == "~s" else format


def difficulty_section(counts: pl.DataFrame, band: Band) -> Section:
    section = {
        "id": "difficulty",
        "link": "Difficulty",
        "title": "How hard are the problems?",
        "look": f"Before each round the policy answers a sample of training problems several times; the bars say how many problems had how many right answers. "
        f"Those in the band {percent(float(band.lo), 0)} to {percent(float(band.hi), 0)} (in colour) are worth training on: sometimes solved, sometimes not.",
        "bad": "Nearly everything at 0 (too hard: no signal) or at the right end (too easy: nothing left to learn). Mass that drifts right round by round is the policy learning.",
    }
    counts = counts.filter(pl.col("n") > 0)
    if counts.is_empty():
        return Section(**section, empty="No problem has been probed yet.")
    rounds = counts["round"].unique().sort().to_list()
    exact = counts["n"].n_unique() == 1 and int(counts["n"][0]) <= EXACT
    binned = _binned(counts, band, exact)
    bins = [str(k) for k in range(int(counts["n"][0]) + 1)] if exact else ["0", *(f"{i}0s" for i in range(1, 10)), "100%"]
    if not exact:
        bins = ["none", *(f"<{10 * i}%" for i in range(1, 11)), "all"]
    highest = min(1.0, float(binned["share"].max()) * 1.08)  # type: ignore[arg-type]
    shown = rounds if len(rounds) <= MAX_HISTOGRAMS else sorted({rounds[round(i * (len(rounds) - 1) / (MAX_HISTOGRAMS - 1))] for i in range(MAX_HISTOGRAMS)})
    figures, cells = [], []
    for r in rounds:
        part = counts.filter(pl.col("round") == r)
        problems = int(part["problems"].sum())
        share = {
            "never": part.filter(pl.col("passes") == 0)["problems"].sum() / problems,
            "always": part.filter(pl.col("passes") == pl.col("n"))["problems"].sum() / problems,
            "inside": part.filter(band.expr())["problems"].sum() / problems,
        }
        rate = (part["problems"] * part["passes"]).sum() / (part["problems"] * part["n"]).sum()
        cells.append([str(r), count(problems), percent(rate), percent(share["never"]), percent(share["inside"]), percent(share["always"])])
        if r in shown:
            rows = [
                {**row, "text": f"{row['bin']}{' of ' + str(part['n'][0]) if exact else ''} right: {count(row['problems'])} problems ({percent(row['share'])})"}
                for row in binned.filter(pl.col("round") == r).iter_rows(named=True)
            ]
            alt = f"Round {r}: {percent(share['never'])} never solved, {percent(share['inside'])} in the band, {percent(share['always'])} always solved."
            figures.append(Figure(f"difficulty-{r}", f"Round {r}", charts.histogram(rows, bins, highest), alt, note=f"{plural(problems, 'problem')}, {percent(share['inside'], 0)} in the band"))
    table = Table(["round", "problems", "pass rate", "never solved", "in the band", "always solved"], cells)
    axis = f"Horizontal: right answers of {counts['n'][0]}." if exact else "Horizontal: share of right answers."
    hidden = f" {len(shown)} of {len(rounds)} rounds are drawn; the table has all." if len(shown) < len(rounds) else ""
    return Section(**section, figures=figures, layout="three", tables=[("Every round in numbers", table)], note=f"{axis} Vertical: share of the round's problems.{hidden}")


def _binned(counts: pl.DataFrame, band: Band, exact: bool) -> pl.DataFrame:
    """round, bin, problems, share, inside; every bin that holds a problem."""
    tenth = (pl.col("passes") * 10 // pl.col("n")).clip(0, 9)
    name = (
        pl.col("passes").cast(pl.String)
        if exact
        else pl.when(pl.col("passes") == 0).then(pl.lit("none")).when(pl.col("passes") == pl.col("n")).then(pl.lit("all")).otherwise(pl.format("<{}%", (tenth + 1) * 10))
    )
    return (
        counts.with_columns(bin=name, inside=band.expr())
        .group_by("round", "bin")
        .agg(pl.col("problems").sum(), (pl.col("inside").cast(pl.Int64) * pl.col("problems")).sum().alias("within"))
        .with_columns(share=pl.col("problems") / pl.col("problems").sum().over("round"), inside=2 * pl.col("within") >= pl.col("problems"))
        .sort("round", "bin")
    )
