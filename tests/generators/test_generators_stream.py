"""The stream between a consumer and an engine: bounded intents, shared commits, cancelling, kills, and keys that hold everything that was asked."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import UserError
from data.ids import content_hash
from data.ledger import Ledger
from data.records import Completion, Problem, Request, RolloutSpec, Sampling
from data.render import Renderer
from filters.verifiers.base import PlainVerifier, register_verifier
from generators.engines.ledgered import LedgeredEngine
from generators.engines.replay import ReplayEngine
from generators.engines.stream import Counts, LedgeredStream, Seen
from pipelines.rollout import Rollouts
from pipelines.rollout_shards import Shard, judged_shards

ROOT = Path(__file__).parents[2]


def asked(n: int, first: int = 0) -> list[Request]:
    return [Request("p", Sampling(), seed=i, prompt=f"question {i}") for i in range(first, first + n)]


class Slow:
    """Answers each request on request of the test (`let`), in the order it was handed over; can cancel."""

    capabilities = frozenset({"logprobs", "tokens"})

    def __init__(self) -> None:
        self.got: list[Request] = []
        self.unwanted: set[str] = set()
        self.let: queue.SimpleQueue[int] = queue.SimpleQueue()

    def generate(self, requests):
        for r in requests:
            self.got.append(r)
            self.let.get()
            finish = "cancelled" if r.key in self.unwanted else "stop"
            tokens, prompt = np.arange(3, dtype=np.int32), np.arange(2, dtype=np.int32)
            yield Completion(r.key, "yes", tokens, np.zeros(3, np.float32), prompt, finish, "p", usage=(2, 3))

    def cancel(self, keys):
        self.unwanted |= set(keys)


class Prompt(Slow):
    """Answers at once."""

    def generate(self, requests):
        for r in requests:
            self.let.put(1)
            yield from super().generate([r])


@pytest.fixture
def ledger(tmp_path):
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        yield ledger


def states(ledger: Ledger) -> dict[str, int]:
    return {name: count for name, count in ledger.counts().items() if name in ("sent", "done", "failed", "cancelled")}


def until(true, seconds=10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


def test_no_more_is_written_as_sent_than_the_window(ledger):
    engine = Slow()
    with LedgeredStream(engine, ledger, 8, Counts()) as stream:
        stream.ask(asked(50))
        until(lambda: engine.got)
        assert states(ledger) == {"sent": 8, "done": 0, "failed": 0, "cancelled": 0}
        for _ in range(3):
            engine.let.put(1)
        until(lambda: states(ledger)["done"] == 3)
        assert states(ledger)["sent"] == 8  # the next three went out in the transaction that kept the first three
        assert len(stream.take()) <= 3


def test_requests_and_answers_share_transactions(ledger, monkeypatch):
    commits = []
    insert = ledger._insert
    monkeypatch.setattr(ledger, "_insert", lambda batch: (commits.append((len(batch.asked), len(batch.answers))), insert(batch)))
    assert len(list(LedgeredEngine(Prompt(), ledger, window=512).generate(iter(asked(2000))))) == 2000
    assert sum(a for a, _ in commits) == sum(b for _, b in commits) == 2000
    assert len(commits) < 80  # not one for each, nor for each few that had just come


def test_a_cancelled_request_is_no_failure_and_may_be_asked_again(ledger):
    engine, requests = Slow(), asked(4)
    with LedgeredStream(engine, ledger, 2, Counts()) as stream:
        stream.ask(requests)
        until(lambda: engine.got)
        stream.cancel([requests[1].key, requests[3].key])  # one that the engine has, one that was never sent
        until(lambda: engine.unwanted)
        for _ in range(3):
            engine.let.put(1)
        got: list[Completion] = []
        while len(got) < 4:
            got += stream.take()
    assert {c.key: c.finish for c in got} == {r.key: "cancelled" if i % 2 else "stop" for i, r in enumerate(requests)}
    assert states(ledger) == {"sent": 0, "done": 2, "failed": 0, "cancelled": 1} and ledger.errors() == []
    again = {c.key: c.finish for c in LedgeredEngine(Prompt(), ledger).generate(requests)}
    assert set(again.values()) == {"stop"} and states(ledger)["done"] == 4


def test_a_ledger_that_cannot_write_stops_the_consumer_with_its_sentence(ledger, monkeypatch):
    def full(batch):
        raise UserError("disk full: nothing more can be written")

    monkeypatch.setattr(ledger, "_insert", full)
    with pytest.raises(UserError, match="disk full"):
        list(LedgeredEngine(Prompt(), ledger).generate(asked(3)))


def test_two_threads_may_stream_at_once(ledger):
    engine, answers = LedgeredEngine(Prompt(), ledger), {}
    threads = [threading.Thread(target=lambda i=i: answers.update({i: len(list(engine.generate(asked(300, 1000 * i))))})) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert answers == {0: 300, 1: 300, 2: 300} and states(ledger)["done"] == 900


def test_what_an_endpoint_bills_is_kept(ledger):
    first = list(LedgeredEngine(Prompt(), ledger).generate(asked(2)))
    again = list(LedgeredEngine(Prompt(), ledger).generate(asked(2)))
    assert [c.usage for c in first] == [c.usage for c in again] == [(2, 3)] * 2


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 9000), max_size=3000), max_size=8))
def test_seen_is_a_set(chunks):
    seen, known = Seen(most=500), set()
    for chunk in chunks:
        requests = [Named(content_hash(i)) for i in chunk]
        want = [r.key for r in requests if not (r.key in known or known.add(r.key))]
        assert [r.key for r in seen.fresh(requests)] == want
    seen.close()


class Named:
    def __init__(self, key: str) -> None:
        self.key = key


# What is part of a request's key, seen by what is sent again


CHANGES = {
    "system prompt": lambda r: replace(r, messages=({"role": "system", "content": "Be brief."}, *r.messages)),
    "message": lambda r: replace(r, messages=({"role": "user", "content": "another"},)),
    "media": lambda r: replace(r, media=("hash of an image",)),
    "temperature": lambda r: replace(r, sampling=replace(r.sampling, temperature=0.5)),
    "top_p": lambda r: replace(r, sampling=replace(r.sampling, top_p=0.5)),
    "top_k": lambda r: replace(r, sampling=replace(r.sampling, top_k=5)),
    "max_tokens": lambda r: replace(r, sampling=replace(r.sampling, max_tokens=5)),
    "stop": lambda r: replace(r, sampling=replace(r.sampling, stop=("\n",))),
    "schema": lambda r: replace(r, structured={"json": {"type": "object"}}),
    "seed": lambda r: replace(r, seed=r.seed + 10_000),
    "index": lambda r: replace(r, index=r.index + 1),
    "policy": lambda r: replace(r, policy_id="another"),
    "model": lambda r: replace(r, model="another"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_input_sends_exactly_that_request_again(change, ledger):
    requests = [Request("p", Sampling(), i, messages=({"role": "user", "content": f"question {i}"},)) for i in range(6)]
    list(LedgeredEngine(Prompt(), ledger).generate(requests))
    engine, changed = Prompt(), [CHANGES[change](r) if i in (1, 4) else r for i, r in enumerate(requests)]
    assert len(list(LedgeredEngine(engine, ledger).generate(changed))) == 6
    assert [r.key for r in engine.got] == [changed[1].key, changed[4].key]


def test_what_is_no_input_sends_nothing_again(ledger):
    requests, engine = asked(4), Prompt()
    list(LedgeredEngine(Prompt(), ledger).generate(requests))
    told = [replace(r, purpose="audit", problem_id="q", priority=3) for r in requests]
    assert len(list(LedgeredEngine(engine, ledger).generate(told))) == 4 and engine.got == []


class Judges(PlainVerifier):
    name, right = "fake-judges", "no"

    def check_problem(self, problem):
        return ""

    def decide(self, problem, response):
        return ("pass" if response == self.right else "fail"), "read"


@pytest.mark.parametrize("dialect", ["compact", "instruct"])
def test_a_changed_template_asks_again_and_a_mended_verifier_does_not(dialect, ledger, tmp_path, monkeypatch):
    register_verifier("fake-judges", Judges)

    def run(templates: str) -> tuple[list[Request], list[str]]:
        engine = Prompt()
        render = Renderer([tmp_path / templates], dialect).render
        rollouts = Rollouts(LedgeredEngine(engine, ledger), "p", "m", render, dialect, 1, (0, "probe"), "probe")
        specs = [RolloutSpec(Problem(f"What is {i}?", str(i), "fake-judges"), 2, Sampling(), template=("solve", "other")[i % 2]) for i in range(4)]
        (shard,) = judged_shards(rollouts, [Shard(0, specs)])
        assert shard.judged.keys() == {s.group_id for s in specs} == shard.rollouts.keys() and all(len(made) == 2 for made in shard.rollouts.values())
        assert all(r.tokens.tolist() == [0, 1, 0, 1, 2] and r.prompt_length == 2 for made in shard.rollouts.values() for r in made)
        return engine.got, [v.outcome for v in shard.verdicts]

    for folder, solve in {"before": "Q: {{ problem.prompt }}", "after": "Question: {{ problem.prompt }}"}.items():
        (tmp_path / folder / dialect).mkdir(parents=True)
        (tmp_path / folder / dialect / "solve.j2").write_text(solve)
        (tmp_path / folder / dialect / "other.j2").write_text("{{ problem.prompt }} Think.")
    first, outcomes = run("before")
    assert len(first) == 8 and outcomes == ["fail"] * 8
    monkeypatch.setattr(Judges, "right", "yes")  # the bug in the verifier is mended
    assert run("before") == ([], ["pass"] * 8)
    again, _ = run("after")
    text = [r.prompt if dialect == "compact" else r.messages[0]["content"] for r in again]
    assert len(text) == 4 and all(t.startswith("Question: ") for t in text)
    stored = ledger.rows([r.key for r in again], round=0, stage="probe", shard=0)
    assert [row["prompt_tokens"].tolist() for row in stored] == [[0, 1]] * 4  # as the engine saw it, token by token
    assert all("Question: " in row["request"] for row in stored)


def test_a_replay_says_how_much_it_does_not_hold(ledger):
    list(LedgeredEngine(Prompt(), ledger).generate(asked(5)))
    strict = ReplayEngine(ledger, strict=True, name="runs/x/ledger.sqlite")
    assert len(list(strict.generate(asked(5)))) == 5
    unknown = [replace(r, purpose="probe") for r in asked(3, 100)]
    with Ledger.open(ledger.path.with_name("other.sqlite")) as other:
        with pytest.raises(UserError, match=r"runs/x/ledger.sqlite holds no answer to 3 of 8 requests \(3 of 'probe'; "):
            list(LedgeredEngine(strict, other).generate([*asked(5), *unknown]))
        assert other.counts()["requests"] == 0  # said before anything was written


CHILD = """
import sys
from data.ledger import Ledger
from data.records import Request, Sampling
from generators.engines.ledgered import LedgeredEngine
from generators.engines.openai import OpenAIEngine
from generators.engines.scheduler import Scheduling
path, url, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
engine = OpenAIEngine(url, policy_id="p", scheduling=Scheduling(concurrency=16))
with Ledger.open(path) as ledger:
    before = ledger.counts()
    requests = (Request("p", Sampling(max_tokens=8), i, prompt=f"question {i}", purpose="synth") for i in range(n))
    ledgered = LedgeredEngine(engine, ledger, window=32)
    done = 0
    for c in ledgered.generate(requests):
        done += 1
        if done % 8 == 0:
            print(done, flush=True)
    print("finished", ledgered.counts.replayed, ledgered.counts.generated, flush=True)
engine.close()
"""


def test_killed_at_10_50_and_90_percent_no_more_is_paid_twice_than_was_in_flight(tmp_path):
    from tests.stub_endpoint import Reply, Stub, completion

    n, path = 600, tmp_path / "ledger.sqlite"
    with Stub(lambda stub, where, body: Reply(completion(body, where), delay=0.01)) as stub:

        def start() -> subprocess.Popen[str]:
            return subprocess.Popen([sys.executable, "-c", CHILD, str(path), stub.url, str(n)], cwd=ROOT, stdout=subprocess.PIPE, text=True)

        for share in (0.1, 0.5, 0.9):
            process = start()
            assert process.stdout is not None
            for line in process.stdout:
                if int(line.split()[0]) >= share * n:
                    break
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
        process = start()
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0 and out.splitlines()[-1].startswith("finished")
        paid_twice = sum(count - 1 for count in stub.answered.values())
        assert len(stub.answered) == n and paid_twice <= 3 * 16, paid_twice
    with Ledger.open(path, write=False) as ledger:
        from data.request_counts import by_purpose

        (row,) = by_purpose(ledger)
        assert (row["requests"], row["done"], row["sent"]) == (n, n, 0)
        assert paid_twice <= row["again"] <= 3 * 32  # the tool says so itself
        print(json.dumps({"paid_twice": paid_twice, "sent_again": row["again"]}))
