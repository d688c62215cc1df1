from __future__ import annotations

import hashlib
import math
import struct
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.digest import TableDigest, combine, digest_columns, digest_table, encode
from data.schema import Column, Table, arrow_schema, arrow_type

COLUMNS = (
    Column("n", "INTEGER", "N."),
    Column("x", "FLOAT", "X."),
    Column("s", "VARCHAR", "S."),
    Column("tokens", "INTEGER[]", "T."),
    Column("logp", "FLOAT[]", "L."),
    Column("names", "VARCHAR[]", "M."),
    Column("ok", "BOOLEAN", "O."),
    Column("ms", "DOUBLE", "MS.", digest=False),
)
TABLE = Table("sample", "S.", COLUMNS, ("n",))
INT = st.integers(-(2**31), 2**31 - 1)
FLOAT = st.floats(width=32)
ROW = st.fixed_dictionaries(
    {
        "n": INT | st.none(),
        "x": FLOAT | st.none(),
        "s": st.text(st.characters(exclude_categories=["Cs"]), max_size=5) | st.none(),
        "tokens": st.lists(INT, max_size=4) | st.none(),
        "logp": st.lists(FLOAT, max_size=4) | st.none(),
        "names": st.lists(st.text("ab", max_size=2), max_size=3) | st.none(),
        "ok": st.booleans() | st.none(),
        "ms": FLOAT,
    }
)


def digest(rows: list[dict[str, Any]], cut: int = 10_000) -> TableDigest:
    table = pa.Table.from_pylist(rows, arrow_schema(TABLE)).select(digest_columns(TABLE))
    return digest_table(TABLE, table.to_batches(max_chunksize=cut))


def oracle(rows: list[dict[str, Any]]) -> int:
    """The digest row by row, written from its description."""

    def number(value: Any, kind: str) -> bytes:
        if kind == "FLOAT":
            return struct.pack("<f", math.nan if math.isnan(value) else value)
        return struct.pack("<i", value) if kind == "INTEGER" else bytes([value])

    def cell(value: Any, kind: str) -> bytes:
        if value is None:
            return b"\x00"
        if kind == "VARCHAR":
            raw = value.encode()
            return b"\x01" + struct.pack("<Q", len(raw)) + raw
        if kind == "VARCHAR[]":
            return b"\x01" + struct.pack("<Q", len(value)) + b"".join(cell(v, "VARCHAR") for v in value)
        if kind.endswith("[]"):
            return b"\x02" + struct.pack("<Q", len(value)) + b"".join(number(v, kind[:-2]) for v in value)
        return b"\x01" + number(value, kind)

    columns = sorted((c for c in COLUMNS if c.digest), key=lambda c: c.name)
    head = "\n".join(["sample", *(f"{c.name} {c.type}" for c in columns)]).encode()
    total = 0
    for row in rows:
        raw = head + b"".join(cell(row[c.name], c.type) for c in columns)
        total += int.from_bytes(hashlib.blake2b(raw, digest_size=16).digest(), "big")
    return total % 2**128


@given(st.lists(ROW, max_size=8))
def test_the_vectorised_digest_is_the_one_described(rows: list[dict[str, Any]]) -> None:
    found = digest(rows)
    assert (found.rows, int(found.hex, 16)) == (len(rows), oracle(rows))


@given(st.lists(ROW, max_size=8), st.randoms(), st.integers(1, 3))
def test_order_and_chunks_do_not_matter(rows: list[dict[str, Any]], random: Any, cut: int) -> None:
    shuffled = random.sample(rows, len(rows))
    assert digest(shuffled, cut) == digest(rows)


@given(st.lists(ROW, min_size=1, max_size=4), st.data())
def test_one_changed_cell_changes_it_unless_it_does_not_count(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    base = digest(rows)
    assert digest([{**row, "ms": 1.25} for row in rows]) == base
    name = data.draw(st.sampled_from(digest_columns(TABLE)))
    changed = data.draw(ROW)[name]
    kind = TABLE.column(name).type
    before, after = (encode(pa.array([v], arrow_type(kind)), kind)[0] for v in (rows[0][name], changed))
    assert (digest([{**rows[0], name: changed}, *rows[1:]]) == base) == (before == after)


def test_a_row_twice_is_not_a_row_never() -> None:
    row = {"n": 1, "x": 0.5, "s": "a", "tokens": [1], "logp": [0.0], "names": [], "ok": True, "ms": 0.0}
    assert len({digest([row] * k).hex for k in range(4)}) == 4


@pytest.mark.parametrize(
    ("kind", "left", "right"),
    [
        ("INTEGER[]", [], None),
        ("INTEGER[]", [0], [None]),
        ("VARCHAR[]", ["ab", ""], ["a", "b"]),
        ("VARCHAR", "", None),
        ("FLOAT", 0.0, -0.0),
        ("DOUBLE", 0.1, float(np.float32(0.1))),
        ("BLOB", b"\x00", b""),
        ("BIGINT", 0, None),
    ],
)
def test_values_that_look_alike_are_told_apart(kind: str, left: Any, right: Any) -> None:
    one, other = encode(pa.array([left, right], arrow_type(kind)), kind)
    assert one != other


def test_every_nan_is_the_same() -> None:
    bits = np.array([0x7FC00000, 0xFFC00000, 0x7F800001], np.uint32).view(np.float32)
    assert len(set(encode(pa.array(bits), "FLOAT"))) == 1


def test_the_total_ignores_empty_tables_and_sees_every_other_difference() -> None:
    one, two = TableDigest(1, "a" * 32), TableDigest(2, "b" * 32)
    base = combine({"t": one, "u": two}).total
    assert combine({"u": two, "t": one, "v": TableDigest(0, "0" * 32)}).total == base
    assert len({base, combine({"t": two, "u": one}).total, combine({"t": one}).total, combine({}).total}) == 4


def test_thirty_thousand_trajectories_take_seconds() -> None:
    rng = np.random.default_rng(0)
    offsets = pa.array(np.arange(0, 30_001 * 60, 60, dtype=np.int32))
    tokens = pa.ListArray.from_arrays(offsets, pa.array(rng.integers(0, 300, 1_800_000, dtype=np.int32)))
    logp = pa.ListArray.from_arrays(offsets, pa.array(rng.random(1_800_000, dtype=np.float32)))
    table = Table("wide", "W.", (Column("logp", "FLOAT[]", "L."), Column("tokens", "INTEGER[]", "T.")), ("tokens",))
    began = time.perf_counter()
    assert digest_table(table, pa.table([logp, tokens], names=["logp", "tokens"]).to_batches()).rows == 30_000
    assert time.perf_counter() - began < 5
