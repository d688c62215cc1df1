"""The recipe's `[engine]`: what generates."""

from __future__ import annotations

import difflib
import re
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, ValidationError, field_validator

from data.errors import UserError
from generators.engines.scheduler import Scheduling
from pipelines.part import Part, Positive
from pipelines.vllm_part import VllmPart

Seconds = Annotated[float, Field(gt=0)]


class SchedulerPart(Part):
    """How requests to an engine outside this process are sent (`vllm`, `openai`)."""

    concurrency: Positive = 64
    """Most requests in flight; fewer while the endpoint refuses (429, 503) or slows down."""
    window: Positive = 1024
    """Most requests held in memory; at least `concurrency`."""
    tries: Positive = 6
    """Wrong answers (garbage, resets, 5xx, timeouts) after which a request is an error."""
    timeout: Seconds = 600
    """Seconds for one try."""
    deadline: Seconds = 3600
    """Seconds from a request's first try to its answer, waits between tries included."""
    slow: Annotated[float, Field(ge=0)] = 4
    """An answer that took this many times the usual time per token counts as a refusal; 0 = only refusals count."""
    hedge: Annotated[float, Field(ge=0)] = 0
    """A second copy of a request that has taken this many times the 95th percentile once nothing else waits, paid twice at most; 0 = never."""
    patience: Seconds = 120
    """Seconds without any answer and with nobody listening, after which the run stops (resumable)."""
    weights: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Shares by purpose or strategy where several wait at once, e.g. {sws = 2}; 1 where not named."""

    def scheduling(self) -> Scheduling:
        return Scheduling(
            concurrency=self.concurrency,
            window=self.window,
            tries=self.tries,
            timeout_s=self.timeout,
            deadline_s=self.deadline,
            slow=self.slow,
            hedge=self.hedge,
            dead_after_s=self.patience,
            weights=self.weights,
        )


def _several(value: Any) -> Any:
    return (value,) * bool(value) if isinstance(value, str) else value


class OpenAIPart(Part):
    """Any OpenAI-compatible endpoint."""

    url: Annotated[tuple[str, ...], BeforeValidator(_several)] = ()
    """Base URL, or several of copies of one server: "https://api.example.com/v1"."""
    model: str = ""
    """The name it is served under; "" = the only one that the endpoint lists."""
    api: Literal["auto", "completions", "chat"] = "auto"
    """Where plain prompts go; auto = chat for the instruct dialect, completions for compact."""
    key_env: str = ""
    """NAME of the environment variable that holds the API key; the key itself is never written anywhere."""
    tokenizer: str = ""
    """Local folder with the model's tokenizer: token counts, and multi-turn rollouts."""
    structured_tries: Positive = 3
    """Answers asked for until one has the wanted form."""
    batch: bool = False
    """Through the provider's batch endpoint: half the price, and up to a day for an answer. What was sent is never paid twice."""
    group: Annotated[int, Field(ge=1, le=128)] = 1
    """Samples of one input that share a request (`n`): their prompt is paid once, but a sample's seed no longer decides it alone. 1 = exact."""
    body: dict[str, Any] = {}
    """Fields added to every request, e.g. {reasoning_effort = "low"}."""

    @field_validator("url")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        from generators.engines.endpoints import base_url

        try:
            return tuple(base_url(url) for url in value)
        except UserError as error:
            raise ValueError(str(error)) from None

    @field_validator("key_env")
    @classmethod
    def _a_name(cls, value: str) -> str:
        if value and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", value):
            # Said without the value: it may be the key itself.
            raise ValueError("give the NAME of an environment variable, such as OPENAI_API_KEY, and not the key")
        return value


class ReplayPart(Part):
    """The answers of another run, again."""

    ledger: str = ""
    """The run whose answers are taken: its folder, or its ledger.sqlite."""
    of: str = ""
    """What kind of engine answered that run; filled in when the replay begins."""


class EnginePart(Part):
    kind: Literal["local", "vllm", "openai", "replay"] = "local"
    """`local` is the embedded engine: any machine, no server; `vllm` a vLLM server of our own; `openai` any OpenAI-compatible endpoint; `replay` the
    answers of another run."""
    replay: ReplayPart = ReplayPart()
    price_per_million: dict[Literal["input", "output"], Annotated[float, Field(ge=0)]] = {}
    """Money per million tokens, e.g. {input = 0.1, output = 0.4}; what `synth requests` and `--dry-run` count with. No result depends on it."""
    scheduler: SchedulerPart = SchedulerPart()
    openai: OpenAIPart = OpenAIPart()
    vllm: VllmPart = VllmPart()
    threads: Annotated[int, Field(ge=0, le=256)] = 1
    """CPU threads for generation and training; 0 = all cores. Part of the recipe because sums depend on it."""
    batch_rows: Positive = 512
    """Rows decoded side by side; part of the recorded shard plan."""
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    """Where the embedded engine computes; auto = a GPU where there is one."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the embedded engine's weights and cache. With bfloat16 its log-probs differ from the trainer's by some 1e-2."""

    @property
    def ahead(self) -> int:
        """Requests with the engine at most: enough that its next ones are durable before it wants them, and no more than a crash may send again."""
        if self.kind == "openai" and self.openai.batch:
            return 50_000  # a provider's batch is what can be asked at once
        return 1024 if self.kind in ("local", "replay") else max(64, 2 * self.scheduler.concurrency)

    @property
    def answering(self) -> str:
        """The kind of engine whose answers these are: of a replay, the recorded run's."""
        return self.replay.of if self.kind == "replay" else self.kind

    def lineage(self) -> dict[str, Any]:
        """What the policy's lineage counts of it: what moves a number on the embedded engine. Which engine answers, and how it is reached, is not
        in the lineage: a ledger answers the same requests wherever they were first sent. The name of a model behind an endpoint is what its weights
        are known by, and counts; so does what changes the answers to a request without being in it."""
        named = {"model": self.openai.model} if self.openai.model else {}
        drawn = {"anneal": list(self.vllm.anneal)} if self.vllm.anneal else {}
        computed = {name: getattr(self, name) for name in ("device", "dtype") if getattr(self, name) != type(self).model_fields[name].default}
        return named | drawn | computed | {"threads": self.threads, "batch_rows": self.batch_rows}


def engine_changes(text: str | None) -> dict[str, Any]:
    """What `--engine KIND[:ADDRESS]` changes in a recipe, as keyword arguments of `load_recipe`. UserError that names the option if it is wrong."""
    if text is None:
        return {}
    kind, _, address = text.partition(":")
    kinds = get_args(EnginePart.model_fields["kind"].annotation)
    if kind not in kinds:
        near = difflib.get_close_matches(kind, kinds, n=1)
        right = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(kinds)}"
        raise UserError(f"--engine {text}: there is no engine '{kind}'; {right}")
    if not address:
        return {"engine__kind": kind}
    place = {"openai": "url", "replay": "ledger"}.get(kind)
    if place is None:
        raise UserError(f"--engine {text}: the engine '{kind}' takes no address; give --engine {kind}")
    try:
        EnginePart.model_validate({"kind": kind, kind: {place: address}})
    except ValidationError as error:
        raise UserError(f"--engine {text}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
    return {"engine__kind": kind, f"engine__{kind}__{place}": address}
