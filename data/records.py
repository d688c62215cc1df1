"""What crosses rooms: plain dataclasses and numpy, no torch, no I/O.

Shapes: `tokens int32[T]`, `loss_mask uint8[T]`, `logp float32[T]` (NaN where a token was not sampled).
Identities are content hashes (`data.ids`); two equal things made on two machines have one id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from data.ids import content_hash

Outcome = Literal["pass", "fail", "unknown"]
Finish = Literal["stop", "length", "error", "cancelled"]
Int32 = NDArray[np.int32]
UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Problem:
    """A question with the reference and the verifier that judge an answer to it."""

    prompt: str
    reference: str = ""
    verifier: str = "math"
    spec: Mapping[str, Any] = field(default_factory=dict)  # the verifier's own settings, JSON-able
    media: tuple[str, ...] = ()  # content hashes of images
    domain: str = ""  # category or world family
    level: int = 0  # the world's own difficulty level, 0 = unknown
    concepts: tuple[str, ...] = ()
    source: str = "user"  # user | seed | world | <strategy>
    split: Literal["train", "heldout", "online", "refused"] = "train"  # online: for the one training step that made it; refused: by its strategy
    meta: Mapping[str, Any] = field(default_factory=dict)  # JSON-able, e.g. how the world made it

    @cached_property
    def id(self) -> str:
        return content_hash("problem", self.prompt, list(self.media), self.reference, self.verifier, dict(self.spec))


@dataclass(frozen=True)
class Check:
    """One executable or declarative check of a problem, with the audit that says how far to trust it."""

    problem_id: str
    kind: str  # reference | test | rubric | checklist | …
    body: Mapping[str, Any]
    audit: Mapping[str, float] = field(default_factory=dict)  # detection rate, mutation score, …

    @cached_property
    def id(self) -> str:
        return content_hash("check", self.problem_id, self.kind, dict(self.body))


@dataclass(frozen=True)
class Candidate:
    """A problem that a strategy proposes; every candidate ends in at least one row of `decisions`."""

    problem: Problem
    round: int
    strategy: str
    parents: tuple[str, ...] = ()  # problem or rollout ids it was made from
    checks: tuple[Check, ...] = ()
    reason: str = ""  # why the strategy asked for it

    @cached_property
    def id(self) -> str:
        return content_hash("candidate", self.problem.id, self.round, self.strategy, list(self.parents))


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. `max_tokens` counts sampled tokens; temperature 0 is greedy."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0  # 0 = off
    max_tokens: int = 256
    stop: tuple[str, ...] = ()

    def key(self) -> list[Any]:
        return [self.temperature, self.top_p, self.top_k, self.max_tokens, list(self.stop)]


@dataclass(frozen=True)
class Request:
    """One completion to generate. Exactly one of `prompt`, `messages`, `tokens` is the input.

    `tokens` continues from given ids (a parent's prefix, or a conversation with observations in it).
    `structured` is the form that the whole reply takes, one of {"json_schema": schema}, {"regex": Rust-style pattern}, {"choice": [texts]},
    {"grammar": Lark or GBNF}; an engine that can hold a reply to it says so in its capabilities ("structured"). The behaviour log-probs of such a
    reply are those of the distribution that each token was drawn from: renormalised over what the form allows, 0 where it allows one token.
    """

    policy_id: str
    sampling: Sampling
    seed: int
    index: int = 0  # sample index inside its group
    prompt: str | None = None
    messages: tuple[Mapping[str, Any], ...] = ()
    tokens: tuple[int, ...] = ()
    media: tuple[str, ...] = ()
    model: str = ""
    purpose: str = ""  # probe | train | evaluate | <strategy>; not part of the key
    problem_id: str = ""  # for the reader of the ledger; not part of the key
    structured: Mapping[str, Any] | None = None
    priority: int = 0

    def __post_init__(self) -> None:
        given = (self.prompt is not None) + bool(self.messages) + bool(self.tokens)
        if given != 1:
            raise ValueError(f"a request takes exactly one of prompt, messages and tokens, got {given}")

    @cached_property
    def input_key(self) -> str:
        """Equal for all samples of one group: what an engine may prefill once."""
        return content_hash("input", self.prompt, [dict(m) for m in self.messages], list(self.tokens), list(self.media))

    @cached_property
    def key(self) -> str:
        return content_hash("request", self.model, self.policy_id, self.input_key, self.sampling.key(), self.structured, self.seed, self.index)


@dataclass(frozen=True, slots=True)
class Completion:
    """What an engine answered to the request with this `key`: exactly the tokens that were sampled."""

    key: str
    text: str
    tokens: Int32  # sampled tokens, end-of-text included where it was sampled
    logp: Float32  # behaviour log-prob of each, at the sampling temperature
    prompt_tokens: Int32
    finish: Finish
    policy_id: str
    error: str = ""
    ms: float = 0.0
    usage: tuple[int, int] = (0, 0)  # prompt and sampled tokens as an endpoint bills them; zeros where it does not say


@dataclass(frozen=True)
class Turn:
    """One piece of a conversation inside a trajectory: tokens[start:end] written by `role`."""

    role: Literal["prompt", "policy", "observation"]
    start: int
    end: int
    text: str = ""
    name: str = ""  # tool name


@dataclass(frozen=True)
class Trajectory:
    """The one shape for everything sampled: prompt, sampled and observed tokens in one row.

    tokens int32[T]; loss_mask uint8[T] (1 = sampled by the policy and trained on); logp float32[T]
    (behaviour log-prob, NaN where not sampled); `version_spans` = (policy id, start, end) per token range.
    """

    problem_id: str
    policy_id: str
    tokens: Int32
    loss_mask: UInt8
    logp: Float32
    sampling: Sampling
    seed: int
    index: int
    finish: Finish
    text: str  # what the verifier reads: the policy's last turn
    version_spans: tuple[tuple[str, int, int], ...] = ()
    turns: tuple[Turn, ...] = ()
    media: tuple[tuple[str, int, int], ...] = ()
    parent: tuple[str, int] | None = None  # (trajectory id, offset) for segments and trees
    request_keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (len(self.tokens) == len(self.loss_mask) == len(self.logp)):
            raise ValueError(f"tokens, loss_mask and logp must have one length, got {len(self.tokens)}, {len(self.loss_mask)}, {len(self.logp)}")

    @cached_property
    def id(self) -> str:
        return content_hash("rollout", self.problem_id, self.policy_id, self.sampling.key(), self.seed, self.index, list(self.parent or ()))

    @property
    def prompt_length(self) -> int:
        """Tokens before the first trained one (all of them where nothing is trained)."""
        trained = np.flatnonzero(self.loss_mask)
        return int(trained[0]) if len(trained) else len(self.tokens)

    @property
    def response_length(self) -> int:
        return int(self.loss_mask.sum())


@dataclass(frozen=True)
class Verdict:
    """A verifier's word on one rollout. Unknown is never silently a fail or a pass; its reward is 0."""

    outcome: Outcome
    reward: float
    reason: str
    verifier: str
    rollout_id: str = ""
    problem_id: str = ""
    ms: float = 0.0
    isolation: str = ""  # sandbox level, "" where nothing was executed
    integrity: str = ""  # "" or why this verdict is weaker than usual


@dataclass(frozen=True)
class RolloutSpec:
    """A wish for `n` rollouts of one problem: a group in the making.

    `prompt` replaces the solve template's rendering where a strategy writes its own; `environment` names a
    multi-turn environment; `parent` continues a trajectory from token `offset`.
    """

    problem: Problem
    n: int
    sampling: Sampling
    stream: str = "main"
    estimator: str = "group"
    coef: float = 1.0
    template: str = "solve"
    prompt: str | None = None
    environment: str = ""
    parent: Trajectory | None = None
    offset: int = 0
    key: tuple[Any, ...] = ()  # tells apart two specs of one problem in one stream
    refs: tuple[str, ...] = ()  # ids (group, rollout, problem) it was made from
    kl: float = 1.0  # what the objective's KL coefficient is multiplied with for these rollouts
    structured: Mapping[str, Any] | None = None  # JSON schema that the answers are held to, where the engine can
    keeps_unknown: bool = False  # rollouts with an unknown verdict stay in the group: for strategies that judge by other means
    asked_by: str = ""  # the strategy that wants it, for the reader of the ledger; "" = the stage itself. No part of any id

    @cached_property
    def group_id(self) -> str:
        where = (self.parent.id, self.offset) if self.parent is not None else ()
        return content_hash("group", self.problem.id, self.stream, self.template, self.prompt, list(where), list(self.key))


@dataclass(frozen=True)
class Group:
    """Judged rollouts that are compared with one another. rewards float32[n]."""

    id: str
    problem: Problem
    rollouts: tuple[Trajectory, ...]
    verdicts: tuple[Verdict, ...]
    rewards: Float32
    stream: str = "main"
    estimator: str = "group"
    coef: float = 1.0
    refs: tuple[str, ...] = ()
    kl: float = 1.0

    def __post_init__(self) -> None:
        if not (len(self.rollouts) == len(self.verdicts) == len(self.rewards)):
            raise ValueError(f"group {self.id}: {len(self.rollouts)} rollouts, {len(self.verdicts)} verdicts, {len(self.rewards)} rewards")

    @property
    def passes(self) -> int:
        return sum(v.outcome == "pass" for v in self.verdicts)

    @property
    def zero_variance(self) -> bool:
        """No gradient comes from a group whose rewards are all equal."""
        return len(self.rewards) == 0 or bool((self.rewards == self.rewards[0]).all())


@dataclass(frozen=True)
class GroupEdit:
    """What an online strategy does to the groups of a step; applied in (strategy, position) order.

    add: `group` joins the step. drop: `group_id` leaves it. scale: its advantages are multiplied by `factor`.
    set_reward: its rewards become `rewards` float32[n].
    """

    kind: Literal["add", "drop", "scale", "set_reward"]
    group_id: str
    group: Group | None = None
    factor: float = 1.0
    rewards: Float32 | None = None
    reason: str = ""

    @classmethod
    def add(cls, group: Group, reason: str = "") -> GroupEdit:
        return cls("add", group.id, group=group, reason=reason)

    @classmethod
    def drop(cls, group_id: str, reason: str = "") -> GroupEdit:
        return cls("drop", group_id, reason=reason)

    @classmethod
    def scale(cls, group_id: str, factor: float, reason: str = "") -> GroupEdit:
        return cls("scale", group_id, factor=factor, reason=reason)

    @classmethod
    def set_reward(cls, group_id: str, rewards: Sequence[float], reason: str = "") -> GroupEdit:
        return cls("set_reward", group_id, rewards=np.asarray(rewards, np.float32), reason=reason)


@dataclass(frozen=True)
class PolicyVersion:
    """Weights at one point of a lineage. `id` names the lineage (recipe, round, step); the weight hash is an attribute."""

    id: str
    path: str
    round: int = 0
    step: int = 0
    weights_hash: str = ""

    @staticmethod
    def lineage(recipe_hash: str, round: int, step: int) -> str:
        return f"{recipe_hash[:12]}-r{round}-s{step}"


@dataclass(frozen=True)
class LogProbs:
    """Log-probs of given tokens: logp float32[T], position 0 is NaN (nothing predicts it)."""

    key: str
    logp: Float32


T = TypeVar("T")
R = TypeVar("R")


class Generate(Protocol):
    """Requests in, completions out (any order; each carries its request's key). Handed to judges."""

    def __call__(self, requests: Iterable[Request]) -> Iterator[Completion]: ...


class Embed(Protocol):
    """Texts -> float32[n, d]."""

    def __call__(self, texts: Sequence[str]) -> Float32: ...


class Map(Protocol):
    """A function over shards, results in the shards' order: in process, a process pool, Ray."""

    def __call__(self, fn: Callable[[T], R], shards: Iterable[T]) -> Iterator[R]: ...


def with_problem(problem: Problem, **changes: Any) -> Problem:
    """A copy with `changes`; a fresh object, so that the cached id is computed anew."""
    return replace(problem, **changes)
