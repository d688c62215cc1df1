"""A run's engine: opened as its recipe says, with the run's current policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from generators.engines.base import Engine
from generators.engines.registry import open_engine

if TYPE_CHECKING:
    from pipelines.run import Run


def open_run_engine(run: Run) -> Engine:
    return _OPENERS[run.recipe.engine.kind](run)


def _local(run: Run) -> Engine:
    policy = run.policy()
    rows = run.recipe.engine.batch_rows
    return open_engine("local", path=policy.path, policy_id=policy.id, threads=run.threads, batch_rows=rows, model=run.model)


_OPENERS: dict[str, Callable[[Run], Engine]] = {"local": _local}
