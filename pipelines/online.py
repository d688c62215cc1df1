"""One optimizer step's rollouts: all strategies run side by side over one engine.

A wave gathers what every strategy is waiting for, generates and judges it together, and resumes them. Over an engine that streams there are no
waves: a strategy is resumed as soon as its own groups are there. Both end alike, because what a strategy asks and says depends on the groups it
is given and on nothing else, what is once released stays released, and nobody is answered empty before nothing is left to wait for. Each main
spec is generated once per step however many strategies ask for it, and a group that several ask for is the same one for all. A strategy with
`gates_main` holds the main specs back until it asks for them or returns; main specs it drops before that are never generated.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from data.errors import SynthError
from data.records import Group, GroupEdit, RolloutSpec, Trajectory, Verdict
from filters.verifiers.base import NO_TOOLS, Tools
from generators.strategies.base import Online, StepContext, Strategy
from pipelines.rollout import distinct, make_groups
from pipelines.rollout_stream import Judging, RolloutStream

Sample = Callable[[Sequence[RolloutSpec]], dict[str, list[Trajectory]]]


@dataclass
class StepRollouts:
    """What a step sampled: every group by id, in the order made, and the edits of the strategies."""

    main: list[Group]
    edits: list[GroupEdit]
    sampled: dict[str, Group] = field(default_factory=dict)
    trajectories: dict[str, list[Trajectory]] = field(default_factory=dict)  # per group id, unknown verdicts included
    specs: dict[str, RolloutSpec] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)


@dataclass
class _Player:
    name: str
    gates: bool
    online: Online
    asked_for: dict[str, RolloutSpec]  # by group id, shared by all strategies of the step
    waiting: list[RolloutSpec] | None = None  # None = finished
    edits: list[GroupEdit] = field(default_factory=list)
    asked_main: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)  # group ids, in order

    def advance(self, groups: list[Group] | None, main_ids: set[str]) -> None:
        try:
            asked = next(self.online) if groups is None else self.online.send(groups)
            self.waiting = [self._agreed(s if s.group_id in main_ids else replace(s, asked_by=self.name)) for s in asked]
            self.asked += [s.group_id for s in self.waiting]
            self.asked_main |= {s.group_id for s in self.waiting} & main_ids
        except StopIteration as stop:
            self.waiting = None
            self.edits = list(stop.value or [])

    def _agreed(self, spec: RolloutSpec) -> RolloutSpec:
        """`spec`, unless its group was asked for otherwise: then whoever is answered first would decide what the other one gets."""
        known = self.asked_for.setdefault(spec.group_id, spec)
        for name in GROUP_FIELDS:
            one, other = getattr(known, name), getattr(spec, name)
            if one != other:
                whose = f"strategy {known.asked_by!r}" if known.asked_by else "the step itself"
                raise SynthError(
                    f"strategy {self.name!r} asks for group {spec.group_id} (stream {spec.stream!r}) with {name} = {other}, "
                    f"{whose} with {name} = {one}; give the two specs different keys, or ask for the same"
                )
        return spec


GROUP_FIELDS = ("n", "sampling", "estimator", "coef", "environment", "structured", "refs", "kl", "keeps_unknown")
"""What a group is beside its id: two specs of one id have to agree on it."""


def sample_step(
    strategies: Sequence[Strategy],
    contexts: Mapping[str, StepContext],
    main: Sequence[RolloutSpec],
    sample: Sample,
    tools: Tools = NO_TOOLS,
    streaming: RolloutStream | None = None,
    on_judged: Callable[[Group], object] = lambda group: None,
) -> StepRollouts:
    """Run one step. `contexts` by strategy name; `tools` are for verifiers that ask a model; `streaming`: make the rollouts there, without waves,
    instead of by `sample`, and tell `on_judged` of each group at once. How fast anything answers changes nothing."""
    step = StepRollouts([], [])
    main = list(distinct(main))
    main_ids = {s.group_id for s in main}
    asked_for = {s.group_id: s for s in main}
    players = [_Player(s.name, s.gates_main, s.online(contexts[s.name]), asked_for) for s in sorted(strategies, key=lambda s: s.name)]
    for player in players:
        player.advance(None, main_ids)
    if streaming is None:
        _in_waves(step, main, players, sample, tools)
    else:
        _streamed(step, main, players, streaming, tools, on_judged)
    step.main = [step.sampled[s.group_id] for s in main if s.group_id in step.sampled]
    edits = [e for p in players for e in p.edits]
    # Groups join before anything is done to them, whichever strategy is named first; edits of groups outside the step are moot.
    main_groups = {g.id for g in step.main}
    added: dict[str, GroupEdit] = {}
    for edit in edits:
        if edit.kind == "add" and edit.group_id not in main_groups:
            added.setdefault(edit.group_id, edit)  # once each: the first word counts
    present = main_groups | added.keys()
    step.edits = [*added.values(), *(e for e in edits if e.kind != "add" and e.group_id in present)]
    return step


def _in_waves(step: StepRollouts, main: Sequence[RolloutSpec], players: Sequence[_Player], sample: Sample, tools: Tools) -> None:
    main_ids = {s.group_id for s in main}
    while True:
        wave = _wanted(main, players, step.sampled.keys())
        if wave:
            _make(step, wave, sample, tools)
        if not _resume(step, players, main_ids) and not wave and not _resume(step, players, main_ids, anyway=True):
            return


def _streamed(
    step: StepRollouts,
    main: Sequence[RolloutSpec],
    players: Sequence[_Player],
    stream: RolloutStream,
    tools: Tools,
    on_judged: Callable[[Group], object],
) -> None:
    main_ids = {s.group_id for s in main}
    begun: dict[str, RolloutSpec] = {}
    verdicts: dict[str, list[Verdict]] = {}
    with Judging(stream, tools) as judging:
        while True:
            wave = _wanted(main, players, begun.keys())
            begun |= {s.group_id: s for s in wave}
            stream.ask(wave)
            if _resume(step, players, main_ids):
                continue
            if not (stream.open or judging.open):
                if not _resume(step, players, main_ids, anyway=True):
                    break
                continue
            if stream.open:
                judging.add(stream.finished())
            for spec, made, group, said in judging.judged():
                step.sampled[group.id], step.specs[group.id], step.trajectories[group.id], verdicts[group.id] = group, spec, made, said
                on_judged(group)
    order = list(dict.fromkeys(i for i in [*(s.group_id for s in main), *(i for p in players for i in p.asked)] if i in step.sampled))
    step.sampled = {i: step.sampled[i] for i in order}
    step.specs = {i: step.specs[i] for i in order}
    step.trajectories = {i: step.trajectories[i] for i in order}
    step.verdicts.extend(v for i in order for v in verdicts[i])


def _wanted(main: Sequence[RolloutSpec], players: Sequence[_Player], begun: Collection[str]) -> list[RolloutSpec]:
    """Specs to be made now: main ones that nothing holds back, and what strategies wait for."""
    main_ids = {s.group_id for s in main}
    asked = [s for player in players for s in player.waiting or [] if s.group_id not in main_ids]
    return [s for s in distinct([*_released(main, players), *asked]) if s.group_id not in begun]


def _resume(step: StepRollouts, players: Sequence[_Player], main_ids: set[str], *, anyway: bool = False) -> bool:
    """Resumes the strategies whose groups are all there; whether there were any.

    `anyway`: nothing is left to be made, so what is still waited for are main specs that another strategy's gate keeps back: they answer empty.
    """
    ready = [p for p in players if p.waiting is not None and (anyway or all(s.group_id in step.sampled for s in p.waiting))]
    for player in ready:
        player.advance([step.sampled.get(s.group_id) or _unmade(s) for s in player.waiting or []], main_ids)
    return bool(ready)


def _released(main: Sequence[RolloutSpec], players: Sequence[_Player]) -> list[RolloutSpec]:
    """Main specs that no gate holds back: each gate has asked for it, or returned without dropping it."""

    def open_(spec: RolloutSpec) -> bool:
        for player in players:
            if not player.gates or spec.group_id in player.asked_main:
                continue
            if player.waiting is not None:
                return False
            if any(e.kind == "drop" and e.group_id == spec.group_id for e in player.edits):
                return False
        return True

    return [s for s in main if open_(s)]


def _unmade(spec: RolloutSpec) -> Group:
    return Group(spec.group_id, spec.problem, (), (), np.zeros(0, np.float32), spec.stream, spec.estimator, spec.coef, spec.refs, spec.kl)


def _make(step: StepRollouts, wave: list[RolloutSpec], sample: Sample, tools: Tools) -> None:
    rollouts = sample(wave)
    groups, verdicts = make_groups(wave, rollouts, tools)
    step.verdicts.extend(verdicts)
    step.trajectories.update(rollouts)
    for spec, group in zip(wave, groups, strict=True):
        step.sampled[group.id] = group
        step.specs[group.id] = spec
