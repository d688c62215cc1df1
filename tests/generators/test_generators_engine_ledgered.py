"""Behind the ledger: recorded answers are never generated again, whole batches are, and nothing is seen before it is durable."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import SynthError, UserError
from data.ids import content_hash
from data.records import Completion, Request, Sampling
from generators.engines.base import Engine
from generators.engines.ledgered import LedgeredEngine
from generators.engines.registry import engine_kinds, open_engine, register_engine
from generators.engines.replay import ReplayEngine


def completion(r: Request, text: str, finish="stop", error="") -> Completion:
    return Completion(r.key, text, np.array([1, 2], np.int32), np.array([-0.5, -1], np.float32), np.array([3], np.int32), finish, r.policy_id, error)


def asked(n: int, first: int = 0) -> list[Request]:
    return [Request("p", Sampling(), seed=i, prompt=f"question {i // 2}") for i in range(first, first + n)]


class FakeLedger:
    """Durable in a dict; refuses what would break the order intend, record."""

    def __init__(self) -> None:
        self.durable: dict[str, Completion] = {}
        self.intended: list[str] = []
        self.commits: list[int] = []
        self.given_up: set[str] = set()

    def lookup(self, keys, *, failed=False):
        return {k: self.durable[k] for k in keys if k in self.durable and (failed or self.durable[k].finish != "error")}

    def intend(self, requests):
        self.intended += [r.key for r in requests]

    def record(self, completions):
        assert all(c.key in self.intended for c in completions)
        self.commits.append(len(completions))
        for c in completions:
            assert self.durable.get(c.key, c).finish in ("error", c.finish)
            self.durable[c.key] = c

    def commit(self, asked=(), answers=(), given_up=()):
        self.intend(asked)
        self.record(answers)
        self.given_up.update(given_up)


class FakeEngine:
    """Streams, two at a time and out of order; each answer says how often the engine was asked."""

    capabilities = frozenset({"logprobs", "tokens"})

    def __init__(self, finish="stop") -> None:
        self.asked: list[str] = []
        self.finish = finish
        self.closed = False

    def generate(self, requests):
        held: list[Request] = []
        for r in requests:
            self.asked.append(r.key)
            held.append(r)
            if len(held) == 2:
                yield from (completion(h, f"answer {h.seed}", self.finish) for h in reversed(held))
                held = []
        yield from (completion(h, f"answer {h.seed}", self.finish) for h in held)

    def close(self):
        self.closed = True


class FakeBatched(FakeEngine):
    """Batches of three in key order; an answer's text depends on its whole batch, as float noise does."""

    capabilities = frozenset({"logprobs", "tokens", "batches"})
    on_progress = None

    def batches(self, requests):
        ordered = sorted({r.key: r for r in requests}.values(), key=lambda r: r.key)
        return [ordered[a : a + 3] for a in range(0, len(ordered), 3)]

    def generate_batch(self, batch):
        self.asked += [r.key for r in batch]
        if self.on_progress is not None:
            self.on_progress(1, len(batch), 2)
        return [completion(r, f"{r.seed} among {content_hash([b.key for b in batch])[:6]}") for r in batch]


@pytest.mark.parametrize("make", [FakeEngine, FakeBatched])
def test_every_answer_is_durable_before_it_is_seen(make):
    ledger = FakeLedger()
    engine = LedgeredEngine(make(), ledger)
    seen = set()
    for c in engine.generate(asked(17)):
        assert ledger.durable[c.key] is c
        seen.add(c.key)
    assert seen == {r.key for r in asked(17)} == set(ledger.intended)
    assert (engine.counts.generated, engine.counts.replayed, engine.counts.tokens) == (17, 0, 34)


@pytest.mark.parametrize("make", [FakeEngine, FakeBatched])
def test_the_second_call_generates_nothing(make):
    ledger = FakeLedger()
    first = {c.key: c for c in LedgeredEngine(make(), ledger).generate(asked(10))}
    engine = LedgeredEngine(make(), ledger)
    again = {c.key: c for c in engine.generate(asked(10))}
    assert again == first and engine.engine.asked == [] and len(ledger.intended) == 10
    assert (engine.counts.generated, engine.counts.replayed) == (0, 10)


@settings(deadline=None)
@given(st.integers(0, 14), st.integers(1, 14))
def test_a_resumed_shard_equals_the_uninterrupted_one(killed_after, n):
    whole = [c.text for c in LedgeredEngine(FakeBatched(), FakeLedger()).generate(asked(n))]
    ledger = FakeLedger()
    running = LedgeredEngine(FakeBatched(), ledger).generate(asked(n))
    for _ in range(min(killed_after, n)):
        next(running)
    running.close()
    engine = LedgeredEngine(FakeBatched(), ledger)
    assert [c.text for c in engine.generate(asked(n)[::-1])] == whole  # same answers in the same order
    assert len(ledger.intended) == n  # none was sent twice: whole batches were recorded at once


def test_half_a_batch_is_regenerated_whole_and_what_was_recorded_stays():
    ledger, requests = FakeLedger(), asked(3)
    plan = FakeBatched().batches(requests)[0]
    kept = completion(plan[1], "recorded by an earlier run")
    ledger.durable[kept.key] = kept
    engine = LedgeredEngine(FakeBatched(), ledger)
    got = {c.key: c for c in engine.generate(requests)}
    assert engine.engine.asked == [r.key for r in plan]  # the batch was computed whole
    assert ledger.intended == [plan[0].key, plan[2].key] and ledger.commits == [2]
    assert got[kept.key] is kept and ledger.durable[kept.key] is kept
    assert (engine.counts.generated, engine.counts.replayed) == (2, 1)


def test_a_recorded_failure_is_asked_again():
    ledger, requests = FakeLedger(), asked(4)
    list(LedgeredEngine(FakeEngine("error"), ledger).generate(requests))
    again = list(LedgeredEngine(FakeEngine(), ledger).generate(requests))
    assert {c.finish for c in again} == {"stop"} == {c.finish for c in ledger.durable.values()}


def test_a_cancelled_request_is_not_recorded():
    ledger = FakeLedger()
    assert {c.finish for c in LedgeredEngine(FakeEngine("cancelled"), ledger).generate(asked(5))} == {"cancelled"}
    assert ledger.durable == {}


@pytest.mark.parametrize("make", [FakeEngine, FakeBatched])
def test_text_is_seen_as_it_will_be_replayed(make, tmp_path, monkeypatch):
    """A NUL, which the ledger can't store, must not be judged one way now and another way after a resume."""
    from data.ledger import Ledger

    plain = completion
    monkeypatch.setitem(globals(), "completion", lambda r, text, *more: plain(r, text + "\x00\ud800", *more))
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        first = {c.key: c.text for c in LedgeredEngine(make(), ledger).generate(asked(5))}
        assert {c.key: c.text for c in LedgeredEngine(make(), ledger).generate(asked(5))} == first


def test_equal_requests_are_answered_once():
    for make in (FakeEngine, FakeBatched):
        engine = LedgeredEngine(make(), FakeLedger())
        assert len(list(engine.generate(asked(4) + asked(4)))) == 4 == len(engine.engine.asked)


def test_the_stream_never_runs_further_ahead_than_its_window():
    pulled, seen = [], 0

    def source():
        for r in asked(100):
            pulled.append(r)
            yield r

    for _ in LedgeredEngine(FakeEngine(), FakeLedger(), window=8).generate(source()):
        seen += 1
        assert len(pulled) - seen <= 8
    assert seen == 100


def test_answers_arrive_before_the_requests_end():
    release = threading.Event()

    def source():
        yield from asked(2)
        assert release.wait(5)
        yield from asked(2, first=2)

    # The window is full after two, so the first answers must come before the source is asked for more.
    answers = LedgeredEngine(FakeEngine(), FakeLedger(), window=2).generate(source())
    first = next(answers)
    release.set()
    assert first.text == "answer 1" and len(list(answers)) == 3


def test_an_engine_that_breaks_loses_nothing_it_had_answered():
    class Breaking(FakeEngine):
        def generate(self, requests):
            for n, c in enumerate(super().generate(requests)):
                if n == 4:
                    raise SynthError("the GPU is gone")
                yield c

    ledger = FakeLedger()
    with pytest.raises(SynthError, match="GPU is gone"):
        list(LedgeredEngine(Breaking(), ledger).generate(asked(9)))
    assert len(ledger.durable) == 4

    class Short(FakeEngine):
        def generate(self, requests):
            yield completion(next(requests), "only one")

    with pytest.raises(SynthError, match="ended before"):
        list(LedgeredEngine(Short(), FakeLedger()).generate(asked(3)))


def test_a_consumer_that_leaves_stops_the_engine():
    engine = FakeEngine()
    answers = LedgeredEngine(engine, FakeLedger(), window=4).generate(iter(asked(1000)))
    next(answers)
    answers.close()
    assert len(engine.asked) < 20
    assert threading.active_count() < 30


def test_progress_runs_over_the_whole_call():
    seen = []
    engine = LedgeredEngine(FakeBatched(), FakeLedger())
    engine.on_progress = lambda *at: seen.append(at)
    list(engine.generate(asked(7)))
    assert seen == [(1, 7, 2), (3, 7, 6), (4, 7, 8), (6, 7, 12), (6, 7, 14), (7, 7, 14)]
    assert engine.engine.on_progress is None


def test_is_an_engine_and_its_ledger_outlives_it(tmp_path):
    from data.ledger import Ledger

    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        for make in (FakeEngine, FakeBatched):
            engine = LedgeredEngine(make(), ledger)
            assert isinstance(engine, Engine) and "batches" not in engine.capabilities
            requests = asked(20, first=0 if make is FakeEngine else 100)
            first = {c.key: c.text for c in engine.generate(requests)}
            assert {c.key: c.text for c in LedgeredEngine(make(), ledger).generate(requests)} == first
            engine.close()
            assert engine.engine.closed
        assert ledger.counts()["attempts"] == 40 and ledger.repeated() == []
        replayed = list(ReplayEngine(ledger).generate(asked(20)))
        assert [c.key for c in replayed] == [r.key for r in asked(20)] and replayed[0].tokens.dtype == np.int32


def test_replay_answers_what_is_recorded_failures_too():
    ledger, requests = FakeLedger(), asked(4)
    ledger.durable = {requests[0].key: completion(requests[0], "a"), requests[1].key: completion(requests[1], "", "error", "too long")}
    got = list(ReplayEngine(ledger).generate(requests))
    assert [c.finish for c in got] == ["stop", "error", "error", "error"] and got[1].error == "too long"
    assert "never recorded" in got[2].error and requests[2].key in got[2].error
    assert isinstance(ReplayEngine(ledger), Engine)
    with pytest.raises(SynthError, match="can't embed"):
        ReplayEngine(ledger).embed(["x"])


def test_replay_asks_its_fallback_for_the_rest_only():
    ledger, requests, fallback = FakeLedger(), asked(5), FakeEngine()
    ledger.durable = {r.key: completion(r, "recorded") for r in requests[:3]}
    got = {c.key: c.text for c in ReplayEngine(ledger, fallback).generate(requests)}
    assert sorted(got.values()) == ["answer 3", "answer 4", "recorded", "recorded", "recorded"]
    assert fallback.asked == [r.key for r in requests[3:]] and len(ledger.durable) == 3


def test_engines_are_opened_by_name():
    assert {"local", "replay"} <= set(engine_kinds())
    assert isinstance(open_engine("replay", ledger=FakeLedger()), ReplayEngine)
    register_engine("fake", f"{__name__}:FakeEngine")
    assert open_engine("fake", finish="error").finish == "error"
    with pytest.raises(UserError, match="did you mean 'local'"):
        open_engine("lokal")
    with pytest.raises(UserError, match=r"engine 'replay'.*ledger"):
        open_engine("replay")
    with pytest.raises(UserError, match=r"engine 'replay'.*url"):
        open_engine("replay:http://x", ledger=FakeLedger())
