import polars as pl

from data.records import Candidate, Problem, Verdict
from filters.difficulty import DIFFICULTY_SCHEMA, estimate
from filters.tables import DECISIONS, DIFFICULTY, VERDICTS, decision_row, difficulty_row, verdict_row

PLACE = {"round": 1, "stage": "probe", "shard": 2}


def test_rows_fill_exactly_the_columns_of_their_tables() -> None:
    problem = Problem("q", "1", domain="d", level=2, source="seed")
    verdict = Verdict("pass", 1.0, "equal", "math", "r", problem.id)
    assert tuple(verdict_row(verdict, "policy", **PLACE)) == VERDICTS.names
    candidate = Candidate(problem, 1, "frontier", ("parent",))
    row = decision_row(candidate, "band", False, "too easy", **PLACE)
    assert tuple(row) == DECISIONS.names
    assert (row["candidate_id"], row["strategy"], row["parents"]) == (candidate.id, "frontier", ["parent"])
    row = decision_row(problem, "selected", True, "inside", **PLACE)
    assert (row["candidate_id"], row["problem_id"], row["strategy"]) == (problem.id, problem.id, "seed")
    estimated = estimate(pl.DataFrame({"problem_id": ["a"], "policy_id": ["p"], "outcome": ["pass"]})).row(0, named=True)
    assert tuple(difficulty_row(estimated, **PLACE)) == DIFFICULTY.names
    assert DIFFICULTY.names[3:] == (*DIFFICULTY_SCHEMA, "decision")


def test_times_and_isolation_do_not_count_for_the_digest() -> None:
    assert {c.name for c in VERDICTS.columns if not c.digest} == {"ms", "isolation"}


def test_reasons_that_quote_a_model_can_be_stored() -> None:
    verdict = Verdict("fail", 0.0, "contradictory: 3\x00, \ud800", "math", "r", "p")
    verdict_row(verdict, "policy", **PLACE)["reason"].encode()
    assert "\x00" not in decision_row(Problem("q"), "audit", False, verdict.reason, **PLACE)["reason"]
