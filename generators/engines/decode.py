"""The decode loop: prompts prefilled once, a token a step for every row, finished rows dropped."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.keyed import uniforms
from generators.engines.grammar_masks import Masks
from generators.engines.sampling import DrawRule, draw

DROP_SHARE = 8  # the caches are compacted once 1/8 of their rows are finished: a copy costs about half a decode step

Stopped = Callable[[NDArray[np.int64], NDArray[np.int32]], NDArray[np.bool_]]
"""(row numbers [k], their sampled tokens so far [k, t]) -> which of them just completed a stop string."""


class Cache(Protocol):
    """Keys and values of the rows that are still decoded."""

    def keep(self, rows: Tensor) -> None:
        """Keeps these rows (int64 on the CPU, ascending), drops the others."""
        ...


class Decoder(Protocol):
    """A causal language model as the loop sees it. ids int64, logits and hidden states float."""

    vocab: int
    context: int
    kv_bytes: int  # KV cache bytes per row and position
    dtype: torch.dtype
    device: torch.device

    def load(self, weights: dict[str, Tensor]) -> None: ...
    def start(self, prompts: Sequence[Sequence[int]], counts: Sequence[int], new: int) -> tuple[Any, Tensor]:
        """Prefills each prompt once for its `counts` rows, with room for `new` more tokens in each -> (cache, logits [rows, v]).

        Prompts come in lexicographic order: those that begin alike are neighbours.
        """
        ...

    def step(self, cache: Any, tokens: Tensor) -> Tensor:
        """One token per row int64[rows] -> next logits [rows, v]."""
        ...

    def hidden(self, ids: Tensor) -> Tensor:
        """Right-padded ids [b, t] -> last hidden states after the final norm [b, t, h]; a pad is never seen by what lies before it."""
        ...

    def head(self, hidden: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Sampled:
    """What the loop drew, by row: tokens int32[n][·], logp float32[n][·], the reason it ended, milliseconds since the start."""

    tokens: list[NDArray[np.int32]]
    logp: list[NDArray[np.float32]]
    finish: list[str]
    ms: list[float]


@torch.inference_mode()
def decode(
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    counts: Sequence[int],
    rule: DrawRule,
    seeds: NDArray[np.uint64],
    limits: NDArray[np.int64],
    eos: Sequence[int],
    stopped: Stopped | None = None,
    masks: Masks | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Sampled:
    """Samples `counts[g]` rows from each prompt until end-of-text, a stop string or the row's limit.

    seeds, limits: by row. masks: what holds the structured rows to their grammars. `on_step(rows done, tokens)` is told of progress.
    Which rows are dropped when depends on what was sampled only, so equal batches give equal bits.
    """
    begun = time.perf_counter()
    rows, longest = len(seeds), int(limits.max())
    tokens, logps = np.zeros((rows, longest), np.int32), np.zeros((rows, longest), np.float32)
    lengths, finish, ms = np.zeros(rows, np.int64), ["length"] * rows, [0.0] * rows
    ending = np.zeros(decoder.vocab, bool)
    ending[[e for e in eos if e < decoder.vocab]] = True
    live, active = np.arange(rows), np.ones(rows, bool)
    cache, logits = decoder.start(prompts, counts, longest - 1)
    for t in range(longest):
        if masks is None:
            drawn, logp = draw(logits, _uniforms(seeds[live], t, logits), rule)
        else:
            drawn, logp = _draw_held(masks, np.flatnonzero(active & masks.held[live]), live, limits[live] - t, seeds[live], t, logits, rule)
        token = drawn.cpu().numpy()
        tokens[live, t], logps[live, t] = token, logp.cpu().numpy()  # past its end a row's entries are never read
        ended = active & ending[token]
        if stopped is not None:
            running = np.flatnonzero(active & ~ended)
            ended[running] = stopped(live[running], tokens[live[running], : t + 1])
        done = active & (ended | (t + 1 >= limits[live]))
        if done.any():
            now = (time.perf_counter() - begun) * 1e3
            for j in np.flatnonzero(done):
                lengths[live[j]], ms[live[j]] = t + 1, now
                if ended[j]:
                    finish[live[j]] = "stop"
            active &= ~done
            if on_step is not None:
                on_step(rows - int(active.sum()), int(lengths.sum()))
            if not active.any():
                break
            if (len(active) - active.sum()) * DROP_SHARE >= len(active):
                kept = np.flatnonzero(active)
                cache.keep(torch.from_numpy(kept))
                at = torch.from_numpy(kept).to(drawn.device)
                drawn, rule, live, active = drawn[at], rule.take(at), live[kept], np.ones(len(kept), bool)
        logits = decoder.step(cache, drawn)
    return Sampled([tokens[r, :n].copy() for r, n in enumerate(lengths)], [logps[r, :n].copy() for r, n in enumerate(lengths)], finish, ms)


def _uniforms(seeds: NDArray[np.uint64], step: int, like: Tensor) -> Tensor:
    return torch.from_numpy(uniforms(seeds, step)).to(like.device)


def _draw_held(
    masks: Masks,
    held: NDArray[np.int64],
    rows: NDArray[np.int64],
    left: NDArray[np.int64],
    seeds: NDArray[np.uint64],
    t: int,
    logits: Tensor,
    rule: DrawRule,
) -> tuple[Tensor, Tensor]:
    """`draw`, with the structured rows at places `held` kept to their grammars; rows, left and seeds by place.

    A token that would leave a row too few to end in is forbidden and drawn again, by a uniform of its own.
    """
    if len(held):
        masks.forbid(logits, held, rows[held], left[held])
    drawn, logp = draw(logits, _uniforms(seeds, t, logits), rule)
    for again in itertools.count(1):
        held = held[~masks.take(rows[held], drawn.cpu().numpy()[held], left[held])]
        if not len(held):
            return drawn, logp
        masks.withdraw(logits, held, rows[held], drawn.cpu().numpy()[held], again)
        part = torch.from_numpy(held).to(drawn.device)
        drawn[part], logp[part] = draw(logits[part], _uniforms(seeds[held], t + (again << 32), logits), rule.take(part))
    raise AssertionError("unreachable")
