"""The run's digest: equal for equal rows in any order, whatever files, merges or catalogs they lie in.

Per table: the sum mod 2**128 of the blake2b hash of every row over its digest columns. A sum, unlike an xor,
does not cancel a row that stands there twice.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.schema import Table, arrow_type

_MASK = (1 << 128) - 1
_NULL = b"\x00"


@dataclass(frozen=True)
class TableDigest:
    rows: int
    hex: str


@dataclass(frozen=True)
class Digest:
    """32 hex digits per table and over all of them."""

    tables: Mapping[str, TableDigest]
    total: str

    def __str__(self) -> str:
        return self.total


def combine(tables: Mapping[str, TableDigest]) -> Digest:
    """The total over the tables that have rows: an empty table says nothing, so that a new kind of table changes no old digest."""
    h = hashlib.blake2b(digest_size=16)
    for name, one in sorted(tables.items()):
        if one.rows:
            h.update(f"{name} {one.rows} {one.hex}\n".encode())
    return Digest(dict(sorted(tables.items())), h.hexdigest())


def digest_columns(table: Table) -> list[str]:
    return sorted(column.name for column in table.columns if column.digest)


def digest_table(table: Table, batches: Iterable[pa.RecordBatch]) -> TableDigest:
    """`batches` carry the columns `digest_columns(table)`, in that order."""
    names = digest_columns(table)
    head = "\n".join([table.name, *(f"{name} {table.column(name).type}" for name in names)]).encode()
    total, rows = 0, 0
    seed = hashlib.blake2b(head, digest_size=16)
    for batch in batches:
        columns = [encode(batch.column(i), table.column(name).type) for i, name in enumerate(names)]
        for cells in zip(*columns):
            row = seed.copy()
            row.update(b"".join(cells))
            total += int.from_bytes(row.digest(), "big")
        rows += batch.num_rows
    return TableDigest(rows, f"{total & _MASK:032x}")


def encode(values: pa.Array, kind: str) -> list[bytes]:
    """One self-delimiting byte string per value: little-endian numbers, UTF-8, lists and strings behind their length.

    Floats by their exact bits, but every NaN is the same NaN (its sign and payload carry no meaning and differ by processor).
    """
    item = kind.removesuffix("[]")
    wanted = pa.large_list(_wide(item)) if kind.endswith("[]") else _wide(item)
    values = values.cast(wanted) if values.type != wanted else values
    valid = values.is_valid().to_numpy(zero_copy_only=False)
    if kind.endswith("[]"):
        cells = _encode_lists(values, item)
    elif item in ("VARCHAR", "BLOB"):
        cells = _encode_strings(values)
    else:
        raw, width = _numbers(values, item)
        cells = [b"\x01" + raw[i : i + width] for i in range(0, len(raw), width)]
    return cells if valid.all() else [cell if ok else _NULL for cell, ok in zip(cells, valid)]


def _encode_strings(values: pa.Array) -> list[bytes]:
    return [_NULL if v is None else struct.pack("<BQ", 1, len(v)) + v for v in values.cast(pa.large_binary()).to_pylist()]


def _encode_lists(values: pa.Array, item: str) -> list[bytes]:
    offsets = values.offsets.to_numpy()
    flat = values.values
    if item in ("VARCHAR", "BLOB") or flat.null_count:
        cells = encode(flat, item)
        return [struct.pack("<BQ", 1, b - a) + b"".join(cells[a:b]) for a, b in pairwise(offsets.tolist())]
    raw, width = _numbers(flat, item)
    # The second byte tells a plain list of numbers from one whose items are marked one by one.
    return [struct.pack("<BQ", 2, b - a) + raw[a * width : b * width] for a, b in pairwise(offsets.tolist())]


def _numbers(values: pa.Array, item: str) -> tuple[bytes, int]:
    if item == "TIMESTAMPTZ":
        values = values.cast(pa.int64())
    if item == "BOOLEAN":
        values = values.cast(pa.uint8())
    array = pc.fill_null(values, 0).to_numpy(zero_copy_only=False)
    if array.dtype.kind == "f":
        array = np.where(np.isnan(array), array.dtype.type(np.nan), array)
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return array.tobytes(), array.dtype.itemsize


def _wide(item: str) -> pa.DataType:
    return {"VARCHAR": pa.large_string(), "BLOB": pa.large_binary()}.get(item) or arrow_type(item)
