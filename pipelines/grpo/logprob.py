"""Log-probs and entropies of target tokens from hidden states, tile by tile: the full logits never exist at once.

Backward recomputes each tile's logits, so that memory is O(tile x vocabulary) however many tokens there are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

TILE = 4096  # tokens whose logits exist at once


def _tile(hidden: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(probs float32[n, V], shifted log-probs float32[n, V], target log-prob float32[n])."""
    logits = hidden @ weight.T
    logits = logits if logits.dtype == torch.float64 else logits.float()
    logprobs = logits - logits.logsumexp(-1, keepdim=True)
    return logprobs.exp(), logprobs, logprobs.gather(1, targets[:, None])[:, 0]


class _LogProbEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, tile: int) -> tuple[Tensor, Tensor]:
        logp, entropy = [], []
        head = weight.to(hidden.dtype)  # a bfloat16 forward has float32 master weights
        for start in range(0, len(targets), tile):
            probs, logprobs, chosen = _tile(hidden[start : start + tile], head, targets[start : start + tile])
            logp.append(chosen)
            entropy.append(-(probs * logprobs).sum(-1))
        ctx.save_for_backward(hidden, weight, targets)
        ctx.tile = tile
        return torch.cat(logp), torch.cat(entropy)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        hidden, weight, targets = ctx.saved_tensors
        grad_logp, grad_entropy = grads
        needs_entropy = bool(grad_entropy.any())
        head = weight.to(hidden.dtype)
        wide = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        grad_hidden, grad_weight = torch.empty_like(hidden), torch.zeros(weight.shape, dtype=wide, device=weight.device)
        for start in range(0, len(targets), ctx.tile):
            part = slice(start, start + ctx.tile)
            probs, logprobs, _ = _tile(hidden[part], head, targets[part])
            # d logp / d logits = onehot - p ;  d H / d logits = -p (log p + H)
            if needs_entropy:
                own = -(probs * logprobs).sum(-1, keepdim=True)
                grad = -probs * (grad_entropy[part, None] * (logprobs + own) + grad_logp[part, None])
            else:
                grad = probs.mul_(-grad_logp[part, None])
            grad.scatter_add_(1, targets[part, None], grad_logp[part, None])
            grad = grad.to(hidden.dtype)
            grad_hidden[part] = grad @ head
            grad_weight += (grad.T @ hidden[part]).to(wide)
        return grad_hidden, grad_weight.to(weight.dtype), None, None


def logprob_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, temperature: Tensor | float = 1.0, tile: int = TILE) -> tuple[Tensor, Tensor]:
    """(log-prob float32[n], entropy float32[n] in nats) of `targets` int64[n] under softmax(hidden @ weight.T / temperature).

    hidden [n, d]: the state that predicts each target; weight [V, d]: the language-model head; temperature: one number or float[n].
    """
    if len(targets) == 0:
        nothing = hidden.sum(-1).float()
        return nothing, nothing
    if isinstance(temperature, Tensor):
        hidden = hidden / temperature.to(hidden.dtype)[:, None]
    elif temperature != 1.0:
        hidden = hidden / temperature
    logp, entropy = _LogProbEntropy.apply(hidden, weight, targets, tile)
    return logp, entropy
