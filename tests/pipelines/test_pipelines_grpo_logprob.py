"""Tiled log-probs and entropies against the naive log_softmax, values and gradients."""

import pytest
import torch
from torch import Tensor

from pipelines.grpo.logprob import logprob_entropy

D = torch.float64


def naive(hidden: Tensor, weight: Tensor, targets: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
    logprobs = (hidden @ weight.T / temperature[:, None]).log_softmax(-1)
    return logprobs.gather(1, targets[:, None])[:, 0], -(logprobs.exp() * logprobs).sum(-1)


@pytest.mark.parametrize("tile", [1, 3, 7, 100])
def test_equals_naive_in_value_and_gradient(tile: int) -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(7, 5, requires_grad=True), torch.randn(11, 5, requires_grad=True)
    targets, temperature = torch.randint(0, 11, (7,)), torch.tensor([1.0, 0.5, 2.0, 1.0, 0.7, 1.3, 1.0])
    a, b = torch.randn(7), torch.randn(7)
    expected = naive(hidden, weight, targets, temperature)
    wanted = torch.autograd.grad((a * expected[0] + b * expected[1]).sum(), (hidden, weight))
    got = logprob_entropy(hidden, weight, targets, temperature, tile)
    grads = torch.autograd.grad((a * got[0] + b * got[1]).sum(), (hidden, weight))
    for mine, theirs in zip((*got, *grads), (*expected, *wanted), strict=True):
        torch.testing.assert_close(mine, theirs, atol=2e-6, rtol=1e-5)


def test_without_entropy_gradient_only_the_log_prob_counts() -> None:
    torch.manual_seed(1)
    hidden, weight, targets = torch.randn(6, 4, requires_grad=True), torch.randn(9, 4, requires_grad=True), torch.randint(0, 9, (6,))
    wanted = torch.autograd.grad(naive(hidden, weight, targets, torch.full((6,), 0.8))[0].sum(), (hidden, weight))
    got = torch.autograd.grad(logprob_entropy(hidden, weight, targets, 0.8, tile=4)[0].sum(), (hidden, weight))
    for mine, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, atol=2e-6, rtol=1e-5)


def test_extreme_logits_stay_finite() -> None:
    hidden = torch.tensor([[1e4], [-1e4]], requires_grad=True)
    weight = torch.tensor([[1.0], [-1.0], [0.0]])
    logp, entropy = logprob_entropy(hidden, weight, torch.tensor([1, 1]))
    (logp + entropy).sum().backward()
    assert logp.tolist() == [-2e4, 0.0] and entropy.tolist() == [0.0, 0.0]
    assert torch.isfinite(hidden.grad).all()


def test_nothing_in_nothing_out() -> None:
    logp, entropy = logprob_entropy(torch.zeros(0, 4, requires_grad=True), torch.zeros(9, 4), torch.zeros(0, dtype=torch.long))
    assert logp.shape == entropy.shape == (0,)


def test_the_full_logits_are_never_kept() -> None:
    """What backward holds on to is the inputs; a tile's logits are the largest thing alive in between."""
    hidden, weight, targets = torch.randn(64, 8, requires_grad=True), torch.randn(1000, 8, requires_grad=True), torch.randint(0, 1000, (64,))
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        logprob_entropy(hidden, weight, targets, tile=8)
    assert kept and max(kept) <= weight.numel()
