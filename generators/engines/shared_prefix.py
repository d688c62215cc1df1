"""A KV cache that holds each prompt once, however many samples continue it, and decode attention over it.

A group's samples attend to their prompt in one matrix product (their queries side by side) and each to its own tokens in
another; both parts meet in one softmax. Source: Juravsky et al., "Hydragen: High-Throughput LLM Inference with Shared
Prefixes", 2024, section 3, here with the scores concatenated, which is exact. Measured on one core at 64 x 8 rows, 52 prompt and
16 sampled tokens: 1.8 ms a layer against 3.6 ms for torch's fused attention over a cache that repeats the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class SharedPrefixCache:
    """Prompts [layers, groups, kv heads, prompt columns, head dim], left-padded to one width; sampled tokens [layers, rows, kv heads, new, head dim].

    `length` int64[groups] is each prompt's own length, `owner` int64[rows] each row's group, `filled` the sampled tokens so far.
    """

    def __init__(self, layers: int, kv_heads: int, lengths: Sequence[int], counts: Sequence[int], new: int, angles: tuple[Tensor, Tensor]) -> None:
        """angles: cos and sin of the rotary embedding [positions, head dim], which also say the caches' dtype."""
        self.angles, head_dim, dtype = angles, angles[0].shape[1], angles[0].dtype
        groups, rows, self.width, self.filled = len(lengths), sum(counts), max(lengths), 0
        # Zeros, not empty, for the prompts: their padding is multiplied by a weight of 0, and 0 x NaN is NaN.
        self.prompt_keys = torch.zeros(layers, groups, kv_heads, self.width, head_dim, dtype=dtype)
        self.prompt_values = torch.zeros_like(self.prompt_keys)
        self.keys = torch.empty(layers, rows, kv_heads, max(new, 1), head_dim, dtype=dtype)
        self.values = torch.empty_like(self.keys)
        self.length = torch.tensor(list(lengths))
        self.mask = None  # additive [groups, 1, 1, width], None where no prompt is padded
        if min(lengths) < self.width:
            pad = torch.arange(self.width) < self.width - self.length[:, None]
            self.mask = torch.zeros(pad.shape, dtype=dtype).masked_fill_(pad, -torch.inf)[:, None, None]
        self._seat(torch.arange(groups).repeat_interleave(torch.tensor(list(counts))))

    def _seat(self, owner: Tensor) -> None:
        """Gives each row a seat in its group: `seats` int64[groups, widest group] holds row numbers, row 0 where a seat is empty."""
        self.owner = owner
        sizes = torch.bincount(owner, minlength=len(self.length))
        first = sizes.cumsum(0) - sizes
        self.seat = torch.arange(len(owner)) - first[owner]
        self.seats = torch.zeros(len(sizes), int(sizes.max()), dtype=torch.int64)
        self.seats[owner, self.seat] = torch.arange(len(owner))
        self.even = bool((sizes == sizes[0]).all())

    def write_prompts(self, layer: int, groups: slice, keys: Tensor, values: Tensor) -> None:
        """keys, values [groups, kv heads, n, d] of prompts of one length n; they end at the last column."""
        self.prompt_keys[layer, groups, :, self.width - keys.shape[2] :] = keys
        self.prompt_values[layer, groups, :, self.width - values.shape[2] :] = values

    def rotation(self) -> tuple[Tensor, Tensor]:
        """cos and sin [rows, head dim] at the position of each row's next token."""
        positions = self.length[self.owner] + self.filled
        return self.angles[0][positions], self.angles[1][positions]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """One new token per row: q [n, H, d] already scaled, k and v [n, K, d] -> [n, H·d]. Writes k and v; `advance` follows the last layer."""
        rows, kv_heads, d = k.shape
        fold = q.shape[1] // kv_heads  # query heads per KV head: they share its keys, so they stand side by side
        keys, values, end = self.keys[layer], self.values[layer], self.filled + 1
        keys[:, :, self.filled], values[:, :, self.filled] = k, v
        q = q.reshape(rows, kv_heads, fold, d)
        shared = torch.bmm(self._by_group(q), self.prompt_keys[layer].flatten(0, 1).transpose(1, 2))
        if self.mask is not None:
            shared.view(len(self.seats), kv_heads, -1, self.width).add_(self.mask)
        own = torch.bmm(q.flatten(0, 1), keys[:, :, :end].flatten(0, 1).transpose(1, 2)).view(rows, kv_heads, fold, end)
        weights = torch.cat([self._by_row(shared, kv_heads, fold), own], -1).softmax(-1)
        out = torch.bmm(weights[..., self.width :].flatten(0, 1), values[:, :, :end].flatten(0, 1)).view(rows, kv_heads, fold, d)
        past = torch.bmm(self._by_group(weights[..., : self.width]), self.prompt_values[layer].flatten(0, 1))
        return (out + self._by_row(past, kv_heads, fold)).view(rows, -1)

    def advance(self) -> None:
        self.filled += 1

    def keep(self, rows: Tensor) -> None:
        """Keeps these rows (int64, ascending) and the prompts that they continue; in place, so that no second cache is ever allocated."""
        n = len(rows)
        for cache in (self.keys, self.values):
            for layer in cache:
                layer[:n, :, : self.filled] = layer[rows, :, : self.filled]
        self.keys, self.values = self.keys[:, :n], self.values[:, :n]
        groups, owner = self.owner[rows].unique(return_inverse=True)
        if len(groups) < len(self.length):
            for cache in (self.prompt_keys, self.prompt_values):
                for layer in cache:
                    layer[: len(groups)] = layer[groups]
            self.prompt_keys, self.prompt_values = self.prompt_keys[:, : len(groups)], self.prompt_values[:, : len(groups)]
            self.length, self.mask = self.length[groups], None if self.mask is None else self.mask[groups]
        self._seat(owner)

    def _by_group(self, x: Tensor) -> Tensor:
        """[rows, K, r, ·] -> [groups·K, seats·r, ·]; an empty seat repeats row 0, whose result is not read."""
        _, kv_heads, fold, last = x.shape
        seated = (x.reshape(*self.seats.shape, kv_heads, fold, last) if self.even else x[self.seats]).transpose(1, 2)
        return seated.reshape(len(self.seats) * kv_heads, -1, last)

    def _by_row(self, x: Tensor, kv_heads: int, fold: int) -> Tensor:
        """The way back: [groups·K, seats·r, ·] -> [rows, K, r, ·]."""
        seated = x.view(len(self.seats), kv_heads, -1, fold, x.shape[-1])
        return seated.transpose(1, 2).reshape(-1, kv_heads, fold, x.shape[-1]) if self.even else seated[self.owner, :, self.seat]
