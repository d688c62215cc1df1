"""The recipe as it lies in a run folder: TOML, every default spelled out."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import tomli_w

from data.errors import UserError
from pipelines.recipe import Recipe, check_recipe


def write_recipe_file(path: Path, recipe: Recipe) -> None:
    with path.open("wb") as stream:
        tomli_w.dump(recipe.plain(), stream)
        stream.flush()
        os.fsync(stream.fileno())


def read_recipe_file(path: Path) -> Recipe:
    try:
        return check_recipe(tomllib.loads(path.read_text("utf-8")), str(path))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; restore it, or start a new run") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: not valid TOML: {error}") from None
