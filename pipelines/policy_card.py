"""The card of a policy: what it is, what it was trained on, how much it solves. `card.json` beside the weights."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import UserError
from data.keyed import keyed_seed
from data.records import Problem, Request, Sampling
from data.render import Renderer
from filters.verifiers.base import verify_all
from generators.worlds.base import World
from pipelines.intervals import mean_with_interval

CARD = "card.json"
PROMPTS = Path(__file__).parents[1] / "generators" / "prompts"
_LONGEST_ANSWER = 96  # tokens; the longest demonstration has 62


def weights_hash(folder: Path) -> str:
    """32 hex digits over the bytes of `model.safetensors`."""
    try:
        return hashlib.blake2b((folder / "model.safetensors").read_bytes(), digest_size=16).hexdigest()
    except OSError as error:
        raise UserError(
            f"{folder} holds no readable model.safetensors ({error.strerror}); a policy folder has config.json and model.safetensors"
        ) from None


def count_parameters(folder: Path) -> int:
    """From the header of `model.safetensors`; tied weights are stored, and counted, once."""
    from safetensors import safe_open

    with safe_open(str(folder / "model.safetensors"), framework="np") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 - not a mapping


def heldout_problems(world: World, n: int, seed: int, levels: Sequence[int] = ()) -> list[Problem]:
    """About `n` held-out problems, the same number of every family and level (at least one); `levels` () = the world's."""
    levels = levels or world.levels()
    each = max(1, round(n / (len(world.families()) * len(levels))))
    key = keyed_seed(seed, "policy card")
    return [
        world.make(family, level, index, seed=key, split="heldout")
        for family in world.families()
        for level in levels
        for index in range(each)
    ]


def measure_policy(folder: Path, world: World, *, problems: int, samples: int, seed: int, levels: Sequence[int] = ()) -> dict[str, Any]:
    """Samples held-out problems at temperature 1: pass@1, pass@n, their intervals, by family and level, and token counts."""
    from generators.engines.local import LocalEngine

    asked = heldout_problems(world, problems, seed, levels)
    renderer = Renderer([PROMPTS], "compact")
    engine = LocalEngine(folder, policy_id="card")
    sampling = Sampling(max_tokens=_LONGEST_ANSWER)
    requests = [
        Request("card", sampling, keyed_seed(seed, "policy card", position, index), index, prompt=renderer.render("solve", problem=problem))
        for position, problem in enumerate(asked)
        for index in range(samples)
    ]
    answers = {completion.key: completion for completion in engine.generate(requests)}
    engine.close()
    verdicts = verify_all([(asked[position // samples], answers[request.key].text) for position, request in enumerate(requests)])
    passed = np.array([verdict.outcome == "pass" for verdict in verdicts], np.float64).reshape(len(asked), samples)
    lengths = {
        "prompt": [len(answers[request.key].prompt_tokens) for request in requests[::samples]],
        "response": [len(answers[request.key].tokens) for request in requests],
    }
    mean, low, high = mean_with_interval(passed.mean(1))
    return {
        "problems": len(asked),
        "samples": samples,
        "temperature": 1.0,
        "pass@1": mean,
        "interval": [low, high],
        f"pass@{samples}": float(passed.max(1).mean()),
        "tokens": {what: {"mean": float(np.mean(of)), "p95": float(np.percentile(of, 95))} for what, of in lengths.items()},
        "unfinished": float(np.mean([answers[request.key].finish != "stop" for request in requests])),
        "cells": _cells(asked, passed),
    }


def _cells(asked: Sequence[Problem], passed: NDArray[np.float64]) -> list[dict[str, Any]]:
    """One row per family and level, passed float64[problems, samples]."""
    rows: dict[tuple[str, int], list[int]] = {}
    for position, problem in enumerate(asked):
        rows.setdefault((problem.domain, problem.level), []).append(position)
    cells = []
    for (family, level), positions in rows.items():
        mean, low, high = mean_with_interval(passed[positions].mean(1))
        cells.append({"family": family, "level": level, "pass@1": mean, "interval": [low, high], "pass@n": float(passed[positions].max(1).mean())})
    return cells


def write_card(
    folder: Path, name: str, trained_on: dict[str, Any], heldout: dict[str, Any], writing: dict[str, Any] | None = None
) -> dict[str, Any]:
    config = json.loads((folder / "config.json").read_text())
    card = {
        "name": name,
        "architecture": config["architectures"][0],
        "parameters": count_parameters(folder),
        "vocabulary": config["vocab_size"],
        "context": config["max_position_embeddings"],
        "dialect": "compact",
        "weights_hash": weights_hash(folder),
        "trained_on": trained_on,
        "heldout": heldout,
        **({"writing": writing} if writing else {}),
    }
    (folder / CARD).write_text(json.dumps(_rounded(card), indent=1) + "\n")
    return describe_policy(folder)


def _rounded(value: Any) -> Any:
    """Rates to four digits: a card is read by people."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(of) for key, of in value.items()}
    return [_rounded(of) for of in value] if isinstance(value, (list, tuple)) else value


def describe_policy(path: str | Path) -> dict[str, Any]:
    """The card, with parameters and weights hash counted anew; `card_matches` is False where the weights are no longer the card's.

    A folder without a card (any Hugging Face model) gives the counted part only. Raises UserError where there is no model.
    """
    folder = Path(path)
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} is not a policy folder: it has no config.json (a Hugging Face model folder is needed)")
    config = json.loads((folder / "config.json").read_text())
    counted = {
        "name": folder.name,
        "path": str(folder),
        "architecture": (config.get("architectures") or ["unknown"])[0],
        "parameters": count_parameters(folder),
        "vocabulary": config.get("vocab_size"),
        "weights_hash": weights_hash(folder),
    }
    if not (folder / CARD).is_file():
        return counted
    try:
        card = json.loads((folder / CARD).read_text())
    except ValueError as error:
        raise UserError(f"{folder / CARD} is not JSON ({error}); build the policy again or remove the card") from None
    matches = card.get("weights_hash") == counted["weights_hash"]
    return {**card, **counted, "name": card.get("name", folder.name), "card_matches": matches}
