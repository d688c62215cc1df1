"""From rollout specs to judged groups: render, ask the engine, put trajectories together, ask the verifiers.

One call handles all specs of a wave at once, so that a batched engine sees all it has to plan; multi-turn rollouts go round by
round, each turn's requests again together. Engines that stream need no waves (`pipelines.rollout_stream`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from data.keyed import keyed_seed
from data.records import Completion, Group, Problem, Request, RolloutSpec, Sampling, Trajectory, Turn, Verdict
from filters.verifiers.base import NO_TOOLS, Tools, verify_all
from generators.engines.base import Engine
from generators.environments import Environment, get_environment

Render = Callable[..., str]


@dataclass(frozen=True)
class Rollouts:
    """How rollouts are made in one stage of one round; everything keyed, nothing counted."""

    engine: Engine
    policy_id: str
    model: str
    render: Render
    dialect: str
    seed: int  # run seed
    key: tuple[object, ...]  # (round, stage, …): what this stage's random numbers are keyed by
    purpose: str = ""
    priority: int = 0  # of the requests, where an engine serves several at once; higher goes first
    environments: Callable[[str], Environment] = field(default=get_environment)

    def sample(self, specs: Sequence[RolloutSpec]) -> dict[str, list[Trajectory]]:
        """Trajectories per group id, in index order."""
        if self.streams:
            from pipelines.rollout_stream import RolloutStream

            whole: dict[str, list[Trajectory]] = {}
            with RolloutStream(self) as stream:
                stream.ask(specs)
                while stream.open:
                    whole |= {spec.group_id: made for spec, made in stream.finished()}
            return {spec.group_id: whole[spec.group_id] for spec in specs}
        drafts = [draft for spec in specs for draft in self.drafts(spec)]
        active = drafts
        while active:
            asked = [(draft, self.request(draft)) for draft in active]
            answers = {c.key: c for c in self.engine.generate([request for _, request in asked])}
            active = [draft for draft, request in asked if draft.take(request, answers[request.key], self.observation)]
        done: dict[str, list[Trajectory]] = {spec.group_id: [] for spec in specs}
        for draft in drafts:
            done[draft.spec.group_id].append(draft.trajectory(self.policy_id))
        return done

    @property
    def streams(self) -> bool:
        """Whether answers come one by one, so that nothing has to wait for a wave."""
        return bool(getattr(self.engine, "streams", False))

    def drafts(self, spec: RolloutSpec, priority: int = 0) -> list[Draft]:
        """The spec's rollouts before their first token, in index order. `priority` is added to that of all others."""
        return [Draft(spec, index, keyed_seed(self.seed, *self.key, spec.group_id, index), priority) for index in range(spec.n)]

    def request(self, draft: Draft) -> Request:
        """What is asked next for this rollout."""
        spec = draft.spec
        common: dict[str, Any] = {
            "policy_id": self.policy_id,
            "model": self.model,
            "seed": draft.turn_seed(),
            "index": draft.index,
            "purpose": spec.asked_by or self.purpose,
            "priority": self.priority + draft.priority,
            "problem_id": spec.problem.id,
            "media": spec.problem.media,
            "structured": spec.structured,
        }
        sampling = draft.remaining()
        if draft.tokens:
            return Request(tokens=tuple(draft.tokens), sampling=sampling, **common)
        if spec.prompt is not None:
            text = spec.prompt
        else:
            text = self.render(spec.template, problem=spec.problem)
        if self.dialect == "instruct":
            return Request(messages=({"role": "user", "content": text},), sampling=sampling, **common)
        return Request(prompt=text, sampling=sampling, **common)

    def observation(self, draft: Draft) -> list[int] | None:
        if not draft.spec.environment:
            return None
        environment = self.environments(draft.spec.environment)
        if sum(t.role == "policy" for t in draft.turns) >= environment.max_turns:
            return None
        text = environment.observe(draft.spec.problem, draft.turns)
        if text is None:
            return None
        tokens = self.engine.encode(text)
        draft.add("observation", tokens, text, environment.name)
        return tokens


class Draft:
    """One rollout while it is being made."""

    def __init__(self, spec: RolloutSpec, index: int, seed: int, priority: int = 0) -> None:
        self.spec, self.index, self.seed, self.priority = spec, index, seed, priority
        self.tokens: list[int] = []
        self.mask: list[int] = []
        self.logp: list[float] = []
        self.turns: list[Turn] = []
        self.keys: list[str] = []
        self.finish = "stop"
        self.error = ""
        if spec.parent is not None:
            self.add("prompt", spec.parent.tokens[: spec.offset].tolist(), "")

    def add(self, role: str, tokens: Sequence[int], text: str, name: str = "", logp: Sequence[float] | None = None) -> None:
        start = len(self.tokens)
        self.tokens.extend(int(t) for t in tokens)
        self.mask.extend([int(logp is not None)] * len(tokens))
        self.logp.extend(logp if logp is not None else [float("nan")] * len(tokens))
        self.turns.append(Turn(role, start, len(self.tokens), text, name))  # type: ignore[arg-type]

    def turn_seed(self) -> int:
        """The first turn uses the rollout's own seed; later turns one keyed by their place."""
        turn = sum(t.role == "policy" for t in self.turns)
        return self.seed if turn == 0 else keyed_seed(self.seed, "turn", turn)

    def remaining(self) -> Sampling:
        """The spec's token budget covers all turns together."""
        sampling = self.spec.sampling
        used = sum(self.mask)
        if not used:
            return sampling
        return Sampling(sampling.temperature, sampling.top_p, sampling.top_k, max(1, sampling.max_tokens - used), sampling.stop)

    def take(self, request: Request, answer: Completion, observe: Callable[[Draft], list[int] | None]) -> bool:
        """Append the answer; True when the rollout goes on with another turn."""
        self.keys.append(request.key)
        self.finish, self.error = answer.finish, answer.error
        if not self.tokens:
            self.add("prompt", answer.prompt_tokens.tolist(), request.prompt or "")
        if answer.finish in ("error", "cancelled"):
            return False
        self.add("policy", answer.tokens.tolist(), answer.text, logp=answer.logp.tolist())
        spent = sum(self.mask) >= self.spec.sampling.max_tokens
        return not spent and answer.finish == "stop" and observe(self) is not None

    def trajectory(self, policy_id: str) -> Trajectory:
        spec = self.spec
        last = next((t for t in reversed(self.turns) if t.role == "policy"), None)
        prompt_end = self.turns[0].end if self.turns else 0
        return Trajectory(
            problem_id=spec.problem.id,
            policy_id=policy_id,
            tokens=np.asarray(self.tokens, np.int32),
            loss_mask=np.asarray(self.mask, np.uint8),
            logp=np.asarray(self.logp, np.float32),
            sampling=spec.sampling,
            seed=self.seed,
            index=self.index,
            finish=self.finish,  # type: ignore[arg-type]
            text=self.error or (last.text if last else ""),
            version_spans=tuple((policy_id, t.start, t.end) for t in self.turns if t.role == "policy"),
            turns=tuple(self.turns),
            media=tuple((h, 0, prompt_end) for h in spec.problem.media),
            parent=(spec.parent.id, spec.offset) if spec.parent is not None else None,
            request_keys=tuple(self.keys),
        )


def judge(pairs: Sequence[tuple[Problem, Trajectory]], tools: Tools = NO_TOOLS) -> list[Verdict]:
    """A verdict per rollout, in order. A rollout that the engine could not make is unknown, never a fail."""
    judged = iter(verify_all([(p, t.text) for p, t in pairs if t.finish not in ("error", "cancelled")], tools))
    verdicts = []
    for problem, rollout in pairs:
        if rollout.finish in ("error", "cancelled"):
            verdict = Verdict("unknown", 0.0, f"engine: {rollout.text or rollout.finish}", problem.verifier)
        else:
            verdict = next(judged)
        verdicts.append(_addressed(verdict, rollout, problem))
    return verdicts


def _addressed(verdict: Verdict, rollout: Trajectory, problem: Problem) -> Verdict:
    v = verdict
    return Verdict(v.outcome, v.reward, v.reason, v.verifier, rollout.id, problem.id, v.ms, v.isolation, v.integrity)


def make_groups(
    specs: Iterable[RolloutSpec], rollouts: dict[str, list[Trajectory]], tools: Tools = NO_TOOLS
) -> tuple[list[Group], list[Verdict]]:
    """Judged groups in the specs' order, and all verdicts.

    Rollouts whose verdict is unknown leave the group (their reward would be a guess) unless its spec keeps them; their verdict row stays.
    """
    specs = list(specs)
    pairs = [(spec.problem, rollout) for spec in specs for rollout in rollouts[spec.group_id]]
    verdicts = judge(pairs, tools)
    groups, position = [], 0
    for spec in specs:
        made = rollouts[spec.group_id]
        judged = list(zip(made, verdicts[position : position + len(made)], strict=True))
        position += len(made)
        known = judged if spec.keeps_unknown else [(r, v) for r, v in judged if v.outcome != "unknown"]
        groups.append(
            Group(
                id=spec.group_id,
                problem=spec.problem,
                rollouts=tuple(r for r, _ in known),
                verdicts=tuple(v for _, v in known),
                rewards=np.asarray([v.reward for _, v in known], np.float32),
                stream=spec.stream,
                estimator=spec.estimator,
                coef=spec.coef,
                refs=spec.refs,
                kl=spec.kl,
            )
        )
    return groups, verdicts


def distinct(specs: Iterable[RolloutSpec]) -> Iterator[RolloutSpec]:
    """The specs without repeats of a group id, in order."""
    seen: set[str] = set()
    for spec in specs:
        if spec.group_id not in seen:
            seen.add(spec.group_id)
            yield spec
