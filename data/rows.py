"""Rows of any kind into the Arrow table that a schema asks for (checked names, exact types, storable text), and answers into Polars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from data.schema import Table, arrow_schema
from data.text import storable

Rows: TypeAlias = Sequence[Mapping[str, Any]] | pa.Table | pl.DataFrame


def to_arrow(table: Table, rows: Rows, place: Mapping[str, Any]) -> pa.Table:
    """`rows` with the columns of `table` in order; `place` (round, stage, shard) fills those that are absent.

    Other absent columns become null; a column that the table does not have is a ValueError.
    """
    schema = arrow_schema(table)
    if isinstance(rows, pl.DataFrame):
        rows = rows.to_arrow()
    if isinstance(rows, pa.Table):
        given, height = set(rows.column_names), rows.num_rows
        columns = [_cast(rows.column(f.name), f.type) if f.name in given else _fill(place.get(f.name), height, f.type) for f in schema]
    else:
        rows = list(rows)
        given, height = {name for row in rows for name in row}, len(rows)
        columns = [_column([row.get(f.name, place.get(f.name)) for row in rows], f.type) for f in schema]
    unknown = sorted(given - set(table.names))
    if unknown:
        raise ValueError(f"table {table.name} has no column {', '.join(unknown)}; it has {', '.join(table.names)}")
    return pa.table(columns, schema=schema)


def to_frame(cursor: duckdb.DuckDBPyConnection, sql: str, params: Sequence[Any] | Mapping[str, Any] = ()) -> pl.DataFrame:
    """What a statement answers; empty where it answers nothing.

    Polars has no intervals: they become text. Sums of integers, 128 bits wide in DuckDB, become 64-bit integers where they fit.
    """
    given = {k: _storable(v) for k, v in params.items()} if isinstance(params, Mapping) else [_storable(v) for v in params]
    result = cursor.execute(sql, given or None)
    if not result.description:
        return pl.DataFrame()
    intervals = [name for name, kind, *_ in result.description if str(kind) == "INTERVAL"]
    if intervals:
        texts = ", ".join(f'"{name}"::VARCHAR AS "{name}"' for name in intervals)
        result = cursor.execute(f"SELECT * REPLACE ({texts}) FROM ({sql.strip().rstrip(';')})", given or None)
    frame = result.pl()
    wide = [name for name, kind in frame.schema.items() if kind == pl.Int128 or (isinstance(kind, pl.Decimal) and kind.scale == 0)]
    narrow = frame.select(pl.col(wide).cast(pl.Int64, strict=False))
    return frame.with_columns(narrow[name] for name in wide if narrow[name].null_count() == frame[name].null_count())


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    column = column.cast(kind)
    return pc.replace_substring(column, "\x00", "\ufffd") if pa.types.is_string(kind) else column


def _fill(value: Any, height: int, kind: pa.DataType) -> pa.Array:
    return pa.repeat(pa.scalar(value, kind), height)


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_list(kind) and values and all(isinstance(v, np.ndarray) for v in values):
        offsets = np.zeros(len(values) + 1, np.int32)
        np.cumsum([len(v) for v in values], out=offsets[1:])
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(values)).cast(kind.value_type), type=kind)
    if pa.types.is_string(kind) or (pa.types.is_list(kind) and pa.types.is_string(kind.value_type)):
        values = [_storable(v) for v in values]
    return pa.array(values, kind)


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    return [storable(v) for v in value] if isinstance(value, (list, tuple)) else value
