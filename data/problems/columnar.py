"""Parquet, batch by batch: only the columns that a problem may be asked for are decoded, and only one batch is in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.errors import UserError
from data.problems.text_file import opened

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = 4096  # rows


def read_parquet(file: Path, columns: Collection[str] | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, row) of every row, from row 1; `columns` = top-level columns wanted, None for all.

    A row that misses a wanted column still says which columns the file has: names that are not read come with value None.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with opened(file) as stream:
        if not (ends := stream.read(4)):
            return
        if ends != b"PAR1":
            raise UserError(f"{file}: not a Parquet file (it does not begin with PAR1); name it by what it is, e.g. .jsonl or .csv")
    row = 0
    try:
        with pq.ParquetFile(file, pre_buffer=False) as parquet:  # buffered ahead, the whole file would stay in memory
            names = parquet.schema_arrow.names
            if doubled := [n for place, n in enumerate(names) if n in names[:place]]:
                raise UserError(f"{file}: has the column {doubled[0]!r} twice; give every column a name of its own")
            wanted = names if columns is None else [n for n in names if n in columns]
            unread = dict.fromkeys(n for n in names if n not in wanted)
            for batch in parquet.iter_batches(BATCH, columns=wanted):
                for values in plain_rows(batch):
                    row += 1
                    yield f"{file}, row {row}", {**values, **unread}
    except (pa.ArrowException, OSError, MemoryError, ValueError) as error:
        place = f" (it breaks after row {row:,})" if row else ""
        raise UserError(f"{file}: not a whole Parquet file{place}: {_first_line(error)}; write it anew") from error


def plain_rows(batch: pa.RecordBatch | pa.Table) -> list[dict[str, Any]]:
    """Rows as JSON would hold them: decimals as text, everything else as Arrow gives it (dates and bytes are refused where a field needs text)."""
    return [{name: _plain(value) for name, value in row.items()} for row in batch.to_pylist(maps_as_pydicts="lossy")]


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return format(value.normalize(), "f") if value.is_finite() else str(value)
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list) else value


def _first_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:159] + "…"
