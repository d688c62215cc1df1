"""Presets and settings: names, overrides, and one clear sentence where something is wrong."""

import pytest

from data.errors import UserError
from pipelines.grpo.config import GRPOConfig
from pipelines.grpo.presets import PRESETS, preset_named


def test_the_first_presets_are_what_their_papers_say() -> None:
    grpo, dapo, dr = (preset_named(n) for n in ("grpo", "dapo", "dr_grpo"))
    assert grpo.one("estimator") == "group_norm" and grpo.one("aggregation") == "seq_mean_token_mean" and not grpo.parts["composers"]
    assert grpo.options == {"ddof": 1, "eps": 1e-6, "clip_low": 0.2, "clip_high": 0.2, "dual_clip": 3.0, "denominator": "batch"}
    assert dapo.one("aggregation") == "token_mean" and not dapo.parts["regularizers"]
    assert [dapo.options[k] for k in ("clip_low", "clip_high", "dynamic_sampling", "overlong_share")] == [0.2, 0.28, True, 0.2]
    assert (dr.one("estimator"), dr.one("aggregation"), dr.options["dual_clip"]) == ("group_center", "sum_over_const", 0.0)
    assert all(p.paper for p in PRESETS.values())


def test_overrides_change_one_key_and_take_whole_numbers_for_floats() -> None:
    chosen = preset_named("grpo", {"clip_high": 1, "aggregation": "token_mean"})
    assert chosen.options["clip_high"] == 1.0 and isinstance(chosen.options["clip_high"], float)
    assert chosen.one("aggregation") == "token_mean" and chosen.options["clip_low"] == 0.2 and PRESETS["grpo"].options["clip_high"] == 0.2


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
    assert config.objective().options["clip_high"] == 0.3 and config.objective().one("aggregation") == "token_mean"
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


@pytest.mark.parametrize(
    ("name", "overrides", "reason"),
    [
        ("dcpo", {"dynamic_sampling": True}, "learns from them"),
        ("nsr", {"dynamic_sampling": True}, "learns from them"),
        ("grpo", {"surrogate": "sapo"}, "gate of its own"),
        ("dcpo", {"ratio": "sequence"}, "a sequence ratio has none"),
        ("gspo", {"entropy_bonus": 0.4}, "sequence_token"),
        ("reinforce_pp", {"ratio": "sequence", "gamma": 0.9}, "sequence_token"),
        ("cispo", {"ratio": "sequence"}, "detaches the ratio"),
        ("grpo", {"tis_cap": 2.0, "mis_high": 2.0}, "the same ratio twice"),
        ("grpo", {"kl_coef": 0.1, "kl": "k1"}, "expected gradient of 0"),
        ("reinforce_pp", {"transforms": []}, "no baseline"),
    ],
)
def test_what_cannot_work_together_is_refused_with_the_reason(name: str, overrides: dict, reason: str) -> None:
    with pytest.raises(UserError, match=f"preset '{name}' as given cannot work: .*{reason}"):
        preset_named(name, overrides)


@pytest.mark.parametrize(
    ("name", "overrides", "says"),
    [
        ("grpo", {"surrogate": "cipso"}, "surrogate has no component 'cipso'; did you mean 'cispo'"),
        ("grpo", {"ratio": ["token", "sequence"]}, "exactly one"),
        ("grpo", {"weights": ["rejection", "rejection"]}, "twice"),
        ("grpo", {"weights": 3}, "a list of names"),
        ("grpo", {"ratio_max": 2.0}, "ratio_max belongs to clip 'capped', which this objective does not use; set clip = 'capped'"),
        ("grpo", {"kl": "k2"}, "kl belongs to regularizers 'kl', which this objective does not use; kl_coef above 0 puts it in"),
        ("grpo", {"clip_high": {"schedule": "linaer"}}, "clip_high: there is no schedule 'linaer'; did you mean 'linear'"),
        ("grpo", {"clip_high": {"schedule": "linear", "start": 0.1, "end": 0.2}}, "needs steps"),
        ("grpo", {"clip_high": {"schedule": "linear", "start": 0.1, "end": 0.2, "steps": 5, "stop": 1}}, "does not know 'stop'"),
        ("grpo", {"dual_clip": {"schedule": "linear", "start": 3.0, "end": 0.5, "steps": 5}}, "above 1"),
        ("dr_grpo", {"const_length": {"schedule": "linear", "start": 1.0, "end": 2.0, "steps": 5}}, "only numbers can be schedules"),
        ("grpo", {"kl_coef": {"schedule": "adaptive", "start": 0.1, "target": 0}}, "target must be above 0"),
        ("grpo", {"kl_coef": {"schedule": "piecewise", "at": [1], "values": [0.1]}}, "rise from 0"),
    ],
)
def test_bad_slots_options_and_schedules_are_one_sentence(name: str, overrides: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        preset_named(name, overrides)


def test_a_switch_puts_a_component_in_and_takes_it_out() -> None:
    assert preset_named("grpo").needs == frozenset()
    with_kl = preset_named("grpo", {"kl_coef": 0.1, "kl": "k2"})
    assert with_kl.parts["regularizers"] == ("kl",) and with_kl.needs == {"ref_logp"}
    assert preset_named("dapo", {"overlong_share": 0, "dynamic_sampling": False}).parts["shapers"] == ()
    assert preset_named("entropy_20", {"entropy_share": 0}).needs == frozenset()
    assert preset_named("grpo", {"tis_cap": 2, "reject_high": 1.5}).parts["weights"] == ("truncated_importance", "rejection")


def test_a_new_component_begins_with_its_own_defaults() -> None:
    adaptive = preset_named("grpo", {"clip": "adaptive"}).options
    assert (adaptive["clip_low"], adaptive["clip_high"], adaptive["dual_clip"]) == (0.16, 0.2, 10.0)
    assert preset_named("grpo", {"clip": "adaptive", "clip_high": 0.3}).options["clip_high"] == 0.3
