"""Losses and gradients beside TRL 1.16, verl 0.9.1 and Liger 0.8.5, in float64, wherever they compute the same thing.

These are no dependencies of ours; without them the tests are skipped. To run them:
    python -m venv --system-site-packages oracle; oracle/bin/pip install --no-deps trl==1.16.0 accelerate liger-kernel==0.8.5 \\
        verl==0.9.1 omegaconf antlr4-python3-runtime==4.9.3 tensordict pyvers cloudpickle orjson; oracle/bin/python -m pytest THIS_FILE
"""

from typing import Any

import numpy as np
import pytest
import torch
from grpo_oracles import D, Fixture, available, fixture, liger_chain, liger_loss, trl_loss, verl, verl_loss
from torch import Tensor

from pipelines.grpo.advantage import Judged, group_center, group_norm, return_to_go, rloo
from pipelines.grpo.aggregation import row_weights
from pipelines.grpo.logprob import logprob_entropy
from pipelines.grpo.objective import Objective, Tally
from pipelines.grpo.presets import preset_named
from pipelines.grpo.regularizer import kl_estimate
from pipelines.grpo.tokens import TokenBatch
from pipelines.grpo.transform import StepTokens, whiten

TOLERANCE = 1e-9
needs = {name: pytest.mark.skipif(not available(name), reason=f"{name} is not installed (a test-only oracle)") for name in ("trl", "verl", "liger")}
SEEDS = (0, 1, 2)


def ours(f: Fixture, preset: str, logp: Tensor | None = None, **overrides: Any) -> tuple[float, Tensor]:
    """Our loss and d loss / d logp [rows, tokens] of a padded fixture, through the flat layout."""
    objective = Objective(preset_named(preset, overrides))
    seen = f["mask"].bool()
    lengths = f["mask"].sum(1).long()
    padded = f["logp"].clone().requires_grad_(True) if logp is None else logp
    flat = lambda x: x[seen]  # noqa: E731
    weights = row_weights(objective.aggregate(), lengths.tolist(), [""] * len(lengths), [1.0] * len(lengths), 16, "batch")
    advantage = f["advantage"].repeat_interleave(lengths)
    step = StepTokens(
        advantage.numpy(), lengths.numpy(), np.zeros(len(lengths)), np.zeros(len(lengths)), np.zeros(len(lengths)) > 0, flat(f["entropy"]).numpy()
    )
    factor = objective.step_factor(step)
    batch = TokenBatch(
        flat(padded), flat(f["old"]), flat(f["behavior"]), advantage, torch.from_numpy(weights).repeat_interleave(lengths), lengths,
        flat(f["entropy"]), flat(f["ref"]), None if factor is None else torch.from_numpy(factor),
    )  # fmt: skip
    loss = objective.loss(batch, Tally())
    if logp is not None:
        return loss, padded  # type: ignore[return-value]
    loss.backward()
    return loss.item(), padded.grad  # type: ignore[return-value]


def agree(mine: tuple[float, Tensor], theirs: tuple[float, Tensor], tolerance: float = TOLERANCE) -> None:
    assert theirs[1].abs().max() > 1e-3
    assert abs(mine[0] - theirs[0]) <= tolerance
    assert (mine[1] - theirs[1]).abs().max() <= tolerance


TRL: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "grpo": ("grpo", {"dual_clip": 0}, "grpo", {}),
    "dapo": ("dapo", {"dual_clip": 0}, "dapo", {"high": 0.28}),
    "dr_grpo": ("dr_grpo", {"const_length": 16}, "dr_grpo", {}),
    "dapo with KL": ("dapo", {"dual_clip": 0, "kl_coef": 0.04}, "dapo", {"high": 0.28, "beta": 0.04}),
    "dapo with the unbiased KL": (
        "dapo",
        {"dual_clip": 0, "kl_coef": 0.04, "kl_unbiased": True},
        "dapo",
        {"high": 0.28, "beta": 0.04, "kl_unbiased": True},
    ),
    "gspo": ("gspo", {"clip_low": 0.2, "clip_high": 0.2}, "grpo", {"level": "sequence"}),
    "gspo, its own bounds": ("gspo", {}, "grpo", {"level": "sequence", "low": 3e-4, "high": 4e-4}),
    "cispo": ("cispo", {}, "cispo", {"high": 5.0}),
    "cispo, a low cap": ("cispo", {"ratio_max": 1.28}, "cispo", {"high": 1.28}),
    "two-sided clip": ("grpo", {"dual_clip": 1.5}, "grpo", {"delta": 1.5}),
    "80/20": ("entropy_20", {"dual_clip": 0}, "dapo", {"high": 0.28, "entropy_share": 0.2}),
    "off-policy mask": ("grpo", {"dual_clip": 0, "off_policy_limit": 0.1}, "grpo", {"off_policy": 0.1}),
}


@needs["trl"]
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", TRL)
def test_trl(name: str, seed: int) -> None:
    f = fixture(seed)
    preset, mine, loss_type, theirs = TRL[name]
    agree(ours(f, preset, **mine), trl_loss(f, loss_type, **theirs))


@needs["trl"]
def test_trl_sapo_up_to_its_float32_temperature() -> None:
    f = fixture(0)
    agree(ours(f, "sapo"), trl_loss(f, "sapo"), 1e-7)


@needs["trl"]
@pytest.mark.parametrize(
    ("overrides", "mode"),
    [
        ({"tis_cap": 1.2}, "token_truncate"),
        ({"tis_cap": 1.2, "tis_level": "sequence"}, "sequence_truncate"),
        ({"mis_high": 1.3, "mis_level": "token"}, "token_mask"),
        ({"mis_high": 1.3}, "sequence_mask"),
    ],
)
def test_trl_importance_weights(overrides: dict[str, Any], mode: str) -> None:
    """TRL makes the weight while it generates; here it is made by hand from its documentation and handed in."""
    f = fixture(3)
    d = (f["old"] - f["behavior"]) * f["mask"]
    ratio = (d if mode.startswith("token") else d.sum(1, keepdim=True)).exp()
    weight = ratio.clamp(max=1.2) if mode.endswith("truncate") else torch.where(ratio <= 1.3, ratio, 0.0)
    agree(ours(f, "grpo", dual_clip=0, **overrides), trl_loss(f, "grpo", ratio=weight))


VERL: dict[str, tuple[str, dict[str, Any], str, dict[str, Any], float]] = {
    "dapo": ("dapo", {}, "vanilla", {"high": 0.28, "dual": 10.0}, TOLERANCE),
    "dual clip": ("grpo", {"aggregation": "token_mean", "dual_clip": 1.2}, "vanilla", {"dual": 1.2}, TOLERANCE),
    "token sum": ("grpo", {"aggregation": "seq_mean_token_sum"}, "vanilla", {"mean": "seq-mean-token-sum", "dual": 3.0}, TOLERANCE),
    "cispo": ("cispo", {"ratio_max": 1.28}, "cispo", {"low": 1.0, "high": 0.28}, TOLERANCE),
    # verl divides by length + 1e-8
    "grpo": ("grpo", {}, "vanilla", {"mean": "seq-mean-token-mean", "dual": 3.0}, 2e-8),
    "gspo": ("gspo", {"clip_low": 0.2, "clip_high": 0.2}, "gspo", {"mean": "seq-mean-token-mean"}, 2e-8),
    "sapo": ("sapo", {}, "sapo", {"mean": "seq-mean-token-mean", "policy_loss": {}, "tau_pos": 1.0, "tau_neg": 1.05}, 2e-8),
}


@needs["verl"]
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", VERL)
def test_verl(name: str, seed: int) -> None:
    f = fixture(seed)
    preset, mine, loss, theirs, tolerance = VERL[name]
    agree(ours(f, preset, **mine), verl_loss(f, loss, **theirs), tolerance)


@needs["verl"]
def test_verl_importance_weights() -> None:
    f = fixture(4)
    weight = (f["old"] - f["behavior"]).exp().clamp(max=1.2)
    agree(ours(f, "dapo", dual_clip=0, tis_cap=1.2), verl_loss(f, "vanilla", high=0.28, weights=weight))


@needs["verl"]
def test_verl_kl_estimates() -> None:
    f = fixture(5)
    for name, theirs in (("k1", "kl"), ("k2", "mse"), ("k3", "low_var_kl"), ("k3+", "k3+")):
        logps = [f["logp"].clone().requires_grad_(True) for _ in range(2)]
        found = kl_estimate(name, logps[0], f["ref"]), verl().kl_penalty(logps[1], f["ref"], theirs)
        torch.testing.assert_close(*found, atol=TOLERANCE, rtol=0)
        grads = [torch.autograd.grad(x.sum(), logp)[0] for x, logp in zip(found, logps, strict=True)]
        torch.testing.assert_close(*grads, atol=TOLERANCE, rtol=0)


@needs["verl"]
@pytest.mark.parametrize("seed", SEEDS)
def test_verl_advantages(seed: int) -> None:
    """Outcome on the last token; group ids as verl wants them."""
    rng = np.random.default_rng(seed)
    lengths, rewards = rng.integers(1, 7, 12), rng.integers(0, 3, 12) / 2.0
    mask = torch.from_numpy((np.arange(7)[None] < lengths[:, None]).astype(float))
    scores = torch.zeros(12, 7, dtype=D)
    scores[np.arange(12), lengths - 1] = torch.from_numpy(rewards)
    judged = Judged.of(rewards.reshape(3, 4), lengths=lengths.tolist())
    index = np.repeat(np.arange(3), 4)
    step = lambda a: whiten(StepTokens(a, lengths, index, rewards, np.zeros(12) > 0))  # noqa: E731
    core = verl()
    cases = {
        "grpo": np.repeat(group_norm(judged), lengths),
        "rloo": np.repeat(rloo(judged), lengths),
        "reinforce_plus_plus": step(return_to_go(judged)),
        "reinforce_plus_plus_baseline": step(np.repeat(group_center(judged), lengths)),
    }
    for name, mine in cases.items():
        config = core.AlgoConfig if hasattr(core, "AlgoConfig") else dict
        settings = config({"gamma": 1.0})
        settings.gamma = 1.0  # type: ignore[attr-defined]
        theirs, _ = core.get_adv_estimator_fn(name)(token_level_rewards=scores, response_mask=mask, index=index, config=settings)
        np.testing.assert_allclose(theirs[mask.bool()].numpy(), mine, atol=2e-7 if name == "grpo" else TOLERANCE)


LIGER: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "grpo": ("grpo", {"dual_clip": 0}, "grpo", {}),
    "dapo with KL": ("dapo", {"dual_clip": 0, "kl_coef": 0.04}, "dapo", {"high": 0.28, "beta": 0.04}),
    "dr_grpo": ("dr_grpo", {"const_length": 16}, "dr_grpo", {}),
    "cispo": ("cispo", {"ratio_max": 1.28}, "cispo", {"high": 1.28}),
    "gspo": ("gspo", {"clip_low": 0.2, "clip_high": 0.2}, "grpo", {"level": "sequence"}),
    "two-sided clip": ("grpo", {"dual_clip": 1.5}, "grpo", {"delta": 1.5}),
    "sapo": ("sapo", {}, "sapo", {}),
}


@needs["liger"]
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", LIGER)
def test_liger(name: str, seed: int) -> None:
    f = fixture(seed)
    preset, mine, loss_type, theirs = LIGER[name]
    agree(ours(f, preset, **mine), liger_loss(f, loss_type, **theirs))


@needs["liger"]
def test_liger_from_hidden_states_to_the_loss() -> None:
    """The whole chain with its tiled head; Liger sums it in float32."""
    f = fixture(6)
    draw = torch.Generator().manual_seed(6)
    rows, width = f["mask"].shape
    hidden = torch.randn(rows, width, 8, generator=draw, dtype=D)
    weight, ids = torch.randn(11, 8, generator=draw, dtype=D), torch.randint(0, 11, (rows, width), generator=draw)
    exact = torch.log_softmax(hidden @ weight.T, -1).gather(-1, ids[..., None])[..., 0]
    f |= {"old": exact + 0.3 * f["entropy"] - 0.2, "ref": exact - 0.1 * f["entropy"]}
    own = hidden.clone().requires_grad_(True)
    logp, _ = logprob_entropy(own.view(-1, 8), weight, ids.view(-1), tile=5)
    loss, _ = ours(f, "dapo", logp.view(rows, width), dual_clip=0, kl_coef=0.04, kl_unbiased=True)
    loss.backward()  # type: ignore[attr-defined]
    agree((loss.item(), own.grad), liger_chain(hidden, weight, ids, f, "dapo", 0.28, 0.04), 1e-6)  # type: ignore[attr-defined, arg-type]
