"""SwS's decisions with the paper's own numbers: weakness, budgets, concepts, votes, readings."""

import json
from fractions import Fraction

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.difficulty import PRESETS
from generators.strategies.sws_concepts import draw_concepts, pool_of, scores, softmax
from generators.strategies.sws_reading import CONCEPTS_SCHEMA, JUDGEMENT_SCHEMA, read_concepts, read_judgement
from generators.strategies.sws_votes import JUDGEMENTS, consistent_answer, keeps, right_difficulty, stated_answer, votes_needed
from generators.strategies.sws_weakness import budgets, is_weak, slope, uniform, weaknesses

RELEASED = {"Algebra": 0.0785, "Counting": 0.1427, "Geometry": 0.1509, "Intermediate": 0.0587, "Number": 0.1108, "Pre": 0.0369, "Precalculus": 0.0752}
NORMALIZED = {"Algebra": 0.120, "Counting": 0.218, "Geometry": 0.231, "Intermediate": 0.090, "Number": 0.169, "Pre": 0.056, "Precalculus": 0.115}
"""Failure rates of the released 32B record, and the shares of the budget that follow (reference/strategies.md, section 2)."""


# -- weakness and budget -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("visits", "weak", "strictly"),
    [
        ([0.5, 0.25, 0.0], True, False),  # a maximum of exactly one half
        ([0.0, 0.0, 0.0], True, False),  # never solved: slope 0
        ([0.25, 0.5], False, False),  # it learns
        ([0.4375, 0.25, 0.0], True, True),
        ([0.25, 0.5, 0.25], True, False),  # up and down again: the slope is exactly 0
        ([0.5625, 0.0, 0.0], False, False),
        ([0.25], True, False),
        ([], False, False),
    ],
)
def test_the_weakness_criterion(visits, weak, strictly):
    assert is_weak(visits) is weak
    assert is_weak(visits, strict=True) is strictly


@given(st.lists(st.integers(0, 16), min_size=2, max_size=12))
@settings(deadline=None)
def test_the_slope_is_least_squares(counts):
    accuracies = [Fraction(c, 16) for c in counts]
    fitted = np.polyfit(np.arange(len(counts)), [float(a) for a in accuracies], 1)[0]
    assert float(slope(accuracies)) == pytest.approx(fitted, abs=1e-9)


@pytest.mark.parametrize("total", [1_000_000, 40_000, 7, 1, 0])
def test_the_budget_is_the_papers_formula_and_sums_exactly(total):
    shares = budgets(total, RELEASED)
    assert sum(shares.values()) == total
    for category, rate in RELEASED.items():
        assert abs(shares[category] - total * rate / sum(RELEASED.values())) < 1
    if total == 1_000_000:
        assert {c: round(n / total, 3) for c, n in shares.items()} == NORMALIZED


@given(st.integers(0, 5000), st.dictionaries(st.text("abcdef", min_size=1), st.fractions(0, 1, max_denominator=997), min_size=1, max_size=9))
@settings(deadline=None)
def test_every_budget_sums_exactly(total, rates):
    shares = budgets(total, rates)
    assert sum(shares.values()) == (total if any(rates.values()) else 0)
    assert all(shares[c] == 0 for c, r in rates.items() if not r)


def test_failure_rates_come_from_the_history():
    rows = [("a", "x", 4, 8), ("b", "x", 8, 8), ("a", "x", 2, 8), ("c", "y", 0, 8)]
    rows += [("d", "y", 1, 8), ("d", "y", 5, 8), ("e", "y", 0, 0), ("f", "z", 8, 8)]
    found = weaknesses(pl.DataFrame(rows, schema=["problem_id", "domain", "passes", "n"], orient="row"))
    assert found.weak == {"x": ("a",), "y": ("c",)}
    assert found.rates == {"x": Fraction(1, 2), "y": Fraction(1, 2), "z": Fraction(0)}
    assert budgets(10, found.rates) == {"x": 5, "y": 5, "z": 0}
    assert budgets(9, uniform(found.visited)) == {"x": 3, "y": 3, "z": 3}


# -- concepts ----------------------------------------------------------------------------------------------------------

LISTS = [("a", "b", "c"), ("a", "b"), ("a", "d"), ("e",), ("a", "b", "a")]


def test_cooccurrence_counts_each_unordered_pair_once_per_list():
    pool = pool_of(LISTS)
    at = {c: i for i, c in enumerate(pool.concepts)}
    assert pool.counts.tolist() == [4, 3, 1, 1, 1]
    assert pool.together[at["a"], at["b"]] == pool.together[at["b"], at["a"]] == 3
    assert pool.together[at["a"], at["d"]] == 1 and pool.together[at["e"]].sum() == 0
    assert not pool.together.diagonal().any() and (pool.together == pool.together.T).all()


def test_the_score_is_cooccurrence_plus_cosine_to_the_mean():
    rng = np.random.default_rng(3)
    vectors = {c: rng.normal(size=6).astype(np.float32) for c in "abcde"}
    pool = pool_of(LISTS, vectors)
    chosen = [0, 3]
    unit = {c: v / np.linalg.norm(v) for c, v in vectors.items()}
    mean = (unit["a"] + unit["d"]) / 2
    for i, concept in enumerate(pool.concepts):
        if i in chosen:
            assert scores(pool, chosen)[i] == -np.inf
            continue
        co = sum(pool.together[i, s] for s in chosen)
        cosine = float(unit[concept] @ mean / np.linalg.norm(mean))
        assert scores(pool, chosen)[i] == pytest.approx(co + cosine, abs=1e-6)
        assert scores(pool, chosen, "log")[i] == pytest.approx(np.log1p(co) + cosine, abs=1e-6)


def test_the_first_concept_follows_its_frequency_and_the_next_the_softmax():
    pool = pool_of(LISTS)
    drawn = [draw_concepts(np.random.default_rng(i), pool, size=2) for i in range(4000)]
    first = np.array([[d[0] for d in drawn].count(c) for c in pool.concepts]) / len(drawn)
    assert first == pytest.approx(pool.counts / pool.counts.sum(), abs=0.03)
    after_c = [d[1] for d in drawn if d[0] == "c"]
    share = np.array([after_c.count(c) for c in pool.concepts]) / len(after_c)
    assert share == pytest.approx(softmax(scores(pool, [2]), 0.2), abs=0.06)


@given(
    st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=6), max_size=12),
    st.integers(1, 8),
    st.integers(0, 2**32),
    st.sampled_from(("count", "log")),
)
@settings(max_examples=150, deadline=None)
def test_the_sampler_never_repeats_and_takes_all_there_is(lists, size, seed, cooccurrence):
    pool = pool_of(lists)
    drawn = draw_concepts(np.random.default_rng(seed), pool, size, cooccurrence=cooccurrence)
    assert len(set(drawn)) == len(drawn) == min(size, len(pool.concepts))
    assert drawn == draw_concepts(np.random.default_rng(seed), pool, size, cooccurrence=cooccurrence)


# -- votes -------------------------------------------------------------------------------------------------------------


def test_two_of_nine_pairs_of_judgements_keep():
    kept = {(a, b) for a in JUDGEMENTS for b in JUDGEMENTS if keeps(a, b)}
    assert kept == {("perfect", "perfect"), ("perfect", "acceptable")}
    assert not keeps(None, "perfect") and not keeps("perfect", None)


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        (["7"] * 4 + ["1", "2", "3", "5"], "7"),
        (["7"] * 3 + ["1", "2", "3", "5", "6"], None),  # fewer than half
        (["7"] * 4 + ["9"] * 4, None),  # a tie
        (["None"] * 8, None),  # what the released code let win
        (["None"] * 5 + ["7"] * 3, None),
        ([""] * 4 + ["7"] * 4, "7"),
        (["1/2", "0.5", "\\frac{1}{2}", "0.50", "3", "4", "5", "6"], "1/2"),  # one value, four spellings
        ([], None),
    ],
)
def test_the_answer_by_consistency(answers, found):
    assert consistent_answer(answers, votes_needed(len(answers) or 8))[0] == found


def test_votes_needed_the_votes_is_enough():
    assert [votes_needed(n) for n in (1, 2, 7, 8)] == [1, 1, 4, 4]
    assert [votes_needed(n, 0.75) for n in (1, 7, 8, 10)] == [1, 6, 6, 8]


def test_the_students_band_is_two_to_six_of_eight():
    assert [k for k in range(9) if right_difficulty(k, 8)] == [2, 3, 4, 5, 6]
    assert not right_difficulty(0, 0) and PRESETS["sws"].contains(2, 8)


@pytest.mark.parametrize(
    ("response", "answer"),
    [(" 12*3=36 #### 36", "36"), ("so \\boxed{4}", "4"), ("\\boxed{4} or \\boxed{5}", ""), ("12*3=36, 36", ""), ("", "")],
)
def test_only_a_marked_answer_votes(response, answer):
    assert stated_answer(response) == answer


# -- reading what models say -------------------------------------------------------------------------------------------

RECORDED = 'The problem needs two ideas.\n\n```python\n["Vieta\'s formulas", "Sum of squares", "sum of squares"]\n```'


@pytest.mark.parametrize(
    ("answer", "form", "concepts"),
    [
        (" addition, gain loss\n", "line", ("addition", "gain loss")),
        ("addition, , loss", "line", ()),
        ("addition\nV: perfect", "line", ()),
        (RECORDED, "fenced", ("Vieta's formulas", "Sum of squares")),
        (f"<think>```python\n['no']\n```</think>{RECORDED}", "fenced", ("Vieta's formulas", "Sum of squares")),
        (f"<think>{RECORDED}", "fenced", ()),  # the thought never ends
        ("```\nconcepts = ['one thing', \"another\",]\n```", "fenced", ("one thing", "another")),
        ("```python\n['a b'] + ['c']\n```", "fenced", ()),
        ("```python\n[__import__('os').system('x')]\n```", "fenced", ()),
        ("```python\n['a' 'b']\n```", "fenced", ()),
        ("```python\n['a\\u0062c']\n```", "fenced", ()),  # an escape is not the text
        ("```python\n['one', 2]\n```", "fenced", ()),
        ("```python\n['one'", "fenced", ()),
        ("[\"one\"]", "fenced", ()),  # no block
        (json.dumps({"concepts": ["one", "two"]}), "json", ("one", "two")),
        ('{"concepts": ["\\u0061bc"]}', "json", ()),
        ('{"concepts": ["one"], "more": 1}', "json", ()),
        ('{"concepts": "one"}', "json", ()),
        ("```json\n{\"concepts\": [\"one\"]}\n```", "json", ("one",)),
        (", ".join(f"c{i}" for i in range(60)), "line", ()),
        ("x" * 81, "line", ()),
        ("12, 13", "line", ()),
    ],
)
def test_concepts_are_read_or_refused(answer, form, concepts):
    assert read_concepts(answer, form) == concepts


@pytest.mark.parametrize(
    ("answer", "form", "judgement"),
    [
        (" perfect", "line", "perfect"),
        ("perfect!", "line", None),
        ("Perfect", "line", None),
        ("1. FORMAT: Perfect …\n\nFinal Judgement: acceptable", "fenced", "acceptable"),
        ("**Final Judgment:** **Bad**", "fenced", "bad"),
        ("Final Judgement: perfect\nFinal Judgement: bad", "fenced", None),
        ("Final Judgement: perfectly fine", "fenced", None),
        ("<think>Final Judgement: perfect</think>Final Judgement: bad", "fenced", "bad"),
        ("I would say perfect.", "fenced", None),
        ("Final Judgement: perfect | acceptable | bad", "fenced", "perfect"),
        ('{"analysis": "…", "final_judgement": "perfect"}', "json", "perfect"),
        ('{"final_judgement": ["perfect"]}', "json", None),
        ("[" * 5000, "json", None),
    ],
)
def test_judgements_are_read_or_refused(answer, form, judgement):
    assert read_judgement(answer, form) == judgement


PARTS = [
    "```", "python\n", "[", "]", "'", '"', ",", " ", "\n", "\\", "{", "}", ":", "concepts", "a b", "final_judgement", "Final Judgement:", "perfect",
    "bad", "</think>", "<think>", "é", "\x00", "\ud800",
]  # fmt: skip
PIECES = st.lists(st.sampled_from(PARTS), max_size=40).map("".join)


@given(st.one_of(PIECES, st.text(max_size=200)), st.sampled_from(("line", "fenced", "json")))
@settings(max_examples=600, deadline=None)
def test_readers_never_raise_and_invent_nothing(text, form):
    concepts = read_concepts(text, form)
    assert all(concept in text for concept in concepts)
    judgement = read_judgement(text, form)
    assert judgement is None or judgement in text.lower()


def test_the_schemas_take_what_the_readers_take():
    import jsonschema

    jsonschema.validate({"concepts": ["one"]}, CONCEPTS_SCHEMA)
    jsonschema.validate({"analysis": "fine", "final_judgement": "bad"}, JUDGEMENT_SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"analysis": "fine", "final_judgement": "good"}, JUDGEMENT_SCHEMA)
