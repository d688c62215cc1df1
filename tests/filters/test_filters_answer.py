"""Short answers: the official scripts' arithmetic, our rules, and where a judge is asked."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_model import scripted, shown, verdict

from data.records import Problem
from filters.verifiers.answer import compare
from filters.verifiers.answer_text import contains, exact_match, f1, normalize
from filters.verifiers.base import get_verifier, verify_all
from filters.verifiers.dates import read_date, same_date
from tests.benchmarks.bench_answers import DATA, measure, pairs


def test_official_normalisation_and_scores() -> None:
    assert normalize("The  Matrix, a film!") == "matrix film"
    assert exact_match("The Beatles", "beatles.") and not exact_match("Beatle", "Beatles")
    assert f1("New York City", "New York") == pytest.approx(0.8)
    assert f1("yes", "no") == f1("yes it is", "yes") == 0.0
    assert contains("It is in Paris, France", "paris") and not contains("Parisian", "Paris")


@pytest.mark.parametrize(
    ("reference", "answer", "outcome", "rule"),
    [
        ("The Beatles", "beatles", "pass", "em"),
        ("five", "5", "pass", "number"),
        ("1,024", "1024", "pass", "em"),
        ("5 million", "5,000,000", "pass", "number"),
        ("5", "6", "fail", "number"),
        ("12 March 1990", "March 12, 1990", "pass", "date"),
        ("12 March 1990", "1990-03-13", "fail", "date"),
        ("March 1990", "12 March 1990", "unknown", "judge: one date"),
        ("1990", "1991", "fail", "date"),
        ("J. K. Rowling", "JK Rowling", "pass", "alias"),
        ("Beyoncé", "Beyonce", "pass", "alias"),
        ("Sir Isaac Newton", "Isaac Newton", "pass", "alias"),
        ("The Matrix (film)", "The Matrix", "pass", "alias"),
        ("Hamlet (play)", "Hamlet (opera)", "fail", "F1"),
        ("Mr Smith", "Mrs Smith", "fail", "F1"),
        ("Procter & Gamble", "Procter and Gamble", "pass", "alias"),
        ("yes", "no", "fail", "closed"),
        ("yes", "yes, it is", "fail", "closed"),
        ("Paris", "Paris, France", "unknown", "judge: the reference stands"),
        ("Paris", "not Paris", "unknown", "judge: the reference stands"),
        ("Paris", "London, Rome, Berlin, Madrid, Vienna, Prague, Oslo, Bonn, Bern, Riga, Lima, Paris", "fail", "F1"),
        ("nearly 25,000", "25,000", "unknown", "judge: the answer is a part"),
        ("Barack Obama", "Michelle Obama", "fail", "F1 0.50"),
        ("", "", "fail", "the answer is empty"),
    ],
)
def test_rules(reference: str, answer: str, outcome: str, rule: str) -> None:
    got = compare(reference, answer)
    assert got[0] == outcome and got[2].startswith(rule), got


def test_aliases_count_and_the_verdict_names_its_rule() -> None:
    problem = Problem("who?", "Robert Zimmerman", "answer", {"aliases": ["Bob Dylan"]})
    assert get_verifier("answer").verify(problem, "<answer>Bob Dylan</answer>").reason == "em"
    assert get_verifier("answer").verify(problem, "<answer>Dylan Thomas</answer>").outcome == "fail"
    assert get_verifier("answer").verify(problem, "Bob Dylan. <answer>X</answer> <answer>Bob Dylan</answer>").outcome == "fail"


def test_a_judge_is_asked_in_the_band_and_nowhere_else() -> None:
    asked: list[str] = []

    def rule(prompt: str, index: int) -> str:
        asked.append(shown(prompt))
        return verdict(prompt, "yes" if "France" in shown(prompt) else "no")

    problem = Problem("capital?", "Paris", "answer")
    tools = scripted(rule)
    said = [v.outcome for v in verify_all([(problem, f"<answer>{a}</answer>") for a in ("Paris", "Paris, France", "Paris, Texas", "Rome")], tools)]
    assert said == ["pass", "pass", "fail", "fail"]
    assert {a for a in asked if "Thought" not in a} == {"Paris, France", "Paris, Texas"}


@given(st.dates())
def test_every_full_date_is_read_in_every_form(date) -> None:
    month = date.strftime("%B")
    forms = [f"{date.day} {month} {date.year:04d}", f"{month} {date.day}, {date.year:04d}", f"{date.year:04d}-{date.month}-{date.day}", f"on {month[:3]} {date.day}, {date.year:04d}"]  # noqa: E501
    read = [read_date(f) for f in forms]
    assert all(r is not None and (r.year, r.month, r.day) == (date.year, date.month, date.day) for r in read)
    assert same_date(read[0], read[1]) is True


@pytest.mark.parametrize("text", ["03/04/1990", "May", "32 March 1990", "1990-13-01", "12", "some day in 1990"])
def test_what_is_no_date_or_two_is_not_read(text: str) -> None:
    assert read_date(text) is None


@pytest.mark.skipif(not Path(DATA).is_dir(), reason="the QA files are not on this machine")
def test_precision_and_recall_on_labelled_answers() -> None:
    rows = {row["rule"]: row for row in measure(pairs())}
    ours, em = rows["answer"], rows["EM"]
    assert ours["right"] > 5_000 and ours["wrong"] > 4_000
    assert ours["fpr_upper95"] <= 0.005
    assert ours["recall"] >= 0.98 > em["recall"]
    assert rows["F1>=.5"]["fpr"] > 0.1 and rows["subEM"]["fpr"] > 0.1
