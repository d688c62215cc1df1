"""What the training steps sampled beside the recipe's own problems: the groups that strategies asked for, stream by stream."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from pipelines.report import words
from pipelines.report.figure import Section, Table, count, label, percent, share

COLUMNS = ("round", "stream", "groups", "of mixed rewards", "answers", "passed", "mean reward", "sampled tokens")


def stream_section(streams: pl.DataFrame) -> Section | None:
    """None for a run whose steps knew no other stream than main."""
    if set(streams["stream"]) <= {"main"}:
        return None
    cells = [
        [str(r), label(stream, 30), count(groups), share(mixed, groups), count(answers), share(passes, answers), percent(reward), count(tokens)]
        for r, stream, groups, mixed, answers, reward, passes, tokens in streams.iter_rows()
    ]
    return replace(words.STREAMS, tables=[("Sampled in the training steps, by stream", Table(COLUMNS, cells, numeric_from=2))])
