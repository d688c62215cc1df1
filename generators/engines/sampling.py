"""Drawing one token per row by inverse CDF, with a uniform that belongs to the row: the same seed draws the same token in any batch.

Behaviour log-prob, the one number that the trainer later divides by:
- top_p = 1 and top_k = 0: log-softmax of logits / temperature over the whole vocabulary;
- truncated: of the truncated, renormalised distribution (top-k first, then top-p on what is left, the order of
  transformers and vLLM; ties at the cut go to the lower token id, so exactly k tokens are kept);
- temperature 0: the argmax, with its log-prob at temperature 1 and untruncated;
- a structured reply: all of that over the tokens that its grammar allows (the logits of the others are -inf), so a forced token has log-prob 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from data.records import Sampling

_CHUNK = 1 << 23  # elements of one float64 CDF at a time (64 MiB); 512 rows of a 150 k vocabulary would take 600 MiB


@dataclass(frozen=True)
class DrawRule:
    """Sampling settings by row: temperature float[n] (1 where greedy), greedy bool[n], top_p float[n], top_k int64[n] (vocabulary size = off)."""

    temperature: Tensor
    greedy: Tensor
    top_p: Tensor
    top_k: Tensor
    all_greedy: bool
    any_greedy: bool
    scaled: bool
    truncated: bool

    @classmethod
    def of(cls, samplings: Sequence[Sampling], vocab: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> DrawRule:
        greedy = torch.tensor([s.temperature <= 0 for s in samplings], dtype=torch.bool)
        temperature = torch.tensor([s.temperature if s.temperature > 0 else 1.0 for s in samplings], dtype=dtype)
        # A greedy row is never truncated: its log-prob is the model's own.
        top_p = torch.tensor([s.top_p if s.temperature > 0 else 1.0 for s in samplings], dtype=dtype)
        top_k = torch.tensor([s.top_k if s.temperature > 0 and 0 < s.top_k < vocab else vocab for s in samplings], dtype=torch.int64)
        return cls(
            temperature.to(device),
            greedy.to(device),
            top_p.to(device),
            top_k.to(device),
            all_greedy=bool(greedy.all()),
            any_greedy=bool(greedy.any()),
            scaled=bool((temperature != 1).any()),
            truncated=bool((top_p < 1).any() or (top_k < vocab).any()),
        )

    def take(self, rows: Tensor | slice) -> DrawRule:
        """The rule of some rows; the flags stay as they are, so that dropping a row never changes another row's arithmetic."""
        return DrawRule(self.temperature[rows], self.greedy[rows], self.top_p[rows], self.top_k[rows],
                        self.all_greedy, self.any_greedy, self.scaled, self.truncated)


def truncate(logp: Tensor, top_p: Tensor, top_k: Tensor) -> Tensor:
    """log-probs [n, v] -> renormalised log-probs with -inf outside the kept tokens; the likeliest token is always kept."""
    ranked, order = logp.sort(dim=-1, descending=True, stable=True)
    rank = torch.arange(logp.shape[-1], device=logp.device)
    ranked = ranked.masked_fill(rank >= top_k[:, None], -torch.inf)
    probs = ranked.softmax(-1)
    before = probs.cumsum(-1, dtype=torch.float64) - probs  # mass strictly above each token
    outside = (before >= top_p[:, None]) & (top_p[:, None] < 1) & (rank > 0)
    kept = ranked.masked_fill(outside, -torch.inf)
    return torch.full_like(logp, -torch.inf).scatter_(-1, order, kept).log_softmax(-1)


def inverse_cdf(logp: Tensor, uniform: Tensor) -> Tensor:
    """log-probs [n, v], uniforms float64[n] in [0, 1) -> token int64[n]: the first whose cumulative probability exceeds the uniform.

    A token of probability 0 is never drawn: its CDF equals its neighbour's and the search is to the right of equals.
    """
    cdf = logp.exp().cumsum(-1, dtype=torch.float64)
    total = cdf[:, -1]
    point = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cdf, point[:, None], right=True)[:, 0]


def draw(logits: Tensor, uniform: Tensor, rule: DrawRule) -> tuple[Tensor, Tensor]:
    """logits [n, v], uniforms float64[n] -> (token int64[n], behaviour log-prob [n]). Half precision ends at the logits: log-probs are float32."""
    if logits.dtype.itemsize < 4:
        logits = logits.float()
    step = max(1, _CHUNK // logits.shape[-1])
    if len(logits) > step:
        slices = [slice(a, a + step) for a in range(0, len(logits), step)]
        parts = [draw(logits[s], uniform[s], rule.take(s)) for s in slices]
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
    logp = (logits / rule.temperature[:, None] if rule.scaled else logits).log_softmax(-1)
    if rule.truncated:
        logp = truncate(logp, rule.top_p, rule.top_k)
    if rule.all_greedy:
        token = logits.argmax(-1)
    else:
        token = inverse_cdf(logp, uniform)
        if rule.any_greedy:
            token = torch.where(rule.greedy, logits.argmax(-1), token)
    return token, logp.gather(-1, token[:, None])[:, 0]
