"""A run of the embedded engine, and the same run again from its ledger: no model answers, the weights are trained anew, the digest is the same.

What `synth requests` says is tried on the same run.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from data.errors import UserError
from data.ledger import Ledger
from flows.cli.main import main
from generators.engines.local import LocalEngine
from pipelines.engine_part import engine_changes
from pipelines.loop import run_loop
from pipelines.recipe import load_recipe
from pipelines.run import Run
from tests.small_run import OVERRIDES

SMALL = [*OVERRIDES, "rounds=1", "train.steps=2", "probe.problems=16", "evaluate.problems=10", "engine.price_per_million={input = 2, output = 10}"]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("recorded") / "run"
    with Run.create(folder, load_recipe("arithmetic", SMALL)) as run:
        run_loop(run)
    return folder


def replayed(folder: Path, source: Path, *changes: str) -> Run:
    return Run.create(folder, load_recipe("arithmetic", [*SMALL, *changes], **engine_changes(f"replay:{source}")))


def test_a_replay_is_that_run(recorded, tmp_path, monkeypatch, capsys):
    def nobody(*args, **kwargs):
        raise AssertionError("a replay loads no model to generate with")

    monkeypatch.setattr(LocalEngine, "__init__", nobody)
    with replayed(tmp_path / "again", recorded) as run:
        assert run.engine().streams  # other than the recorded run, which went batch by batch
        run_loop(run)
        assert run.ledger.counts()["attempts"] == run.ledger.counts()["done"] > 100
    assert main(["diff", str(recorded), str(tmp_path / "again")]) == 0
    out = capsys.readouterr().out
    assert "digest: equal, they computed the same" in out and "engine.kind" in out
    with Run.open(tmp_path / "again") as run:  # goes on as what it is
        assert run.recipe.engine.kind == "replay" and Path(run.recipe.engine.replay.ledger).is_absolute()


def test_another_recipe_stops_at_its_first_stage_and_says_why(recorded, tmp_path):
    with (
        replayed(tmp_path / "run", recorded, "sampling.max_tokens=31") as run,
        pytest.raises(UserError, match=r"holds no answer to 20 of 20 requests \(20 of 'evaluate'; .*recorded run's recipe"),
    ):
        run_loop(run)


def test_wrong_places_are_one_sentence(recorded, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main(["run", "--engine", "replay", "--out", out]) == 2
    assert "needs the run to repeat" in capsys.readouterr().err
    assert main(["run", "--engine", f"replay:{tmp_path}", "--out", out]) == 2
    assert "there is no ledger at" in capsys.readouterr().err
    assert main(["run", "--engine", f"replay:{recorded}", "--preview", "1"]) == 2
    assert "preview with the engine that answered" in capsys.readouterr().err
    assert not Path(out).exists()


def requests(capsys, *args: str) -> dict:
    assert main(["requests", *args, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_requests_counts_what_the_ledger_holds(recorded, capsys):
    found = requests(capsys, str(recorded))
    con = sqlite3.connect(recorded / "ledger.sqlite")
    for row in found["by_purpose"]:
        sql = "SELECT count(*), sum(length(tokens)) / 4, sum(length(prompt_tokens)) / 4 FROM requests WHERE purpose = ?"
        count, out, given = con.execute(sql, [row["purpose"]]).fetchone()
        assert (row["requests"], row["done"], row["tokens_out"], row["tokens_in"]) == (count, count, out, given)
        assert row["money"] == pytest.approx((2 * given + 10 * out) / 1e6) and row["seconds"] > 0
        assert row["tokens_per_second"] == pytest.approx(out / row["seconds"])
    assert {row["purpose"] for row in found["by_purpose"]} == {"evaluate", "paraphrase", "probe", "train"}
    assert found["total"]["again"] == found["total"]["repeats"] == 0 and len(found["slowest"]) == 5 and not found["errors"]
    assert main(["requests", str(recorded)]) == 0
    shown = capsys.readouterr().out
    assert "none was sent twice" in shown and "money" in shown and "in flight" not in shown
    con.close()


def test_requests_lists_and_shows(recorded, capsys):
    listed = requests(capsys, str(recorded), "--where", "purpose = 'probe' AND tokens_out > 5", "--most", "3")
    assert listed["requests"] > 3 == len(listed["rows"]) and all(row["purpose"] == "probe" and row["tokens_out"] > 5 for row in listed["rows"])
    one = requests(capsys, str(recorded), "--show", listed["rows"][0]["key"][:16])
    assert one["request"]["prompt"].startswith("Q:") and one["text"] and one["verdicts"][0]["outcome"] in ("pass", "fail")
    assert main(["requests", str(recorded), "--show", one["key"]]) == 0
    shown = capsys.readouterr().out
    assert "probe asked policy" in shown and one["verdicts"][0]["reason"] in shown and "Q:" in shown
    assert requests(capsys, str(recorded), "--failed") == {"requests": 0, "rows": []}


def test_requests_of_a_run_that_goes_on(recorded, tmp_path, capsys):
    """What was sent, failed and sent again shows at once, while the writer has the ledger open; an old ledger without bills is read, too."""
    from shutil import copytree

    from data.records import Completion, Request, Sampling

    folder = tmp_path / "run"
    copytree(recorded, folder)
    new = [Request("p", Sampling(), i, prompt=f"[bold]{i}", purpose="sws") for i in range(4)]
    with Ledger.open(folder / "ledger.sqlite") as ledger:
        ledger.intend(new)
        ledger.intend(new[:2])
        none = np.zeros(0, np.int32)
        ledger.record([Completion(new[1].key, "", none, none.astype(np.float32), none, "error", "p", "429: [red]slow down[/]")])
        ledger.commit(given_up=[new[3].key])
        row = next(row for row in requests(capsys, str(folder))["by_purpose"] if row["purpose"] == "sws")
        assert [row[name] for name in ("requests", "done", "failed", "sent", "cancelled", "again", "errors")] == [4, 0, 1, 2, 1, 2, 1]
        assert requests(capsys, str(folder), "--failed")["rows"][0]["error"] == "429: [red]slow down[/]"
        assert requests(capsys, str(folder), "--repeated")["requests"] == 2
        for args in ([], ["--failed"], ["--repeated"], ["--show", new[1].key]):
            assert main(["requests", str(folder), *args]) == 0
        assert "429: [red]slow down[/]" in capsys.readouterr().out
    with sqlite3.connect(folder / "ledger.sqlite") as con:
        con.execute("ALTER TABLE requests DROP COLUMN usage_in")
        con.execute("ALTER TABLE requests DROP COLUMN usage_out")
    con.close()
    assert requests(capsys, str(folder))["total"]["requests"] > 100
    with Ledger.open(folder / "ledger.sqlite") as ledger:  # and written to
        assert len(ledger.lookup([r["key"] for r in ledger.select("SELECT key FROM requests WHERE state = 'done' LIMIT 9")])) == 9


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--where", "nonsense = 1"], "no such column: nonsense; it takes an SQL condition over key, purpose"),
        (["--where", "1) ; DROP TABLE requests; --"], "it takes an SQL condition"),
        (["--show", "zz-"], "is no key"),
        (["--show", "ffffffffffffffffffff"], "holds no request whose key begins"),
        (["--show", "0"], "give more of it"),
        (["--most", "0"], "1 or more"),
    ],
)
def test_wrong_questions_are_one_sentence(recorded, capsys, args, said):
    assert main(["requests", str(recorded), *args]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1, error


def test_a_folder_without_a_run_is_said(tmp_path, capsys):
    assert main(["requests", str(tmp_path / "nothing")]) == 2 and "no such folder" in capsys.readouterr().err
