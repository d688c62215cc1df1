"""Drawing, stopping and attention over shared prompts, each against a plain oracle."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from data.keyed import uniforms
from data.records import Sampling
from generators.engines import sampling
from generators.engines.sampling import DrawRule, draw, inverse_cdf, truncate
from generators.engines.shared_prefix import SharedPrefixCache, find_trunks
from generators.engines.stopping import StopStrings, cut_at_stop

torch.set_num_threads(1)


def drawn(logits: list[float], rule: Sampling, n: int) -> tuple[np.ndarray, np.ndarray]:
    u = torch.from_numpy(uniforms(np.arange(n, dtype=np.uint64), 3))
    token, logp = draw(torch.tensor(logits).expand(n, -1), u, DrawRule.of([rule] * n, len(logits)))
    return token.numpy(), logp.numpy()


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        (Sampling(temperature=1.0), [0, 1, 2, 3, 4, 5]),
        (Sampling(temperature=0.5), [0, 1, 2, 3, 4, 5]),
        (Sampling(temperature=2.0, top_k=3), [1, 3, 4]),
        (Sampling(temperature=1.0, top_p=0.75), [3, 4]),
        (Sampling(temperature=1.0, top_k=4, top_p=0.96), [1, 3, 4]),
    ],
)
def test_frequencies_are_the_truncated_softmax(rule, kept):
    logits, n = [-1.0, 1.5, 0.3, 3.0, 2.5, -3.0], 20_000
    p = np.where(np.isin(range(6), kept), np.exp(np.array(logits) / rule.temperature), 0)
    p /= p.sum()
    token, logp = drawn(logits, rule, n)
    np.testing.assert_allclose(logp, np.log(p[token]), atol=1e-5)
    seen = np.bincount(token, minlength=6)
    assert seen[p == 0].sum() == 0
    expected = p[p > 0] * n
    chi2 = float(((seen[p > 0] - expected) ** 2 / expected).sum())
    assert chi2 < len(kept) - 1 + 4 * math.sqrt(2 * (len(kept) - 1))  # deterministic: the seeds are fixed


def test_greedy_takes_the_argmax_with_its_log_prob_at_temperature_1():
    logits = [0.0, 2.0, 1.9]
    token, logp = drawn(logits, Sampling(temperature=0.0, top_k=1, top_p=0.1), 5)
    assert (token == 1).all()
    np.testing.assert_allclose(logp, torch.tensor(logits).log_softmax(-1)[1], atol=1e-6)


@settings(deadline=None)
@given(st.lists(st.floats(-30, 30), min_size=1, max_size=12), st.floats(0, 1, exclude_max=True))
def test_inverse_cdf_inverts_the_cumulative_sum(logits, u):
    logp = torch.tensor(logits, dtype=torch.float64).log_softmax(-1)
    i = int(inverse_cdf(logp[None], torch.tensor([u], dtype=torch.float64))[0])
    cdf = np.concatenate([[0], np.cumsum(logp.exp().numpy())])
    assert cdf[i] <= u * cdf[-1] + 1e-12 and u * cdf[-1] <= cdf[i + 1] + 1e-12


def test_a_token_of_probability_zero_is_never_drawn():
    logp = torch.tensor([[-torch.inf, 0.0, -torch.inf]])
    for u in (0.0, 0.5, 1 - 2**-53):
        assert inverse_cdf(logp, torch.tensor([u], dtype=torch.float64)).tolist() == [1]


@settings(deadline=None)
@given(st.integers(2, 30), st.integers(0, 40), st.floats(0.01, 1), st.integers(0, 1000))
def test_truncation_keeps_the_smallest_head_that_reaches_top_p(vocab, k, p, seed):
    logp = torch.randn(vocab, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).log_softmax(-1)
    got = truncate(logp[None], torch.tensor([p], dtype=torch.float64), torch.tensor([k if 0 < k < vocab else vocab]))[0].exp()
    order = sorted(range(vocab), key=lambda i: -logp[i])[: k or vocab]
    head = logp.exp()[order] / logp.exp()[order].sum()
    n = next((i + 1 for i in range(len(order)) if head[: i + 1].sum() >= p - 1e-12), len(order))
    kept = got.nonzero()[:, 0].tolist()
    assert abs(len(kept) - n) <= (0 if abs(float(head[:n].sum()) - p) > 1e-9 else 1) and set(kept) <= set(order)
    np.testing.assert_allclose(got.sum(), 1)
    np.testing.assert_allclose(got[order[0]] / got[kept[-1]], (logp[order[0]] - logp[kept[-1]]).exp(), rtol=1e-6)


def test_rows_of_a_large_vocabulary_are_drawn_in_chunks(monkeypatch):
    logits, rules = torch.randn(9, 50), [Sampling(temperature=0.5 + i / 5, top_k=i) for i in range(9)]
    u = torch.from_numpy(uniforms(np.arange(9, dtype=np.uint64), 0))
    whole = draw(logits, u, DrawRule.of(rules, 50))
    monkeypatch.setattr(sampling, "_CHUNK", 100)
    for a, b in zip(whole, draw(logits, u, DrawRule.of(rules, 50))):
        torch.testing.assert_close(a, b)


PIECES = [chr(97 + i) for i in range(8)] + ["ab", "bc", "<s>"]


def spell(tokens) -> str:
    return "".join(PIECES[t] for t in tokens if t != 10)


@settings(deadline=None)
@given(st.lists(st.integers(0, 10), min_size=1, max_size=40), st.lists(st.text("abcd", min_size=1, max_size=4), min_size=1, max_size=3))
def test_a_stop_string_is_found_at_the_token_that_completes_it(tokens, stops):
    rule = StopStrings(stops, PIECES, [10], spell)
    hit = next((n for n in range(1, len(tokens) + 1) if rule.ends(tokens[:n])), None)
    assert hit == next((n for n in range(1, len(tokens) + 1) if any(s in spell(tokens[:n]) for s in stops)), None)


def test_text_is_cut_before_the_earliest_stop():
    assert cut_at_stop("one two three", ["three", "two", ""]) == "one "
    assert cut_at_stop("one", ["two"]) is None and cut_at_stop("x", []) is None


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(2, 9), st.integers(1, 4)), min_size=1, max_size=5), st.integers(1, 2), st.integers(1, 3), st.data())
def test_attention_over_shared_prompts_is_attention_over_each_rows_own_past(groups, kv_heads, fold, data):
    """Oracle: every row's whole past spelled out, through torch's attention; rows are dropped at random on the way."""
    lengths, counts, d, new = [n for n, _ in groups], [c for _, c in groups], 4, 5
    g = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(groups)), max_size=4)))  # neighbours [a, b) under one trunk; some stand outside
    trunks = [(a, b, data.draw(st.integers(1, min(lengths[a:b]) - 1))) for a, b in pairwise(cuts) if data.draw(st.booleans())]

    def rand(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    angles = (rand(max(lengths) + new, d), rand(max(lengths) + new, d))
    cache = SharedPrefixCache(2, kv_heads, lengths, counts, new, angles, trunks)
    past: list[list[tuple[torch.Tensor, torch.Tensor]]] = [[] for _ in range(2)]  # by layer and row: keys, values [K, n, d]
    for layer in range(2):
        begun: list[tuple[torch.Tensor, torch.Tensor]] = [(rand(kv_heads, 0, d), rand(kv_heads, 0, d))] * len(groups)
        for trunk in cache.trunks:
            k, v = rand(kv_heads, trunk.tokens, d), rand(kv_heads, trunk.tokens, d)
            cache.write_trunk(layer, trunk, k, v)
            begun[trunk.groups] = [(k, v)] * (trunk.groups.stop - trunk.groups.start)
        for i, (n, c) in enumerate(groups):
            rest = n - begun[i][0].shape[1]
            k, v = rand(kv_heads, rest, d), rand(kv_heads, rest, d)
            cache.write_rests(layer, torch.tensor([i]), k[None], v[None])
            past[layer] += [(torch.cat([begun[i][0], k], 1), torch.cat([begun[i][1], v], 1))] * c
    length = [n for n, c in groups for _ in range(c)]
    for t in range(new):
        rows = len(length)
        torch.testing.assert_close(cache.rotation()[0], angles[0][torch.tensor(length) + t])
        for layer in range(2):
            q, k, v = rand(rows, kv_heads * fold, d), rand(rows, kv_heads, d), rand(rows, kv_heads, d)
            past[layer] = [(torch.cat([a, k[r, :, None]], 1), torch.cat([b, v[r, :, None]], 1)) for r, (a, b) in enumerate(past[layer])]
            got = cache.attend(layer, q, k, v)
            for r, (a, b) in enumerate(past[layer]):
                want = F.scaled_dot_product_attention(q[r][:, None], a.repeat_interleave(fold, 0), b.repeat_interleave(fold, 0), scale=1.0)
                torch.testing.assert_close(got[r], want.flatten())
        cache.advance()
        kept = sorted(data.draw(st.sets(st.integers(0, rows - 1), min_size=1)))
        if len(kept) < rows:
            cache.keep(torch.tensor(kept))
            past = [[p[r] for r in kept] for p in past]
            length = [length[r] for r in kept]


A, B = list(range(100, 140)), list(range(200, 260))  # two templates


def test_trunks_are_what_neighbours_begin_with_and_the_saving_decides_how_deep():
    assert find_trunks([[1, 2], [3]]) == [] and find_trunks([[5]]) == []
    assert find_trunks([[*A, 1, 2], [*A, 1, 3], [*A, 7]]) == [(0, 3, 40)]
    assert find_trunks([[1], [*A, 1], [*A, 2], [*B, 1], [*B, 2], [300]]) == [(1, 3, 40), (3, 5, 60)]
    assert find_trunks([A[:15], [*A[:15], 1], [*A[:15], 2]]) == []  # too short to pay
    assert find_trunks([A, A, A]) == [(0, 3, 39)]  # a prompt keeps the last token, whose logits are needed
    common = list(range(20))  # a system prompt in front of both templates
    deep = [common + A + [i] for i in range(3)] + [common + B + [i] for i in range(3)]
    assert find_trunks(deep) == [(0, 3, 60), (3, 6, 80)]  # 120 + 160 tokens saved, against 5 x 20 at the shallow cut
    assert find_trunks([common + [100 + i] * 9 for i in range(6)]) == [(0, 6, 20)]


@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=40), min_size=1, max_size=12))
def test_every_trunk_is_really_shared(prompts):
    prompts = sorted(prompts)
    for a, b, n in find_trunks(prompts):
        assert b - a > 1 and n >= 16 and len({tuple(p[:n]) for p in prompts[a:b]}) == 1 and all(len(p) > n for p in prompts[a:b])
