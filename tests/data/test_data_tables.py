from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from data.lake import Lake
from data.records import Check, PolicyVersion, Problem, Sampling, Trajectory, Turn
from data.rows import to_arrow
from data.schema import tables
from data.tables import check_from_row, check_row, policy_row, problem_from_row, problem_row, rollout_row, trajectory_from_row, trajectory_row
from data.text import storable, storable_json, without_nan

TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20)
HASH = st.text("0123456789abcdef", min_size=1, max_size=8)
NUMBER = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.dictionaries(
    TEXT, st.recursive(st.none() | st.booleans() | NUMBER | st.text(max_size=5), lambda s: st.lists(s, max_size=3), max_leaves=5), max_size=3
)
SAMPLING = st.builds(
    Sampling,
    temperature=st.floats(0, 10),
    top_p=st.floats(0, 1),
    top_k=st.integers(0, 100),
    max_tokens=st.integers(1, 10_000),
    stop=st.lists(TEXT, max_size=2).map(tuple),
)
PROBLEM = st.builds(
    Problem,
    prompt=TEXT,
    reference=TEXT,
    verifier=HASH,
    spec=JSON,
    media=st.lists(HASH, max_size=2).map(tuple),
    domain=TEXT,
    level=st.integers(0, 9),
    concepts=st.lists(TEXT, max_size=3).map(tuple),
    source=HASH,
    split=st.sampled_from(["train", "heldout"]),
    meta=JSON,
)
SPAN = st.tuples(HASH, st.integers(0, 99), st.integers(0, 99))
TURN = st.builds(Turn, st.sampled_from(["prompt", "policy", "observation"]), st.integers(0, 99), st.integers(0, 99), TEXT, TEXT)


def quiet(values: np.ndarray) -> np.ndarray:
    """Any bits (NaN payloads, infinities, subnormals, -0.0) but signalling NaNs, which a processor quiets as it copies them."""
    return np.where(np.isnan(values), values.view(np.uint32) | 0x400000, values.view(np.uint32)).astype(np.uint32).view(np.float32)


@st.composite
def trajectories(draw: st.DrawFn) -> Trajectory:
    length = draw(st.integers(0, 30))
    return Trajectory(
        problem_id=draw(HASH),
        policy_id=draw(HASH),
        tokens=draw(hnp.arrays(np.int32, length)),
        loss_mask=draw(hnp.arrays(np.uint8, length, elements=st.integers(0, 1))),
        logp=quiet(draw(hnp.arrays(np.uint32, length)).view(np.float32)),
        sampling=draw(SAMPLING),
        seed=draw(st.integers(0, 2**63 - 1)),
        index=draw(st.integers(0, 1000)),
        finish=draw(st.sampled_from(["stop", "length", "error", "cancelled"])),
        text=draw(TEXT),
        version_spans=tuple(draw(st.lists(SPAN, max_size=2))),
        turns=tuple(draw(st.lists(TURN, max_size=2))),
        media=tuple(draw(st.lists(SPAN, max_size=2))),
        parent=draw(st.none() | st.tuples(HASH, st.integers(0, 99))),
        request_keys=tuple(draw(st.lists(HASH, max_size=2))),
    )


def same(a: Trajectory, b: Trajectory) -> None:
    for field in dataclasses.fields(Trajectory):
        left, right = getattr(a, field.name), getattr(b, field.name)
        if isinstance(left, np.ndarray):
            assert left.dtype == right.dtype and left.tobytes() == right.tobytes(), field.name
        else:
            assert left == right, field.name
    assert a.id == b.id


@given(PROBLEM)
def test_a_problem_comes_back_from_its_row(problem: Problem) -> None:
    back = problem_from_row(problem_row(problem, 3))
    assert back == problem and back.id == problem.id


@given(trajectories())
def test_a_trajectory_comes_back_from_its_row(trajectory: Trajectory) -> None:
    same(trajectory_from_row(trajectory_row(trajectory, 0)), trajectory)


@given(st.lists(PROBLEM, max_size=4))
def test_rows_fit_the_registered_columns(problems: list[Problem]) -> None:
    table = to_arrow(tables()["problems"], [problem_row(p, 0) for p in problems], {"stage": "probe", "shard": 1})
    assert [problem_from_row(row) for row in table.to_pylist()] == problems


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(problems=st.lists(PROBLEM, min_size=1, max_size=20), sampled=st.lists(trajectories(), min_size=1, max_size=20))
def test_records_come_back_from_the_lake_bit_for_bit(lake: Lake, problems: list[Problem], sampled: list[Trajectory]) -> None:
    round = 1 + (lake.query("SELECT max(round) FROM shards").item() or 0)
    wide = [{**trajectory_row(t, round), "shard": i} for i, t in enumerate(sampled)]
    lake.commit(round, "probe", 0, {"problems": [{**problem_row(p, round), "shard": i} for i, p in enumerate(problems)], "trajectories": wide})
    assert [problem_from_row(row) for row in lake.query("FROM problems WHERE round = ? ORDER BY shard", [round]).to_dicts()] == problems
    back = [trajectory_from_row(row) for row in lake.query("FROM trajectories WHERE round = ? ORDER BY shard", [round]).to_dicts()]
    for one, other in zip(back, sampled, strict=True):
        same(one, other)


def test_the_narrow_row_counts_prompt_and_response() -> None:
    mask = np.array([0, 0, 1, 1, 0, 1], np.uint8)
    trajectory = Trajectory("p", "q", np.arange(6, dtype=np.int32), mask, np.zeros(6, np.float32), Sampling(), 1, 4, "stop", "x")
    row = rollout_row(trajectory, 2, "train", "svs", reward=0.5, outcome="pass", group_id="g")
    assert (row["prompt_tokens"], row["response_tokens"], row["sample"], row["stream"], row["reward"]) == (2, 3, 4, "svs", 0.5)
    assert rollout_row(trajectory, 2)["reward"] is None
    assert set(row) <= set(tables()["rollouts"].names)


def test_checks_and_policies_have_rows() -> None:
    check = Check("p", "test", {"call": "f(1)", "expected": [2]}, {"mutation_score": 0.5})
    assert check_from_row(check_row(check, 0)) == check
    assert policy_row(PolicyVersion("abc-r1-s2", "policies/x", 1, 2, "ff"), 1)["step"] == 2


@pytest.mark.parametrize(("given_", "stored"), [("a\x00b", "a\ufffdb"), ("\ud800x", "\ufffdx"), ("plain é 🙂", "plain é 🙂")])
def test_text_that_no_column_takes_is_made_storable(given_: str, stored: str) -> None:
    assert storable(given_) == stored
    row = {**problem_row(Problem("q"), 0), "domain": given_, "concepts": [given_]}
    back = to_arrow(tables()["problems"], [row], {}).to_pylist()[0]
    assert (back["domain"], back["concepts"]) == (stored, [stored])


@given(st.text())
def test_json_columns_lose_nothing(text: str) -> None:
    import json

    stored = storable_json({"k": text})
    stored.encode("utf-8")
    assert "\x00" not in stored
    assert json.loads(stored) == json.loads(json.dumps({"k": text}))


def test_metrics_that_are_not_numbers_become_null() -> None:
    assert without_nan({"a": [float("nan"), 1.5], "b": np.float32("inf"), "c": "x"}) == {"a": [None, 1.5], "b": None, "c": "x"}


def test_an_unknown_column_is_named() -> None:
    with pytest.raises(ValueError, match="problems has no column promt"):
        to_arrow(tables()["problems"], [{"promt": "x"}], {})


def test_polars_and_arrow_are_taken_too(tmp_path: Path) -> None:
    import polars as pl

    frame = pl.DataFrame({"policy_id": ["a", "b"], "step": [1, 2]})
    expected: list[Any] = [("a", 1, 0, "train", 7), ("b", 2, 0, "train", 7)]
    for kind in (frame, frame.to_arrow(), frame.to_dicts()):
        table = to_arrow(tables()["policies"], kind, {"round": 0, "stage": "train", "shard": 7})
        assert [(r["policy_id"], r["step"], r["round"], r["stage"], r["shard"]) for r in table.to_pylist()] == expected
