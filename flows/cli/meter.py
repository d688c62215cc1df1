"""A progress bar for work over rows: live on a terminal, a plain line every ten seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PLAIN_EVERY = 10.0  # seconds


@contextmanager
def meter(console: Console, what: str, total: int | None, *, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """A function to be told how many more rows are done; `total` None where nobody knows yet."""
    if quiet:
        yield lambda count: None
    elif console.is_terminal:
        columns = (TextColumn("  {task.description:<9}"), BarColumn(bar_width=28), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task(what, total=total)
            waiting = _Few(lambda count: progress.update(task, advance=count))
            yield waiting
            waiting.flush()
    else:
        yield _Plain(console, what, total)


class _Few:
    """Passes counts on ten times a second: a bar that is told of every row costs more than the row."""

    def __init__(self, tell: Callable[[int], None]) -> None:
        self.tell, self.count, self.last = tell, 0, time.monotonic()

    def __call__(self, count: int) -> None:
        self.count += count
        if self.count % 64 == 0 or time.monotonic() - self.last > 0.1:
            self.flush()

    def flush(self) -> None:
        self.tell(self.count)
        self.count, self.last = 0, time.monotonic()


class _Plain:
    def __init__(self, console: Console, what: str, total: int | None) -> None:
        self.console, self.what, self.total = console, what, total
        self.done, self.began = 0, time.monotonic()
        self.last = self.began

    def __call__(self, count: int) -> None:
        self.done += count
        now = time.monotonic()
        if now - self.last >= PLAIN_EVERY:
            self.last = now
            of = f" of {self.total:,}" if self.total is not None else ""
            self.console.print(f"  {self.what} {self.done:,}{of} rows, {self.done / (now - self.began):,.0f} rows/s", soft_wrap=True)
