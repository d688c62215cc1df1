"""The GRPO stage on its own: every training problem that is given is trained on (`synth train`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.errors import UserError
from data.problems_io import read_problems
from pipelines.policies import policy_folder
from pipelines.recipe import Recipe, check_recipe, load_recipe
from pipelines.run import read_lake, run_file


def train_recipe(source: Path, overrides: Sequence[str], *, policy: str | None, dialect: str | None, **changes: Any) -> Recipe:
    """The recipe `train` on the problems of a JSONL file or of a run folder's lake; UserError where there is nothing to train on.

    From a run: its newest policy, its dialect and its sampling, unless told otherwise. The dialect of any other policy: what its card
    says, `instruct` where it has a chat template, else `compact`.
    """
    settings: dict[str, Any] = {"problems__world": "", "problems__files": [str(source.resolve())], **changes}
    if source.is_dir():
        begun = check_recipe(run_file(source)["recipe"], f"{source}/run.json")
        settings |= {f"sampling__{k}": v for k, v in begun.sampling.model_dump().items() if f"sampling__{k}" not in changes}
        if policy is None:
            policy, dialect = _newest_policy(source, begun), dialect or begun.policy.dialect
    else:
        read_problems(source)  # a wrong file is said before anything is written
    folder = policy_folder(policy or "arithmetic")
    shipped = policy is None or not (Path(policy) / "config.json").is_file()
    settings |= {"policy__path": (policy or "arithmetic") if shipped else str(folder), "policy__dialect": dialect or _dialect(folder)}
    return load_recipe("train", overrides, **settings)


def _newest_policy(folder: Path, recipe: Recipe) -> str:
    with read_lake(folder) as lake:
        rows = lake.query("SELECT path FROM policies WHERE round > 0 ORDER BY round DESC, step DESC LIMIT 1").rows()
    if not rows:
        return recipe.policy.path
    path = folder / rows[0][0]
    if not (path / "config.json").is_file():
        raise UserError(f"the newest policy of {folder} is no longer at {path}; give another one with --policy")
    return str(path)


def _dialect(folder: Path) -> str:
    card = folder / "card.json"
    if card.is_file():
        return str(json.loads(card.read_text("utf-8")).get("dialect", "instruct"))
    return "instruct" if any(folder.glob("chat_template*")) or "chat_template" in _tokenizer_config(folder) else "compact"


def _tokenizer_config(folder: Path) -> dict[str, Any]:
    file = folder / "tokenizer_config.json"
    return json.loads(file.read_text("utf-8")) if file.is_file() else {}
