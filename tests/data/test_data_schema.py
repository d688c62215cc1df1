from __future__ import annotations

import duckdb
import pytest

from data.schema import PLACE, Column, Table, arrow_schema, markdown, register, tables

DATA_ROOM = {"runs", "problems", "checks", "rollouts", "trajectories", "requests", "media", "shards", "stages", "policies"}


def test_the_data_room_registers_its_tables() -> None:
    assert set(tables()) >= DATA_ROOM


def test_every_table_can_be_cut_at_a_round() -> None:
    assert all(one.columns[:3] == PLACE for one in tables().values())


def test_every_column_says_what_it_holds_in_a_sentence() -> None:
    assert [f"{t.name}.{c.name}" for t in tables().values() for c in t.columns if not c.doc.endswith(".")] == []


def test_what_differs_between_equal_runs_does_not_count_for_the_digest() -> None:
    counted = {c.name for t in tables().values() for c in t.columns if c.digest}
    assert not counted & {"started_at", "committed_at", "finished_at", "ms", "host", "versions", "isolation", "attempts", "repeats", "seconds"}
    assert all(any(c.digest for c in t.columns if c.name in t.key) for t in tables().values())


def test_registering_again_is_harmless_and_registering_another_is_not() -> None:
    problems = tables()["problems"]
    assert register(problems) is problems
    with pytest.raises(ValueError, match="twice with different columns"):
        register(Table("problems", "Other.", problems.columns[:4], ("problem_id",)))


@pytest.mark.parametrize(
    ("columns", "key", "message"),
    [
        ((Column("a", "INTEGER", "A."), Column("a", "INTEGER", "A.")), ("a",), "a column twice"),
        ((Column("a", "INTEGER", "A."),), ("b",), "must name columns"),
        ((Column("a", "INTEGER", "A."),), (), "must name columns"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(columns: tuple[Column, ...], key: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Table("t", "T.", columns, key)


def test_a_column_without_a_sentence_or_of_unknown_type_is_refused() -> None:
    with pytest.raises(ValueError, match="no sentence"):
        Column("a", "INTEGER", " ")
    with pytest.raises(ValueError, match="is none of"):
        Column("a", "JSON", "A.")


def test_arrow_types_and_the_docs_page() -> None:
    schema = arrow_schema(tables()["trajectories"])
    assert str(schema.field("tokens").type) == "list<item: int32>" and str(schema.field("logp").type) == "list<item: float>"
    page = markdown()
    assert all(f"## {name}" in page for name in DATA_ROOM) and "| `logp` | FLOAT[] | yes |" in page


def test_columns_can_be_named_without_quotes() -> None:
    con = duckdb.connect()
    for one in tables().values():
        con.execute(f"CREATE TABLE {one.name} ({', '.join(f'{q}{c.name}{q} {c.type}' for c in one.columns for q in [chr(34)])})")
        for c in one.columns:
            con.execute(f"SELECT max({c.name}) FROM {one.name} GROUP BY {c.name} ORDER BY {c.name}")
