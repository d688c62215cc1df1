"""Pure parts of the stages: what is a duplicate, what is new, in which order prompts are drawn, what the control shuffles."""

from itertools import islice

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from data.records import Group, Problem, Sampling, Trajectory, Verdict
from filters.decontaminate import HeldoutIndex, HeldoutSet
from pipelines.stages.audit import first_of, judge, texts_of
from pipelines.stages.epochs import draws, kept_apart
from pipelines.stages.select import choose_new
from pipelines.stages.train import why_nothing
from pipelines.stages.train_rollouts import shuffled, within


def test_every_planted_duplicate_and_heldout_text_is_refused_and_nothing_else():
    fresh = [Problem(f"What is {n} plus {n}?", str(2 * n)) for n in range(40)]
    doubled = [Problem(f"  what is {n} PLUS {n} ?", str(2 * n), domain="again") for n in range(0, 40, 4)]
    leaked = [Problem(f"What is {n} minus 1?", str(n - 1)) for n in range(5)]
    known = [Problem(f"What is {n} times 3?", str(3 * n)) for n in range(7)]
    candidates = [*fresh, *doubled, *leaked, *known]
    texts = texts_of(candidates)
    index = HeldoutIndex([HeldoutSet("heldout", [Problem(p.prompt.upper(), "0") for p in leaked])])
    hits = dict(zip([p.id for p in candidates], index.hits([p.prompt for p in candidates]), strict=True))
    earlier = set(texts_of(known).values())
    first = first_of([p.id for p in candidates], texts, earlier)
    rules = [rule for rule, why in judge(candidates, range(len(candidates)), hits, first) if why]
    assert rules.count("duplicate") == len(doubled) + len(known)
    assert rules.count("heldout") == len(leaked)
    assert rules.count("verifier") == 0
    kept = [p for p, (_, why) in zip(candidates, judge(candidates, range(len(candidates)), hits, first), strict=True) if not why]
    assert kept == fresh


def test_a_candidate_whose_reference_cannot_be_judged_falls_to_the_verifier_audit():
    bad = Problem("Draw a triangle with the largest area.", "")
    ((rule, why),) = judge([bad], range(1), {bad.id: None}, {0})
    assert rule == "verifier"
    assert why


@given(st.integers(0, 30), st.integers(0, 40), st.integers(0, 2**40))
def test_new_candidates_fill_the_room_that_is_left(count, limit, seed):
    rows = pl.DataFrame({"candidate_id": [f"c{i}" for i in range(count)]}, schema={"candidate_id": pl.String})
    chosen = choose_new(rows, limit, seed, (1,))
    assert chosen["kept"].sum() == min(count, limit)
    assert chosen["candidate_id"].to_list() == rows["candidate_id"].to_list()
    again = choose_new(rows.reverse(), limit, seed, (1,))
    assert set(again.filter("kept")["candidate_id"]) == set(chosen.filter("kept")["candidate_id"])
    assert choose_new(rows, -3, seed, (1,))["kept"].sum() == 0


@given(st.integers(1, 12), st.integers(0, 40), st.integers(1, 30), st.integers(1, 14))
def test_prompts_are_drawn_the_same_from_any_cursor_and_never_twice_in_a_step(count, cursor, take, apart):
    problems = [Problem(f"q{i}", "1") for i in range(count)]
    whole = [(p.id, c) for p, c in islice(draws(problems, 5, 1, 0, apart), cursor + take)]
    resumed = [(p.id, c) for p, c in islice(draws(problems[::-1], 5, 1, cursor, apart), take)]
    assert resumed == whole[cursor:]
    ids = [i for i, _ in whole]
    for start in range(0, len(ids) - count + 1, count):
        assert len(set(ids[start : start + count])) == count  # every problem once before any comes again
    step = min(apart, count)
    for start in range(len(ids) - step + 1):
        assert len(set(ids[start : start + step])) == step


@given(st.permutations(range(9)), st.permutations(range(9)), st.integers(1, 9))
def test_an_order_that_is_apart_already_stays(before, order, apart):
    made = kept_apart(list(map(str, before)), list(map(str, order)), apart)
    assert sorted(made) == sorted(map(str, order))
    distance = [len(order) - list(map(str, before)).index(item) + at for at, item in enumerate(made)]
    assert min(distance) >= apart
    if all(len(order) - before.index(item) + at >= apart for at, item in enumerate(order)):
        assert made == list(map(str, order))


def _group(rewards):
    problem = Problem("q", "1")
    nothing = np.zeros(0, np.int32), np.zeros(0, np.uint8), np.zeros(0, np.float32)
    rollouts = tuple(Trajectory(problem.id, "p", *nothing, Sampling(), i, i, "stop", "") for i in range(len(rewards)))
    verdicts = tuple(Verdict("pass" if r else "fail", r, "", "math") for r in rewards)
    return Group("g", problem, rollouts, verdicts, np.asarray(rewards, np.float32))


@given(st.lists(st.integers(1, 40), max_size=12), st.integers(-5, 300), st.integers(1, 30))
def test_the_last_step_of_a_budget_learns_from_what_the_budget_holds(sizes, tokens, step):
    groups = [sized(f"g{i}", size) for i, size in enumerate(sizes)]
    size_of = dict(zip((g.id for g in groups), sizes, strict=True))
    kept = [g.id for g in within(groups, tokens, 5, 1, step)]
    spent = sum(size_of[i] for i in kept)
    assert spent <= max(tokens, 0)
    assert kept == [g.id for g in groups if g.id in kept] == [g.id for g in within(groups[::-1], tokens, 5, 1, step)][::-1]
    left_out = [size for i, size in size_of.items() if i not in kept]
    assert not left_out or spent + max(left_out) > tokens  # less than a group is missing


def sized(name, size):
    """A group of one answer of `size` sampled tokens."""
    tokens, mask, logp = np.ones(size, np.int32), np.ones(size, np.uint8), np.zeros(size, np.float32)
    answer = Trajectory("p", "policy", tokens, mask, logp, Sampling(), 0, 0, "stop", "")
    return Group(name, Problem("q", "1"), (answer,), (Verdict("pass", 1.0, "", "math"),), np.ones(1, np.float32))


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=16), st.integers(1, 50))
def test_the_control_deals_out_the_groups_own_rewards(rewards, step):
    mixed = shuffled(_group(rewards), 3, 1, step)
    assert sorted(mixed.rewards) == sorted(rewards)
    assert [r.id for r in mixed.rollouts] == [r.id for r in _group(rewards).rollouts]
    assert np.array_equal(mixed.rewards, shuffled(_group(rewards), 3, 1, step).rewards)


def test_the_control_carries_no_information():
    rewards = [1.0, 0.0, 0.0, 0.0]
    dealt = np.mean([shuffled(_group(rewards), seed, 1, 1).rewards for seed in range(2000)], axis=0)
    assert np.allclose(dealt, 0.25, atol=0.04)


def test_what_is_said_where_there_is_nothing_to_train_on():
    assert why_nothing(64, 0) == "0 of 64 problems solved: no gradient; use a stronger policy"
    assert "none inside the difficulty band" in why_nothing(64, 9)
