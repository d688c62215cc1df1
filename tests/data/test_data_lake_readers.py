from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from data.lake import Lake
from data.records import Problem
from data.tables import problem_row

Child = Callable[..., subprocess.Popen[str]]

LOOP = """
import json, sys
from data.lake import Lake
run_dir, catalog = sys.argv[1], sys.argv[2] or None
lake = Lake.open(run_dir, catalog=catalog)
print("ready", flush=True)
asked, torn, last = 0, 0, 0
while True:
    row = lake.query("SELECT (SELECT count(*) FROM problems), (SELECT count(*) FROM policies), (SELECT count(*) FROM shards)").rows()[0]
    asked += 1
    torn += row[0] != 3 * row[2] or row[1] != row[2] or row[2] < last
    last = row[2]
    if asked % 7 == 0:
        lake.close()
        lake = Lake.open(run_dir, catalog=catalog)
    if last >= 24:
        break
print(json.dumps({"asked": asked, "torn": torn}), flush=True)
"""

HOLD = """
import sys
from data.lake import Lake
lake = Lake.open(sys.argv[1], catalog=sys.argv[2] or None)
con = lake._session.con.cursor()
con.execute("USE lake")
con.execute("BEGIN")
for line in sys.stdin:
    print(con.execute("SELECT count(*) FROM problems").fetchone()[0], con.execute("SELECT count(*) FROM shards").fetchone()[0], flush=True)
"""


def commit(lake: Lake, shard: int) -> None:
    rows = [problem_row(Problem(f"{shard} {i}"), 0) for i in range(3)]
    assert lake.commit(0, "probe", shard, {"problems": rows, "policies": [{"policy_id": str(shard)}]})


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_reader_sees_whole_shards_only_and_never_errs(run: Path, catalog: str | None, child: Child) -> None:
    with Lake.open(run, catalog=catalog, write=True) as lake:
        reader = child(LOOP, str(run), catalog or "")
        assert line(reader) == "ready"
        for shard in range(24):
            commit(lake, shard)
            if shard % 6 == 5:
                lake.merge()
        found = json.loads(line(reader))
    assert found["torn"] == 0 and found["asked"] >= 3 and reader.wait() == 0


def test_an_open_read_transaction_hurts_nobody(run: Path, catalog: str | None, child: Child) -> None:
    with Lake.open(run, catalog=catalog, write=True) as lake:
        for shard in range(5):
            commit(lake, shard)
        notebook = child(HOLD, str(run), catalog or "")
        assert notebook.stdin is not None

        def ask() -> str:
            notebook.stdin.write("?\n")
            notebook.stdin.flush()
            return line(notebook)

        assert ask() == "15 5"
        for shard in range(5, 12):
            commit(lake, shard)
        lake.merge()  # the notebook still needs the old files
        assert ask() == "15 5"
        commit(lake, 12)
        lake.merge()
        assert ask() == "15 5"
        held = len(list(lake.data_path.rglob("*.parquet")))
        notebook.stdin.close()
        notebook.wait()
        lake.merge()  # now nobody does
        left = len(list(lake.data_path.rglob("*.parquet")))
        assert lake.query("SELECT count(*) FROM shards").item() == 13
    assert held > left and left <= 3


def test_threads_of_one_process_share_a_lake(run: Path, catalog: str | None) -> None:
    errors: list[BaseException] = []
    with Lake.open(run, catalog=catalog, write=True) as lake:

        def write(first: int) -> None:
            try:
                for shard in range(first, first + 6):
                    commit(lake, shard)
                    assert lake.query("SELECT count(*) FROM problems").item() % 3 == 0
            except BaseException as error:  # noqa: BLE001 - told to the test's own thread
                errors.append(error)

        threads = [threading.Thread(target=write, args=(10 * k,)) for k in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert lake.query("SELECT count(*) FROM shards").item() == 18 and lake.duplicate_keys() == {}
