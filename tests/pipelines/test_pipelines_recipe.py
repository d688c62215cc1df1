import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import UserError
from pipelines.check import check_names
from pipelines.engine_part import engine_changes
from pipelines.recipe import Recipe, differing_keys, load_recipe, recipe_path, shipped_recipes
from pipelines.recipe_file import read_recipe_file, write_recipe_file


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_loads(name):
    recipe = load_recipe(name)
    check_names(recipe, here=not recipe.machine.gpus)  # every preset, band, family, policy and strategy that it names is there
    assert recipe.name == name
    assert recipe_path(name).read_text("utf-8").count("#") >= 2  # it says why


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.step=3", "unknown key 'train.step'; the nearest known key is 'train.steps'"),
        ("trian.steps=3", "the nearest known key is 'train"),
        ("steps=3", "the nearest known key is 'train.steps'"),
        ("train.steps=0", "train.steps: input should be greater than or equal to 1 (got 0)"),
        ("difficulty.band=swss", "no band named 'swss'; there are: dapo"),
        ("train.steps=many", "train.steps: input should be a valid integer"),
        ("difficulty.low=0.99", "low (0.99) is above high"),
        ("sampling.temperature=-1", "sampling.temperature: input should be greater than 0 (got -1)"),
        ("problems.world=", "give a world or files"),
        ("name", "write key=value"),
        ("rounds.x=1", "is a value, not a table"),
    ],
)
def test_wrong_input_is_one_clear_sentence(override, said):
    with pytest.raises(UserError, match=r".") as error:
        load_recipe("arithmetic", [override])
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("vlm", "--engine vlm: there is no engine 'vlm'; did you mean 'vllm'?"),
        ("gpt", "--engine gpt: there is no engine 'gpt'; there are local, vllm, openai, replay"),
        ("local:here", "--engine local:here: the engine 'local' takes no address; give --engine local"),
        ("openai:ftp://x", "--engine openai:ftp://x: 'ftp://x' is not an endpoint's address; give its base URL, e.g. http://127.0.0.1:8000/v1"),
    ],
)
def test_a_mistyped_engine_is_blamed_on_the_option(text, said):
    with pytest.raises(UserError) as error:
        engine_changes(text)
    assert str(error.value) == said


def test_unknown_recipe_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'arithmetic'"):
        load_recipe("arithmetc")
    with pytest.raises(UserError, match=r"no such recipe file: nowhere/x\.toml"):
        load_recipe("nowhere/x.toml")


def test_broken_toml_names_file_and_place(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("rounds = = 3\n")
    with pytest.raises(UserError, match=r"mine\.toml: not valid TOML: .*line 1"):
        load_recipe(str(path))


def test_the_resolved_file_is_the_same_recipe(tmp_path):
    recipe = load_recipe("arithmetic", ["train.steps=3", "strategies.frontier.budget=7", "problems.levels=[1, 2]"])
    write_recipe_file(tmp_path / "recipe.toml", recipe)
    again = read_recipe_file(tmp_path / "recipe.toml")
    assert again == recipe
    assert again.hash == recipe.hash
    assert differing_keys(recipe, again) == []
    assert tomllib.loads((tmp_path / "recipe.toml").read_text())["train"]["steps"] == 3


def test_differing_keys_are_named():
    one = load_recipe("arithmetic")
    two = load_recipe("arithmetic", ["train.steps=3", "strategies.paraphrase.share=0.5"])
    assert differing_keys(one, two) == ["strategies.paraphrase.share", "train.steps"]


@given(st.integers(0, 2**63 - 1), st.integers(1, 1000), st.floats(1e-9, 0.5))
def test_the_hash_sees_every_value_and_no_label(seed, steps, rate):
    recipe = Recipe.model_validate({"seed": seed, "train": {"steps": steps, "learning_rate": rate}})
    assert recipe.hash == Recipe.model_validate({**recipe.plain(), "name": "other"}).hash
    changed = recipe.plain()
    changed["train"]["steps"] = steps + 1
    assert recipe.hash != Recipe.model_validate(changed).hash
