"""Flat, padding-free token layout: a group's longest common prefix is laid out (and forwarded) once.

A micro-batch is one sequence of N tokens: for every family of rows [prefix][suffix of row 1][suffix of row 2]… . A token
attends to its family's prefix and to its own suffix. Nothing but attention looks at other tokens, so everything else in
the network runs on flat tokens; attention runs over buckets of rows of like length (`policy.py`), later over varlen kernels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.records import Trajectory

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
FAR = 1 << 40  # position of a padded key: no query sees it
WASTE = 1.25  # a bucket may be padded to this multiple of its own tokens


@dataclass(frozen=True)
class Row:
    """One trajectory as the trainer sees it.

    tokens int64[n]: forwarded tokens, i.e. all before the last trained one. trained int64[m]: positions of trained tokens
    in the trajectory (each predicted from the state before it); targets int64[m]; behavior float32[m].
    """

    index: int  # its number in the step
    family: tuple[int, str]  # rows of one family may share a prefix: (group, what else must be equal)
    tokens: Int64
    trained: Int64
    targets: Int64
    behavior: NDArray[np.float32]
    advantage: float | Float64  # one for the row, or one per trained token float64[m]
    weight: float
    temperature: float
    share_limit: int = 1 << 40  # the prefix may not grow beyond this token (where media begin to differ)
    factor: Float64 | None = None  # step-level token weights float64[m], None = 1
    reward: float = 0.0
    stale: bool = False  # sampled by an older policy: its ratio is against `behavior`
    truncated: bool = False  # cut off by the token limit
    kl: float = 1.0  # its group's share of the KL coefficient
    aux: Mapping[str, float] = field(default_factory=dict)  # weight of each of its tokens in an auxiliary loss

    def per_token(self, values: float | Float64 | None) -> Float64:
        """A value, or one per token, or nothing (= 1), as float64[m]."""
        return np.broadcast_to(np.asarray(1.0 if values is None else values, np.float64), len(self.targets))


def make_row(
    trajectory: Trajectory, index: int, group: int, advantage: float = 0.0, weight: float = 0.0, temperature: float = 1.0, **more: Any
) -> Row:
    """A row for training; ValueError where the first token is trained (nothing predicts it) or nothing is trained."""
    trained = np.flatnonzero(trajectory.loss_mask).astype(np.int64)
    if not len(trained):
        raise ValueError(f"rollout {trajectory.id} of problem {trajectory.problem_id} has no trained token")
    if trained[0] == 0:
        raise ValueError(f"rollout {trajectory.id} trains on its first token, but nothing predicts it: a prompt of at least one token is needed")
    tokens = np.asarray(trajectory.tokens, np.int64)
    family = (group, repr(trajectory.media) if trajectory.media else "")
    return Row(
        index,
        family,
        tokens[: trained[-1]],
        trained,
        tokens[trained],
        np.asarray(trajectory.logp, np.float32)[trained],
        advantage,
        weight,
        temperature,
        truncated=trajectory.finish == "length",
        **more,
    )


def common_prefix(rows: Sequence[Row]) -> int:
    """Length of the longest common prefix of the rows' forwarded tokens; 0 for a single row (nothing to share)."""
    if len(rows) < 2:
        return 0
    limit = min(min(len(r.tokens), r.share_limit) for r in rows)
    same = np.ones(limit, bool)
    for row in rows[1:]:
        same &= row.tokens[:limit] == rows[0].tokens[:limit]
    return limit if same.all() else int(np.argmin(same))


@dataclass(frozen=True)
class Family:
    """Rows with a common prefix of `prefix` tokens, in the order of their indices."""

    rows: tuple[Row, ...]
    prefix: int

    @property
    def cost(self) -> int:
        """Tokens forwarded."""
        return self.prefix + sum(len(r.tokens) - self.prefix for r in self.rows)


def families(rows: Sequence[Row], share: bool = True) -> list[Family]:
    """Rows by family, in order of first appearance; `share=False` keeps every row on its own (tests, comparison)."""
    if not share:
        return [Family((r,), 0) for r in rows]
    by: dict[tuple[int, str], list[Row]] = {}
    for row in rows:
        by.setdefault(row.family, []).append(row)
    return [Family(tuple(members), common_prefix(members)) for members in by.values()]


def split_family(family: Family, budget: int) -> list[Family]:
    """A family over the budget, cut by rows; every part forwards its own copy of the prefix. A single long row stays whole."""
    if family.cost <= budget or len(family.rows) == 1:
        return [family]
    parts: list[list[Row]] = [[]]
    room = budget - family.prefix
    for row in family.rows:
        need = len(row.tokens) - family.prefix
        if parts[-1] and need > room:
            parts.append([])
            room = budget - family.prefix
        parts[-1].append(row)
        room -= need
    return [Family(tuple(part), family.prefix) for part in parts]


def micro_batches(rows: Sequence[Row], budget: int, share: bool = True, whole: bool = False) -> list[list[Family]]:
    """Families alike in length, filled up to `budget` forwarded tokens; deterministic, a function of the rows alone.

    A family above the budget is cut by rows unless `whole` (an objective that compares the rows of a group needs them side by side).
    """
    parts = [part for family in families(rows, share) for part in ([family] if whole else split_family(family, budget))]
    parts.sort(key=lambda f: (max(len(r.tokens) for r in f.rows) - f.prefix, f.prefix, f.rows[0].index))
    batches: list[list[Family]] = []
    room = 0
    for part in parts:
        if not batches or part.cost > room:
            batches.append([])
            room = budget
        batches[-1].append(part)
        room -= part.cost
    return batches


@dataclass(frozen=True)
class Bucket:
    """Attention of `b` padded rows: queries int64[b, q], keys int64[b, k] are flat token numbers; mask bool[b, 1, q, k], None = causal."""

    queries: Tensor
    keys: Tensor
    mask: Tensor | None


@dataclass(frozen=True)
class Layout:
    """One micro-batch, flat. tokens, positions int64[N]; source int64[M] = flat number of the state that predicts each of the
    M trained tokens, targets int64[M], row int64[M] = row index in the step; restore int64[N] puts bucket outputs back in order."""

    tokens: Tensor
    positions: Tensor
    source: Tensor
    targets: Tensor
    row: Tensor
    buckets: tuple[Bucket, ...]
    restore: Tensor
    rows: tuple[Row, ...] = field(default=())

    def to(self, device: torch.device) -> Layout:
        """The same layout with its tensors on `device`."""
        if self.tokens.device == device:
            return self
        moved = {f: getattr(self, f).to(device) for f in ("tokens", "positions", "source", "targets", "row", "restore")}
        buckets = tuple(Bucket(b.queries.to(device), b.keys.to(device), None if b.mask is None else b.mask.to(device)) for b in self.buckets)
        return replace(self, buckets=buckets, **moved)


def lay_out(batch: Sequence[Family], window: int = 0) -> Layout:
    """The flat layout of some families. `window`: sliding-window width in tokens, 0 = full attention."""
    tokens: list[Int64] = []
    positions: list[Int64] = []
    source: list[Int64] = []
    spans: list[tuple[Int64, Int64]] = []  # (query numbers, key numbers before them) of each piece
    rows: list[Row] = []
    at = 0
    for family in batch:
        prefix = np.arange(at, at + family.prefix)
        if family.prefix:
            tokens.append(family.rows[0].tokens[: family.prefix])
            positions.append(np.arange(family.prefix))
            spans.append((prefix, prefix[:0]))
            at += family.prefix
        for row in family.rows:
            own = np.arange(at, at + len(row.tokens) - family.prefix)
            if len(own):
                tokens.append(row.tokens[family.prefix :])
                positions.append(np.arange(family.prefix, len(row.tokens)))
                spans.append((own, prefix))
                at += len(own)
            source.append(np.concatenate([prefix, own])[row.trained - 1])
            rows.append(row)
    flat_positions = np.concatenate(positions)
    buckets, restore = _buckets(spans, flat_positions, at, window)
    return Layout(
        tokens=torch.from_numpy(np.concatenate(tokens)),
        positions=torch.from_numpy(flat_positions),
        source=torch.from_numpy(np.concatenate(source)),
        targets=torch.from_numpy(np.concatenate([r.targets for r in rows])),
        row=torch.from_numpy(np.repeat([r.index for r in rows], [len(r.targets) for r in rows])),
        buckets=buckets,
        restore=restore,
        rows=tuple(rows),
    )


def _buckets(spans: list[tuple[Int64, Int64]], positions: Int64, total: int, window: int) -> tuple[tuple[Bucket, ...], Tensor]:
    order = sorted(range(len(spans)), key=lambda i: (len(spans[i][1]) > 0, len(spans[i][0]), len(spans[i][1]), i))
    groups: list[list[int]] = []
    used = 0
    for i in order:
        q, p = len(spans[i][0]), len(spans[i][1])
        first = groups[-1][0] if groups else -1
        alike = groups and (len(spans[first][1]) > 0) == (p > 0) and q * (len(groups[-1]) + 1) <= WASTE * (used + q)
        if not alike:
            groups.append([])
            used = 0
        groups[-1].append(i)
        used += q
    buckets: list[Bucket] = []
    restore = np.zeros(total, np.int64)
    filled = 0
    for group in groups:
        width = max(len(spans[i][0]) for i in group)
        before = max(len(spans[i][1]) for i in group)
        queries = np.zeros((len(group), width), np.int64)
        keys = np.zeros((len(group), before + width), np.int64)
        query_at = np.full((len(group), width), FAR - 1)
        key_at = np.full((len(group), before + width), FAR)
        for n, i in enumerate(group):
            own, prefix = spans[i]
            queries[n, : len(own)], query_at[n, : len(own)] = own, positions[own]
            keys[n, : len(prefix)], key_at[n, : len(prefix)] = prefix, positions[prefix]
            keys[n, before : before + len(own)], key_at[n, before : before + len(own)] = own, positions[own]
            restore[own] = filled + n * width + np.arange(len(own))
        filled += len(group) * width
        mask: Tensor | None = None
        if before or (window and width > window):  # else: right-padded rows that start at their own first token are plainly causal
            seen = key_at[:, None, :] <= query_at[:, :, None]
            if window:
                seen &= query_at[:, :, None] - key_at[:, None, :] < window
                seen |= (query_at == FAR - 1)[:, :, None]  # a padded query must see something, or its softmax is 0 / 0
            mask = torch.from_numpy(seen[:, None])
        buckets.append(Bucket(torch.from_numpy(queries), torch.from_numpy(keys), mask))
    return tuple(buckets), torch.from_numpy(restore)
