"""What one optimizer step learns from: prompts drawn in a keyed order, sampled, judged, edited by strategies, refilled (DAPO's dynamic sampling)."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np

from data.keyed import keyed_order, keyed_rng
from data.records import Group, PolicyVersion, Problem, RolloutSpec
from generators.strategies.base import Decision, StepContext
from pipelines.grpo.presets import preset_named
from pipelines.grpo.recompose import apply_edits, drop_zero_variance
from pipelines.judging import Judge
from pipelines.online import StepRollouts, sample_step
from pipelines.rollout_stream import RolloutStream
from pipelines.run import Run
from pipelines.stages.epochs import draws
from pipelines.stages.leaks import refuse_leaks
from pipelines.stages.online_rows import online_tables, trained_rewards
from pipelines.stages.rows import rollouts_of, sampled_tables


@dataclass
class Sampled:
    """Everything sampled for one optimizer step, over its generation batches.

    `states`: what the strategies remember after this step's rollouts and before the next one's, however far ahead sampling runs.
    """

    step: int
    policy: PolicyVersion  # that sampled it
    cursor: int  # into the endless order of prompts, after this step
    batches: list[StepRollouts] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)  # edited, with variance
    factors: dict[str, float] = field(default_factory=dict)
    judged: list[dict[str, Any]] = field(default_factory=list)  # rows of `requests` that verifiers made
    refused: list[dict[str, Any]] = field(default_factory=list)  # decision rows of groups that give a held-out problem away
    decided: list[Decision] = field(default_factory=list)  # of strategies, about what they made
    states: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def tokens(self) -> int:
        """Response tokens that the step learns from."""
        return sum(r.response_length for g in self.groups for r in g.rollouts)

    def tables(self, run: Run, round: int) -> dict[str, Any]:
        """Its rows for the shard of its optimizer step."""
        tables: dict[str, Any] = {}
        for made in self.batches:
            rewards = trained_rewards(made.edits, {i: [r.id for r in g.rollouts] for i, g in made.sampled.items()})
            specs = list(made.specs.values())
            for name, rows in sampled_tables(run, round, "train", self.step, specs, made.trajectories, made.verdicts, rewards).items():
                tables[name] = [*tables.get(name, []), *rows]
        asked = [spec for made in self.batches for spec in made.specs.values()]
        known = run.lake.known_ids("problems", {s.problem.id for s in asked} | {d.candidate.problem.id for d in self.decided})
        online = online_tables(asked, self.decided, known, round=round, step=self.step)
        tables["requests"] = [*tables.get("requests", []), *self.judged]
        return tables | {"problems": online["problems"], "decisions": [*self.refused, *online["decisions"]]}


def sample(run: Run, round: int, step: int, cursor: int, problems: Sequence[Problem], policy: PolicyVersion) -> Sampled:
    """Draws prompts until enough groups have variance, or the batches are used up; `policy` is what the engine holds.

    Over an engine that can cancel, no batch waits for the last answer of the one before: a group without variance has its place in the next batch
    asked for at once (`_Refill`).
    """
    part = run.recipe.train
    start = time.perf_counter()
    rollouts, asker = rollouts_of(run, round, "train", policy), Judge(run, policy)
    sampled = Sampled(step, policy, cursor)
    keeps_flat = preset_named(part.preset, part.objective).keeps_flat_groups
    with RolloutStream(rollouts) if rollouts.streams else nullcontext() as stream:
        for batch in range(part.generation_batches):
            missing = min(part.prompts_per_step - len(sampled.groups), len(problems))
            if missing <= 0:
                break
            main = list(islice(_prompts(run, round, step, batch, sampled.cursor, problems), missing))
            sampled.cursor += missing
            contexts = _contexts(run, round, step, main, policy)
            told = _Refill(stream, main, iter(()), keeps_flat)
            if batch + 1 < part.generation_batches and not any(s.gates_main for s in run.strategies):
                told.following = islice(_prompts(run, round, step, batch + 1, sampled.cursor, problems), len(problems))
            made = sample_step(run.strategies, contexts, main, rollouts.sample, asker.tools, stream, told)
            groups, factors = apply_edits(made.main, made.edits)
            groups, refused = refuse_leaks(groups, {p.id for p in problems}, run.heldout, round=round, step=step)
            sampled.refused.extend(refused)
            sampled.decided.extend(d for _, context in sorted(contexts.items()) for d in context.decided)
            sampled.batches.append(made)
            sampled.groups.extend(drop_zero_variance(groups, keeps_flat))
            sampled.factors.update(factors)
    sampled.judged = asker.requests(round, "train", step)
    sampled.states = copy.deepcopy({s.name: s.state_dict() for s in run.strategies})
    sampled.seconds = time.perf_counter() - start
    return sampled


def within(groups: Sequence[Group], tokens: int, seed: int, round: int, step: int) -> list[Group]:
    """As many whole groups as `tokens` response tokens hold, chosen in keyed order, kept in their own: what the last step of a budget may learn
    from, so that two arms of one budget differ by less than a group each."""
    sizes = {g.id: sum(r.response_length for r in g.rollouts) for g in groups}
    chosen: set[str] = set()
    for ident in keyed_order(seed, list(sizes), round, step, "budget"):
        tokens -= sizes[ident]
        if tokens < 0:
            break
        chosen.add(ident)
    return [g for g in groups if g.id in chosen]


def _prompts(run: Run, round: int, step: int, batch: int, cursor: int, problems: Sequence[Problem]) -> Iterator[RolloutSpec]:
    """The main specs of a generation batch that begins at `cursor`, in order and without end."""
    part = run.recipe.train
    for problem, after in draws(problems, run.recipe.seed, round, cursor, part.prompts_per_step * part.generation_batches):
        yield RolloutSpec(problem, part.group_size, run.recipe.sampling.sampling(), key=(step, batch, after))


def _contexts(run: Run, round: int, step: int, main: Sequence[RolloutSpec], policy: PolicyVersion) -> dict[str, StepContext]:
    recipe = run.recipe
    return {
        s.name: StepContext(
            round=round,
            step=step,
            seed=recipe.seed,
            main=main,
            sampling=recipe.sampling.sampling(),
            policy_id=policy.id,
            world=run.world,
            render=run.render,
            settings=recipe.strategies[s.name].model_dump(),
            dialect=recipe.policy.dialect,
            heldout=lambda texts: [hit.reason if hit else "" for hit in run.heldout.hits(texts)] if texts else [],
        )
        for s in run.strategies
    }


class _Refill:
    """Told of each judged group of one batch: for a main one that nothing is learned from, the next batch will need another prompt, the next in the
    order of prompts. That prompt is asked for now. Should the step turn out to need fewer (a strategy mends a group), the rest is cancelled."""

    def __init__(self, stream: RolloutStream | None, main: Sequence[RolloutSpec], following: Iterator[RolloutSpec], keeps_flat: bool) -> None:
        self.stream, self.following, self.keeps_flat = stream, following, keeps_flat
        self._main = {spec.group_id for spec in main}
        if stream is not None:
            stream.cancel_ahead(but=self._main)

    def __call__(self, group: Group) -> None:
        if self.stream is None or not self.stream.looks_ahead or group.id not in self._main:
            return
        if not drop_zero_variance([group], self.keeps_flat):
            self.stream.ask_ahead(islice(self.following, 1))


def shuffled(group: Group, seed: int, round: int, step: int) -> Group:
    """The control experiment: the group's own rewards, dealt to its rollouts at random."""
    order = keyed_rng(seed, round, step, "shuffled_rewards", group.id).permutation(len(group.rewards))
    return replace(group, rewards=np.asarray(group.rewards)[order])
