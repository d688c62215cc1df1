"""What the training steps sampled beside the recipe's own problems, and what became of every problem that a strategy wrote inside a step."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from pipelines.report import words
from pipelines.report.figure import Section, Table, count, label, percent, share


def stream_section(streams: pl.DataFrame, funnel: pl.DataFrame) -> Section | None:
    """None for a run whose steps knew no other stream than main."""
    if funnel.is_empty() and set(streams["stream"]) <= {"main"}:
        return None
    cells = [
        [str(r), label(stream, 30), count(groups), share(mixed, groups), count(answers), share(passes, answers), percent(reward), count(tokens)]
        for r, stream, groups, mixed, answers, reward, passes, tokens in streams.iter_rows()
    ]
    columns = ["round", "stream", "groups", "of mixed rewards", "answers", "passed", "mean reward", "sampled tokens"]
    tables = [("Sampled in the training steps, by stream", Table(columns, cells, numeric_from=2))]
    if funnel.height:
        lines = [
            [str(r), label(strategy, 24), label(rule, 30), count(refused + kept), count(refused), count(kept), share(kept, refused + kept)]
            for r, strategy, rule, refused, kept in funnel.iter_rows()
        ]
        headings = ["round", "strategy", "rule", "decided by it", "refused", "kept", "kept share"]
        tables.append(("Decisions inside the steps, by rule", Table(headings, lines, numeric_from=3)))
    return replace(words.STREAMS, tables=tables)
