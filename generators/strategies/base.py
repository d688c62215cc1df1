"""The strategy protocol: proposes candidates offline and, where the paper says so, takes part in training steps."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import polars as pl

from data.records import Candidate, Embed, Generate, Group, GroupEdit, Problem, RolloutSpec, Sampling
from generators.strategies.speaker import Speaker
from generators.worlds.base import World


@dataclass(frozen=True)
class Decision:
    """What a strategy decided about something it made: a row of `decisions`, its problem a row of `problems`."""

    candidate: Candidate
    rule: str
    kept: bool
    reason: str


@dataclass(frozen=True)
class RoundContext:
    """What a strategy may know when it proposes candidates for a round.

    `difficulty`: one row per probed problem (problem_id, domain, level, concepts, passes, n, pass_rate, policy_id, round),
    all rounds so far; `history`: one row per problem and visit in time order (problem_id, domain, level, round, step, passes, n; step 0
    is a probe, others are training steps); `problems`: by id, those of both tables. `render(template, **values)` gives a prompt in the
    policy's dialect. `teacher(path)` opens another policy to ask; `embedder(path)` a local folder that embeds.

    `heldout(texts)` says for each text why it may not be trained on, "" where it may. `decide` records what becomes of a candidate that
    is not proposed; in the end those decisions lie in `decided`, in order. `solutions(problem ids)` gives for those that the policy
    solved in this round's probe one of its right answers.
    """

    round: int
    seed: int
    budget: int  # candidates this strategy may propose in this round
    difficulty: pl.DataFrame
    problems: Mapping[str, Problem]
    band: tuple[float, float]  # inclusive pass rates worth training on
    group_size: int  # answers per problem in training
    policy_id: str
    sampling: Sampling
    generate: Generate
    embed: Embed | None = None
    world: World | None = None
    render: Callable[..., str] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    history: pl.DataFrame = field(default_factory=pl.DataFrame)
    model: str = ""
    dialect: str = "compact"
    structured: bool = False  # the engine can hold an answer to a schema
    teacher: Callable[[str], Speaker] | None = None
    embedder: Callable[[str], Embed] | None = None
    heldout: Callable[[Sequence[str]], Sequence[str]] = lambda texts: [""] * len(texts)
    decided: list[Decision] = field(default_factory=list)
    solutions: Callable[[Sequence[str]], Mapping[str, str]] = lambda ids: {}

    @property
    def speaker(self) -> Speaker:
        """The policy itself."""
        if self.render is None:
            raise ValueError("this round has no prompts: a strategy that asks the policy needs `render`")
        return Speaker(self.generate, self.render, self.policy_id, self.model, self.dialect, self.structured)

    def decide(self, problem: Problem, strategy: str, parents: Sequence[str], rule: str, kept: bool, reason: str) -> None:
        """One row per candidate and rule; the candidate is told from others by its parents."""
        self.decided.append(Decision(Candidate(problem, self.round, strategy, tuple(parents)), rule, kept, reason))


@dataclass(frozen=True)
class StepContext:
    """What a strategy may know in one optimizer step.

    `heldout(texts)` says for each text why it may not be trained on, "" where it may. `decide` records what becomes of each
    candidate; in the end the decisions lie in `decided`, in order.

    `main` are the step's own rollout specs. Yielding some of them asks for their judged groups: each is generated once
    per step, however many strategies ask. A strategy with `gates_main = True` holds back the main specs until it has
    asked for them or has returned; those it drops before asking are never generated.
    """

    round: int
    step: int
    seed: int
    main: Sequence[RolloutSpec]
    sampling: Sampling
    policy_id: str
    world: World | None = None
    render: Callable[..., str] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    dialect: str = "instruct"  # of the policy's prompts
    heldout: Callable[[Sequence[str]], Sequence[str]] = lambda texts: [""] * len(texts)
    decided: list[Decision] = field(default_factory=list)

    def decide(self, problem: Problem, strategy: str, parents: Sequence[str], rule: str, kept: bool, reason: str) -> None:
        """One row per candidate and rule; the candidate is told from others by its parents."""
        self.decided.append(Decision(Candidate(problem, self.round, strategy, tuple(parents)), rule, kept, reason))


Online = Generator[list[RolloutSpec], list[Group], list[GroupEdit]]
"""Yields the rollouts it wants, is resumed with their judged groups in the order asked, ends with edits of the step."""


class Strategy(Protocol):
    """`propose` runs once a round, `online` once an optimizer step; either may do nothing.

    Decisions (bands, budgets, votes, gates, rewards) are pure functions beside the strategy. State goes through
    `state_dict`, is JSON-able, and is checkpointed with every optimizer step.
    """

    name: str
    gates_main: bool

    def propose(self, ctx: RoundContext) -> Iterator[Candidate]: ...

    def online(self, ctx: StepContext) -> Online: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class BaseStrategy:
    """A strategy that does nothing; shipped strategies override what they do."""

    name = "nothing"
    gates_main = False

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        self.settings = dict(settings or {})

    def propose(self, ctx: RoundContext) -> Iterator[Candidate]:
        yield from ()

    def online(self, ctx: StepContext) -> Online:
        return []
        yield  # makes this a generator

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state:
            raise ValueError(f"strategy {self.name} keeps no state, but a checkpoint holds {sorted(state)}")
