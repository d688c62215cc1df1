"""What the optimizer saw, step by step, and how hard the probed problems were in each round."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import polars as pl

from filters.difficulty import Band
from pipelines.report import charts, words
from pipelines.report.figure import Figure, Section, Table, count, percent, plural


class Curve(NamedTuple):
    title: str
    series: dict[str, str]  # name in the legend: column
    format: str  # d3's and Python's
    note: str


CURVES = (
    Curve("Reward", {"reward": "reward_mean"}, ".2f", "mean reward of the trained answers; should drift up within a round"),
    Curve("Entropy", {"entropy": "entropy"}, ".3f", "nats a token: how undecided the policy is; a plunge towards 0 is collapse"),
    Curve("Answer length", {"tokens": "response_length_mean"}, ".1f", "tokens an answer; after a sudden climb or fall, read some answers"),
    Curve("Gradient norm", {"norm": "grad_norm"}, ".2f", "before clipping; spikes are unstable steps"),
    Curve("KL to the first policy", {"KL": "kl"}, ".3f", "how far the policy has moved, where the objective asks for it"),
    Curve("Clipped tokens", {"share": "clip_share"}, ".1%", "share of tokens whose ratio was clipped; far above a few per cent, steps are too large"),
    Curve("Ratio", {"ratio": "ratio_mean"}, ".3f", "mean probability ratio of the trained tokens; far from 1, the rollouts are too old"),
    Curve(
        "Throughput",
        {"sampling": "sampled_per_second", "training": "trained_per_second"},
        ",.0f",
        "tokens a second, while sampling and while training; a steady fall means that something fills up",
    ),
)
SILENT_AT = {"kl": 0, "clip_share": 0, "ratio_mean": 1}  # what an objective that does not ask for it, or learns on policy, leaves there
SMOOTHED_FROM = 20
MAX_LABELS = 8
MAX_HISTOGRAMS = 6
EXACT = 16
"""Pass counts are shown one by one up to this many answers a problem, beyond it in tenths."""


def steps_section(steps: pl.DataFrame, skipped: list[str]) -> Section:
    """The curves of training; `skipped`: sentences about rounds that did not train."""
    if steps.is_empty():
        return replace(words.STEPS, empty=" ".join(skipped) or "No optimizer step has been taken yet.")
    figures = []
    for one in CURVES:
        told = {name: column for name, column in one.series.items() if _tells(steps, column)}
        if told:
            figures.append(_curve(steps, one._replace(series=told)))
    per_point = int(steps["per_point"][0])
    note = [f"Each point is the mean of {per_point} steps."] if per_point > 1 else []
    return replace(words.STEPS, figures=figures, layout="three", note=" ".join([*note, *skipped]))


def _tells(steps: pl.DataFrame, column: str) -> bool:
    if column not in steps.columns:
        return False
    values = steps[column].drop_nulls()
    return len(values) > 0 and (column not in SILENT_AT or bool((values != SILENT_AT[column]).any()))


def _curve(steps: pl.DataFrame, one: Curve) -> Figure:
    columns = list(one.series.values())
    rows = [
        {"at": at, "series": name, "value": value, "text": f"step {at} (round {round}), {name} {value:{one.format}}"}
        for name, column in one.series.items()
        for at, round, value in steps.select("at", "round", column).iter_rows()
        if value is not None
    ]
    told = []
    for name, column in one.series.items():
        values = steps[column].drop_nulls()
        tenth = max(1, len(values) // 10)
        early, late = (float(part.sum()) / tenth for part in (values.head(tenth), values.tail(tenth)))
        told.append(f"{name}: {early:{one.format}} in the first steps, {late:{one.format}} in the last.")
    spec = charts.curve(rows, _round_marks(steps), format=one.format, series=list(one.series), smooth=4 if steps.height >= SMOOTHED_FROM else 0)
    return Figure(f"curve-{columns[0]}", one.title, spec, " ".join(told), note=one.note, table=_by_round(steps, one))


def _by_round(steps: pl.DataFrame, one: Curve) -> Table:
    kinds = ("first", "mean", "last")
    summary = steps.group_by("round", maintain_order=True).agg(
        getattr(pl.col(column).drop_nulls(), kind)().alias(f"{kind} {name}") for name, column in one.series.items() for kind in kinds
    )
    cells = [[str(round), *("–" if v is None else f"{v:{one.format}}" for v in values)] for round, *values in summary.iter_rows()]
    return Table([c if len(one.series) > 1 else c.split(" ")[0] for c in summary.columns], cells)


def _round_marks(steps: pl.DataFrame) -> list[dict[str, Any]]:
    """Where each round begins, with its label; of many rounds only some are labelled."""
    first = steps.group_by("round", maintain_order=True).agg(pl.col("at").first())
    every, long = -(-first.height // MAX_LABELS), first.height <= 4
    return [
        {"at": at, "label": "" if place % every else f"round {round}" if long else str(round)} for place, (round, at) in enumerate(first.iter_rows())
    ]


def difficulty_section(counts: pl.DataFrame, band: Band) -> Section:
    """A histogram per round. `counts`: round, passes, n, problems, open."""
    counts = counts.filter(pl.col("n") > 0)
    if counts.is_empty():
        return replace(words.DIFFICULTY, empty="No problem has been probed yet.")
    rounds = counts["round"].unique().sort().to_list()
    n = int(counts["n"][0])
    exact = counts["n"].n_unique() == 1 and n <= EXACT
    binned = _binned(counts, band, exact)
    bins = [str(k) for k in range(n + 1)] if exact else ["none", *(f"<{10 * i}%" for i in range(1, 11)), "all"]
    highest = min(1.0, 1.08 * max(binned["share"].to_list()))
    last = MAX_HISTOGRAMS - 1
    drawn = rounds if len(rounds) <= MAX_HISTOGRAMS else [rounds[round(i * (len(rounds) - 1) / last)] for i in range(MAX_HISTOGRAMS)]
    figures, cells = [], []
    for r in rounds:
        part = counts.filter(pl.col("round") == r)
        problems, rate = int(part["problems"].sum()), _weighted(part, pl.col("passes")) / _weighted(part, pl.col("n"))
        never, inside, always = (
            _weighted(part, test.cast(pl.Int64)) / problems for test in (pl.col("passes") == 0, band.expr(), pl.col("passes") == pl.col("n"))
        )
        cells.append([str(r), count(problems), *(percent(share) for share in (rate, never, inside, always)), count(int(part["open"].sum()))])
        if r in drawn:
            rows = [
                {**row, "text": f"{row['bin']}{f' of {n}' if exact else ''} right: {plural(row['problems'], 'problem')} ({percent(row['share'])})"}
                for row in binned.filter(pl.col("round") == r).iter_rows(named=True)
            ]
            alt = f"Round {r}: {percent(never)} never solved, {percent(inside)} in the band, {percent(always)} always solved."
            note = f"{plural(problems, 'problem')}, {percent(inside, 0)} in the band"
            figures.append(Figure(f"difficulty-{r}", f"Round {r}", charts.histogram(rows, bins, highest), alt, note=note))
    table = Table(["round", "problems", "pass rate", "never solved", "in the band", "always solved", "band undecided"], cells)
    told = [f"Across: right answers of {n}." if exact else "Across: share of right answers.", "Up: share of the round's problems."]
    told += [f"The band is {percent(float(band.lo), 0)} to {percent(float(band.hi), 0)}."]
    told += [f"{len(drawn)} of {len(rounds)} rounds are drawn; the table has all."] if len(drawn) < len(rounds) else []
    return replace(words.DIFFICULTY, figures=figures, layout="three", tables=[("Every round in numbers", table)], note=" ".join(told))


def _weighted(part: pl.DataFrame, value: pl.Expr) -> float:
    """Sum of `value` over problems, a row standing for as many as it says."""
    return float(part.select((value * pl.col("problems")).sum()).item())


def _binned(counts: pl.DataFrame, band: Band, exact: bool) -> pl.DataFrame:
    """round, bin, problems, share of its round, inside (most of it lies in the band); a row per bin that holds a problem."""
    k, n = pl.col("passes"), pl.col("n")
    tenth = pl.format("<{}%", (k * 10 // n).clip(0, 9) * 10 + 10)
    name = k.cast(pl.String) if exact else pl.when(k == 0).then(pl.lit("none")).when(k == n).then(pl.lit("all")).otherwise(tenth)
    return (
        counts.with_columns(bin=name, within=band.expr().cast(pl.Int64) * pl.col("problems"))
        .group_by("round", "bin")
        .agg(pl.col("problems", "within").sum())
        .with_columns(share=pl.col("problems") / pl.col("problems").sum().over("round"), inside=2 * pl.col("within") >= pl.col("problems"))
        .sort("round", "bin")
    )
