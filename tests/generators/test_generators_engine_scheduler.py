"""The scheduler: every request answered exactly once, in the order and at the pace that its rules say. Coroutines stand in for an endpoint."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import SynthError
from data.records import Completion, Request, Sampling
from generators.engines.congestion import Congestion
from generators.engines.lanes import Lanes
from generators.engines.scheduler import Busy, Failed, Scheduler, Scheduling, Together

NONE = np.empty(0, np.int32)


def asked(i: int, purpose: str = "", priority: int = 0, prompt: str = "") -> Request:
    return Request("p", Sampling(), seed=i, prompt=prompt or f"q{i}", purpose=purpose, priority=priority)


def answer(request: Request, text: str = "") -> Completion:
    return Completion(request.key, text, NONE, np.empty(0, np.float32), NONE, "stop", "p")


def sends(body: Callable[[Request], Awaitable[Completion]], **how: object) -> Scheduler:
    scheduler = Scheduler(Scheduling(**{"backoff_s": 0.01, "backoff_most_s": 0.05, "slow": 0.0, **how}))  # type: ignore[arg-type]
    return scheduler


async def at_once(request: Request) -> Completion:
    return answer(request)


# -- exactly once -------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(["well", "busy", "load", "failed", "slow"]), max_size=60),
    st.integers(1, 8),
    st.integers(1, 20),
    st.sets(st.integers(0, 59), max_size=10),
)
def test_every_request_is_answered_once_and_the_window_holds(moods: list[str], concurrency: int, window: int, unwanted: set[int]) -> None:
    requests = [asked(i, purpose=f"s{i % 3}", priority=i % 2) for i in range(len(moods))]
    mood = {r.key: m for r, m in zip(requests, moods)}
    tries: Counter[str] = Counter()
    now = most = 0

    async def send(request: Request) -> Completion:
        nonlocal now, most
        now += 1
        most = max(most, now)
        try:
            await asyncio.sleep(0.002 if mood[request.key] == "slow" else 0)
            tries[request.key] += 1
            if mood[request.key] == "failed":
                raise Failed("no")
            if tries[request.key] == 1 and mood[request.key] in ("busy", "load"):
                raise Busy("later", load=mood[request.key] == "load", counts=mood[request.key] == "busy")
            return answer(request)
        finally:
            now -= 1

    pulled = 0

    def source() -> Iterator[Request]:
        nonlocal pulled
        for r in requests:
            pulled += 1
            yield r

    scheduler = Scheduler(Scheduling(concurrency=concurrency, window=window, backoff_s=0.001, slow=0))
    held = max(window, concurrency)
    got: list[Completion] = []
    scheduler.cancel([requests[i].key for i in unwanted if i < len(requests)])  # of no run yet: must change nothing
    for completion in scheduler.run(source(), send):
        got.append(completion)
        assert pulled - len(got) <= held + 1  # one is in the hand of the thread that pulls
    scheduler.close()
    assert Counter(c.key for c in got) == Counter(r.key for r in requests)
    assert most <= concurrency
    assert all(c.finish == ("error" if mood[c.key] == "failed" else "stop") for c in got)


def test_the_same_request_twice_is_answered_twice() -> None:
    scheduler = sends(at_once)
    assert len(list(scheduler.run([asked(1), asked(1)], at_once))) == 2
    scheduler.close()


def test_answers_come_out_while_the_input_is_still_open() -> None:
    scheduler, source = sends(at_once), queue.SimpleQueue[Request | None]()
    answers = scheduler.run(iter(source.get, None), at_once)
    for i in range(5):
        source.put(asked(i))
        assert next(answers).key == asked(i).key  # the second question is put after the first answer
    source.put(None)
    assert list(answers) == []
    scheduler.close()


def test_answers_come_in_the_order_they_arrive() -> None:
    async def send(request: Request) -> Completion:
        await asyncio.sleep(0.15 if request.seed == 0 else 0)
        return answer(request)

    scheduler = sends(send)
    assert [c.key for c in scheduler.run([asked(0), asked(1), asked(2)], send)][-1] == asked(0).key
    scheduler.close()


def test_an_empty_input_ends() -> None:
    scheduler = sends(at_once)
    assert list(scheduler.run([], at_once)) == []
    scheduler.close()


@pytest.mark.parametrize("broken", ["input", "engine"])
def test_what_breaks_reaches_the_consumer_and_stops_the_rest(broken: str) -> None:
    count = 0

    def source() -> Iterator[Request]:
        for i in range(2000):
            if broken == "input" and i == 3:
                raise RuntimeError("the caller's own")
            yield asked(i)

    async def send(request: Request) -> Completion:
        nonlocal count
        count += 1
        if broken == "engine" and count == 3:
            raise SynthError("wrong key")
        await asyncio.sleep(0.01)
        return answer(request)

    scheduler = sends(send, concurrency=4)
    with pytest.raises((RuntimeError, SynthError), match="own" if broken == "input" else "wrong key"):
        list(scheduler.run(source(), send))
    assert count <= 8
    scheduler.close()


# -- order --------------------------------------------------------------------------------------------------------------


def order_of(requests: list[Request], weights: dict[str, float] | None = None) -> list[Request]:
    """In which order a scheduler with one slot sends what waits behind a first request."""
    order: list[Request] = []
    go = threading.Event()

    async def send(request: Request) -> Completion:
        if request.prompt == "first":
            while not go.is_set():
                await asyncio.sleep(0.001)
        else:
            order.append(request)
        return answer(request)

    scheduler = Scheduler(Scheduling(concurrency=1, window=4096, weights=weights or {}, slow=0))
    answers = scheduler.run([asked(-1, prompt="first"), *requests], send)
    threading.Timer(0.2, go.set).start()
    assert len(list(answers)) == len(requests) + 1
    scheduler.close()
    return order


def test_higher_priority_goes_first_and_equals_in_the_order_given() -> None:
    requests = [asked(i, priority=i % 3) for i in range(30)]
    assert [r.seed for r in order_of(requests)] == [i for p in (2, 1, 0) for i in range(30) if i % 3 == p]


def test_streams_share_by_weight_however_much_one_asks() -> None:
    """All steps of a strategy are one stream."""
    requests = [asked(i, purpose=("sws.write", "sws.answer")[i % 2]) for i in range(300)] + [asked(1000 + i, purpose="svs") for i in range(60)]
    first = Counter(r.purpose.partition(".")[0] for r in order_of(requests, {"sws": 2.0, "svs": 1.0})[:90])
    assert abs(first["sws"] - 60) <= 1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from("abc")), max_size=80),
    st.dictionaries(st.sampled_from("abc"), st.floats(0.1, 10), max_size=3),
)
def test_lanes_lose_and_invent_nothing(items: list[tuple[int, str]], weights: dict[str, float]) -> None:
    lanes: Lanes[tuple[int, int, str]] = Lanes(weights)
    for i, (priority, stream) in enumerate(items):
        lanes.push((i, priority, stream), priority=priority, stream=stream)
    dropped = lanes.drop(lambda item: item[0] % 5 == 4)
    out = [lanes.pop() for _ in range(len(lanes))]
    assert sorted([*out, *dropped]) == sorted((i, p, s) for i, (p, s) in enumerate(items)) and not lanes
    assert [p for _, p, _ in out] == sorted((p for _, p, _ in out), reverse=True)
    for stream in "abc":  # first come, first served within a stream
        for priority in range(3):
            mine = [i for i, p, s in out if (p, s) == (priority, stream)]
            assert mine == sorted(mine)
    # No stream that waits is passed over for longer than its weight allows (stride scheduling: an error of at most one turn per other stream).
    level = [s for _, p, s in out if p == 2]
    if len(set(level)) == 2:
        a, b = sorted(set(level))
        both = min(max(i for i, s in enumerate(level) if s == a), max(i for i, s in enumerate(level) if s == b))
        share = weights.get(a, 1.0) / (weights.get(a, 1.0) + weights.get(b, 1.0))
        assert abs(level[:both].count(a) - share * both) <= 2


def test_a_stream_that_slept_is_owed_nothing() -> None:
    lanes: Lanes[str] = Lanes()
    for _ in range(50):
        lanes.push("a", stream="a")
    for _ in range(40):
        lanes.pop()
    for _ in range(10):
        lanes.push("b", stream="b")
    assert Counter(lanes.pop() for _ in range(10)) == {"a": 5, "b": 5}


# -- pace ---------------------------------------------------------------------------------------------------------------


def settled(congestion: Congestion, capacity: int, rounds: int, random_refusals: float = 0.0, now: float = 0.0) -> list[float]:
    """Limits after each of `rounds` windows against an endpoint that refuses what exceeds `capacity`."""
    rng, limits = np.random.default_rng(0), []
    for _ in range(rounds):
        sent, now = now, now + 1.0
        n = int(congestion.limit)
        for i in range(n):
            if i >= capacity or rng.random() < random_refusals:
                congestion.refused(sent, now)
            else:
                congestion.answered(sent, now, 32)
        limits.append(congestion.limit)
    return limits


def test_concurrency_settles_near_what_the_endpoint_takes_and_recovers() -> None:
    congestion = Congestion(256)
    few = settled(congestion, 40, 80)
    assert 34 <= np.mean(few[-20:]) <= 60, few[-20:]
    assert max(few[-20:]) <= 2 * 40
    assert min(settled(congestion, 1000, 60, now=80.0)[-5:]) == 256


def test_a_refusal_in_fifty_does_not_cost_half_the_speed() -> None:
    assert np.mean(settled(Congestion(64), 1000, 200, random_refusals=0.02)[-100:]) >= 50


def test_one_endpoint_that_refuses_all_is_asked_one_at_a_time() -> None:
    assert settled(Congestion(64), 0, 40)[-1] == 1


def test_a_slower_endpoint_is_asked_less_then_the_slowness_is_the_new_usual() -> None:
    congestion, now = Congestion(64), 0.0

    def windows(count: int, seconds: float) -> list[float]:
        nonlocal now
        limits = []
        for _ in range(count):
            sent, now = now, now + seconds
            for _ in range(int(congestion.limit)):
                congestion.answered(sent, now, 32)
            limits.append(congestion.limit)
        return limits

    assert windows(5, 1.0)[-1] == 64
    assert min(windows(10, 10.0)) < 24
    assert windows(80, 10.0)[-1] == 64


def test_the_limit_follows_refusals_on_the_wire_of_a_scheduler() -> None:
    now = refused = 0

    async def send(request: Request) -> Completion:
        nonlocal now, refused
        now += 1
        try:
            if now > 8:
                refused += 1
                raise Busy("429", load=True, counts=False)
            await asyncio.sleep(0.004)
            return answer(request)
        finally:
            now -= 1

    scheduler = sends(send, concurrency=64)
    assert len(list(scheduler.run((asked(i) for i in range(1500)), send))) == 1500
    assert scheduler.congestion.limit <= 20
    assert refused < 900  # at 64 for ever it would be several for each
    scheduler.close()


# -- tries --------------------------------------------------------------------------------------------------------------


def test_retry_after_is_kept() -> None:
    times: list[float] = []

    async def send(request: Request) -> Completion:
        times.append(time.monotonic())
        if len(times) == 1:
            raise Busy("429", load=True, counts=False, retry_after=0.3)
        return answer(request)

    scheduler = sends(send)
    assert [c.finish for c in scheduler.run([asked(0)], send)] == ["stop"]
    assert times[1] - times[0] >= 0.3
    scheduler.close()


def test_a_request_that_never_gets_a_good_answer_is_an_error_with_its_reason() -> None:
    async def send(request: Request) -> Completion:
        raise Busy("garbage")

    scheduler = sends(send, tries=3)
    (got,) = scheduler.run([asked(0)], send)
    assert (got.finish, got.error) == ("error", "garbage; asked 3 times")
    scheduler.close()


def test_refusals_for_load_use_up_no_try_but_the_deadline_ends_them() -> None:
    async def send(request: Request) -> Completion:
        raise Busy("429", load=True, counts=False)

    scheduler = sends(send, tries=2, deadline_s=0.4)
    (got,) = scheduler.run([asked(0)], send)
    assert got.finish == "error" and "no answer within 0.4 s" in got.error
    assert scheduler.traffic.sent > 4
    scheduler.close()


def test_a_try_that_hangs_is_given_up_and_made_again() -> None:
    count = 0

    async def send(request: Request) -> Completion:
        nonlocal count
        count += 1
        if count == 1:
            await asyncio.sleep(60)
        return answer(request)

    scheduler = sends(send, timeout_s=0.1)
    assert [c.finish for c in scheduler.run([asked(0)], send)] == ["stop"]
    scheduler.close()


def test_an_endpoint_gone_for_good_stops_the_run_instead_of_failing_every_request() -> None:
    async def send(request: Request) -> Completion:
        raise Busy("nobody answers", counts=False)

    scheduler = sends(send, dead_after_s=0.3)
    with pytest.raises(SynthError, match=r"nobody answers; nothing was answered for 0\.3 s"):
        list(scheduler.run((asked(i) for i in range(500)), send))
    scheduler.close()


# -- a second copy ------------------------------------------------------------------------------------------------------


def test_hedging_asks_at_most_once_more_and_takes_the_first_answer() -> None:
    tries: Counter[int] = Counter()

    async def send(request: Request) -> Completion:
        tries[request.seed] += 1
        await asyncio.sleep(5.0 if request.seed >= 60 and tries[request.seed] == 1 else 0.005)
        return answer(request, str(tries[request.seed]))

    scheduler = sends(send, hedge=3.0, concurrency=16)
    began = time.monotonic()
    got = {c.key: c for c in scheduler.run([asked(i) for i in range(64)], send)}
    assert time.monotonic() - began < 3 and len(got) == 64
    assert max(tries.values()) == 2 and [tries[i] for i in range(60, 64)] == [2] * 4
    assert scheduler.traffic.hedged == sum(n - 1 for n in tries.values()) <= 8
    assert scheduler.in_flight == 0
    scheduler.close()


def test_hedging_is_off_unless_asked_for() -> None:
    count = 0

    async def send(request: Request) -> Completion:
        nonlocal count
        count += 1
        await asyncio.sleep(0.3 if request.seed == 39 else 0)
        return answer(request)

    scheduler = sends(send)
    assert len(list(scheduler.run([asked(i) for i in range(40)], send))) == 40 == count
    scheduler.close()


# -- cancelling and closing ---------------------------------------------------------------------------------------------


def test_cancelled_keys_end_as_cancelled_wherever_they_are() -> None:
    requests = [asked(i) for i in range(12)]
    sent: list[int] = []

    async def send(request: Request) -> Completion:
        sent.append(request.seed)
        if request.seed == 1:
            raise Busy("later", retry_after=30)
        await asyncio.sleep(0.0 if request.seed == 0 else 0.5)
        return answer(request)

    scheduler = sends(send, concurrency=4, window=8)
    answers = scheduler.run(requests, send)
    got = [next(answers)]
    time.sleep(0.1)
    # 1 waits for its second try, 2 is on its way, 7 waits for a slot, 11 is not even pulled yet
    scheduler.cancel([requests[i].key for i in (1, 2, 7, 11)])
    got += list(answers)
    finish = {c.key: c.finish for c in got}
    assert [i for i, r in enumerate(requests) if finish[r.key] == "cancelled"] == [1, 2, 7, 11]
    assert len(got) == 12 and not {7, 11} & set(sent)
    scheduler.close()


def test_a_key_cancelled_in_one_run_may_be_asked_in_another() -> None:
    async def send(request: Request) -> Completion:
        await asyncio.sleep(0.3 if request.seed == 0 else 0)
        return answer(request)

    scheduler = sends(send)
    source = queue.SimpleQueue[Request | None]()
    other = scheduler.run(iter(source.get, None), send)
    source.put(asked(1))
    next(other)  # it has begun
    threading.Timer(0.1, scheduler.cancel, [[asked(0).key]]).start()
    assert [c.finish for c in scheduler.run([asked(0)], send)] == ["cancelled"]
    source.put(asked(0))
    source.put(None)
    assert [c.finish for c in other] == ["stop"]
    scheduler.close()


def test_closing_the_iterator_cancels_the_rest() -> None:
    done = 0

    async def send(request: Request) -> Completion:
        nonlocal done
        await asyncio.sleep(0.02)
        done += 1
        return answer(request)

    scheduler = sends(send, concurrency=8)
    answers = scheduler.run((asked(i) for i in range(100_000)), send)
    list(islice(answers, 5))
    answers.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 10  # a busy machine takes its time
    while (scheduler.in_flight or any(t.name == "synth-scheduler-input" for t in threading.enumerate())) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert scheduler.in_flight == 0 and done < 1000
    assert not [t for t in threading.enumerate() if t.name == "synth-scheduler-input"]  # nor is anything left that pulls
    assert len(list(scheduler.run([asked(i) for i in range(20)], send))) == 20  # and it goes on with others
    scheduler.close()


def test_closing_the_scheduler_wakes_whoever_waits() -> None:
    async def send(request: Request) -> Completion:
        await asyncio.sleep(60)
        return answer(request)

    scheduler = sends(send)
    threading.Timer(0.1, scheduler.close).start()
    with pytest.raises(SynthError, match="closed"):
        list(scheduler.run([asked(0)], send))
    scheduler.close()
    with pytest.raises(SynthError, match="closed"):
        list(scheduler.run([asked(0)], send))


def test_two_runs_side_by_side_get_their_own_answers_and_the_urgent_one_is_served_first() -> None:
    async def send(request: Request) -> Completion:
        await asyncio.sleep(0.005)
        return answer(request, request.purpose)

    scheduler = sends(send, concurrency=2)
    finished: dict[str, float] = {}

    def consume(purpose: str, priority: int) -> None:
        got = list(scheduler.run([asked(i, purpose, priority) for i in range(100)], send))
        assert {c.text for c in got} == {purpose} and len(got) == 100
        finished[purpose] = time.monotonic()

    threads = [threading.Thread(target=consume, args=each) for each in (("synthesis", 0), ("train", 10))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert finished["train"] < finished["synthesis"]
    scheduler.close()


# -- one call for several -----------------------------------------------------------------------------------------------


def test_requests_that_are_alike_share_calls_and_what_is_left_out_is_asked_again() -> None:
    calls: list[list[int]] = []

    async def together(requests: object) -> list[Completion]:
        listed = list(requests)  # type: ignore[call-overload]
        calls.append([r.seed for r in listed])
        return [answer(r) for r in listed[:3]]

    async def send(request: Request) -> Completion:
        await asyncio.sleep(0.2 if request.prompt == "first" else 0)  # so that the others wait side by side
        return answer(request)

    scheduler = sends(send, concurrency=1)
    requests = [asked(-1, prompt="first"), *(asked(i, prompt="same") for i in range(8)), *(asked(100 + i) for i in range(3))]
    got = list(scheduler.run(requests, send, together=Together(lambda r: r.prompt, together, most=4)))
    assert Counter(c.key for c in got) == Counter(r.key for r in requests)
    assert max(map(len, calls)) == 4 and all(seeds[0] < 100 for seeds in calls)
    scheduler.close()


def test_memory_is_flat_in_the_number_of_requests() -> None:
    import tracemalloc

    def peak(n: int) -> int:
        scheduler = sends(at_once, concurrency=32, window=64)
        tracemalloc.start()
        assert sum(1 for _ in scheduler.run((asked(i) for i in range(n)), at_once)) == n
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        scheduler.close()
        return top

    peak(200)
    assert peak(8_000) < 1.5 * peak(1_000) + 100_000
