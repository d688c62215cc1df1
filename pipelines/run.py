"""A run: a folder, the recipe it was begun with, its lake and ledger, and the parts that work on them."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import filters.tables  # noqa: F401 - registers its tables before the lake is opened
import pipelines.tables  # noqa: F401
from data.errors import SynthError, UserError
from data.lake import Lake
from data.ledger import Ledger
from data.records import PolicyVersion
from data.render import Renderer
from filters.decontaminate import HeldoutIndex
from generators.engines.ledgered import LedgeredEngine
from generators.strategies.base import Strategy
from generators.strategies.registry import make_strategy
from generators.worlds.base import World
from generators.worlds.registry import get_world
from pipelines.check import check_names
from pipelines.engine import open_run_engine, reached
from pipelines.policies import policy_folder, weights_fingerprint
from pipelines.recipe import Recipe, check_recipe, differing_keys
from pipelines.recipe_file import read_recipe_file, write_recipe_file

PROMPTS = Path(__file__).parent.parent / "generators" / "prompts"

BEGINNINGS = ("recipe.toml", "run.json.tmp", "catalog.", "lake", "ledger.sqlite", "writer.lock")
"""What a run killed while it was being made may leave."""

Listener = Callable[[str, Mapping[str, Any]], None]


class Run:
    """Open with `Run.create` or `Run.open`; close it (or use `with`) to release the writer's lock."""

    def __init__(self, folder: Path, recipe: Recipe, *, listener: Listener | None = None) -> None:
        self.dir = folder
        self.recipe = recipe
        self.listener = listener or (lambda kind, data: None)
        self._engine: LedgeredEngine | None = None
        self.trainer_ranks = recipe.train.ranks
        """Processes that learn: as the recipe says, unless whoever goes on with the run has fewer or more."""
        self.lake = Lake.open(folder, write=True, create=True)
        try:
            self.ledger = Ledger.open(folder / "ledger.sqlite")
            self._let_go()
            if not is_run(folder):
                _write_run_file(folder, recipe)  # last: a folder that says it is a run has its tables, for readers too
        except BaseException:
            self.lake.close()
            raise

    # -- opening ---------------------------------------------------------------------------------------------------

    @classmethod
    def create(cls, folder: Path, recipe: Recipe, *, listener: Listener | None = None) -> Run:
        """A new run in `folder`, which must be absent, empty, or the beginning of this very run (killed while starting)."""
        if is_run(folder):
            raise UserError(f"{folder} already holds a run; go on with `synth resume {folder}`, or choose another --out")
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder} is a file; --out takes a folder")
        if folder.is_dir() and any(not p.name.startswith(BEGINNINGS) for p in folder.iterdir()):
            raise UserError(f"{folder} is not empty and is not a run; choose a new folder for --out")
        check_names(recipe)
        recipe = reached(recipe)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_recipe_file(folder / "recipe.toml", recipe)
        except OSError as error:
            raise UserError(f"cannot write to {folder}: {error.strerror}; choose a writable folder with free space for --out") from None
        return cls(folder, recipe, listener=listener)

    @classmethod
    def open(cls, folder: Path, *, listener: Listener | None = None) -> Run:
        """An existing run, to go on with. Its recipe must be the one it was begun with."""
        begun = run_file(folder)
        recipe = check_recipe(begun["recipe"], f"{folder}/run.json")
        now = read_recipe_file(folder / "recipe.toml")
        changed = differing_keys(recipe, now)
        if changed:
            raise UserError(
                f"{folder}/recipe.toml was changed since the run began ({', '.join(changed)}); "
                "put it back to go on, or start a new run with the new recipe"
            )
        return cls(folder, recipe, listener=listener)

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()
        with suppress(SynthError):  # a full disk has stopped the run and been told
            self._let_go()
        self.ledger.close()
        self.lake.close()

    def _let_go(self) -> None:
        """This process alone asks for this run (the lake's lock says so): what one before it had in flight, or it has when it closes, is nobody's. A
        provider's batch goes on without us and is picked up again."""
        if not self.recipe.engine.openai.batch:
            self.ledger.let_go()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- parts -----------------------------------------------------------------------------------------------------

    @cached_property
    def recipe_hash(self) -> str:
        return self.recipe.hash

    @cached_property
    def base_policy(self) -> Path:
        return policy_folder(self.recipe.policy.path)

    @cached_property
    def model(self) -> str:
        """What the policy's weights are known by: folder and fingerprint, or the name of the model behind an endpoint."""
        if self.recipe.engine.answering == "openai":
            return self.recipe.engine.openai.model
        return f"{self.base_policy.name}@{weights_fingerprint(self.base_policy)}"

    @cached_property
    def world(self) -> World | None:
        return get_world(self.recipe.problems.world) if self.recipe.problems.world else None

    @cached_property
    def heldout(self) -> HeldoutIndex:
        """What nothing that is trained on may give away; as it stands after the seeds stage, and no later stage changes it."""
        from pipelines.problems import heldout_index

        return heldout_index(self)

    @cached_property
    def strategies(self) -> list[Strategy]:
        return [make_strategy(name, part.model_dump()) for name, part in sorted(self.recipe.strategies.items())]

    @cached_property
    def renderer(self) -> Renderer:
        return Renderer([PROMPTS], self.recipe.policy.dialect)

    def render(self, template: str, **values: Any) -> str:
        """A prompt in the policy's dialect."""
        return self.renderer.render(template, **values)

    def engine(self) -> LedgeredEngine:
        """The engine behind the ledger, holding the current policy; opened on first use."""
        if self._engine is None:
            self._engine = LedgeredEngine(open_run_engine(self), self.ledger, window=self.recipe.engine.ahead)
            self._engine.on_progress = lambda done, total, tokens: self.emit("generating", done=done, total=total, tokens=tokens)
        return self._engine

    def use_policy(self, policy: PolicyVersion) -> None:
        if self._engine is not None:
            self._engine.update(policy)

    def rest_engine(self) -> None:
        """The trainer is about to need the GPU that an engine of this run may share with it."""
        rest = getattr(self._engine.engine, "rest", None) if self._engine is not None else None
        if rest is not None:
            rest()

    @cached_property
    def threads(self) -> int:
        return self.recipe.engine.threads or os.cpu_count() or 1

    def policy(self) -> PolicyVersion:
        """The newest committed policy: the base one before any training."""
        return self._newest("true", ())

    def policy_at(self, round: int, step: int) -> PolicyVersion:
        """The newest committed policy as it was when step `step` of `round` had been made; step 0 = when the round began."""
        return self._newest("round < ? OR (round = ? AND step <= ?)", (round, round, step))

    def _newest(self, which: str, values: tuple[int, ...]) -> PolicyVersion:
        columns = "policy_id, path, round, step, weights_hash"
        rows = self.lake.query(f"SELECT {columns} FROM policies WHERE {which} ORDER BY round DESC, step DESC LIMIT 1", values).rows()
        if not rows:
            return self.first_policy()
        policy_id, path, round, step, weights_hash = rows[0]
        return PolicyVersion(policy_id, str(self.dir / path) if round or step else str(self.base_policy), round, step, weights_hash)

    def first_policy(self) -> PolicyVersion:
        return PolicyVersion(PolicyVersion.lineage(self.recipe_hash, 0, 0), str(self.base_policy), 0, 0, self.model.partition("@")[2])

    def emit(self, kind: str, **data: Any) -> None:
        """Tell whoever watches; nothing depends on it."""
        self.listener(kind, data)


def is_run(folder: Path) -> bool:
    return (folder / "run.json").is_file()


def run_file(folder: Path) -> dict[str, Any]:
    """What `run.json` says; a folder without one is not a run."""
    if not folder.exists():
        raise UserError(f"no such folder: {folder}")
    if not is_run(folder):
        raise UserError(f"{folder} is not a run (it holds no run.json); `synth runs` lists the runs below a folder")
    try:
        begun = json.loads((folder / "run.json").read_text("utf-8"))
        begun["recipe"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{folder}/run.json is damaged; restore it from a copy, or start a new run") from None
    return begun


def _write_run_file(folder: Path, recipe: Recipe) -> None:
    """Written last and renamed into place: its existence means that the run began."""
    body = {
        "recipe_hash": recipe.hash,
        "recipe": recipe.plain(),
        "versions": {name: _version(name) for name in ("synth", "torch", "transformers", "duckdb", "polars")},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
    }
    temporary = folder / "run.json.tmp"
    with temporary.open("w", encoding="utf-8") as stream:
        json.dump(body, stream, indent=1, ensure_ascii=False)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.rename(folder / "run.json")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def read_lake(folder: Path) -> Lake:
    """The lake of a run, for reading: needs no lock and holds nobody up."""
    run_file(folder)
    return Lake.open(folder)
