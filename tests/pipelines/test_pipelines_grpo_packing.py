"""The flat layout: every token has its place, prefixes appear once, budgets hold, the order is a function of the rows alone."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data.records import Sampling, Trajectory
from pipelines.grpo.packing import Row, common_prefix, families, lay_out, make_row, micro_batches, split_family

SAMPLING = Sampling()


def trajectory(tokens: list[int], mask: list[int], media: tuple = ()) -> Trajectory:
    logp = np.where(mask, -1.0, np.nan).astype(np.float32)
    return Trajectory("p", "v", np.array(tokens, np.int32), np.array(mask, np.uint8), logp, SAMPLING, 0, 0, "stop", "", media=media)


def row(tokens: list[int], mask: list[int], index: int = 0, group: int = 0, media: tuple = ()) -> Row:
    return make_row(trajectory(tokens, mask, media), index, group, 1.0, 1.0, 1.0)


def test_only_tokens_before_the_last_trained_one_are_forwarded() -> None:
    made = row([5, 6, 7, 8, 9, 10], [0, 0, 1, 0, 1, 0])
    assert made.tokens.tolist() == [5, 6, 7, 8] and made.trained.tolist() == [2, 4] and made.targets.tolist() == [7, 9]
    assert made.behavior.tolist() == [-1, -1]


def test_rows_that_cannot_be_trained_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing predicts it"):
        row([5, 6], [1, 1])
    with pytest.raises(ValueError, match="no trained token"):
        row([5, 6], [0, 0])


def test_the_prefix_goes_as_far_as_the_tokens_agree_even_into_the_responses() -> None:
    rows = [row([1, 2, 3, 4, 5], [0, 0, 1, 1, 1], 0), row([1, 2, 3, 9, 5], [0, 0, 1, 1, 1], 1)]
    assert common_prefix(rows) == 3
    assert common_prefix([rows[0], row([1, 2, 3, 4, 5], [0, 0, 1, 1, 1], 2)]) == 4  # twins: the whole of what is forwarded
    assert common_prefix(rows[:1]) == 0


def test_rows_with_different_media_share_nothing() -> None:
    rows = [row([1, 2, 3, 4], [0, 0, 1, 1], i, media=((name, 0, 1),)) for i, name in enumerate(["cat", "cat", "dog"])]
    assert [(len(f.rows), f.prefix) for f in families(rows)] == [(2, 3), (1, 0)]


@st.composite
def step_rows(draw: st.DrawFn) -> list[Row]:
    rows: list[Row] = []
    for group in range(draw(st.integers(1, 4))):
        prompt = draw(st.lists(st.integers(0, 3), min_size=1, max_size=6))
        for _ in range(draw(st.integers(1, 5))):
            response = draw(st.lists(st.integers(0, 3), min_size=1, max_size=9))
            mask = draw(st.lists(st.integers(0, 1), min_size=len(response), max_size=len(response)).filter(any))
            rows.append(row(prompt + response, [0] * len(prompt) + mask, len(rows), group))
    return rows


@given(step_rows(), st.integers(1, 60), st.booleans(), st.integers(0, 3))
def test_every_layout_says_the_same_as_the_rows(rows: list[Row], budget: int, share: bool, window: int) -> None:
    """Each row once; budgets kept; what a token may attend to is exactly its own past, window included."""
    batches = micro_batches(rows, budget, share)
    assert sorted(r.index for b in batches for f in b for r in f.rows) == [r.index for r in rows]
    for batch in batches:
        cost = sum(f.cost for f in batch)
        assert cost <= budget or (len(batch) == 1 and len(batch[0].rows) == 1)
        layout = lay_out(batch, window)
        assert len(layout.tokens) == cost
        sees = _visible(layout)
        at = 0
        for r in layout.rows:
            source = layout.source[at : at + len(r.targets)]
            assert layout.targets[at : at + len(r.targets)].tolist() == r.targets.tolist()
            assert (layout.row[at : at + len(r.targets)] == r.index).all()
            for trained, flat in zip(r.trained.tolist(), source.tolist(), strict=True):
                first = max(0, trained - window) if window else 0
                past = sorted(sees[flat], key=lambda n: int(layout.positions[n]))
                assert layout.positions[past].tolist() == list(range(first, trained))
                assert layout.tokens[past].tolist() == r.tokens[first:trained].tolist()
            at += len(r.targets)
        assert at == len(layout.source)


def _visible(layout: object) -> dict[int, list[int]]:
    """flat token -> flat tokens it attends to, read from the buckets as attention would."""
    outputs: list[list[int]] = []
    for bucket in layout.buckets:  # type: ignore[attr-defined]
        b, q = bucket.queries.shape
        mask = bucket.mask[:, 0] if bucket.mask is not None else torch.ones(q, q, dtype=torch.bool).tril().expand(b, q, q)
        outputs += [bucket.keys[i][mask[i, j]].tolist() for i in range(b) for j in range(q)]
        assert mask.any(-1).all()  # a softmax over nothing is nan
    return {n: outputs[int(place)] for n, place in enumerate(layout.restore)}  # type: ignore[attr-defined]


def test_a_family_over_the_budget_is_cut_by_rows_with_its_own_prefix() -> None:
    rows = [row([1] * 10 + [2 + i] * 6, [0] * 10 + [1] * 6, i) for i in range(8)]
    (family,) = families(rows)
    assert family.prefix == 10 and family.cost == 10 + 8 * 5
    parts = split_family(family, 25)
    assert [len(p.rows) for p in parts] == [3, 3, 2] and all(p.prefix == 10 and p.cost <= 25 for p in parts)
    assert [len(p.rows) for p in split_family(family, 3)] == [1] * 8


def test_prefix_sharing_saves_what_the_formula_says() -> None:
    """P (G - 1) / (G (P + C)) of the tokens."""
    rows = [row([7] * 40 + [i % 5, i // 5] + [1] * 23, [0] * 40 + [1] * 25, i) for i in range(8)]
    shared, plain = (sum(f.cost for b in micro_batches(rows, 10**6, share) for f in b) for share in (True, False))
    assert (plain, shared) == (8 * 64, 40 + 8 * 24)


def test_the_order_of_the_rows_does_not_change_the_batches() -> None:
    rows = [row([g, 2, 3] + [i] * (1 + (i * 7 + g) % 5), [0, 0, 0] + [1] * (1 + (i * 7 + g) % 5), g * 4 + i, g) for g in range(5) for i in range(4)]
    plan = [[r.index for f in b for r in f.rows] for b in micro_batches(rows, 20)]
    again = [[r.index for f in b for r in f.rows] for b in micro_batches(sorted(rows, key=lambda r: (r.index * 13) % 20), 20)]
    assert [sorted(b) for b in plan] == [sorted(b) for b in again]
