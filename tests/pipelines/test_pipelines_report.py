"""The report: its numbers are the lake's, its twenty problems are chosen without a die, and no text that it shows can do anything."""

import json
import re
from html.parser import HTMLParser

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_runs import TINY, hostile_lake, planted, real_run

import pipelines.report as report
from data.errors import UserError
from data.lake import Lake
from data.records import Problem
from data.tables import problem_row
from filters.difficulty import Band
from flows.cli.drive import _report
from pipelines.recipe import load_recipe
from pipelines.report import queries
from pipelines.report.candidates import fate_section, verdict_section
from pipelines.report.commands import record_command, recorded_commands
from pipelines.report.figure import label, share, shortened, visible
from pipelines.report.learning import domain_section, score_section
from pipelines.report.page import inert_json, render
from pipelines.report.samples import KINDS, SAMPLES, sample_section
from pipelines.report.training import difficulty_section, steps_section
from pipelines.report.vega import vega
from pipelines.run import Run, read_lake, run_file

SECTIONS = ("learning", "domains", "training", "streams", "difficulty", "candidates", "verdicts", "samples", "cost", "recipe")
BIDI = re.compile("[\u061c\u200b-\u200f\u202a-\u202e\u2066-\u2069]")


class Elements(HTMLParser):
    """What a page consists of: tags with their attributes, the text outside scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._inert = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inert = tag in ("script", "style")

    def handle_endtag(self, tag):
        self._inert = False if tag in ("script", "style") else self._inert

    def handle_data(self, data):
        if not self._inert:
            self.text.append(data)

    def count(self, tag: str) -> int:
        return sum(t == tag for t, _ in self.tags)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def real():
    folder = real_run()
    return folder, (folder / "report.html").read_text("utf-8")


def test_a_real_run_has_every_section_with_the_numbers_of_its_lake(real):
    folder, html = real
    page = Elements(html)
    assert [attrs["id"] for tag, attrs in page.tags if tag == "section"] == list(SECTIONS)
    with read_lake(folder) as lake:
        info = {r: lake.stage_info(r, "evaluate") for r in (0, 1)}
        assert f"{100 * info[1]['pass_at_1']:.1f}%" in page.words
        assert f"{100 * info[1]['gain']:+.1f}".replace("-", "−") in page.words
        asked, tokens = lake.query("SELECT count(*), sum(response_tokens) FROM rollouts").row(0)
        assert f"{asked:,}" in page.words and f"{tokens:,}" in page.words
        for round, stage, n, passes in lake.query(
            "SELECT round, stage, count(*), count(*) FILTER (outcome = 'pass') FROM verdicts WHERE stage <> 'verify' GROUP BY ALL"
        ).iter_rows():
            assert f"{round} {stage} {n:,} {passes:,} (" in page.words
    assert "synth digest" in page.words
    for value in ("learning_rate = ", 'preset = "grpo"', "per_cell = 2"):  # the recipe, resolved
        assert value in page.words


def test_it_asks_for_nothing_outside(real):
    _, html = real
    page = Elements(html)
    assert not [a for t, a in page.tags if t in ("script", "img", "iframe", "object", "embed", "source") and "src" in a]
    assert [a["href"] for t, a in page.tags if t == "link"] == ["data:,"]
    assert all((a.get("href") or "#").startswith("#") for t, a in page.tags if t == "a")
    assert "@import" not in html.split("</style>")[0] and "url(" not in html.split("</style>")[0]
    policy = next(a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; script-src 'sha256-") and "unsafe-eval" not in policy


def test_every_chart_has_words_and_numbers(real):
    _, html = real
    page = Elements(html)
    charts = {a["data-chart"]: a["aria-label"] for t, a in page.tags if a.get("class") == "chart"}
    specs = json.loads(re.search(r'id="charts">(.*?)</script>', html, re.S)[1])
    assert set(charts) == set(specs) and len(specs) >= 10
    assert all(re.search(r"\d", told) for told in charts.values())


def test_no_hostile_text_becomes_markup(tmp_path):
    hostile_lake(tmp_path / "run")
    html = report.write_report(tmp_path / "run").read_text("utf-8")
    page = Elements(html)
    assert [page.count(tag) for tag in ("script", "style", "img", "iframe", "base", "link", "title")] == [3, 1, 0, 0, 0, 1, 1]
    assert not [a for _, attrs in page.tags for a in attrs if a.startswith("on")]
    assert "window.owned = 1" in page.words and "{{ 7 * 7 }}" in page.words  # shown, as text
    assert not BIDI.search(html.partition('id="charts">')[0])
    assert "⟨U+202E⟩" in page.words
    assert "300,000 characters in all" in page.words
    assert len(html) < 2_000_000


@pytest.mark.parametrize("state", ["fresh", "seeds", "round 0", "nothing solved", "half a round"])
def test_a_run_in_any_state_has_a_report(tmp_path, state):
    folder = tmp_path / "run"
    with Run.create(folder, load_recipe("arithmetic", TINY)) as run:
        if state != "fresh":
            run.lake.commit(0, "seeds", 0, {"problems": [problem_row(Problem("1+1?", "2"), 0)]})
            run.lake.finish_stage(0, "seeds", {"train": 1, "heldout": 0}, 0.5)
        if state in ("round 0", "nothing solved"):
            evals = [
                {"policy_id": "p", "benchmark": "heldout", "problem_id": f"h{i}", "domain": "", "level": 0, "n": 2, "passes": 0, "unknowns": 0}
                for i in range(9)
            ]
            for round in range(1 if state == "round 0" else 2):
                run.lake.commit(round, "evaluate", 0, {"evals": evals})
                run.lake.finish_stage(round, "evaluate", {"pass_at_1": 0.0, "pass_at_1_low": 0.0, "pass_at_1_high": 0.3, "problems": 9}, 1.0)
        if state == "nothing solved":
            run.lake.finish_stage(1, "train", {"steps": 0, "skipped": "0 of 9 problems solved: no gradient"}, 1.0)
        if state == "half a round":
            run.lake.commit(1, "train", 1, {"train_steps": [{"step": 1, "reward_mean": 0.5, "tokens": 10, "seconds": 1.0, "rollouts": 4}]})
        words = Elements(report.write_report(folder).read_text("utf-8")).words
    told = {
        "fresh": "just begun",
        "seeds": "unfinished: round 0 of 1, after seeds",
        "round 0": "Before any training, held-out pass@1 is 0.0% [0.0, 30.0] on 9 problems.",
        "nothing solved": "Nothing was trained: 0 of 9 problems solved: no gradient.",
        "half a round": "Nothing has been measured yet.",
    }
    assert told[state] in words
    assert ("synth resume" in words) == (state != "nothing solved")  # that one is finished


def test_candidates_are_counted_once_under_the_first_rule_that_refused_them(tmp_path):
    rows = [  # candidate, stage, rule, kept
        ("a", "synthesize", "proposed", True), ("a", "audit", "verifier", True), ("a", "select", "selected", True),
        ("b", "synthesize", "proposed", True), ("b", "audit", "duplicate", False),
        ("c", "synthesize", "proposed", True), ("c", "audit", "heldout", False), ("c", "select", "band", False),
        ("d", "synthesize", "proposed", True), ("d", "audit", "verifier", True), ("d", "select", "budget", False),
        ("e", "synthesize", "proposed", True), ("e", "audit", "verifier", True),
    ]  # fmt: skip
    with Run.create(tmp_path / "run", load_recipe("arithmetic", TINY)) as run:
        for stage in ("synthesize", "audit", "select"):
            made = [
                {"candidate_id": c, "problem_id": c, "strategy": "frontier", "parents": [], "rule": rule, "kept": kept, "reason": ""}
                for c, where, rule, kept in rows
                if where == stage
            ]
            run.lake.commit(1, stage, 0, {"decisions": made})
        fates = queries.fates(run.lake)
    assert set(fates.select("fate", "stage", "rule", "candidates").iter_rows()) == {
        ("selected", "", "", 1), ("refused", "audit", "duplicate", 1), ("refused", "audit", "heldout", 1), ("refused", "select", "budget", 1),
        ("open", "", "", 1),
    }  # fmt: skip
    table = fate_section(fates).tables[0][1]
    assert table.rows == [["1", "frontier", "5", "1 duplicate (audit), 1 heldout (audit), 1 budget (select)", "1", "1"]]


def test_the_fates_of_a_real_run_add_up(real):
    folder, _ = real
    with read_lake(folder) as lake:
        fates = queries.fates(lake)
        considered = lake.query("SELECT count(*) FROM (SELECT DISTINCT round, candidate_id FROM decisions)").item()
        selected = lake.query("SELECT count(*) FROM decisions WHERE stage IN ('select', 'train') AND kept").item()
    assert fates["candidates"].sum() == considered
    assert fates.filter(pl.col("fate") == "selected")["candidates"].sum() == selected > 0
    assert fates.filter((pl.col("fate") == "refused") & (pl.col("rule") == "")).is_empty()


def test_twenty_problems_cover_what_matters_and_are_the_same_each_time(tmp_path):
    planted(tmp_path / "run")
    with Lake.open(tmp_path / "run") as lake:
        first, again = (sample_section(lake, queries.evals(lake)).extra["problems"] for _ in range(2))
    assert first == again
    assert len({p["id"] for p in first}) == len(first) == SAMPLES
    kinds = [p["kind"] for p in first]
    for kind, _, least in KINDS:
        there = {"unknown": 1, "trained": 0}.get(kind, least)
        assert kinds.count(kind) >= there, kind
    assert all(p["id"].startswith(p["kind"]) for p in first if p["kind"] not in ("unknown", "trained"))
    refused = [p["why"] for p in first if p["kind"] == "refused"]
    assert {why.split()[0] for why in refused} == {"duplicate", "heldout", "verifier"}  # every rule, though one refused most
    better = [p for p in first if p["kind"] == "better"]
    assert len({p["facts"].split(" · ")[0] for p in better[:4]}) == 4  # domains in turn
    assert better[0]["why"] == "0 of 4 right, then 4 of 4"
    unknown = next(p for p in first if p["kind"] == "unknown")
    assert unknown["id"] == "same0" and unknown["answers"][0]["outcome"] == "unknown" and unknown["answers"][0]["reason"] == "odd"


def test_scores_and_domains_say_what_was_planted(tmp_path):
    planted(tmp_path / "run")
    with Lake.open(tmp_path / "run") as lake:
        evals = queries.evals(lake)
    scores = score_section(evals).figures[0]
    assert scores.table is not None and scores.table.columns == ["round", "pass@1", "pass@2", "pass@4", "problems", "answers each"]
    assert [row[1][:5] for row in scores.table.rows] == ["43.8%", "43.8%"]  # (0 + 4 + 0 + 3) / 16 before, the same after
    mixed = evals.with_columns(domain=pl.col("problem_id").str.extract(r"^(\D+)"))
    kinds = {row["name"]: row["kind"] for row in domain_section(mixed).figures[1].spec["data"]["values"]}
    assert kinds == {"better": "better", "worse": "worse", "never": "within chance", "same": "within chance"}


def test_long_training_is_averaged_and_keeps_its_mean(tmp_path):
    steps = 1700
    with Run.create(tmp_path / "run", load_recipe("arithmetic", TINY)) as run:
        for round in (1, 2):
            rows = [
                {"shard": s, "step": s, "reward_mean": s / steps, "tokens": 100, "seconds": 2.0, "generate_seconds": 1.0} for s in range(1, steps + 1)
            ]
            run.lake.commit(round, "train", 1, {"train_steps": rows})
        frame = queries.steps(run.lake)
    assert frame.height <= queries.MAX_POINTS + 4
    assert frame["at"].is_sorted() and frame["at"][0] == 1
    assert frame["reward_mean"].mean() == pytest.approx(0.5, abs=0.01)
    assert set(frame["trained_per_second"].round(6)) == {100.0}
    section = steps_section(frame, [])
    assert [f.title for f in section.figures] == ["Reward", "Throughput"]  # nothing is drawn that was not measured
    assert section.note == "Each point is the mean of 6 steps."


def test_histograms_share_a_scale_and_mark_the_band():
    counts = pl.DataFrame({"round": [1, 1, 1, 2], "passes": [0, 2, 8, 8], "n": [8] * 4, "problems": [5, 3, 2, 10], "open": [0, 3, 0, 0]})
    section = difficulty_section(counts, Band.of("0.02", "0.98"))
    first = section.figures[0].spec["data"]["values"]
    assert [(row["bin"], row["share"], row["inside"]) for row in first] == [("0", 0.5, False), ("2", 0.3, True), ("8", 0.2, False)]
    assert section.tables[0][1].rows == [["1", "10", "27.5%", "50.0%", "30.0%", "20.0%", "3"], ["2", "10", "100.0%", "0.0%", "0.0%", "100.0%", "0"]]
    varied = difficulty_section(counts.with_columns(n=pl.Series([8, 16, 8, 64])), Band.of("0.02", "0.98"))
    assert {row["bin"] for f in varied.figures for row in f.spec["data"]["values"]} == {"none", "<20%", "all"}


def test_reasons_lose_their_numbers_and_details(tmp_path):
    reasons = [
        "contradictory final answers: 4, 7",
        "contradictory final answers: 1, 2",
        "12 of 13 tests failed",
        "3 of 9 tests failed",
        "engine: gone",
    ]
    with Run.create(tmp_path / "run", load_recipe("arithmetic", TINY)) as run:
        rows = [{"rollout_id": str(i), "problem_id": "p", "outcome": "fail", "reason": r, "verifier": "math"} for i, r in enumerate(reasons)]
        run.lake.commit(1, "verify", 0, {"verdicts": rows})
        found = queries.top_reasons(run.lake)
        told = verdict_section(queries.verdict_mix(run.lake), found).tables[0][1].rows
    assert found["reason"].to_list() == ["# of # tests failed", "contradictory final answers", "engine: gone"]
    assert told[0] == ["2", "40.0%", "# of # tests failed", "12 of 13 tests failed"]


@given(st.text(), st.integers(1, 50))
def test_shown_text_hides_nothing_and_says_how_long_it_was(text, limit):
    shown = shortened(text, limit)
    assert not BIDI.search(shown) and not re.search("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", shown)
    assert (f"({len(text):,} characters in all)" in shown) == (len(text) > limit)
    assert label(text) and "\n" not in label(text) and len(label(text, 20)) <= 20
    assert visible("plain text, 日本語, naïve") == "plain text, 日本語, naïve"


@given(st.recursive(st.text() | st.integers() | st.booleans(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_data_in_a_script_element_cannot_leave_it(value):
    text = inert_json(value)
    assert json.loads(text) == value
    assert "<" not in text and "\u2028" not in text


def test_a_small_share_is_never_shown_as_none():
    assert [share(0, 9), share(1, 100_000), share(1, 2), share(99_999, 100_000), share(9, 9), share(0, 0)] == [
        "0.0%",
        "<0.1%",
        "50.0%",
        ">99.9%",
        "100.0%",
        "–",
    ]


def test_a_damaged_copy_of_the_charts_script_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    script = vega.__wrapped__()
    (kept,) = (tmp_path / "synth").iterdir()
    assert kept.read_text("utf-8") == script and "window.vegaEmbed" in script
    kept.write_text("alert(1)")
    assert vega.__wrapped__() == script == kept.read_text("utf-8")
    monkeypatch.setenv("XDG_CACHE_HOME", str(kept))  # a file, so nothing can be kept there
    assert vega.__wrapped__() == script


def test_commands_are_kept_without_passwords(tmp_path):
    record_command(tmp_path, ["synth", "run", "--engine", "openai:https://me:secret@host/v1", "--out", "a b"])
    with (tmp_path / "logs" / "commands.jsonl").open("a") as stream:
        stream.write("not json\n[]\n")
    record_command(tmp_path, ["synth", "resume", "x"])
    assert recorded_commands(tmp_path) == ["synth run --engine 'openai:https://…@host/v1' --out 'a b'", "synth resume x"]
    assert recorded_commands(tmp_path / "nowhere") == []


def test_where_it_cannot_be_written_one_sentence_says_so(real, tmp_path):
    folder, _ = real
    with pytest.raises(UserError, match="cannot write"):
        report.write_report(folder, tmp_path / "missing" / "report.html")
    with pytest.raises(UserError, match="is not a run"):
        report.write_report(tmp_path)
    assert not list(tmp_path.glob(".*"))


def test_a_report_that_fails_does_not_fail_the_run(real, monkeypatch, capsys):
    folder, _ = real
    monkeypatch.setattr(report, "write_report", lambda folder: 1 / 0)
    assert _report(folder) is None
    assert "the report could not be written (division by zero); try again with" in capsys.readouterr().err


def test_the_lake_is_read_while_somebody_writes(real):
    folder, _ = real
    with Run.open(folder) as run:  # holds the writer's lock
        run.lake.commit(9, "probe", 0, {"problems": [problem_row(Problem("2+2?", "4"), 9)]})
        with read_lake(folder) as lake:
            assert "<!doctype html>" in render(folder, run_file(folder), lake)
