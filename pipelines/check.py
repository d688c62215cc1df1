"""Everything a recipe names is looked up before a run begins, so that a wrong name costs a sentence and not a run."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from data.errors import UserError
from data.problems.source import check_exists
from data.records import Problem
from filters.verifiers.base import check_spec, get_verifier
from generators.engines.environment import find_python
from generators.strategies.registry import make_strategy
from generators.worlds.registry import get_world
from pipelines.engine import recorded
from pipelines.grpo.config import GRPOConfig, trainer_settings
from pipelines.grpo.one_step_off import refuse_stale
from pipelines.grpo.presets import preset_named
from pipelines.policies import policy_folder
from pipelines.recipe import Recipe


def check_names(recipe: Recipe, *, here: bool = True) -> None:
    """Raises UserError for an engine that can't do what the recipe asks, and for the first strategy, preset, world, family, level, policy or
    file that is not there.

    Not `here`: the recipe is for another machine, and what only that one has (the policy's folder, vLLM, a core or GPU a rank) is not asked for.
    """
    check_engine(recipe)
    for name, part in recipe.strategies.items():
        settings = part.model_dump()
        make_strategy(name, settings)
        if settings.get("teacher"):
            policy_folder(settings["teacher"], f"strategies.{name}.teacher")
    for name, spec in recipe.verifiers.items():
        wrong = check_spec(name, spec)
        if not wrong and not hasattr(get_verifier(name), "Spec"):
            wrong = get_verifier(name).check_problem(Problem("?", "1", name, spec))
        if wrong:
            raise UserError(f"verifiers.{name}: {wrong}")
    preset_named(recipe.train.preset, recipe.train.objective)
    trainer_settings(recipe.train.preset, recipe.train.objective, recipe.train.trainer)
    _check_trainer(recipe, here)
    if here:
        policy_folder(recipe.policy.path)
    if here and recipe.engine.kind == "vllm":
        find_python(recipe.engine.vllm.python)
    _check_world(recipe)
    for file in (*recipe.problems.files, *recipe.evaluate.benchmarks.values()):
        check_exists(file.source)


def check_engine(recipe: Recipe) -> None:
    """UserError where the engine can't be reached or can't be trained, as far as the recipe tells without asking it."""
    part = recipe.engine
    if part.kind == "replay":
        recorded(part.replay.ledger)
    if part.kind != "openai":
        return
    if not part.openai.url:
        raise UserError('engine.openai.url: engine.kind = "openai" needs an address, e.g. `--engine openai:http://127.0.0.1:8000/v1`')
    if recipe.only != "synthesize":
        raise UserError(
            'engine.kind = "openai": the weights behind an endpoint can\'t be trained from here; '
            'set only = "synthesize" to make data with it (`--set only=synthesize`), or train with engine.kind = "local" or "vllm"'
        )


def _check_trainer(recipe: Recipe, here: bool) -> None:
    part = recipe.train
    if part.staleness:
        refuse_stale(GRPOConfig(preset=part.preset, overrides=dict(part.objective), **part.trainer), recipe.sampling.sampling())
    if part.devices and part.trainer.get("device", "auto") != "auto":
        raise UserError(f"train.devices and train.trainer.device = {part.trainer['device']!r} both say where to learn; leave one out")
    if here:
        check_ranks(part.ranks, part.trainer.get("device", "auto"), "train.ranks")
    if recipe.engine.kind == "vllm":
        _check_gpus(recipe)


def _check_gpus(recipe: Recipe) -> None:
    """UserError where vLLM and the trainer would be on one GPU at the same time."""
    part, vllm = recipe.train, recipe.engine.vllm
    if vllm.sleep_level:
        if part.staleness:
            raise UserError(
                "engine.vllm.sleep_level is for a GPU that vLLM and the trainer have in turn, and with train.staleness = 1 they work at once; "
                "set sleep_level = 0 with a GPU for each, or staleness = 0"
            )
        return
    if not part.devices or vllm.device == "cpu":
        return
    shown = vllm.environment.get("CUDA_VISIBLE_DEVICES")
    own = {name.strip() for name in (shown or "").split(",")} & {str(d) for d in part.devices}
    if shown is None or (own and not os.environ.get("CUDA_VISIBLE_DEVICES")):
        what = "vLLM would start on the first GPUs" if shown is None else f"vLLM is given GPU {', '.join(sorted(own))}, too"
        raise UserError(
            f"train.devices = {list(part.devices)} are the trainer's, and {what}; "
            'give it others, e.g. engine.vllm.environment = {CUDA_VISIBLE_DEVICES = "4,5,6,7"}'
        )


def check_ranks(ranks: int, device: str, what: str) -> None:
    """UserError where that many ranks would crowd the cores; with GPUs each rank counts its own when it starts."""
    if ranks > 1 and device.startswith("cuda:"):
        raise UserError(f"train.trainer.device = {device!r} is one GPU, and {what} = {ranks} need one each: give train.devices instead")
    if ranks == 1 or (device != "cpu" and Path("/dev/nvidiactl").exists()):
        return
    if ranks > (cores := len(os.sched_getaffinity(0))):
        raise UserError(f"{what} = {ranks}, and without a GPU every rank needs a core of its own; this machine gives {cores}: set {what} <= {cores}")


def _check_world(recipe: Recipe) -> None:
    if not recipe.problems.world:
        return
    world = get_world(recipe.problems.world)
    for family in recipe.problems.families:
        if family not in world.families():
            near = difflib.get_close_matches(family, world.families(), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(world.families())}"
            raise UserError(f"problems.families: world {world.name} has no family {family!r}; {hint}")
    for level in recipe.problems.levels:
        if level not in world.levels():
            raise UserError(f"problems.levels: world {world.name} has no level {level}; it has {world.levels()[0]} to {world.levels()[-1]}")
