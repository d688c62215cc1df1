"""Did it learn, and where: pass@1 and pass@k per round, and the held-out problems domain by domain before and after."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import polars as pl

from pipelines.evaluate import scores
from pipelines.intervals import Estimate, mean_with_interval, paired_difference
from pipelines.report import charts, words
from pipelines.report.figure import Figure, Section, Table, count, interval, label, plural, points

MAX_BENCHMARKS = 6
MAX_DOMAINS = 24
MAX_ROUNDS = 60
MAX_METRICS = 8


def score_section(evals: pl.DataFrame) -> Section:
    """The first charts anybody looks at: per benchmark pass@k, and beside it the stricter ways to count, where they are known."""
    table = scores(evals).filter(~pl.col("metric").str.starts_with("avg@"))  # the same number as pass@1
    if table.is_empty():
        return replace(words.SCORES, empty="Nothing has been evaluated yet: the first evaluation comes right after the problems are read.")
    sizes = table.group_by("benchmark").agg(pl.col("problems").max()).sort(pl.col("benchmark") != "heldout", "problems", "benchmark")
    figures = []
    for place, name in enumerate(sizes["benchmark"].head(MAX_BENCHMARKS)):
        part = table.filter(pl.col("benchmark") == name)
        metrics = part["metric"].unique(maintain_order=True).to_list()
        plain = [m for m in metrics if m.startswith("pass@")]
        chains = [m for m in metrics if m.startswith("cot-pass@")]
        strict = [m for m in metrics if m.startswith("majority@")] + ([chains[0], chains[-1]] if len(chains) > 1 else chains)
        first = part.row(0, named=True)
        title = f"{_benchmark(name)}: {plural(first['problems'], 'problem')}, {plural(first['n'], 'answer')} each"
        figures.append(_score_figure(part, plain[:MAX_METRICS], f"scores-{place}", title))
        if strict:
            figures.append(_score_figure(part, [plain[0], *strict], f"strict-{place}", f"{_benchmark(name)}, counted more strictly"))
    left = sizes.height - MAX_BENCHMARKS
    note = f"{plural(left, 'more benchmark')} not drawn; the table `evals` has them all." if left > 0 else ""
    return replace(words.SCORES, figures=figures, layout="two" if len(figures) > 1 else "one", note=note)


def _score_figure(table: pl.DataFrame, metrics: list[str], ident: str, title: str) -> Figure:
    table = table.filter(pl.col("metric").is_in(metrics))
    rounds = table["round"].unique(maintain_order=True).to_list()
    drawn = _thinned(rounds, MAX_ROUNDS)
    rows = [
        {**row, "text": f"round {row['round']}, {row['metric']}: {interval(row['value'], row['low'], row['high'])}"}
        for row in table.filter(pl.col("round").is_in(drawn)).iter_rows(named=True)
    ]
    by_round = {(row["round"], row["metric"]): interval(row["value"], row["low"], row["high"]) for row in table.iter_rows(named=True)}
    shape = {row["round"]: (count(row["problems"]), str(row["n"])) for row in table.iter_rows(named=True)}
    cells = [[str(r), *(by_round.get((r, m), "–") for m in metrics), *shape[r]] for r in rounds]
    told = f"round {rounds[0]} to round {rounds[-1]}: " + "; ".join(
        " to ".join(by_round.get((r, m), "–") for r in dict.fromkeys((rounds[0], rounds[-1]))) + f" {m}" for m in metrics
    )
    return Figure(ident, title, charts.scores(rows, metrics), told, table=Table(["round", *metrics, "problems", "answers each"], cells))


def _benchmark(name: str) -> str:
    return "Held-out problems" if name == "heldout" else label(name)


def _thinned(rounds: list[int], most: int) -> list[int]:
    """At most `most` of the rounds, evenly, the last among them."""
    stride = -(-len(rounds) // most) if rounds else 1
    return rounds[::-1][::stride][::-1]


class Domain(NamedTuple):
    """Held-out pass@1 of one domain before and after, and the paired gain."""

    name: str
    problems: int
    before: Estimate
    after: Estimate
    gain: Estimate

    @property
    def kind(self) -> str:
        return "better" if self.gain.low > 0 else "worse" if self.gain.high < 0 else "open"


def domain_section(evals: pl.DataFrame) -> Section:
    """Where it learned: per domain, first against last evaluation, the largest gain first."""
    judged = evals.filter((pl.col("n") > 0) & (pl.col("benchmark") == _main_benchmark(evals))).with_columns(pl.col("domain").fill_null(""))
    if judged.is_empty():
        return replace(words.DOMAINS, empty="Nothing has been evaluated yet.")
    if judged["domain"].n_unique() == 1:
        return replace(words.DOMAINS, empty="All evaluated problems are of one domain: the scores above are the whole story.")
    every = judged["round"].unique().sort().to_list()
    first, last = every[0], every[-1]
    domains, left = _domains(judged, first, last)
    names, hidden = [d.name for d in domains], f" The {MAX_DOMAINS} largest domains are shown, {left} are not." if left > 0 else ""
    if first == last:
        table = Table(["domain", "problems", "pass@1"], [[d.name, count(d.problems), interval(*d.after)] for d in domains])
        chart = charts.before_after(_dots(domains, [f"round {last}"]), names, [f"round {last}"])
        return replace(
            words.DOMAINS, figures=[Figure("domains", "pass@1", chart, f"pass@1 of {len(names)} domains.", table=table)], note=hidden.strip()
        )
    whens = [f"round {first}", f"round {last}"]
    moved = [
        {"name": d.name, **{k: 100 * v for k, v in zip(("gain", "low", "high"), d.gain)}, "kind": d.kind, "text": f"{d.name}: {_gain(d)} points"}
        for d in domains
    ]
    cells = [[d.name, count(d.problems), interval(*d.before), interval(*d.after), _gain(d)] for d in domains]
    table = Table(["domain", "problems", "before", "after", "gain in points"], cells)
    better, worse = ([d.name for d in domains if d.kind == kind] for kind in ("better", "worse"))
    told = f"Better than chance explains: {len(better)} of {len(domains)}. Worse: {', '.join(worse) or 'none'}."
    figures = [
        Figure("domains", "pass@1", charts.before_after(_dots(domains, whens), names, whens), f"pass@1 of {len(names)} domains.", table=table),
        Figure("gains", f"Gain, round {first} to {last}", charts.gains(moved, names), told),
    ]
    return replace(words.DOMAINS, figures=figures, layout="two", note=told + hidden)


def _domains(judged: pl.DataFrame, first: int, last: int) -> tuple[list[Domain], int]:
    """The largest domains on the problems evaluated both times, best gain (with one evaluation: best score) first; how many are left out."""
    rate = pl.col("passes") / pl.col("n")
    both = (
        judged.filter(pl.col("round") == first)
        .select("problem_id", "domain", before=rate)
        .join(judged.filter(pl.col("round") == last).select("problem_id", after=rate), on="problem_id")
        .sort("problem_id")
    )
    sizes = both.group_by("domain").len().sort("len", "domain", descending=[True, False])
    chosen = sizes["domain"].head(MAX_DOMAINS).to_list()
    found = []
    for domain, name in zip(chosen, _distinct(chosen)):
        part = both.filter(pl.col("domain") == domain)
        before, after = part["before"].to_numpy(), part["after"].to_numpy()
        gain = paired_difference(before, after, key=("domain", domain))
        found.append(Domain(name, len(before), mean_with_interval(before), mean_with_interval(after), gain))
    found.sort(key=lambda d: (-d.gain.value, -d.after.value, d.name))
    return found, sizes.height - len(found)


def _dots(domains: list[Domain], whens: list[str]) -> list[dict[str, Any]]:
    return [
        {"name": d.name, "when": when, **e._asdict(), "text": f"{d.name}, {when}: {interval(*e)}"}
        for d in domains
        for when, e in zip(whens, (d.before, d.after)[-len(whens) :])
    ]


def _gain(d: Domain) -> str:
    return f"{points(d.gain.value)} [{points(d.gain.low)}, {points(d.gain.high)}]"


def _main_benchmark(evals: pl.DataFrame) -> str:
    """`heldout` where it was evaluated, else the largest."""
    sizes = evals.group_by("benchmark").len().sort(pl.col("benchmark") != "heldout", "len", "benchmark", descending=[False, True, False])
    return "" if sizes.is_empty() else str(sizes["benchmark"][0])


def _distinct(names: list[str]) -> list[str]:
    """Labels that stay different where shortening made two the same."""
    shown = [label(name or "(no domain)", 28) for name in names]
    return [name if shown.count(name) == 1 else f"{name} ({place})" for place, name in enumerate(shown, 1)]
