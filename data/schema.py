"""The registry of tables: every room registers the schemas of its own, one sentence and a digest flag per column.

DuckDB's comments, the Arrow schemas that rows are checked against, the run's digest and the docs page all come from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

SCALARS = ("BOOLEAN", "UTINYINT", "INTEGER", "BIGINT", "FLOAT", "DOUBLE", "VARCHAR", "BLOB", "TIMESTAMPTZ")


@dataclass(frozen=True)
class Column:
    """`type` is DuckDB's name of it, one of `SCALARS` or a list of one (`INTEGER[]`).

    `digest` says whether the column counts for the run's digest; times, hosts, versions, isolation and attempts do not.
    """

    name: str
    type: str
    doc: str
    digest: bool = True

    def __post_init__(self) -> None:
        if self.type.removesuffix("[]") not in SCALARS:
            raise ValueError(f"column {self.name}: type {self.type} is none of {', '.join(SCALARS)} or a list of one")
        if not self.doc.strip():
            raise ValueError(f"column {self.name} has no sentence that says what it holds")


@dataclass(frozen=True)
class Table:
    """`key`: the columns that are unique together; the last of them is the id that `Lake.known_ids` asks for."""

    name: str
    doc: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names):
            raise ValueError(f"table {self.name} has a column twice")
        if not self.key or not set(self.key) <= set(names):
            raise ValueError(f"table {self.name}: its key {self.key} must name columns of its own")

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)


PLACE = (
    Column("round", "INTEGER", "Round that wrote the row, from 0."),
    Column("stage", "VARCHAR", "Stage that wrote the row, e.g. probe, train, evaluate."),
    Column("shard", "INTEGER", "Shard of the stage, the unit of commit; for the trainer, the optimizer step."),
)
"""The three columns that every table of a run starts with; `--at-round N` filters on the first."""

_registry: dict[str, Table] = {}


def register(table: Table) -> Table:
    """Adds `table` (again is harmless, another one under its name is not) and returns it."""
    known = _registry.setdefault(table.name, table)
    if known != table:
        raise ValueError(f"table {table.name} is registered twice with different columns")
    return table


def table(name: str, doc: str, *columns: Column, key: tuple[str, ...]) -> Table:
    """Registers a table of the run: the `PLACE` columns come first, then `columns`."""
    return register(Table(name, doc, PLACE + columns, key))


def tables() -> dict[str, Table]:
    """All registered tables by name, sorted; `data.tables` is always among them."""
    import data.tables  # noqa: F401 - registers itself

    return dict(sorted(_registry.items()))


def arrow_type(name: str) -> pa.DataType:
    """DuckDB type name -> Arrow type."""
    import pyarrow as pa

    if name.endswith("[]"):
        return pa.list_(arrow_type(name.removesuffix("[]")))
    return {
        "BOOLEAN": pa.bool_(),
        "UTINYINT": pa.uint8(),
        "INTEGER": pa.int32(),
        "BIGINT": pa.int64(),
        "FLOAT": pa.float32(),
        "DOUBLE": pa.float64(),
        "VARCHAR": pa.string(),
        "BLOB": pa.binary(),
        "TIMESTAMPTZ": pa.timestamp("us", tz="UTC"),
    }[name]


def arrow_schema(table: Table) -> pa.Schema:
    """The Arrow schema of the rows of `table`, columns in order."""
    import pyarrow as pa

    return pa.schema([(column.name, arrow_type(column.type)) for column in table.columns])


def markdown() -> str:
    """The docs page: one section a table, one line a column."""
    lines = ["# Tables of a run", ""]
    for one in tables().values():
        lines += [f"## {one.name}", "", one.doc, "", f"Key: {', '.join(one.key)}", "", "| column | type | digest | |", "|---|---|---|---|"]
        lines += [f"| `{c.name}` | {c.type} | {'yes' if c.digest else 'no'} | {c.doc} |" for c in one.columns] + [""]
    return "\n".join(lines)
