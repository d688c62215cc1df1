"""What the world does to a lake: kills, full disks, read-only folders, second writers, folders that are no run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from data.errors import SynthError, UserError
from data.lake import Lake
from data.ledger import Ledger
from data.records import Completion, Problem
from data.tables import problem_row

Child = Callable[..., subprocess.Popen[str]]

WRITE = """
import sys
from data.lake import Lake
from data.records import Completion, Problem
from data.tables import problem_row
import data.lake
data.lake.MERGE_EVERY = 6
lake = Lake.open(sys.argv[1], catalog=sys.argv[2] or None, write=True)
print("ready", flush=True)
for shard in range(10_000):
    rows = [problem_row(Problem(f"{shard} {i}"), 0) for i in range(3)]
    if lake.commit(0, "probe", shard, {"problems": rows, "policies": [{"policy_id": str(shard)}]}):
        print(shard, flush=True)
"""


def commit(lake: Lake, shard: int, n: int = 3, size: int = 10) -> bool:
    rows = [problem_row(Problem(f"{shard} {i} {random.randbytes(size).hex()}"), 0) for i in range(n)]
    return lake.commit(0, "probe", shard, {"problems": rows})


def answer(i: int) -> Completion:
    none = np.zeros(0, np.int32)
    return Completion(str(i), "x" * 30_000, none, none.astype(np.float32), none, "stop", "p")


def mounted(*arguments: str) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True).returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB, where we may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or not mounted("-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)):
        pytest.skip("mounting a small disk takes root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_killed_writer_loses_nothing_and_repeats_nothing(run: Path, catalog: str | None, child: Child) -> None:
    promised, chance = set(), random.Random(7)
    for _ in range(4):
        writer = child(WRITE, str(run), catalog or "")
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0.1, 0.8))
        writer.send_signal(signal.SIGKILL)
        promised |= {int(shard) for shard in writer.stdout.read().split()}
        writer.wait()
    with Lake.open(run, catalog=catalog, write=True) as lake:
        lines = {line["shard"] for line in lake.shard_lines(0, "probe")}
        assert promised <= lines and len(lines) - len(promised) <= 4  # at most one durable but unsaid a kill
        assert lines == set(range(len(lines)))
        assert lake.query("SELECT shard, count(*) AS n FROM problems GROUP BY shard HAVING n <> 3").is_empty()
        assert lake.duplicate_keys() == {}
        named = {row[0] for row in lake.query("SELECT data_file FROM ducklake_list_files('lake', 'problems')").rows()}
        lake.merge()
        assert len(list((lake.data_path / "main" / "problems").iterdir())) == 1 and named


def test_a_second_writer_is_refused_and_readers_are_not(run: Path, catalog: str | None, child: Child) -> None:
    writer = child(WRITE, str(run), catalog or "")
    assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
    with pytest.raises(UserError, match=rf"process {writer.pid}\) is writing to .*run"):
        Lake.open(run, catalog=catalog, write=True)
    with Lake.open(run, catalog=catalog) as reader:
        assert reader.query("SELECT count(*) FROM problems").item() % 3 == 0
        assert not reader.writable
        with pytest.raises(SynthError):
            reader.commit(0, "x", 0, {})
    writer.kill()
    writer.wait()
    Lake.open(run, catalog=catalog, write=True).close()


def test_the_lock_holds_inside_one_process_too_and_ends_with_close(lake: Lake) -> None:
    with pytest.raises(UserError, match="is writing to"):
        Lake.open(lake.run_dir, write=True)
    lake.close()
    Lake.open(lake.run_dir, write=True).close()


@pytest.mark.parametrize("write", [False, True])
def test_a_folder_that_is_not_a_run(tmp_path: Path, write: bool) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UserError, match=r"is not a run folder: it holds no catalog\.sqlite"):
            Lake.open(folder, write=write)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("x")
    with pytest.raises(UserError, match="cannot be made a run folder"):
        Lake.open(tmp_path / "run", create=True)


def test_a_catalog_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither sqlite:PATH nor postgres"):
        Lake.open(tmp_path / "run", catalog="mysql:x", create=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "catalog.sqlite").write_text("this is not a database, whatever its name says" * 50)
    with pytest.raises(SynthError, match=r"the lake in .*other.*"):
        Lake.open(tmp_path / "other")


def test_a_full_disk_stops_cleanly_and_the_lake_goes_on_afterwards(small_disk: Path) -> None:
    run = small_disk / "run"
    ballast = small_disk / "ballast"
    committed = 0
    with Lake.open(run, create=True) as lake, Ledger.open(run / "ledger.sqlite") as ledger:
        ballast.write_bytes(bytes(4 << 20))
        with pytest.raises(UserError, match="disk full"):
            while True:
                commit(lake, committed, n=200, size=500)
                committed += 1
        assert committed > 0
        assert len(lake.shard_lines(0, "probe")) == committed  # still readable
        with pytest.raises(UserError, match="disk full"):
            commit(lake, committed, n=2000, size=500)
        with pytest.raises(UserError, match="disk full"):
            ledger.record([answer(i) for i in range(400)])
        assert len(ledger.lookup([str(i) for i in range(400)])) in (0, 256)  # whole transactions only
    with Lake.open(run) as lake:
        expected = lake.digest()
        assert expected.tables["problems"].rows == 200 * committed
    with Ledger.open(run / "ledger.sqlite", write=False) as reader:
        assert reader.counts()["done"] in (0, 256)
    ballast.unlink()
    with Lake.open(run, write=True) as lake:
        assert lake.digest() == expected
        assert commit(lake, committed, n=200, size=500)
        assert lake.duplicate_keys() == {}
    with Ledger.open(run / "ledger.sqlite") as ledger:
        ledger.record([answer(0)])
        assert ledger.lookup(["0"])["0"].text == answer(0).text


def test_a_read_only_folder_can_be_read_and_not_written(tmp_path: Path) -> None:
    run, view = tmp_path / "run", tmp_path / "view"
    with Lake.open(run, create=True) as lake:
        commit(lake, 0)
        expected = lake.digest()
    Ledger.open(run / "ledger.sqlite").close()
    view.mkdir()
    if os.geteuid() == 0:
        if not (mounted("--bind", str(run), str(view)) and mounted("-o", "remount,ro,bind", str(view))):
            pytest.skip("mounting a read-only view is not allowed here")
    else:
        view.rmdir()
        run.rename(view)
        view.chmod(0o555)
    try:
        with Lake.open(view) as lake:
            assert lake.digest() == expected
        with Ledger.open(view / "ledger.sqlite", write=False) as ledger:
            assert ledger.counts()["requests"] == 0
        with pytest.raises(UserError, match="cannot be written"):
            Lake.open(view, write=True)
        with pytest.raises(UserError, match="cannot be written"):
            Lake.open(view / "new", create=True)
        with pytest.raises(UserError, match="cannot be written"):
            Ledger.open(view / "new.sqlite")
    finally:
        if os.geteuid() == 0:
            subprocess.run(["umount", "-l", str(view)], check=True)
        else:
            view.chmod(0o755)
