"""`import synth`: the public face for notebooks and scripts.

>>> import synth
>>> run = synth.open_run("runs/arithmetic-001")          # doctest: +SKIP
>>> run.query("SELECT round, avg(reward_mean) FROM train_steps GROUP BY round")   # doctest: +SKIP
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import data as _data

if not hasattr(_data, "__path__") or not (Path(_data.__path__[0]) / "records.py").is_file():
    raise ImportError(
        f"synth needs its own package 'data', but {getattr(_data, '__file__', None) or 'another folder named data'} hides it; "
        "rename that file or start from another folder"
    )

if TYPE_CHECKING:
    import polars as pl

__all__ = ["OpenRun", "open_run"]


class OpenRun:
    """A run opened for reading; safe while the run is still going, sees whole shards only."""

    def __init__(self, folder: str | Path) -> None:
        from pipelines.run import read_lake, run_file

        self.dir = Path(folder)
        self.recipe: dict[str, Any] = run_file(self.dir)["recipe"]
        self._lake = read_lake(self.dir)

    def query(self, sql: str, *, at_round: int | None = None) -> pl.DataFrame:
        """SQL over the lake's tables; `at_round=N` shows them as they stood after round N."""
        return self._lake.query(sql, at_round=at_round)

    def table(self, name: str, *, at_round: int | None = None) -> pl.DataFrame:
        """A whole table, e.g. `problems`, `rollouts`, `decisions`, `train_steps`, `evals`."""
        if not name.isidentifier():
            raise ValueError(f"not a table name: {name!r}")
        return self.query(f"SELECT * FROM {name}", at_round=at_round)

    def digest(self) -> str:
        """Order-independent hash of every table's digest columns."""
        return self._lake.digest().total

    def close(self) -> None:
        self._lake.close()

    def __enter__(self) -> OpenRun:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def open_run(folder: str | Path) -> OpenRun:
    """Open a run folder for reading."""
    return OpenRun(folder)
