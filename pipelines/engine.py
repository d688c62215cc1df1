"""A run's engine: opened as its recipe says, with the run's current policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from generators.engines.base import Engine
from generators.engines.registry import open_engine
from pipelines.recipe import Recipe

if TYPE_CHECKING:
    from generators.engines.openai import OpenAIEngine
    from pipelines.run import Run


def open_run_engine(run: Run) -> Engine:
    return _OPENERS[run.recipe.engine.kind](run)


def _local(run: Run) -> Engine:
    policy, part = run.policy(), run.recipe.engine
    computing = {"threads": run.threads, "batch_rows": part.batch_rows, "device": part.device, "dtype": part.dtype}
    return open_engine("local", path=policy.path, policy_id=policy.id, model=run.model, **computing)


def _openai(run: Run) -> Engine:
    return _endpoint(run.recipe, policy_id=run.policy().id, media=run.dir / "media")


def _endpoint(recipe: Recipe, **more: Any) -> Engine:
    part = recipe.engine.openai
    return open_engine(
        "openai",
        url=part.url,
        model=part.model,
        api="chat" if part.api == "chat" or (part.api == "auto" and recipe.policy.dialect == "instruct") else "completions",
        key_env=part.key_env,
        tokenizer=part.tokenizer,
        scheduling=recipe.engine.scheduler.scheduling(),
        structured_tries=part.structured_tries,
        group=part.group,
        body=part.body,
        **more,
    )


def reached(recipe: Recipe) -> Recipe:
    """The recipe once its endpoint has answered, with the model's name filled in; UserError where nobody does. Other engines open when needed."""
    if recipe.engine.kind != "openai":
        return recipe
    engine = _endpoint(recipe)
    engine.close()
    named = recipe.engine.openai.model_copy(update={"model": cast("OpenAIEngine", engine).model})
    return recipe.model_copy(update={"engine": recipe.engine.model_copy(update={"openai": named})})


def _vllm(run: Run) -> Engine:
    part = run.recipe.engine.vllm
    options = {"base": run.base_policy, "policy": run.policy(), "settings": part.settings()}
    if part.in_process:
        return open_engine("vllm_in_process", **options)
    scheduling = run.recipe.engine.scheduler.scheduling()
    return open_engine("vllm", **options, log=run.dir / "logs" / "vllm.log", media=run.dir / "media", scheduling=scheduling)


_OPENERS: dict[str, Callable[[Run], Engine]] = {"local": _local, "openai": _openai, "vllm": _vllm}
