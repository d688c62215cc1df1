"""The killable map: order, bounded read-ahead, and an answer for every item whatever the work does to its process."""

import os
import time
from collections.abc import Iterator

import pytest
from planted_work import make

from data.errors import SynthError
from filters.verifiers.pool import AHEAD, MAX_CHUNK, KillablePool


def rescue(item: bytes, why: str) -> bytes:
    return b"rescued " + item + b": " + why.encode()


def pool(workers: int = 2, deadline: float = 1.5, target: str = "planted_work:make", **options: float) -> KillablePool:
    return KillablePool(target, options, rescue, workers=workers, deadline=deadline)


def test_answers_keep_the_order_and_equal_the_work_in_process() -> None:
    items = [b"item %d" % i for i in range(3_000)]
    with pool() as killable:
        assert list(killable.run(iter(items))) == make()(items)
        assert list(killable.run(iter([]))) == []
        assert list(killable.run(iter([b""]))) == [b""]
        assert killable.killed == 0


def test_items_that_hang_or_kill_are_answered_alone_and_the_others_as_ever() -> None:
    items = [b"hang" if i == 40 else b"die" if i in (41, 90) else b"eat" if i == 60 else b"x%d" % i for i in range(120)]
    with pool() as killable:
        answers = list(killable.run(iter(items)))
        assert killable.killed >= 3
        after = list(killable.run(iter([b"alive"])))
    for item, answer in zip(items, answers, strict=True):
        if item == b"hang":
            assert answer == b"rescued hang: judging took more than 1.5 s"
        elif item == b"die":
            assert answer == b"rescued die: the process that judged it died"
        else:
            assert answer == (b"no memory" if item == b"eat" else item.upper())
    assert after == [b"ALIVE"]


def test_the_source_is_read_only_a_bounded_way_ahead() -> None:
    taken = 0

    def source() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(200_000):
            taken += 1
            yield b"x"

    with pool() as killable:
        out = killable.run(source())
        for _ in range(10):
            next(out)
        assert taken <= 2 * (AHEAD + 1) * MAX_CHUNK


def test_no_worker_outlives_the_pool() -> None:
    with pool(deadline=60.0) as killable:
        pids = killable.pids()
        out = killable.run(iter([b"a"] * 8 + [b"hang"] * 2))
        next(out)
    deadline = time.monotonic() + 10
    while any(alive(p) for p in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(alive(p) for p in pids)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_worker_that_cannot_start_is_said() -> None:
    with pool(target="planted_work:cannot_start") as killable, pytest.raises(SynthError, match=r"could not start \(exit status 7\)"):
        list(killable.run(iter([b"x"])))
