"""Rollouts without waves, for engines that stream: a rollout's next turn is sent when its own answer came, a group is judged while others are
still being written.

Answers come in any order; what is built from them does not depend on it: every group is handed on whole, and everything ordered or counted goes
by the specs' order.
"""

from __future__ import annotations

import queue
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import takewhile

from data.errors import SynthError
from data.records import Group, Request, RolloutSpec, Trajectory, Verdict
from filters.verifiers.base import NO_TOOLS, Tools
from generators.engines.ledgered import LedgeredEngine
from pipelines.rollout import Draft, Rollouts, make_groups

Judged = tuple[RolloutSpec, list[Trajectory], Group, list[Verdict]]


class RolloutStream:
    """Groups in the making over one open stream of the engine. For one thread; use `with`.

    Groups may be asked for ahead, before it is known that they are wanted: their requests go out when nothing else waits, they are handed on once
    they are asked for, and what turns out not to be wanted is cancelled. So an engine has work while what decides is still on its way, and no
    result depends on how far it came.
    """

    def __init__(self, rollouts: Rollouts) -> None:
        assert isinstance(rollouts.engine, LedgeredEngine)
        self.rollouts = rollouts
        self.stream = rollouts.engine.open_stream()
        self._window = rollouts.engine.window
        self._waiting: dict[str, list[tuple[Draft, Request]]] = {}  # by request key
        self._drafts: dict[str, list[Draft]] = {}  # by group id, while one of them is unfinished
        self._unfinished: dict[str, int] = {}
        self._ahead: dict[str, RolloutSpec] = {}  # asked for ahead and by nobody yet
        self._kept: dict[str, list[Trajectory]] = {}  # those of them that are whole
        self._wanted: list[tuple[RolloutSpec, list[Trajectory]]] = []  # whole when they were asked for
        self._cancelled: set[str] = set()

    def __enter__(self) -> RolloutStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel(self._ahead)
        self.stream.close()

    @property
    def open(self) -> bool:
        """Whether groups that somebody wants are still to be handed on."""
        return bool(self._wanted) or any(group_id not in self._ahead for group_id in self._unfinished)

    @property
    def has_room(self) -> bool:
        """Whether the engine could do with more requests than it was given."""
        return self.stream.outstanding < self._window

    @property
    def looks_ahead(self) -> bool:
        """Whether asking ahead is of use: the engine can give up what turns out not to be wanted."""
        return callable(getattr(self.rollouts.engine.engine, "cancel", None))  # type: ignore[attr-defined]

    def ask(self, specs: Iterable[RolloutSpec]) -> None:
        """Begins these groups; each group id once."""
        fresh = []
        for spec in specs:
            if spec.group_id in self._cancelled:
                raise SynthError(f"group {spec.group_id} was cancelled and is asked for again; one stream makes a group once")
            early = self._ahead.pop(spec.group_id, None)
            if early is None:
                fresh.append(spec)
                continue
            if early.n != spec.n:
                raise SynthError(f"group {spec.group_id} was asked for ahead with n = {early.n} and is wanted with n = {spec.n}")
            if (made := self._kept.pop(spec.group_id, None)) is not None:
                self._wanted.append((spec, made))
        self._begin(fresh, 0)

    def ask_ahead(self, specs: Iterable[RolloutSpec]) -> None:
        """Begins groups that will probably be asked for, behind everything else. They may well be asked for ahead twice."""
        fresh = [s for s in specs if s.group_id not in self._ahead]
        self._ahead |= {s.group_id: s for s in fresh}
        self._begin(fresh, -1)

    def cancel(self, group_ids: Iterable[str]) -> None:
        """Gives these groups up. They cannot be asked for again."""
        gone = set(group_ids)
        self._cancelled |= gone
        keys = [key for key, asked in self._waiting.items() if all(draft.spec.group_id in gone for draft, _ in asked)]
        for key in keys:
            del self._waiting[key]
        if keys:
            self.stream.cancel(keys)
        for group_id in gone:
            for of in (self._drafts, self._unfinished, self._ahead, self._kept):
                of.pop(group_id, None)

    def cancel_ahead(self, *, but: Collection[str] = ()) -> None:
        """Gives up what was asked for ahead and is not among `but`."""
        self.cancel([group_id for group_id in self._ahead if group_id not in but])

    def finished(self) -> list[tuple[RolloutSpec, list[Trajectory]]]:
        """Waits for answers, or to be woken (`stream.wake`); the groups that are now whole."""
        whole, self._wanted = self._wanted, []
        going_on = []
        for answer in self.stream.take(block=not whole):
            for draft, request in self._waiting.pop(answer.key, ()):
                if draft.spec.group_id not in self._unfinished:
                    continue  # cancelled, while another group waits for the same answer
                if draft.take(request, answer, self.rollouts.observation):
                    going_on.append(draft)
                    continue
                group_id = draft.spec.group_id
                self._unfinished[group_id] -= 1
                if not self._unfinished[group_id]:
                    del self._unfinished[group_id]
                    made = [d.trajectory(self.rollouts.policy_id) for d in self._drafts.pop(group_id)]
                    if group_id in self._ahead:
                        self._kept[group_id] = made
                    else:
                        whole.append((draft.spec, made))
        self._send(going_on)
        return whole

    def _begin(self, specs: Iterable[RolloutSpec], priority: int) -> None:
        drafts = []
        for spec in specs:
            self._drafts[spec.group_id] = self.rollouts.drafts(spec, priority)
            self._unfinished[spec.group_id] = spec.n
            drafts += self._drafts[spec.group_id]
        self._send(drafts)

    def _send(self, drafts: Iterable[Draft]) -> None:
        requests = []
        for draft in drafts:
            request = self.rollouts.request(draft)
            asked = self._waiting.setdefault(request.key, [])
            asked.append((draft, request))
            if len(asked) == 1:
                requests.append(request)
        if requests:
            self.stream.ask(requests)


class Judging:
    """Judges groups on a thread of its own (what a verifier runs, it runs in processes of its own); what gathers meanwhile is one batch.

    `tools` are for verifiers that ask a model; groups may bring others, whose requests are then told apart from the rest.
    """

    def __init__(self, stream: RolloutStream, tools: Tools = NO_TOOLS) -> None:
        self.stream, self.tools = stream, tools
        self._pool = ThreadPoolExecutor(1, "synth-judge")
        self._gathered: list[tuple[RolloutSpec, list[Trajectory], Tools]] = []
        self._done: queue.SimpleQueue[Future[list[Judged]]] = queue.SimpleQueue()
        self._busy = False

    def __enter__(self) -> Judging:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    @property
    def open(self) -> bool:
        return self._busy or bool(self._gathered)

    def add(self, groups: Iterable[tuple[RolloutSpec, list[Trajectory]]], tools: Tools | None = None) -> None:
        self._gathered += [(spec, made, tools or self.tools) for spec, made in groups]
        self._go_on()

    def judged(self) -> list[Judged]:
        """What is judged by now. Waits for it where no rollout is left to wait for."""
        found: list[Judged] = []
        while self._busy and (not self._done.empty() or not (self.stream.open or found)):
            found += self._done.get().result()
            self._busy = False
            self._go_on()
        return found

    def _go_on(self) -> None:
        if self._gathered and not self._busy:
            tools = self._gathered[0][2]
            mine = len(list(takewhile(lambda one: one[2] is tools, self._gathered)))
            batch, self._gathered, self._busy = self._gathered[:mine], self._gathered[mine:], True
            self._pool.submit(judge_groups, [(spec, made) for spec, made, _ in batch], tools).add_done_callback(self._tell)

    def _tell(self, done: Future[list[Judged]]) -> None:
        self._done.put(done)
        self.stream.stream.wake()


def judge_groups(batch: Sequence[tuple[RolloutSpec, list[Trajectory]]], tools: Tools) -> list[Judged]:
    """Each group with its verdicts, in order."""
    groups, verdicts = make_groups([spec for spec, _ in batch], {spec.group_id: made for spec, made in batch}, tools)
    judged, place = [], 0
    for (spec, made), group in zip(batch, groups, strict=True):
        judged.append((spec, made, group, verdicts[place : place + len(made)]))
        place += len(made)
    return judged
