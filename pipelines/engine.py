"""A run's engine: opened as its recipe says, with the run's current policy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from data.errors import UserError
from data.ledger import Ledger
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
    engine = _endpoint(run.recipe, policy_id=run.policy().id, media=run.dir / "media")
    if not run.recipe.engine.openai.batch:
        return engine
    from generators.engines.batch_endpoint import BatchEngine

    return BatchEngine(cast("OpenAIEngine", engine), run.dir / "batches.sqlite")


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


def _replay(run: Run) -> Engine:
    """Its tokenizer, scores and embeddings are the run's own policy's, whose training is computed here; a run that asks for none loads none."""
    path = recorded(run.recipe.engine.replay.ledger)
    if path.resolve() == (run.dir / "ledger.sqlite").resolve():
        raise UserError(f"engine.replay.ledger: {path} is this run's own ledger; `synth resume {run.dir}` uses it anyway")
    ledger = Ledger.open(path, write=False)
    return open_engine("replay", ledger=ledger, strict=True, name=str(path), model=lambda: _local(run), on_close=ledger.close)


def recorded(place: str) -> Path:
    """The ledger at `place`, a run folder or the file itself; UserError where there is none."""
    if not place:
        raise UserError('engine.replay.ledger: engine.kind = "replay" needs the run to repeat, e.g. `--engine replay:runs/arithmetic-001`')
    path = Path(place)
    path = path / "ledger.sqlite" if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"engine.replay.ledger: there is no ledger at {path}; give the folder of a run that generated something")
    return path.absolute()


def _recorded_engine(ledger: Path) -> dict[str, Any]:
    """The engine table of the run that a ledger belongs to; {} where the file stands alone."""
    try:
        return dict(json.loads((ledger.parent / "run.json").read_text("utf-8"))["recipe"]["engine"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _replaying(recipe: Recipe) -> Recipe:
    """The recipe with the ledger's place spelled out and, of an endpoint's run, the name its model was known by: both runs are one lineage."""
    part = recipe.engine
    ledger = recorded(part.replay.ledger)
    was = _recorded_engine(ledger)
    of = str(was.get("replay", {}).get("of") or was.get("kind") or "local")
    changes: dict[str, Any] = {"replay": part.replay.model_copy(update={"ledger": str(ledger), "of": of})}
    if name := was.get("openai", {}).get("model"):
        changes["openai"] = part.openai.model_copy(update={"model": name})
    return recipe.model_copy(update={"engine": part.model_copy(update=changes)})


def reached(recipe: Recipe) -> Recipe:
    """The recipe once its endpoint has answered, with the model's name filled in; UserError where nobody does. Other engines open when needed."""
    if recipe.engine.kind == "replay":
        return _replaying(recipe)
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


_OPENERS: dict[str, Callable[[Run], Engine]] = {"local": _local, "openai": _openai, "replay": _replay, "vllm": _vllm}
