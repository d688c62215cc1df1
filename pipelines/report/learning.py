"""Did it learn, and where: pass@1 and pass@k per round, and the held-out problems domain by domain before and after."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from pipelines.evaluate import mean_with_interval, paired_difference
from pipelines.report import charts, words
from pipelines.report.figure import Figure, Section, Table, count, interval, label, percent, plural, points
from pipelines.report.scores import scores

MAX_BENCHMARKS = 6
MAX_DOMAINS = 24
MAX_ROUNDS = 60


def score_section(evals: pl.DataFrame) -> Section:
    """The first chart anybody looks at."""
    table = scores(evals)
    if table.is_empty():
        return replace(words.SCORES, empty="Nothing has been evaluated yet: the first evaluation comes right after the problems are read.")
    benchmarks = (
        table.group_by("benchmark", maintain_order=True).agg(pl.col("problems").max()).sort("problems", "benchmark", descending=[True, False])
    )
    figures = [
        _score_figure(table.filter(pl.col("benchmark") == name), name, i) for i, name in enumerate(benchmarks["benchmark"].head(MAX_BENCHMARKS))
    ]
    left = benchmarks.height - MAX_BENCHMARKS
    note = f"{plural(left, 'smaller benchmark')} not drawn; the table `evals` has them all." if left > 0 else ""
    return replace(words.SCORES, figures=figures, layout="two" if len(figures) > 1 else "one", note=note)


def _score_figure(table: pl.DataFrame, benchmark: str, place: int) -> Figure:
    table = table.filter(~pl.col("metric").str.starts_with("avg@"))  # the same number as pass@1
    metrics = table["metric"].unique(maintain_order=True).to_list()
    rounds = table["round"].unique(maintain_order=True).to_list()
    drawn = _thinned(rounds, MAX_ROUNDS)
    rows = [
        {**row, "text": f"round {row['round']}, {row['metric']}: {interval(row['value'], row['low'], row['high'])}"}
        for row in table.filter(pl.col("round").is_in(drawn)).iter_rows(named=True)
    ]
    by_round = {(row["round"], row["metric"]): interval(row["value"], row["low"], row["high"]) for row in table.iter_rows(named=True)}
    shape = {row["round"]: (count(row["problems"]), str(row["n"])) for row in table.iter_rows(named=True)}
    cells = [[str(r), *(by_round.get((r, m), "–") for m in metrics), *shape[r]] for r in rounds]
    first, last = (table.filter((pl.col("metric") == metrics[0]) & (pl.col("round") == r)).row(0, named=True) for r in (rounds[0], rounds[-1]))
    return Figure(
        f"scores-{place}",
        f"{_benchmark(benchmark)}: {plural(first['problems'], 'problem')}, {plural(first['n'], 'answer')} each",
        charts.scores(rows, metrics),
        f"{metrics[0]} went from {percent(first['value'])} in round {rounds[0]} to {percent(last['value'])} in round {rounds[-1]}.",
        table=Table(["round", *metrics, "problems", "answers each"], cells),
    )


def _benchmark(name: str) -> str:
    return "Held-out problems" if name == "heldout" else label(name)


def _thinned(rounds: list[int], most: int) -> list[int]:
    """At most `most` of the rounds, evenly, the last among them."""
    stride = -(-len(rounds) // most) if rounds else 1
    return rounds[::-1][::stride][::-1]


def domain_section(evals: pl.DataFrame) -> Section:
    """Where it learned: per domain, first against last evaluation."""
    judged = evals.filter((pl.col("n") > 0) & (pl.col("benchmark") == _main_benchmark(evals)))
    if judged.is_empty():
        return replace(words.DOMAINS, empty="Nothing has been evaluated yet.")
    if judged["domain"].n_unique() == 1:
        return replace(words.DOMAINS, empty="All evaluated problems are of one domain: the scores above are the whole story.")
    every = judged["round"].unique().sort().to_list()
    first, last = every[0], every[-1]
    wide = (
        judged.filter(pl.col("round") == first)
        .select("problem_id", pl.col("domain").fill_null(""), before=pl.col("passes") / pl.col("n"))
        .join(judged.filter(pl.col("round") == last).select("problem_id", after=pl.col("passes") / pl.col("n")), on="problem_id")
    )
    sizes = wide.group_by("domain").len().sort("len", "domain", descending=[True, False])
    found = []
    for domain in sizes["domain"].head(MAX_DOMAINS):
        part = wide.filter(pl.col("domain") == domain).sort("problem_id")
        before, after = part["before"].to_numpy(), part["after"].to_numpy()
        found.append(
            (domain, len(before), mean_with_interval(before), mean_with_interval(after), paired_difference(before, after, key=("domain", domain)))
        )
    found.sort(key=lambda f: (-f[4].value, -f[3].value, f[0]) if first != last else (-f[3].value, f[0]))  # type: ignore[return-value]
    names = _distinct([f[0] for f in found])
    whens = [f"round {first}", f"round {last}"] if first != last else [f"round {last}"]
    dots = [
        {"name": name, "when": when, **e._asdict(), "text": f"{name}, {when}: {interval(*e)}"}
        for name, (_, _, before, after, _) in zip(names, found)
        for when, e in zip(whens, (before, after)[-len(whens) :])
    ]
    moved = [
        {
            "name": name,
            "gain": 100 * g.value,
            "low": 100 * g.low,
            "high": 100 * g.high,
            "kind": "better" if g.low > 0 else "worse" if g.high < 0 else "open",
            "text": f"{name}: {points(g.value)} points [{points(g.low)}, {points(g.high)}] on {plural(n, 'problem')}",
        }
        for name, (_, n, _, _, g) in zip(names, found)
    ]
    cells = [
        [name, count(n), interval(*before), interval(*after), f"{points(g.value)} [{points(g.low)}, {points(g.high)}]"]
        for name, (_, n, before, after, g) in zip(names, found)
    ]
    better, worse = ([str(m["name"]) for m in moved if m["kind"] == kind] for kind in ("better", "worse"))
    told = f"{plural(len(better), 'domain')} better than chance explains, {len(worse)} worse{': ' + ', '.join(worse) if worse else ''}."
    table = Table(["domain", "problems", "before", "after", "gain in points"], cells)
    figures = [Figure("domains", "pass@1", charts.before_after(dots, names, whens), f"pass@1 of {plural(len(names), 'domain')}.", table=table)]
    if first != last:
        figures.append(Figure("gains", f"Gain, round {first} to {last}", charts.gains(moved, names), told))
    left = sizes.height - MAX_DOMAINS
    note = (told if first != last else "") + (f" The {MAX_DOMAINS} largest of {sizes.height} domains are shown." if left > 0 else "")
    return replace(words.DOMAINS, figures=figures, layout="two", note=note.strip())


def _main_benchmark(evals: pl.DataFrame) -> str:
    """`heldout` where it was evaluated, else the largest."""
    sizes = evals.group_by("benchmark").len().sort(pl.col("benchmark") != "heldout", "len", "benchmark", descending=[False, True, False])
    return "" if sizes.is_empty() else str(sizes["benchmark"][0])


def _distinct(names: list[str]) -> list[str]:
    """Labels that stay different where shortening made two the same."""
    shown = [label(name or "(no domain)", 28) for name in names]
    return [name if shown.count(name) == 1 else f"{name} ({place})" for place, name in enumerate(shown, 1)]
