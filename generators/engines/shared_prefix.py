"""A KV cache that holds what rows have in common once, and decode attention over it.

Three levels. A *trunk* is the beginning that several prompts share (a system prompt, worked examples); a group's *rest* is what is left of its
prompt, common to its samples; the row's *own* tokens are sampled. Rows of one trunk attend to it in one matrix product (their queries side by
side), samples of one group to its rest in another, each row to its own tokens in a third; all parts meet in one softmax.
Source: Juravsky et al., "Hydragen: High-Throughput LLM Inference with Shared Prefixes", 2024, sections 3.2 and 3.3 (hierarchical sharing), here
with the scores concatenated, which is exact. KV heads come first in every tensor, so that no product needs its scores or weights copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SHORTEST_TRUNK = 16  # tokens; below, a product more per layer costs what it saves
MOST_TRUNKS = 8  # each is a product of its own


def find_trunks(prompts: Sequence[Sequence[int]]) -> list[tuple[int, int, int]]:
    """Prompts in lexicographic order -> [(first, end, tokens)]: neighbours [first, end) begin with the same `tokens` tokens, forwarded once.

    One threshold for the batch: neighbours that share at least that much stand together; the threshold that saves most prompt tokens is taken.
    Every prompt keeps at least its last token, whose logits are needed.
    """
    ids = [np.asarray(p, np.int64) for p in prompts]
    common = np.array([_common(a, b) for a, b in pairwise(ids)], np.int64)
    best: list[tuple[int, int, int]] = []
    for least in np.unique(common[common >= SHORTEST_TRUNK]):
        ends = [*(np.flatnonzero(common < least) + 1).tolist(), len(ids)]
        runs = [(a, b, int(common[a : b - 1].min())) for a, b in pairwise([0, *ends]) if b - a > 1]
        runs = sorted(sorted(runs, key=_saved, reverse=True)[:MOST_TRUNKS])
        if sum(map(_saved, runs)) > sum(map(_saved, best)):
            best = runs
    return best


def _common(a: NDArray[np.int64], b: NDArray[np.int64]) -> int:
    """Tokens that both begin with, short of the shorter one's last."""
    n = min(len(a), len(b)) - 1
    differ = a[:n] != b[:n]
    return int(differ.argmax()) if differ.any() else n


def _saved(run: tuple[int, int, int]) -> int:
    return (run[1] - run[0] - 1) * run[2]


@dataclass
class Trunk:
    """Keys and values, by layer [kv heads, tokens, head dim], of what the prompts of `groups` begin with; `rows` are those that continue it."""

    groups: slice
    rows: slice
    tokens: int
    keys: list[Tensor]
    values: list[Tensor]


class SharedPrefixCache:
    """By layer: rests [kv heads, groups, rest columns, head dim], left-padded to one width; own tokens [kv heads, rows, new, head dim].

    `length` int64[groups] is each prompt's own length, `owner` int64[rows] each row's group (both on the CPU), `filled` the sampled tokens so far.
    """

    def __init__(
        self,
        layers: int,
        kv_heads: int,
        lengths: Sequence[int],
        counts: Sequence[int],
        new: int,
        angles: tuple[Tensor, Tensor],
        trunks: Sequence[tuple[int, int, int]] = (),
    ) -> None:
        """angles: cos and sin of the rotary embedding [positions, head dim], which also say the caches' dtype and device.

        trunks: what `find_trunks` found among the prompts.
        """
        self.angles, self.kv_heads, self.filled = angles, kv_heads, 0
        head_dim, dtype, device = angles[0].shape[1], angles[0].dtype, angles[0].device
        groups, rows = len(lengths), sum(counts)

        def empty(*shape: int) -> list[Tensor]:
            return [torch.empty(kv_heads, *shape, head_dim, dtype=dtype, device=device) for _ in range(layers)]

        self.trunks, rest = [], np.array(lengths)
        first = np.concatenate([[0], np.cumsum(counts)])
        for a, b, tokens in trunks:
            rest[a:b] -= tokens
            self.trunks.append(Trunk(slice(a, b), slice(int(first[a]), int(first[b])), tokens, empty(tokens), empty(tokens)))
        self.trunk_width = max((t.tokens for t in self.trunks), default=0)
        self.width = int(rest.max())
        self.rest_keys, self.rest_values = empty(groups, self.width), empty(groups, self.width)
        self.keys, self.values = empty(rows, max(new, 1)), empty(rows, max(new, 1))
        self.mask: Tensor | None = None  # additive [groups, 1, width], None where no rest is padded
        if rest.min() < self.width:
            for cache in (*self.rest_keys, *self.rest_values):
                cache.zero_()  # padding is multiplied by a weight of 0, and 0 x NaN is NaN
            pad = torch.arange(self.width) < self.width - torch.from_numpy(rest)[:, None]
            self.mask = torch.zeros(pad.shape, dtype=dtype, device=device).masked_fill_(pad.to(device), -torch.inf)[:, None]
        self.length = torch.tensor(list(lengths))
        self._seat(torch.arange(groups).repeat_interleave(torch.tensor(list(counts))))

    def _seat(self, owner: Tensor) -> None:
        """Gives each row a seat in its group: `seats` int64[groups, widest group] holds row numbers, row 0 where a seat is empty.

        Counted on the CPU whatever the device, so that no step waits for a device to answer.
        """
        sizes = torch.bincount(owner, minlength=len(self.length))
        first, numbers = sizes.cumsum(0) - sizes, torch.arange(len(owner))
        seats = owner.new_zeros(len(sizes), int(sizes.max()))
        seat = numbers - first[owner]
        seats[owner, seat] = numbers
        self.even, self.owner, device = bool((sizes == sizes[0]).all()), owner, self.angles[0].device
        self.group_of, self.seat, self.seats, self.position = (x.to(device) for x in (owner, seat, seats, self.length[owner]))

    def write_trunk(self, layer: int, trunk: Trunk, keys: Tensor, values: Tensor) -> None:
        """keys, values [kv heads, tokens, d]."""
        trunk.keys[layer].copy_(keys)
        trunk.values[layer].copy_(values)

    def write_rests(self, layer: int, groups: Tensor, keys: Tensor, values: Tensor) -> None:
        """keys, values [groups, kv heads, n, d] of rests of one length n; they end at the last column. groups: int64 numbers."""
        self.rest_keys[layer][:, groups, self.width - keys.shape[2] :] = keys.transpose(0, 1)
        self.rest_values[layer][:, groups, self.width - values.shape[2] :] = values.transpose(0, 1)

    def rotation(self) -> tuple[Tensor, Tensor]:
        """cos and sin [rows, head dim] at the position of each row's next token."""
        positions = self.position + self.filled
        return self.angles[0][positions], self.angles[1][positions]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """One new token per row: q [n, H, d] already scaled, k and v [n, K, d] -> [n, H·d]. Writes k and v; `advance` follows the last layer."""
        rows, kv_heads, d = k.shape
        fold = q.shape[1] // kv_heads  # query heads per KV head: they share its keys, so they stand side by side
        end, trunk, width = self.filled + 1, self.trunk_width, self.width
        self.keys[layer][:, :, self.filled], self.values[layer][:, :, self.filled] = k.transpose(0, 1), v.transpose(0, 1)
        q = q.view(rows, kv_heads, fold, d).transpose(0, 1).contiguous()
        rest = torch.bmm(self._by_group(q), self.rest_keys[layer].flatten(0, 1).transpose(1, 2))
        if self.mask is not None:
            rest.view(kv_heads, len(self.seats), -1, width).add_(self.mask)
        own = torch.bmm(q.flatten(0, 1), self.keys[layer][:, :, :end].flatten(0, 1).transpose(1, 2)).view(kv_heads, rows, fold, end)
        parts = [self._by_row(rest, fold), own]
        if self.trunks:
            parts.insert(0, self._trunk_scores(layer, q))
        weights = torch.cat(parts, -1).softmax(-1)
        out = torch.bmm(weights[..., trunk + width :].flatten(0, 1), self.values[layer][:, :, :end].flatten(0, 1))
        past = self.rest_values[layer].flatten(0, 1)
        given = self._by_group(weights[..., trunk : trunk + width])
        if self.even:
            out.view(len(past), -1, d).baddbmm_(given, past)
            out = out.view(kv_heads, rows, fold, d)
        else:
            out = out.view(kv_heads, rows, fold, d) + self._by_row(torch.bmm(given, past), fold)
        for t in self.trunks:
            out[:, t.rows].view(kv_heads, -1, d).baddbmm_(weights[:, t.rows, :, : t.tokens].flatten(1, 2), t.values[layer])
        return out.transpose(0, 1).reshape(rows, -1)

    def _trunk_scores(self, layer: int, q: Tensor) -> Tensor:
        """q [K, n, r, d] -> [K, n, r, longest trunk], -inf where a row's trunk is shorter or it has none."""
        kv_heads, rows, fold, _ = q.shape
        first = self.trunks[0]
        if first.rows == slice(0, rows):
            return torch.bmm(q.flatten(1, 2), first.keys[layer].transpose(1, 2)).view(kv_heads, rows, fold, -1)
        scores = q.new_full((kv_heads, rows, fold, self.trunk_width), -torch.inf)
        for t in self.trunks:
            part = torch.bmm(q[:, t.rows].flatten(1, 2), t.keys[layer].transpose(1, 2))
            scores[:, t.rows, :, : t.tokens] = part.view(kv_heads, -1, fold, t.tokens)
        return scores

    def advance(self) -> None:
        self.filled += 1

    def keep(self, rows: Tensor) -> None:
        """Keeps these rows (int64 on the CPU, ascending) and the prompts that they continue; in place, so that no second cache is ever allocated."""
        at = rows.to(self.angles[0].device)
        for own in (self.keys, self.values):
            own[:] = [_kept(cache, at, slice(0, self.filled)) for cache in own]
        groups, owner = self.owner[rows].unique(return_inverse=True)
        if len(groups) < len(self.length):
            at = groups.to(at.device)
            for rest in (self.rest_keys, self.rest_values):
                rest[:] = [_kept(cache, at, slice(None)) for cache in rest]
            self.length, self.mask = self.length[groups], None if self.mask is None else self.mask[at]
        trunks = []
        for t in self.trunks:
            a, b = torch.searchsorted(rows, torch.tensor([t.rows.start, t.rows.stop])).tolist()
            if b > a:
                t.rows = slice(a, b)
                trunks.append(t)
        self.trunks, self.trunk_width = trunks, max((t.tokens for t in trunks), default=0)
        self._seat(owner)

    def _by_group(self, x: Tensor) -> Tensor:
        """[K, rows, r, ·] -> [K·groups, seats·r, ·]; an empty seat repeats row 0, whose result is not read."""
        seated = x.unflatten(1, self.seats.shape) if self.even else x[:, self.seats]
        return seated.flatten(2, 3).flatten(0, 1)

    def _by_row(self, x: Tensor, fold: int) -> Tensor:
        """The way back: [K·groups, seats·r, ·] -> [K, rows, r, ·]."""
        seated = x.view(self.kv_heads, *self.seats.shape, fold, x.shape[-1])
        return seated.flatten(1, 2) if self.even else seated[:, self.group_of, self.seat]


def _kept(cache: Tensor, items: Tensor, columns: slice) -> Tensor:
    """[K, n, T, d] -> its `items` [K, k, T, d] in the same memory, head by head: a head's new place never reaches the next one's old place."""
    shape = (cache.shape[0], len(items), *cache.shape[2:])
    out = cache.view(-1)[: shape[0] * shape[1] * shape[2] * shape[3]].view(shape)
    for head in range(shape[0]):
        out[head, :, columns] = cache[head, items, columns]
    return out
