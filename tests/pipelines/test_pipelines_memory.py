"""Memory of GPU recipes: parameter counts against transformers, every term against numbers worked out by hand."""

import json
from dataclasses import replace

import pytest
import torch

from data.errors import UserError
from flows.cli.main import main
from pipelines import memory
from pipelines.memory import PUBLISHED, Shape, check_memory, parameters, roles, shape_from, shape_of
from pipelines.policies import SHIPPED_POLICIES
from pipelines.recipe import load_recipe

RECIPES = ("qwen3-0.6b-24gb", "qwen3-4b-lora-80gb", "qwen3-8b-8x80gb")
TINY = Shape(hidden=8, inner=16, layers=3, heads=4, kv_heads=2, head_dim=2, vocab=100, tied=True)


def built(shape: Shape, kind: str = "qwen3"):
    from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config

    config = {"qwen3": Qwen3Config, "qwen2": Qwen2Config, "llama": LlamaConfig}[kind](
        vocab_size=shape.vocab, hidden_size=shape.hidden, intermediate_size=shape.inner, num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads, head_dim=shape.head_dim, tie_word_embeddings=shape.tied,
        max_position_embeddings=shape.context)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config), json.loads(config.to_json_string())


@pytest.mark.parametrize("name, billions", [("Qwen3-0.6B", 0.6), ("Qwen3-1.7B", 1.7), ("Qwen3-4B", 4.0), ("Qwen3-8B", 8.2)])
def test_published_shapes_have_the_parameters_of_transformers_models(name, billions):
    model, config = built(PUBLISHED[name])
    assert parameters(PUBLISHED[name]) == model.num_parameters()
    assert shape_from(config) == PUBLISHED[name]
    assert parameters(PUBLISHED[name]) / 1e9 == pytest.approx(billions, abs=0.05)


@pytest.mark.parametrize("kind", ["qwen3", "qwen2", "llama"])
@pytest.mark.parametrize("tied", [True, False])
def test_small_models_of_each_kind_are_counted_exactly(kind, tied):
    model, config = built(replace(TINY, tied=tied), kind)
    assert parameters(shape_from(config)) == model.num_parameters()


def test_adapters_are_those_that_peft_makes():
    from peft import LoraConfig, get_peft_model

    model, _ = built(TINY)
    with torch.device("meta"):
        adapted = get_peft_model(model, LoraConfig(r=5, target_modules="all-linear", task_type="CAUSAL_LM"))
    assert memory.lora_parameters(TINY, 5) == sum(p.numel() for p in adapted.parameters() if p.requires_grad)


def test_terms_by_hand():
    """TINY: a layer 8·(4+4)·2 + 8·8 + 3·8·16 + 16 + 4 = 596; all 3·596 + 8 + 800 = 2,596."""
    assert memory.layer_parameters(TINY) == 596 and parameters(TINY) == 2596
    assert memory.weights(TINY) == 10384 and memory.weights(TINY, 4) == 2596
    assert memory.gradients(2596) == 10384 and memory.optimizer_state(2596, 2) == 10384
    assert memory.working_weights(TINY, 1, half=True) == 5192 and memory.working_weights(TINY, 1, half=False) == 0
    assert memory.working_weights(TINY, 4, half=True) == 2 * (808 + 2 * 596)
    # A token of a layer in bfloat16: 8·8 for the residuals + 2·(2·8 + (12 + 6)·2 + 4·16) = 64 + 232
    assert memory.layer_activations(TINY, 10, half=True) == 2960 and memory.layer_activations(TINY, 1, half=False) == 64 + 464
    assert memory.activations(TINY, 10, half=True, checkpointing=False) == 3 * 2960
    assert memory.activations(TINY, 10, half=True, checkpointing=True) == 3 * 10 * 32 + 2960
    assert memory.logits_tile(TINY, 10) == 12 * 1000 + 3200 and memory.logits_tile(TINY, 10**6) == 12 * 4096 * 100 + 3200
    assert memory.kv_cache(TINY, 7) == 2 * 3 * 2 * 2 * 2 * 7
    assert memory.kv_cache(PUBLISHED["Qwen3-8B"], 1) == 147456  # 144 KiB a token


def test_a_policys_own_config_comes_before_the_published_shape(tmp_path, monkeypatch):
    folder = tmp_path / "Qwen3-0.6B"
    folder.mkdir()
    config = json.loads((SHIPPED_POLICIES / "arithmetic" / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config))
    shape, read = shape_of(str(folder))
    assert read and shape.hidden == 128 and shape == shape_of("arithmetic")[0]
    monkeypatch.chdir(tmp_path.parent)
    assert shape_of("Qwen3-0.6B") == (PUBLISHED["Qwen3-0.6B"], False)
    with pytest.raises(UserError, match="shape is not known"):
        shape_of("some-other-model")
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "mamba"}))
    with pytest.raises(UserError, match="'mamba'"):
        shape_of(str(folder))


@pytest.mark.parametrize("name", RECIPES)
def test_gpu_recipes_fit_their_machine(name):
    recipe = load_recipe(name)
    held = check_memory(recipe)
    assert [role.name for role in held] == ["generating", "training"]
    assert all(0.4 * role.room < role.total <= role.room for role in held)
    assert dict(held[0].terms)["vLLM KV cache"] >= memory.kv_cache(shape_of(recipe.policy.path)[0], 8 * recipe.engine.vllm.max_model_len)  # a group


def test_roles_of_the_recipes_by_hand():
    split = {role.name: role for role in roles(load_recipe("qwen3-8b-8x80gb"))}
    assert (split["generating"].gpus, split["training"].gpus) == (4, 4)
    assert dict(split["training"].terms)["AdamW moments, float32"] == 8 * 8_190_735_360 / 4
    assert dict(split["generating"].terms)["vLLM weights, bfloat16"] == 2 * 8_190_735_360
    shared = {role.name: dict(role.terms) for role in roles(load_recipe("qwen3-0.6b-24gb"))}
    assert shared["generating"]["AdamW moments, float32"] == 8 * 596_049_920  # the trainer's state stays while vLLM works
    assert shared["training"]["vLLM asleep"] and "vLLM KV cache" not in shared["training"]
    lora = {role.name: dict(role.terms) for role in roles(load_recipe("qwen3-4b-lora-80gb"))}
    assert lora["training"]["gradients, float32"] == 4 * memory.lora_parameters(PUBLISHED["Qwen3-4B"], 32)
    assert roles(load_recipe("arithmetic")) == []


@pytest.mark.parametrize("change, said", [
    ("machine.gpu_gb=16", "needs"),
    ("engine.vllm.gpu_memory_utilization=0.9", "generating needs"),
    ("train.trainer.gradient_checkpointing=false", "training needs 27.2 GB"),
    ("policy.path=Qwen3-8B", "on each GPU"),
    ("policy.path=Unknown-1B", "shape is not known"),
])
def test_what_cannot_fit_is_refused_in_one_sentence(change, said, capsys):
    assert main(["run", "qwen3-0.6b-24gb", "--dry-run", "--set", change]) == 2
    error = capsys.readouterr().err
    assert said in " ".join(error.split()) and "Traceback" not in error


def test_too_few_gpus_are_refused():
    with pytest.raises(UserError, match=r"machine\.gpus is 4, vLLM and the trainer need 8 together"):
        check_memory(load_recipe("qwen3-8b-8x80gb", ["machine.gpus=4"]))


@pytest.mark.parametrize("name", RECIPES)
def test_dry_run_shows_the_memory_without_gpu_vllm_or_weights(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["run", name, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "vLLM KV cache" in shown and "AdamW moments, float32" in shown and "published shape" in shown and not list(tmp_path.iterdir())


def test_the_machine_is_no_part_of_the_lineage():
    assert load_recipe("qwen3-0.6b-24gb").hash == load_recipe("qwen3-0.6b-24gb", ["machine.gpu_gb=48"]).hash
