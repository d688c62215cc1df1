"""Rollouts without waves, for engines that stream: a rollout's next turn is sent when its own answer came, a group is judged while others are
still being written.

Answers come in any order; what is built from them does not depend on it: every group is handed on whole, and everything ordered or counted goes
by the specs' order.
"""

from __future__ import annotations

import queue
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from data.records import Group, Request, RolloutSpec, Trajectory, Verdict
from filters.verifiers.base import NO_TOOLS, Tools
from generators.engines.ledgered import LedgeredEngine
from pipelines.rollout import Draft, Rollouts, make_groups

Judged = tuple[RolloutSpec, list[Trajectory], Group, list[Verdict]]


class RolloutStream:
    """Groups in the making over one open stream of the engine. For one thread; use `with`."""

    def __init__(self, rollouts: Rollouts) -> None:
        assert isinstance(rollouts.engine, LedgeredEngine)
        self.rollouts = rollouts
        self.stream = rollouts.engine.open_stream()
        self._waiting: dict[str, list[tuple[Draft, Request]]] = {}  # by request key
        self._drafts: dict[str, list[Draft]] = {}  # by group id, while one of them is unfinished
        self._unfinished: dict[str, int] = {}

    def __enter__(self) -> RolloutStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()

    @property
    def open(self) -> bool:
        """Whether groups are still being made."""
        return bool(self._unfinished)

    def ask(self, specs: Iterable[RolloutSpec]) -> None:
        """Begins these groups; each group id once."""
        drafts = []
        for spec in specs:
            self._drafts[spec.group_id] = self.rollouts.drafts(spec)
            self._unfinished[spec.group_id] = spec.n
            drafts += self._drafts[spec.group_id]
        self._send(drafts)

    def finished(self) -> list[tuple[RolloutSpec, list[Trajectory]]]:
        """Waits for answers, or to be woken (`stream.wake`); the groups that are now whole."""
        going_on, whole = [], []
        for answer in self.stream.take():
            for draft, request in self._waiting.pop(answer.key, ()):
                if draft.take(request, answer, self.rollouts.observation):
                    going_on.append(draft)
                    continue
                group_id = draft.spec.group_id
                self._unfinished[group_id] -= 1
                if not self._unfinished[group_id]:
                    del self._unfinished[group_id]
                    drafts = self._drafts.pop(group_id)
                    whole.append((draft.spec, [d.trajectory(self.rollouts.policy_id) for d in drafts]))
        self._send(going_on)
        return whole

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
    """Judges groups on a thread of its own (what a verifier runs, it runs in processes of its own); what gathers meanwhile is one batch."""

    def __init__(self, stream: RolloutStream, tools: Tools = NO_TOOLS) -> None:
        self.stream, self.tools = stream, tools
        self._pool = ThreadPoolExecutor(1, "synth-judge")
        self._gathered: list[tuple[RolloutSpec, list[Trajectory]]] = []
        self._done: queue.SimpleQueue[Future[list[Judged]]] = queue.SimpleQueue()
        self._busy = False

    def __enter__(self) -> Judging:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    @property
    def open(self) -> bool:
        return self._busy or bool(self._gathered)

    def add(self, groups: Iterable[tuple[RolloutSpec, list[Trajectory]]]) -> None:
        self._gathered += groups
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
            batch, self._gathered, self._busy = self._gathered, [], True
            self._pool.submit(_judge, batch, self.tools).add_done_callback(self._tell)

    def _tell(self, done: Future[list[Judged]]) -> None:
        self._done.put(done)
        self.stream.stream.wake()


def _judge(batch: Sequence[tuple[RolloutSpec, list[Trajectory]]], tools: Tools) -> list[Judged]:
    groups, verdicts = make_groups([spec for spec, _ in batch], {spec.group_id: made for spec, made in batch}, tools)
    judged, place = [], 0
    for (spec, made), group in zip(batch, groups, strict=True):
        judged.append((spec, made, group, verdicts[place : place + len(made)]))
        place += len(made)
    return judged


def sample_and_judge(
    rollouts: Rollouts, specs: Sequence[RolloutSpec], tools: Tools = NO_TOOLS
) -> tuple[dict[str, list[Trajectory]], list[Group], list[Verdict]]:
    """Trajectories by group id, judged groups and verdicts, all in the specs' order; judged while others are written, where the engine streams."""
    if not rollouts.streams:
        made = rollouts.sample(specs)
        return made, *make_groups(specs, made, tools)
    found: dict[str, Judged] = {}
    with RolloutStream(rollouts) as stream, Judging(stream, tools) as judging:
        stream.ask(specs)
        while stream.open or judging.open:
            if stream.open:
                judging.add(stream.finished())
            found |= {one[0].group_id: one for one in judging.judged()}
    ordered = [found[spec.group_id] for spec in specs]
    return {s.group_id: made for s, made, _, _ in ordered}, [g for _, _, g, _ in ordered], [v for *_, verdicts in ordered for v in verdicts]
