from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from data.errors import SynthError, UserError
from data.lake import Lake
from data.ledger import Ledger
from data.ledger_rows import request_from_row
from data.records import Completion, Request, Sampling

Child = Callable[..., subprocess.Popen[str]]


def ask(i: int, **changes: object) -> Request:
    return Request(**{"policy_id": "p", "sampling": Sampling(stop=("\n",)), "seed": i, "prompt": f"What is {i}?", "purpose": "probe", **changes})  # type: ignore[arg-type]


def answer(request: Request, text: str = "42", finish: str = "stop", error: str = "") -> Completion:
    tokens = np.array([1, 2, 3], np.int32)
    return Completion(request.key, text, tokens, np.array([-0.5, np.nan, -0.0], np.float32), np.array([7], np.int32), finish, "p", error, 1.5)  # type: ignore[arg-type]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        yield ledger


def test_an_answer_is_found_and_an_intention_is_not(ledger: Ledger) -> None:
    one, two = ask(1), ask(2)
    ledger.intend([one, two])
    assert ledger.lookup([one.key, two.key]) == {}
    ledger.record([answer(one)])
    assert list(ledger.lookup([two.key, one.key])) == [one.key]
    assert ledger.counts() == {"sent": 1, "done": 1, "failed": 0, "cancelled": 0, "requests": 2, "attempts": 2, "repeats": 0, "errors": 0}


def test_what_nobody_waits_for_is_not_in_flight_and_can_be_asked_again(ledger: Ledger) -> None:
    one, two, three = ask(1), ask(2), ask(3)
    ledger.intend([one, two, three])
    ledger.record([answer(one)])
    assert ledger.let_go() == 2 and ledger.let_go() == 0
    counts = ledger.counts()
    assert (counts["sent"], counts["done"], counts["cancelled"]) == (0, 1, 2)
    ledger.intend([two])
    ledger.record([answer(three)])  # it came after all
    assert ledger.counts()["sent"] == 1 and list(ledger.lookup([one.key, two.key, three.key])) == [one.key, three.key]


@settings(max_examples=30)
@given(st.data())
def test_completions_come_back_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    n = data.draw(st.integers(0, 20))
    text = data.draw(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])))
    tokens, logp = data.draw(hnp.arrays(np.int32, n)), data.draw(hnp.arrays(np.uint32, n)).view(np.float32)
    finish = data.draw(st.sampled_from(["stop", "length", "cancelled"]))
    one = Completion("k", text, tokens, logp, tokens[::-1], finish, "policy", "", 2.5)
    with Ledger.open(tmp_path_factory.mktemp("l") / "ledger.sqlite") as ledger:
        ledger.record([one])
        back = ledger.lookup(["k"])["k"]
    assert (back.key, back.text, back.finish, back.policy_id, back.error, back.ms) == ("k", text, finish, "policy", "", 2.5)
    for name in ("tokens", "logp", "prompt_tokens"):
        left, right = getattr(one, name), getattr(back, name)
        assert left.dtype == right.dtype and left.tobytes() == right.tobytes()


def test_the_first_answer_stands_and_the_second_is_counted(ledger: Ledger) -> None:
    one = ask(1)
    ledger.intend([one])
    ledger.record([answer(one, "first"), answer(one, "second in the same call")])
    ledger.intend([one])
    ledger.record([answer(one, "third"), answer(one, "", "error", "too late")])
    assert ledger.lookup([one.key])[one.key].text == "first"
    assert ledger.repeated() == [{"key": one.key, "state": "done", "attempts": 2, "repeats": 3, "errors": 0, "purpose": "probe"}]


def test_a_failure_is_kept_until_a_success_replaces_it(ledger: Ledger) -> None:
    one = ask(1)
    ledger.intend([one])
    ledger.record([answer(one, "", "error", "connection refused")])
    assert ledger.lookup([one.key]) == {}
    assert ledger.lookup([one.key], failed=True)[one.key].error == "connection refused"
    ledger.intend([one])
    assert ledger.counts()["sent"] == 1
    ledger.record([answer(one, "good")])
    assert ledger.lookup([one.key])[one.key].text == "good"
    assert {name: ledger.counts()[name] for name in ("done", "failed", "attempts", "repeats", "errors")} == {
        "done": 1,
        "failed": 0,
        "attempts": 2,
        "repeats": 0,
        "errors": 1,
    }


def test_rows_are_in_key_order_and_tell_the_request(ledger: Ledger, blank: Path, tmp_path: Path) -> None:
    asked = [
        ask(1),
        Request("p", Sampling(), 2, messages=({"role": "user", "content": "hi"},), media=("abc",), model="m", structured={"regex": "a+"}),
        Request("p", Sampling(temperature=0.0), 3, 5, tokens=(1, 2, 3), problem_id="q"),
    ]
    ledger.intend(asked)
    ledger.record([answer(r) for r in reversed(asked)])
    rows = ledger.rows([r.key for r in asked], round=2, stage="train", shard=9)
    assert [row["key"] for row in rows] == [r.key for r in asked]
    assert [request_from_row(row).key for row in rows] == [r.key for r in asked]
    assert "What is 1?" in rows[0]["request"]
    shutil.copytree(blank, tmp_path / "run")
    with Lake.open(tmp_path / "run", write=True) as lake:
        lake.commit(2, "train", 9, {"requests": rows})
        stored = lake.query("FROM requests").to_dicts()
        assert {row["key"]: row["text"] for row in stored} == {r.key: "42" for r in asked}
        before = lake.digest().tables["requests"]
        lake.commit(2, "train", 10, {"requests": []})
        assert lake.digest().tables["requests"] == before
    with pytest.raises(SynthError, match=r"knows nothing of 1 requests, e\.g\. nonsense"):
        ledger.rows(["nonsense"], round=0, stage="s", shard=0)


def test_the_digest_of_requests_ignores_how_often_and_how_long(ledger: Ledger, blank: Path, tmp_path: Path) -> None:
    one, digests = ask(1), []
    for i in range(2):
        ledger.intend([one])
        ledger.record([answer(one)])
        shutil.copytree(blank, tmp_path / str(i))
        with Lake.open(tmp_path / str(i), write=True) as lake:
            lake.commit(0, "probe", 0, {"requests": ledger.rows([one.key], round=0, stage="probe", shard=0)})
            digests.append(lake.digest().total)
    assert digests[0] == digests[1] and ledger.repeated()


def test_text_that_sqlite_does_not_take_is_made_storable(ledger: Ledger) -> None:
    one = ask(1, prompt="\ud800\x00")
    ledger.intend([one])
    ledger.record([answer(one, "a\ud800\x00b")])
    assert ledger.lookup([one.key])[one.key].text == "a\ufffd\ufffdb"
    assert request_from_row(ledger.rows([one.key], round=0, stage="s", shard=0)[0]).key == one.key


def test_threads_share_transactions_and_each_answer_is_durable_when_record_returns(ledger: Ledger) -> None:
    errors: list[BaseException] = []

    def work(first: int) -> None:
        try:
            with sqlite3.connect(ledger.path, timeout=30) as other:
                for i in range(first, first + 20):
                    ledger.record([answer(ask(i))])
                    assert other.execute("SELECT state FROM requests WHERE key = ?", [ask(i).key]).fetchone() == ("done",)
        except BaseException as error:  # noqa: BLE001 - told to the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=work, args=(100 * k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and ledger.counts()["done"] == 160


def test_a_failing_write_is_told_to_everybody_in_its_transaction(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(batch: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "_insert", broken)
        with pytest.raises(UserError, match="disk full"):
            ledger.record([answer(ask(1))])
    ledger.record([answer(ask(1))])
    assert ledger.counts()["done"] == 1


WRITE = """
import sys
import numpy as np
from data.ledger import Ledger
from data.records import Completion, Request, Sampling
ledger = Ledger.open(sys.argv[1])
print("ready", flush=True)
empty = np.zeros(0, np.int32)
for i in range(int(sys.argv[2]), 1_000_000):
    request = Request("p", Sampling(), i, prompt=str(i))
    ledger.intend([request])
    ledger.record([Completion(request.key, str(i), empty, empty.astype(np.float32), empty, "stop", "p")])
    print(request.key, flush=True)
"""


def test_a_kill_loses_no_answer_that_was_recorded(tmp_path: Path, child: Child) -> None:
    path, promised, chance = tmp_path / "ledger.sqlite", [], random.Random(3)
    for k in range(4):
        writer = child(WRITE, str(path), str(100_000 * k))
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0.05, 0.4))
        writer.send_signal(signal.SIGKILL)
        promised += [line.strip() for line in writer.stdout if len(line) == 33]
        writer.wait()
    with Ledger.open(path) as ledger:
        assert len(promised) > 4 and set(ledger.lookup(promised)) == set(promised)
        counts = ledger.counts()
        assert counts["sent"] <= 4 and counts["done"] - len(promised) <= 4 and ledger.repeated() == []


def test_a_ledger_that_is_not_there_or_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ledger\.sqlite does not exist"):
        Ledger.open(tmp_path / "ledger.sqlite", write=False)
    (tmp_path / "other.sqlite").write_text("this is no database" * 100)
    with pytest.raises(SynthError, match="cannot be opened"):
        Ledger.open(tmp_path / "other.sqlite")


def test_a_reader_reads_while_the_writer_writes(ledger: Ledger) -> None:
    ledger.record([answer(ask(1))])
    with Ledger.open(ledger.path, write=False) as reader:
        ledger.record([answer(ask(2))])
        assert reader.counts()["done"] == 2
        with pytest.raises(UserError, match="cannot be written"):
            reader.intend([ask(3)])
