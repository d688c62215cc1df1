"""The objective against the catalogue's oracles, and against loss values of TRL 1.16 and verl 0.9.1 on a fixed float64 batch."""

import math

import numpy as np
import pytest
import torch

from pipelines.grpo.aggregation import row_weights
from pipelines.grpo.component import REGISTRY
from pipelines.grpo.objective import Objective, Tally
from pipelines.grpo.presets import PRESETS, Preset, preset_named
from pipelines.grpo.regularizer import KL_ESTIMATORS
from pipelines.grpo.surrogate import Bounds, clip_surrogate, clipped
from pipelines.grpo.tokens import TokenBatch, log_ratio
from pipelines.grpo.weights import truncated_importance

AGGREGATIONS = REGISTRY["aggregation"]
D = torch.float64
LENGTHS = [7, 5, 3, 6, 1, 4]
ADVANTAGE = [0.9998000399920016, -0.9998000399920016, 0.0, -0.5772502865071343, -0.5772502865071343, 1.1545005730142688]
# fmt: off
LOGP = [-2.4364586068000027,
        -0.17036446350505707, -0.8127231547571301, -1.0592788819955357, -0.9333908494171136, -0.9995868288244815, -1.1183041037960595,
        -0.9992606053966735, -1.3751959706417565, -1.9742157740983335, -0.13135891605189104, -2.2202275446819226,
        0.09093244430170841, -0.6342117279852905, -0.29145450626445524,
        -0.46659019641142907, -0.5226199894916914, -0.8163205223078023, -1.0728134621206384, -0.09675276634169397, -0.08898444870885666,
        -0.6824789302443346,
        -0.06383514546358438, -1.766807015512608, -0.03356873964223564, -2.1409116943221234]
OLD = [-2.410411800234176, -0.4732508612577643, -1.1608166785462863, -1.099509354781176, -0.9840250045832653, -1.3755469302148053, -0.723224579866079,
       -0.9664416019125772, -1.3956271403277858, -1.6236316231063501, -0.4236605664983738, -2.1177260314861086,
       -0.17138847120511694, -0.4380174030507378, -0.2535188353154404,
       -0.3102998901016947, -0.27718935139366585, -0.930510051008449, -1.1111892074660188, -0.3426793824588577, -0.2355711426056742,
       -0.5604689979691664,
       -1.0138982512742285, -1.254696227582466, -0.1860751366873787, -2.06124168414333]
REF = [-2.1891226235700505,
       -0.3027037653393959, -1.2868510776063484, -1.2199067948186628, -0.8124524597840804, -1.097880247176012, -0.7466660222347334,
       -0.6558197761362785, -1.3157534225158196, -1.7588491123424295, -0.09122682574803559, -2.238462818925882,
       -0.2372709188148211, -0.15252355243512217, -0.10105464662390432,
       -0.6192488408676186, -0.2990899244816593, -0.7278304292352833, -0.9539901155959449, -0.7540508154764902, 0.20395739845898875,
       -0.38162069317942643,
       -0.723796402984979, -1.2313362195091193, -0.1800940234702665, -1.8905177814627576]
# fmt: on


def batch(preset: Preset, logp: torch.Tensor, old: list[float] = OLD) -> TokenBatch:
    lengths = torch.tensor(LENGTHS)
    weights = row_weights(Objective(preset).aggregate(), LENGTHS, [""] * 6, [1.0] * 6, 16, "batch")
    each = lambda x: torch.tensor(np.asarray(x), dtype=D).repeat_interleave(lengths)  # noqa: E731
    old_logp = torch.tensor(old, dtype=D)
    return TokenBatch(logp, old_logp, old_logp, each(ADVANTAGE), each(weights), lengths, torch.zeros(26, dtype=D), torch.tensor(REF, dtype=D))


@pytest.mark.parametrize(
    ("preset", "overrides", "expected"),
    [
        ("grpo", {"dual_clip": 0}, -0.008692744756940188),
        ("dapo", {"dual_clip": 0}, -0.11578310897168802),
        ("dr_grpo", {"const_length": 16}, -0.027896341435673603),
        ("dapo", {"dual_clip": 0, "clip_high": 0.2, "kl_coef": 0.04}, -0.10106850475582989),
    ],
)
def test_losses_of_trl_and_verl(preset: str, overrides: dict, expected: float) -> None:
    chosen = preset_named(preset, overrides)
    logp = torch.tensor(LOGP, dtype=D, requires_grad=True)
    loss = Objective(chosen).loss(batch(chosen, logp), Tally())
    assert abs(loss.item() - expected) < 1e-12
    assert torch.autograd.gradcheck(lambda x: Objective(chosen).loss(batch(chosen, x), Tally()), (logp,), eps=1e-7, atol=1e-6)


def test_a_split_into_any_rows_sums_to_the_whole() -> None:
    chosen = preset_named("grpo", {"kl_coef": 0.1})
    logp = torch.tensor(LOGP, dtype=D, requires_grad=True)
    whole = batch(chosen, logp)
    (expected,) = torch.autograd.grad(Objective(chosen).loss(whole, Tally()), logp)
    pieces = [(slice(0, 7), slice(0, 1)), (slice(7, 15), slice(1, 3)), (slice(15, 26), slice(3, 6))]
    names = ("logp", "old_logp", "behavior_logp", "advantage", "weight", "lengths", "entropy", "ref_logp")
    cut = lambda tokens, rows: TokenBatch(*(getattr(whole, f)[rows if f == "lengths" else tokens] for f in names))  # noqa: E731
    (got,) = torch.autograd.grad(sum(Objective(chosen).loss(cut(*p), Tally()) for p in pieces), logp)
    torch.testing.assert_close(got, expected, atol=1e-15, rtol=0)


@pytest.mark.parametrize(
    ("advantage", "rho", "dual", "expected"),
    [(1, 1.5, 0, -1.28), (1, 0.5, 0, -0.5), (-1, 0.5, 0, 0.8), (-1, 5, 0, 5), (-1, 5, 3, 3), (1, 5, 3, -1.28)],
)
def test_clip_cases(advantage: float, rho: float, dual: float, expected: float) -> None:
    got = clip_surrogate(torch.tensor([rho], dtype=D), torch.tensor([advantage], dtype=D), Bounds(0.8, 1.28, dual))
    assert got.item() == pytest.approx(expected, abs=1e-12)


def test_ratio_one_is_reinforce_for_every_preset() -> None:
    """At old = current, the gradient of each token is -advantage x weight, whatever the clip."""
    for name in PRESETS:
        chosen = preset_named(name)
        logp = torch.tensor(OLD, dtype=D, requires_grad=True)
        tokens = batch(chosen, logp)
        tally = Tally()
        (grad,) = torch.autograd.grad(Objective(chosen).loss(tokens, tally), logp)
        torch.testing.assert_close(grad, -tokens.advantage * tokens.weight, atol=1e-15, rtol=0)
        assert tally.mean("clipped") == 0 and tally.mean("ratio") == 1 and tally.maxima["mismatch"] == 0


def test_clip_share_counts_exactly_the_tokens_without_gradient() -> None:
    ratio = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.0], dtype=D, requires_grad=True)
    advantage = torch.tensor([1.0, -1, 1, -1, 1], dtype=D)
    (grad,) = torch.autograd.grad(clip_surrogate(ratio, advantage, Bounds(0.8, 1.2, 0.0)).sum(), ratio)
    assert (grad == 0).tolist() == clipped(ratio, advantage, Bounds(0.8, 1.2, 0.0)).tolist() == [True, False, False, True, False]


def test_aggregation_table() -> None:
    """Rows [1, 1] and [2, 2, 2, 2]."""
    lengths, sums = np.array([2.0, 4.0]), np.array([2.0, 8.0])
    expected = {"token_mean": 1.66667, "seq_mean_token_mean": 1.5, "seq_mean_token_sum": 5.0, "sum_over_const": 0.625, "only_token_mean": 3.0}
    for name, value in expected.items():
        assert (AGGREGATIONS[name].make(lengths, 8) * sums).sum() == pytest.approx(value, abs=1e-5)
    assert set(expected) == set(AGGREGATIONS)


@pytest.mark.parametrize("name", sorted(AGGREGATIONS))
@pytest.mark.parametrize("denominator", ["batch", "stream"])
def test_a_stream_of_coefficient_zero_and_empty_rows_change_nothing(name: str, denominator: str) -> None:
    aggregate = AGGREGATIONS[name].make
    alone = row_weights(aggregate, [3, 5], ["main", "main"], [1.0, 0.5], 8, denominator)
    joined = row_weights(aggregate, [3, 5, 7, 0], ["main", "main", "extra", "main"], [1.0, 0.5, 0.0, 1.0], 8, denominator)
    np.testing.assert_array_equal(joined[:2], alone)
    assert joined[2] == 0


def test_denominators_pool_the_batch_or_each_stream() -> None:
    rows = ([2, 2, 2, 2], ["main", "main", "main", "extra"], [1.0] * 4, 8)
    np.testing.assert_allclose(row_weights(AGGREGATIONS["token_mean"].make, *rows, "batch"), [1 / 8] * 4)
    np.testing.assert_allclose(row_weights(AGGREGATIONS["token_mean"].make, *rows, "stream"), [1 / 6] * 3 + [1 / 2])


def test_kl_values_and_expected_gradients() -> None:
    """Values at ln 2; gradients with respect to logits, in expectation over pi: k1 nothing, k2 reverse KL, k3 forward KL."""
    ln2 = torch.tensor(math.log(2), dtype=D)
    zero = torch.zeros((), dtype=D)
    assert KL_ESTIMATORS["k3"](zero, ln2).item() == pytest.approx(0.30685, abs=1e-5)
    assert KL_ESTIMATORS["k3"](zero, -ln2).item() == pytest.approx(0.19315, abs=1e-5)
    assert KL_ESTIMATORS["k1"](zero, ln2).item() == pytest.approx(-math.log(2))
    assert KL_ESTIMATORS["k2"](zero, ln2).item() == pytest.approx(math.log(2) ** 2 / 2)
    pi, ref = torch.tensor([0.5, 0.3, 0.2], dtype=D), torch.tensor([0.2, 0.3, 0.5], dtype=D)
    for name, expected in {"k1": [0, 0, 0], "k2": [0.3207, -0.08247, -0.23824], "k3": [0.3, 0, -0.3]}.items():
        logits = pi.log().requires_grad_(True)
        (grad,) = torch.autograd.grad((pi * KL_ESTIMATORS[name](logits.log_softmax(0), ref.log())).sum(), logits)
        np.testing.assert_allclose(grad, expected, atol=1e-5)
    assert (pi * KL_ESTIMATORS["k1"](pi.log(), ref.log())).sum().item() == pytest.approx(0.274887, abs=1e-6)


def flat(logp: torch.Tensor, old: torch.Tensor, behavior: torch.Tensor, advantage: torch.Tensor) -> TokenBatch:
    """One row, every token of weight 1."""
    ones = torch.ones(len(logp), dtype=logp.dtype)
    return TokenBatch(logp, old, behavior, advantage, ones, torch.tensor([len(logp)]), torch.zeros_like(ones))


def test_truncated_importance_multiplies_after_the_clip_and_is_detached() -> None:
    old = torch.tensor([3.0, 0.5], dtype=D).log().requires_grad_(True)
    weight = truncated_importance(flat(old, old, torch.zeros(2, dtype=D), old), tis_cap=2.0)
    assert weight.tolist() == pytest.approx([2, 0.5]) and not weight.requires_grad
    logp = torch.zeros(2, dtype=D, requires_grad=True)
    tokens = flat(logp, logp.detach(), -old.detach(), torch.ones(2, dtype=D))
    (grad,) = torch.autograd.grad(Objective(preset_named("grpo", {"tis_cap": 2.0})).loss(tokens, Tally()), logp)
    assert grad.tolist() == pytest.approx([-2, -0.5])


@pytest.mark.parametrize("ratio", ["token", "sequence", "sequence_token"])
def test_no_log_ratio_overflows(ratio: str) -> None:
    logp = torch.tensor([800.0, -800.0, 100.0], requires_grad=True)
    tokens = TokenBatch(logp, torch.zeros(3), torch.zeros(3), -torch.ones(3), torch.ones(3), torch.ones(3, dtype=torch.int64), torch.zeros(3))
    loss = Objective(preset_named("grpo", {"ratio": ratio})).loss(tokens, Tally())
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logp.grad).all()
    assert loss.item() == pytest.approx(3 + 0.8 + 3)  # dual clip, lower clip, dual clip
    assert log_ratio(torch.tensor(1e9), torch.tensor(0.0)).item() == 20


def test_silent_behaviour_is_left_out_of_the_mismatch() -> None:
    tally = Tally()
    old = torch.tensor([-1.0, -2.0])
    Objective(preset_named("grpo")).loss(flat(old, old, torch.tensor([float("nan"), -2.25]), torch.ones(2)), tally)
    assert tally.mean("mismatch", "mismatch_tokens") == 0.25 and tally.max("mismatch") == 0.25
