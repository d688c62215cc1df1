"""Shard after shard sampled and judged, with no barrier between the two: while one shard is judged the next is being sampled.

Over an engine that streams the next shard is asked for as soon as the engine could do with more, and every group is judged when it is whole. An
engine that goes batch by batch samples one shard at a time, and what it sampled is judged on a thread of its own meanwhile, unless judging asks
that very engine, which has one thing to do at a time. What comes out, and in which order, is the same either way, and the same as one after the
other. Only the consumer's thread hands anything on: an interrupted run commits nothing that was judged while it was being torn down.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

from data.records import RolloutSpec, Trajectory, Verdict
from filters.verifiers.base import NO_TOOLS, Tools, get_verifier
from pipelines.rollout import Rollouts
from pipelines.rollout_stream import Judged, Judging, RolloutStream, judge_groups


@dataclass
class Shard:
    """What is asked for together and, at last, what became of it. `tools`: of verifiers that ask a model for this shard."""

    number: int
    specs: Sequence[RolloutSpec]
    tools: Tools = NO_TOOLS
    rollouts: dict[str, list[Trajectory]] = field(default_factory=dict)  # by group id
    judged: dict[str, Judged] = field(default_factory=dict)

    @property
    def is_sampled(self) -> bool:
        return len(self.rollouts) == len(self.specs)

    @property
    def verdicts(self) -> list[Verdict]:
        """In the specs' order."""
        return [verdict for spec in self.specs for verdict in self.judged[spec.group_id][3]]


def _nothing(_: object) -> None:
    pass


def judged_shards(
    rollouts: Rollouts,
    shards: Sequence[Shard],
    *,
    on_sampled: Callable[[Shard], object] = _nothing,
    on_judged: Callable[[Judged], object] = _nothing,
    stream: RolloutStream | None = None,
    last: bool = True,
) -> Generator[Shard, None, None]:
    """The shards in order, each once all of it is judged; `on_sampled` with each before that, once its rollouts are there.

    `on_judged` hears of every group as soon as it is judged, where the engine streams. `stream`: one that is open already. `last = False`: nothing
    would go on beside the last shard of an engine that goes batch by batch, nor beside what is not begun by then; they are sampled, not judged,
    and not given. Close it (`contextlib.closing`) where an error may end its consumer.
    """
    if not rollouts.streams:
        yield from _beside(rollouts, shards, on_sampled, last)
        return
    with ExitStack() as opened:
        stream = stream or opened.enter_context(RolloutStream(rollouts))
        yield from _streamed(stream, shards, on_sampled, on_judged, opened.enter_context(Judging(stream)))


def _streamed(
    stream: RolloutStream, shards: Sequence[Shard], on_sampled: Callable[[Shard], object], on_judged: Callable[[Judged], object], judging: Judging
) -> Generator[Shard, None, None]:
    waiting, begun = deque(shards), deque[Shard]()
    shard_of: dict[str, Shard] = {}
    while waiting or begun:
        while waiting and (stream.has_room or not begun):
            begun.append(waiting.popleft())
            shard_of |= {spec.group_id: begun[-1] for spec in begun[-1].specs}
            stream.ask(begun[-1].specs)
            if not begun[-1].specs:
                on_sampled(begun[-1])
        if len(begun[0].judged) == len(begun[0].specs):
            yield begun.popleft()
            continue
        for spec, made in stream.finished() if stream.open else ():
            shard = shard_of[spec.group_id]
            shard.rollouts[spec.group_id] = made
            judging.add([(spec, made)], shard.tools)
            if shard.is_sampled:
                on_sampled(shard)
        for one in judging.judged():
            shard_of.pop(one[0].group_id).judged[one[0].group_id] = one
            on_judged(one)


def _beside(
    rollouts: Rollouts, shards: Sequence[Shard], on_sampled: Callable[[Shard], object], last: bool
) -> Generator[Shard, None, None]:
    pool = ThreadPoolExecutor(1, "synth-judge")
    begun: deque[tuple[Shard, Future[list[Judged]]]] = deque()
    try:
        for shard in shards:
            shard.rollouts = rollouts.sample(shard.specs)
            on_sampled(shard)
            if shard is shards[-1] and not last:
                while begun and begun[-1][1].cancel():
                    begun.pop()
            else:
                begun.append((shard, _judging(pool, shard)))
            while begun and begun[0][1].done():
                yield _taken(*begun.popleft())
        while begun:
            yield _taken(*begun.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _judging(pool: ThreadPoolExecutor, shard: Shard) -> Future[list[Judged]]:
    groups = [(spec, shard.rollouts[spec.group_id]) for spec in shard.specs]
    if not any(asks_a_model(spec.problem.verifier) for spec in shard.specs):
        return pool.submit(judge_groups, groups, shard.tools)
    now: Future[list[Judged]] = Future()
    now.set_result(judge_groups(groups, shard.tools))
    return now


def _taken(shard: Shard, judged: Future[list[Judged]]) -> Shard:
    shard.judged = {one[0].group_id: one for one in judged.result()}
    return shard


def asks_a_model(verifier: str) -> bool:
    """Whether verifiers of this name ask a model (`bind` gives them one)."""
    return hasattr(get_verifier(verifier), "bind")
