"""`import synth`: the public face for notebooks and scripts.

>>> import synth
>>> run = synth.open_run("runs/arithmetic-001")          # doctest: +SKIP
>>> run.query("SELECT round, avg(reward_mean) FROM train_steps GROUP BY round")   # doctest: +SKIP
>>> run.scan("rollouts").filter(pl.col("outcome") == "fail").head(5).collect()     # doctest: +SKIP

`flows/examples/first_look.ipynb` is a short tour.
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
    import duckdb
    import polars as pl

__all__ = ["OpenRun", "open_run"]


class OpenRun:
    """A run opened for reading; safe while the run is still going, sees whole shards only."""

    def __init__(self, folder: str | Path) -> None:
        from pipelines.run import read_lake, run_file

        self.dir = Path(folder)
        self.recipe: dict[str, Any] = run_file(self.dir)["recipe"]
        self._lake = read_lake(self.dir)

    @property
    def tables(self) -> list[str]:
        """The names of the lake's tables."""
        names = self.query("SELECT DISTINCT table_name FROM duckdb_columns() WHERE database_name = current_database() ORDER BY 1")
        return names["table_name"].to_list()

    def columns(self, table: str) -> pl.DataFrame:
        """What each column of a table holds, in a sentence: column_name, data_type, comment."""
        mine = "WHERE table_name = ? AND database_name = current_database() ORDER BY column_index"
        return self._lake.query(f"SELECT column_name, data_type, comment FROM duckdb_columns() {mine}", (self._known(table),))

    def query(self, sql: str, *, at_round: int | None = None) -> pl.DataFrame:
        """SQL over the lake's tables; `at_round=N` shows them as they stood after round N."""
        return self._lake.query(sql, at_round=at_round)

    def table(self, name: str, *, at_round: int | None = None) -> pl.DataFrame:
        """A whole table, e.g. `problems`, `rollouts`, `decisions`, `train_steps`, `evals`."""
        return self.query(f"SELECT * FROM {self._known(name)}", at_round=at_round)

    def scan(self, name: str) -> pl.LazyFrame:
        """A table as a Polars LazyFrame: columns and filters are pushed down to DuckDB, nothing is read before `collect`."""
        return self.relation(self._known(name)).pl(lazy=True)

    def relation(self, sql: str) -> duckdb.DuckDBPyRelation:
        """A query, or a table by its name, as a DuckDB relation: filter, aggregate and join it further, then ask for rows."""
        return self._lake.relation(sql)

    def scores(self) -> pl.DataFrame:
        """pass@k, avg@n, majority@n and CoT-Pass@k per round and benchmark, each with its 95 % interval."""
        from pipelines.evaluate import scores

        return scores(self.query("SELECT * FROM evals ORDER BY round, benchmark, problem_id"))

    def _known(self, name: str) -> str:
        if name not in self.tables:
            raise ValueError(f"no table named {name!r}; there are: {', '.join(self.tables)}")
        return name

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
