"""Recipes: one TOML file says everything that decides what a run computes; unknown keys are errors.

The resolved recipe is written into the run folder and hashed; the hash names the policy lineage, so two runs of one
recipe are the same run, and a resumed run must have the recipe it began with.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from data.errors import UserError
from data.ids import content_hash
from data.problems.mapping import check_map
from data.problems.source import HUB, Source, absolute, parse_source
from data.records import Sampling
from filters.difficulty import PRESETS
from pipelines.engine_part import EnginePart
from pipelines.part import Part, Positive

SHIPPED = Path(__file__).parent / "recipes"
Share = Annotated[float, Field(ge=0, le=1)]


class PolicyPart(Part):
    path: str = "arithmetic"
    """A shipped policy's name or a local Hugging Face model folder."""
    dialect: Literal["compact", "instruct"] = "compact"
    """How prompts are written: `compact` for the shipped policies, `instruct` for chat models."""


class FilePart(Part):
    """A file of problems. In a recipe a plain string does as well: "mine.jsonl", "algebra=mine.csv", "hf:NAME:CONFIG@SPLIT"."""

    path: str
    """FILE (.jsonl, .json, .csv, .tsv, each also .gz, or .parquet), a folder saved by `datasets`, or hf:NAME[:CONFIG]."""
    domain: str = ""
    """Domain of rows that name none."""
    map: dict[str, str] = {}
    """Which column holds which field, e.g. {prompt = "question", answer = "extra.final"}."""
    split: str = ""
    """Split of a `datasets` folder or hub data set; "" = the only one, or train."""

    @property
    def source(self) -> Source:
        return Source(self.path, self.domain, check_map(self.map), self.split)

    def __str__(self) -> str:
        return str(self.source)


def _file_part(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    source = parse_source(value)
    return {"path": source.path, "domain": source.domain, "map": dict(source.map), "split": source.split}


File = Annotated[FilePart, BeforeValidator(_file_part)]


class ProblemsPart(Part):
    world: str = "arithmetic"
    """Procedural world that makes seed problems and answers strategies' requests; "" for none."""
    families: tuple[str, ...] = ()
    """World families to use; empty = all."""
    levels: tuple[int, ...] = ()
    """World levels to use; empty = all."""
    per_cell: Positive = 10
    """Seed problems per family and level."""
    files: tuple[File, ...] = ()
    """The user's own problems: rows with {prompt|question|problem, answer|reference}; strings or tables, see `FilePart`. A run folder stands for the
    problems of its lake."""
    heldout_share: Share = 0.1
    """Share of the user's problems kept out of training, chosen by content hash; what shares 13 words with one of them is kept out, too."""


class SamplingPart(Part):
    temperature: Annotated[float, Field(gt=0, le=10)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: Annotated[int, Field(ge=1, le=131072)] = 64

    def sampling(self) -> Sampling:
        return Sampling(temperature=self.temperature, top_p=self.top_p, max_tokens=self.max_tokens)


class ProbePart(Part):
    problems: Positive = 480
    """Problems answered at the start of each round, half of them never probed before."""
    n: Positive = 8
    """Answers per problem."""
    most: Annotated[int, Field(ge=0)] = 0
    """Adaptive sampling: a problem whose difficulty is undecided after `n` answers gets `n` more at a time, up to this many; 0 = off."""
    shard: Positive = 120
    """Problems per shard: what a crash can cost at most."""


class DifficultyPart(Part):
    band: str = ""
    """A named band of pass rates instead of low and high: dapo, medvlthinker, sws, sws_training, svs_source, svs_variant."""
    certainty: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """How sure "in" or "out" of the band must be; a problem in between is "open" and, where `probe.most` allows, sampled on."""
    low: Share = 0.02
    high: Share = 0.98
    """Inclusive band of pass rates that are worth training on; of 8 answers, 1 to 7."""

    @model_validator(mode="after")
    def _ordered(self) -> DifficultyPart:
        if self.low > self.high:
            raise ValueError(f"low ({self.low}) is above high ({self.high}); give low <= high")
        if self.band and self.band not in PRESETS:
            raise ValueError(f"no band named {self.band!r}; there are: {', '.join(PRESETS)}")
        return self


class StrategyPart(BaseModel):
    """Settings of one strategy; what it does not know itself, it refuses."""

    model_config = ConfigDict(extra="allow", frozen=True)
    budget: Annotated[int, Field(ge=0)] = 0


class SelectPart(Part):
    problems: Positive = 1280
    """At most this many problems go into a round's training."""


class TrainPart(Part):
    preset: str = "grpo"
    """A named combination of objective parts; `synth presets` lists them."""
    objective: dict[str, Any] = {}
    """Overrides of the preset, key by key: slots by component name, options by value (or schedule)."""
    trainer: dict[str, Any] = {}
    """Further settings of the trainer, key by key: minibatches, epochs, proximal, precision, gradient_checkpointing, lora_rank, …"""
    tensorboard: bool = False
    """Also write every metric under DIR/tensorboard."""
    steps: Positive = 24
    """Optimizer steps per round; each is one shard."""
    tokens: Annotated[int, Field(ge=0)] = 0
    """A round's training ends when it has trained on so many tokens, before `steps` if need be: of the last step's groups only those count that
    the budget holds. 0 = no such end. For arms that are compared at equal tokens."""
    prompts_per_step: Positive = 56
    group_size: Annotated[int, Field(ge=2, le=4096)] = 8
    generation_batches: Positive = 2
    """Dynamic sampling: prompts are drawn up to this many times to replace groups without variance."""
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 1.2e-4
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    final_rate: Share = 0.5
    """The learning rate falls linearly over all rounds' steps to this share of itself; 1 = it stays."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """The gradient is scaled down to this norm."""
    micro_tokens: Positive = 4096
    """Tokens forwarded at a time; more is faster as long as memory lasts."""
    staleness: Annotated[int, Field(ge=0, le=1)] = 0
    """Updates between the weights that sample a step and those that learn from it. 1 = one-step-off: the next step is sampled while
    this one is learned."""
    ranks: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes that learn together under torchrun (FSDP2), one GPU or CPU share each; the run itself stays one process. Part of the recipe because
    sums depend on it."""
    devices: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """GPUs of the trainer, one a rank, as `nvidia-smi` numbers them; empty = the first ones. The engine gets others."""
    control: Literal["none", "shuffled_rewards"] = "none"
    """`shuffled_rewards` permutes rewards within every group: the control experiment that must not learn."""


class EvaluatePart(Part):
    problems: Positive = 512
    n: Positive = 4
    shard: Positive = 256
    chain: Literal["programs", "model", "none"] = "programs"
    """Who judges the chains behind right answers (CoT-Pass@k): the world's step checker and exact arithmetic, or the policy's own votes."""
    chain_votes: Positive = 3
    chain_rule: Literal["any", "all", "majority"] = "majority"
    """How a model's votes on one chain are counted."""
    benchmarks: dict[str, File] = {}
    """Held-out sets by name. No training problem may equal one of theirs or share a run of 13 words with it: such a seed or candidate
    is refused with a decision row (rule heldout). A list of files is named by the files."""

    @field_validator("benchmarks", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            named = {_name_of(v): v for v in value}
            if len(named) != len(value):
                raise ValueError("two benchmarks of one name; give names: benchmarks = {first = \"…\", second = \"…\"}")
            return named
        return value

    @model_validator(mode="after")
    def _not_reserved(self) -> EvaluatePart:
        if wrong := [name for name in self.benchmarks if name == "heldout" or not name.strip()]:
            raise ValueError(f"a benchmark cannot be named {wrong[0]!r}; that is what the run's own held-out problems are called")
        return self


def _name_of(value: Any) -> str:
    """`hf:openai/gsm8k:main@test` -> gsm8k, data/math500.jsonl.gz -> math500."""
    path = parse_source(value).path if isinstance(value, str) else str(value.get("path", "")) if isinstance(value, Mapping) else str(value)
    return Path(path.removeprefix(HUB).partition(":")[0]).name.partition(".")[0]


class MachinePart(Part):
    """The GPUs that a recipe is written for; `--dry-run` counts their memory. No part of the lineage."""

    gpus: Annotated[int, Field(ge=0, le=1024)] = 0
    """0 = none, or not said: nothing is counted."""
    gpu_gb: Annotated[float, Field(gt=0)] = 80
    """Memory of one, in GB."""


class Recipe(Part):
    """Everything that decides what a run computes."""

    name: str = "arithmetic"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    rounds: Positive = 3
    only: Literal["", "train", "synthesize"] = ""
    """`train`: GRPO on every problem given, nothing else (what `synth train` runs). `synthesize`: new problems, answers and verdicts, and nothing
    is trained or evaluated: what an endpoint whose weights are not ours is good for."""
    policy: PolicyPart = PolicyPart()
    engine: EnginePart = EnginePart()
    problems: ProblemsPart = ProblemsPart()
    sampling: SamplingPart = SamplingPart()
    probe: ProbePart = ProbePart()
    difficulty: DifficultyPart = DifficultyPart()
    strategies: dict[str, StrategyPart] = {}
    verifiers: dict[str, dict[str, Any]] = {}
    """Settings by verifier for problems from files whose rows bring none of their own, e.g. {math = {extract = "last_number"}}."""
    select: SelectPart = SelectPart()
    train: TrainPart = TrainPart()
    evaluate: EvaluatePart = EvaluatePart()
    machine: MachinePart = MachinePart()

    @model_validator(mode="after")
    def _one_gpu_a_rank(self) -> Recipe:
        devices, ranks = self.train.devices, self.train.ranks
        if devices and (len(devices) != ranks or len(set(devices)) < ranks):
            raise ValueError(f"train.devices: {list(devices)} must be one GPU for each of train.ranks = {ranks}, none twice")
        return self

    @model_validator(mode="after")
    def _has_problems(self) -> Recipe:
        if not self.problems.world and not self.problems.files:
            raise ValueError("problems: give a world or files")
        return self

    def plain(self) -> dict[str, Any]:
        """JSON-able, every default spelled out."""
        return self.model_dump(mode="json")

    @property
    def hash(self) -> str:
        """Names the lineage. Labels do not count, nor does what answers (`EnginePart.lineage`): a replay of a run is that run."""
        counted = {k: v for k, v in self.plain().items() if k not in ("name", "machine")}
        counted["train"] = {k: v for k, v in counted["train"].items() if k != "devices"}
        return content_hash(counted | {"engine": self.engine.lineage()})


def shipped_recipes() -> list[str]:
    return sorted(p.stem for p in SHIPPED.glob("*.toml"))


def recipe_path(name: str) -> Path:
    """A path, or the name of a shipped recipe."""
    path = Path(name)
    if path.is_file():
        return path
    shipped = SHIPPED / f"{name}.toml"
    if shipped.is_file():
        return shipped
    if path.is_dir():
        raise UserError(f"{name} is a folder, not a recipe; give a TOML file or a shipped name: {', '.join(shipped_recipes())}")
    if path.suffix == ".toml" or path.parent != Path("."):
        raise UserError(f"no such recipe file: {name}")
    near = difflib.get_close_matches(name, shipped_recipes(), n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UserError(f"no recipe named {name!r}; {hint}shipped recipes: {', '.join(shipped_recipes())}, or give the path of a TOML file")


def load_recipe(name: str, overrides: Sequence[str] = (), **changes: Any) -> Recipe:
    """Read a recipe, apply `--set key=value` overrides, then `changes` (dotted keys with `__`), and check everything."""
    path = recipe_path(name)
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: not valid TOML: {error}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text") from None
    given: dict[str, str] = {}  # keys of the command line: what is wrong there does not lie in the file
    for item in overrides:
        key, _, value = item.partition("=")
        if not _ or not key.strip():
            raise UserError(f"--set {item}: write key=value, e.g. --set train.steps=20")
        _assign(raw, key.strip(), _value(value.strip()))
        given[key.strip()] = f"--set {key.strip()}"
    for key, value in changes.items():
        if value is not None:
            _assign(raw, key.replace("__", "."), value)
            given[key.replace("__", ".")] = f"--{key.partition('__')[0]}"
    return located(check_recipe(raw, str(path), given), path.parent)


def located(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe with its files found from anywhere: relative to where synth was started, else to the recipe's own folder."""

    def found(part: FilePart) -> FilePart:
        source = part.source
        if not source.on_hub and not source.file.exists() and (folder / source.path).exists():
            source = replace(source, path=str(folder / source.path))
        return part.model_copy(update={"path": absolute(source).path})

    problems = recipe.problems.model_copy(update={"files": tuple(found(part) for part in recipe.problems.files)})
    evaluate = recipe.evaluate.model_copy(update={"benchmarks": {name: found(part) for name, part in recipe.evaluate.benchmarks.items()}})
    return recipe.model_copy(update={"problems": problems, "evaluate": evaluate})


def check_recipe(raw: Mapping[str, Any], where: str, given: Mapping[str, str] = {}) -> Recipe:
    """`where` the values come from, but for the keys in `given`, which say for themselves."""
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        key = ".".join(str(p) for p in error.errors()[0]["loc"])
        where = next((said for name, said in given.items() if key == name or key.startswith(f"{name}.")), where)
        raise UserError(f"{where}: {_sentence(error)}") from None


def differing_keys(a: Recipe, b: Recipe) -> list[str]:
    """Dotted keys whose values differ, in order."""
    one, two = dict(_flat(a.plain())), dict(_flat(b.plain()))
    return [k for k in sorted(one.keys() | two.keys()) if one.get(k) != two.get(k)]


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


def _value(text: str) -> Any:
    """A TOML value; bare words are strings, so that `--set train.preset=dapo` needs no quotes."""
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text


def _assign(raw: dict[str, Any], dotted: str, value: Any) -> None:
    *path, last = dotted.split(".")
    for part in path:
        inner = raw.setdefault(part, {})
        if not isinstance(inner, dict):
            raise UserError(f"--set {dotted}: {part} is a value, not a table")
        raw = inner
    raw[last] = value


def _sentence(error: ValidationError) -> str:
    """The first problem, as a sentence that names the key, the value and what would be right."""
    first = error.errors()[0]
    key = ".".join(str(p) for p in first["loc"])
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, known_keys(), n=1, cutoff=0.5)
        if not near:
            near = [k for k in known_keys() if k.split(".")[-1] == key.split(".")[-1]][:1]
        return f"unknown key {key!r}" + (f"; the nearest known key is {near[0]!r}" if near else f"; known keys: {', '.join(known_keys())}")
    message = first["msg"].removeprefix("Value error, ")
    value = first.get("input")
    # What stands where a variable's name belongs may be the secret itself.
    shown = "" if isinstance(value, Mapping) or key.endswith("key_env") else f" (got {json.dumps(value, default=str)})"
    return f"{key}: {message[0].lower()}{message[1:]}{shown}" if key else message


def known_keys() -> list[str]:
    keys: list[str] = []
    for name, field in Recipe.model_fields.items():
        part = field.annotation
        if isinstance(part, type) and issubclass(part, Part):
            keys.extend(f"{name}.{inner}" for inner in part.model_fields)
        keys.append(name)
    return keys
