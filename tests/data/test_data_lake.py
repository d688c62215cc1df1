from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from data.errors import UserError
from data.lake import Lake
from data.records import Problem
from data.tables import problem_row


def problems(start: int, n: int = 2) -> list[dict[str, Any]]:
    return [problem_row(Problem(f"What is {i} + 1?", str(i + 1)), 0) for i in range(start, start + n)]


def commit(lake: Lake, round: int, shard: int, start: int = 0, stage: str = "probe") -> bool:
    return lake.commit(round, stage, shard, {"problems": [{**row, "round": round} for row in problems(start)]}, {"start": start})


def files(lake: Lake) -> set[str]:
    return {str(Path(folder) / name) for folder, _, names in os.walk(lake.data_path) for name in names}


def test_a_shard_lands_once_with_its_line(lake: Lake) -> None:
    assert not lake.has_shard(0, "probe", 0)
    assert commit(lake, 0, 0)
    assert lake.has_shard(0, "probe", 0) and not lake.has_shard(0, "probe", 1) and not lake.has_shard(0, "verify", 0)
    assert not commit(lake, 0, 0, start=50)
    assert lake.query("SELECT count(*) FROM problems").item() == 2
    (line,) = lake.shard_lines(0, "probe")
    assert line["rows"] == {"problems": 2} and line["info"] == {"start": 0}


def test_the_place_is_filled_in_and_tables_without_rows_are_fine(lake: Lake) -> None:
    lake.commit(3, "train", 7, {"problems": problems(0), "checks": []})
    assert lake.query("SELECT DISTINCT round, stage, shard FROM problems").rows() == [(0, "train", 7)]
    assert lake.shard_lines(3, "train")[0]["rows"] == {"problems": 2}


def test_a_failed_commit_leaves_nothing(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    before = lake.digest()
    with pytest.raises(ValueError, match="no column"):
        lake.commit(0, "probe", 0, {"problems": [{"nonsense": 1}]})

    def broken(paths: object) -> None:
        raise OSError("the disk went away")

    with monkeypatch.context() as patch:
        patch.setattr("data.session.sync_files", broken)
        with pytest.raises(Exception, match="the disk went away"):
            commit(lake, 0, 0)
    assert lake.digest() == before and not lake.has_shard(0, "probe", 0)
    assert commit(lake, 0, 0)


def test_a_stage_has_one_line(lake: Lake) -> None:
    assert lake.stage_info(0, "probe") is None
    assert lake.finish_stage(0, "probe", {"kept": 3, "loss": float("nan")}, 1.5)
    assert not lake.finish_stage(0, "probe", {"kept": 4}, 2.5)
    assert lake.stage_info(0, "probe") == {"kept": 3, "loss": None, "seconds": 1.5}


def test_at_round_shows_the_past(lake: Lake) -> None:
    for round in range(3):
        commit(lake, round, 0, start=10 * round)
    digests = [lake.digest(at_round=round).total for round in range(3)]
    assert len(set(digests)) == 3 and digests[-1] == lake.digest().total
    counts = [lake.query("SELECT count(*) FROM problems JOIN shards USING (round)", at_round=round).item() for round in range(3)]
    assert counts == [2, 4, 6]
    assert lake.query("SELECT count(*) FROM problems").item() == 6


def test_queries_take_parameters_and_sql_errors_are_the_users(lake: Lake) -> None:
    commit(lake, 0, 0, start=4)
    assert lake.query("SELECT reference FROM problems WHERE prompt = ?", ["What is 4 + 1?"]).item() == "5"
    assert lake.query("SELECT reference FROM problems WHERE prompt = $p", {"p": "What is 5 + 1?"}).item() == "6"
    with pytest.raises(UserError, match="promt"):
        lake.query("SELECT promt FROM problems")


def test_answers_of_any_type_come_back(lake: Lake) -> None:
    commit(lake, 0, 0)
    huge = 2**127 - 1
    sql = f"SELECT sum(round + 7) AS n, max(committed_at) - min(committed_at) AS d, max(committed_at) AS t, {huge} AS h FROM shards;"
    row = lake.query(sql).to_dicts()[0]
    assert row["n"] == 7 and isinstance(row["n"], int) and row["d"] == "00:00:00" and row["t"].utcoffset().total_seconds() == 0
    assert lake.query("SELECT ? AS x", ["a\x00b"]).item() == "a\ufffdb"
    assert lake.query("SELECT 1 WHERE false").is_empty()


def test_known_ids(lake: Lake) -> None:
    commit(lake, 0, 0)
    known = [row["problem_id"] for row in problems(0)]
    assert lake.known_ids("problems", [*known, "no such", known[0]]) == set(known)
    assert lake.known_ids("problems", []) == set()


def test_the_digest_does_not_depend_on_shards_order_or_merges(lake: Lake, tmp_path: Path) -> None:
    for shard in range(4):
        commit(lake, 0, shard, start=10 * shard)
    expected = lake.digest()
    lake.merge()
    assert lake.digest() == expected
    with Lake.open(tmp_path / "other", create=True) as other:
        for shard in (2, 0, 3, 1):
            commit(other, 0, shard, start=10 * shard)
        assert other.digest() == expected
        commit(other, 0, 4, start=99)
        assert other.digest() != expected
    assert expected.tables["problems"].rows == 8


def test_duplicate_keys_are_counted(lake: Lake) -> None:
    commit(lake, 0, 0)
    assert lake.duplicate_keys() == {}
    commit(lake, 0, 1)
    assert lake.duplicate_keys() == {"problems": 2}


def test_merging_leaves_one_file_per_table_and_forgets_old_snapshots(lake: Lake) -> None:
    for shard in range(12):
        commit(lake, 0, shard, start=2 * shard)
    assert len(files(lake)) == 24
    rows = lake.query("FROM problems ORDER BY prompt")
    lake.merge()
    assert len(files(lake)) == 2
    assert lake.query("SELECT count(*) FROM ducklake_snapshots('lake')").item() == 1
    assert lake.query("FROM problems ORDER BY prompt").equals(rows)
    lake.merge()
    assert len(files(lake)) == 2


def test_the_writer_merges_by_itself(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.lake.MERGE_EVERY", 5)
    most = 0
    for shard in range(17):
        commit(lake, 0, shard, start=2 * shard)
        most = max(most, len(files(lake)))
    assert most <= 12 and len(lake.shard_lines(0, "probe")) == 17


def test_orphans_are_swept_on_open(run: Path, catalog: str | None) -> None:
    with Lake.open(run, catalog=catalog, write=True) as lake:
        commit(lake, 0, 0)
        kept, expected = files(lake), lake.digest()
        orphan = lake.data_path / "main" / "problems" / "orphan.parquet"
        orphan.write_bytes(Path(next(iter(kept))).read_bytes())
    with Lake.open(run, catalog=catalog, write=True) as lake:
        assert files(lake) == kept and lake.digest() == expected


def test_a_lake_is_reopened_where_it_is_moved(run: Path, catalog: str | None) -> None:
    with Lake.open(run, catalog=catalog, write=True) as lake:
        commit(lake, 0, 0)
        expected = lake.digest()
    run.rename(run.with_name("moved"))
    with Lake.open(run.with_name("moved"), catalog=catalog) as lake:
        assert lake.digest() == expected


def test_columns_carry_their_sentences(lake: Lake) -> None:
    comments = lake.query("SELECT column_name, comment FROM duckdb_columns() WHERE database_name = 'lake' AND table_name = 'problems'")
    assert dict(comments.rows())["problem_id"] == "Content hash of prompt, media, reference and verifier spec."
    assert comments["comment"].null_count() == 0


def test_a_column_that_is_new_since_the_run_began_is_added(run: Path, catalog: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    from data import schema

    with Lake.open(run, catalog=catalog, write=True) as lake:
        commit(lake, 0, 0)
    old = schema.tables()["problems"]
    new = schema.Table(old.name, old.doc, (*old.columns, schema.Column("extra", "INTEGER", "New.")), old.key)
    monkeypatch.setitem(schema._registry, "problems", new)
    with Lake.open(run, catalog=catalog, write=True) as lake:
        lake.commit(0, "probe", 1, {"problems": [{**row, "extra": 5} for row in problems(10)]})
        assert lake.query("SELECT extra FROM problems ORDER BY shard").to_series().to_list() == [None, None, 5, 5]


def test_the_password_of_a_catalog_is_written_nowhere(tmp_path: Path) -> None:
    from data.catalog import Catalog

    for url in ("postgresql://me:s3cret@host/db", "postgres:dbname=db password=s3cret host=x", "postgres:host=x password='s3 cret' user=y"):
        catalog = Catalog.parse(url)
        catalog.remember(tmp_path)
        assert "cret" not in (tmp_path / "catalog.json").read_text()
        known = Catalog.of(tmp_path)
        assert known is not None and catalog.resume(known, tmp_path).schema == known.schema
        with pytest.raises(UserError, match="keeps the one it began with"):
            Catalog.parse("postgresql://me@other/db").resume(known, tmp_path)


def test_a_frame_can_be_committed(lake: Lake) -> None:
    lake.commit(0, "train", 0, {"policies": pl.DataFrame({"policy_id": ["a"], "step": [1], "path": ["x"], "weights_hash": [""]})})
    assert lake.query("SELECT policy_id, stage FROM policies").rows() == [("a", "train")]


@pytest.mark.slow
def test_three_hundred_commits_leave_few_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    from bench_lake import measure  # its times are figures of `synth bench lake`, not of a test

    figures = measure(tmp_path / "run", commits=300, merge_every=50)
    assert figures["rows"] == 300 and figures["files_peak"] <= 3 * 50 + 10
