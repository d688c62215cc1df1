"""Presets and settings: names, overrides, and one clear sentence where something is wrong."""

import pytest

from data.errors import UserError
from pipelines.grpo.config import GRPOConfig
from pipelines.grpo.presets import PRESETS, preset_named


def test_the_three_presets_are_what_their_papers_say() -> None:
    grpo, dapo, dr = (preset_named(n) for n in ("grpo", "dapo", "dr_grpo"))
    assert (grpo.estimator, grpo.clip_low, grpo.clip_high, grpo.aggregation) == ("group_norm", 0.2, 0.2, "seq_mean_token_mean")
    assert (dapo.clip_low, dapo.clip_high, dapo.aggregation, dapo.kl_coef, dapo.dynamic_sampling) == (0.2, 0.28, "token_mean", 0.0, True)
    assert (dr.estimator, dr.aggregation, dr.kl_coef) == ("group_center", "sum_over_const", 0.0)
    assert all(p.paper for p in PRESETS.values())


def test_overrides_change_one_key_and_take_whole_numbers_for_floats() -> None:
    chosen = preset_named("grpo", {"clip_high": 1, "aggregation": "token_mean"})
    assert chosen.clip_high == 1.0 and isinstance(chosen.clip_high, float)
    assert chosen.aggregation == "token_mean" and chosen.clip_low == 0.2 and PRESETS["grpo"].clip_high == 0.2


@pytest.mark.parametrize(
    ("name", "overrides", "says"),
    [
        ("grop", {}, "'grpo'"),
        ("grpo", {"clip_hihg": 0.3}, "'clip_high'"),
        ("grpo", {"aggregation": "token_men"}, "'token_mean'"),
        ("grpo", {"estimator": "rlo"}, "'rloo'"),
        ("grpo", {"kl": "k4"}, "k1, k2, k3"),
        ("grpo", {"clip_low": 1.0}, r"\[0, 1\)"),
        ("grpo", {"dual_clip": 0.5}, "above 1"),
        ("grpo", {"kl_coef": float("nan")}, "kl_coef"),
        ("grpo", {"kl_coef": "much"}, "takes float"),
        ("grpo", {"ddof": True}, "takes int"),
        ("grpo", {"ddof": 2}, "ddof"),
        ("grpo", {"name": "mine"}, "no key 'name'"),
    ],
)
def test_bad_presets(name: str, overrides: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        preset_named(name, overrides)


def test_one_flat_table_is_split_between_trainer_and_preset() -> None:
    config = GRPOConfig.from_mapping({"preset": "dapo", "learning_rate": 1e-4, "clip_high": 0.3, "betas": [0.9, 0.99]})
    assert config.learning_rate == 1e-4 and config.betas == (0.9, 0.99)
    assert config.objective().clip_high == 0.3 and config.objective().aggregation == "token_mean"
    assert GRPOConfig(**config.as_dict()) == config


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"lerning_rate": 1}, "'learning_rate'"),
        ({"cliphigh": 1}, "'clip_high'"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"learning_rate": float("inf")}, "learning_rate"),
        ({"minibatches": 0}, "minibatches"),
        ({"max_grad_norm": 0}, "max_grad_norm"),
        ({"betas": [0.9]}, "betas"),
        ({"preset": "ppo2"}, "preset"),
    ],
)
def test_bad_settings(settings: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        GRPOConfig.from_mapping(settings)


def test_warm_up_is_linear_and_stateless() -> None:
    config = GRPOConfig(learning_rate=1.0, warmup_steps=4)
    assert [config.learning_rate_at(s) for s in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert GRPOConfig(learning_rate=1.0).learning_rate_at(0) == 1.0
