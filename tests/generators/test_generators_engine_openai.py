"""The openai engine against a real endpoint on loopback, well-behaved and not."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stub_endpoint import Behaviour, Reply, Stub, completion, moody, text_for, well

from data.errors import SynthError, UserError
from data.ledger import Ledger
from data.records import Completion, PolicyVersion, Request, Sampling
from generators.engines.endpoints import base_url, retry_after
from generators.engines.ledgered import LedgeredEngine
from generators.engines.openai import OpenAIEngine
from generators.engines.registry import open_engine
from generators.engines.scheduler import Scheduling
from generators.engines.wire import Dialect

QUICK = Scheduling(concurrency=32, backoff_s=0.02, backoff_most_s=0.2, dead_after_s=5)


def asked(i: int = 0, prompt: str = "", **more: Any) -> Request:
    return Request("p", more.pop("sampling", Sampling(max_tokens=20)), seed=i, prompt=prompt or f"question {i}", **more)


def engine(url: Any, **options: Any) -> OpenAIEngine:
    return OpenAIEngine(url, **{"scheduling": QUICK, "policy_id": "p", **options})


def one(stub: Stub, request: Request, **options: Any) -> Completion:
    with_ = engine(stub.url, **options)
    try:
        (got,) = with_.generate([request])
        return got
    finally:
        with_.close()


def sometimes(bad: Reply, good: Behaviour = well, *, first: int = 1) -> Behaviour:
    """The first `first` tries of every request get `bad`; the probe never."""
    tries: Counter[Any] = Counter()

    def behave(stub: Stub, path: str, body: dict[str, Any]) -> Reply:
        if body["max_tokens"] == 1:
            return good(stub, path, body)
        tries[body["seed"]] += 1
        return bad if tries[body["seed"]] <= first else good(stub, path, body)

    return behave


# -- what is asked and what is given ------------------------------------------------------------------------------------


def test_tokens_logprobs_and_text_are_the_servers_own() -> None:
    with Stub() as stub:
        stub.bodies = []
        got = one(stub, asked(7, sampling=Sampling(temperature=1.0, top_p=0.9, top_k=5, max_tokens=20, stop=("\n\n",))))
        assert got.text == text_for({"prompt": "question 7", "seed": 7})
        assert bytes(got.tokens.tolist()).decode() == got.text
        assert np.allclose(got.logp, -0.5) and len(got.logp) == len(got.tokens)
        assert got.prompt_tokens.tolist() == [1, 2, 3] and got.finish == "stop" and got.usage == (3, 10) and got.policy_id == "p" and got.ms > 0
        assert stub.bodies[-1] == {
            "model": "stub", "prompt": "question 7", "seed": 7, "temperature": 1.0, "top_p": 0.9, "top_k": 5, "max_tokens": 20, "stop": ["\n\n"],
            "return_token_ids": True, "logprobs": 0,
        }  # fmt: skip


def test_log_probs_that_ignore_the_temperature_are_not_passed_on() -> None:
    request = asked(1, sampling=Sampling(temperature=0.5, max_tokens=20))
    with Stub() as stub:
        assert np.isnan(one(stub, request).logp).all()
        processed = Dialect(vllm=True, logprobs=True, token_ids=True, token_prompts=True, processed=True)
        assert np.allclose(one(stub, request, model="stub", dialect=processed).logp, -0.5)


@pytest.mark.parametrize("tempered", [True, False])
@pytest.mark.parametrize("api", ["completions", "chat"])
def test_the_probe_finds_out_which_log_probs_the_server_gives(tempered: bool, api: str) -> None:
    def behave(stub: Stub, path: str, body: dict[str, Any]) -> Reply:
        made = completion(body, path, "x")
        z = np.array([1.0, 0.6, -2.0]) / (body["temperature"] if tempered else 1.0)
        logp = z - np.log(np.exp(z).sum())
        if "chat" in path:
            likeliest = [{"token": t, "logprob": v} for t, v in zip("xyz", logp.tolist())]
            made["choices"][0]["logprobs"] = {"content": [{"logprob": float(logp[0]), "top_logprobs": likeliest}]}
        else:
            made["choices"][0]["logprobs"] = {"token_logprobs": [float(logp[0])], "top_logprobs": [dict(zip("xyz", logp.tolist()))]}
        return Reply(made)

    with Stub(behave) as stub:
        made = engine(stub.url, api=api)
        assert made.dialect.processed == tempered and stub.asked == 2
        (got,) = made.generate([asked(1, sampling=Sampling(temperature=0.7, max_tokens=20))])
        z = np.array([1.0, 0.6, -2.0]) / 0.7
        expected = z[0] - np.log(np.exp(z).sum()) if tempered else np.nan
        assert np.allclose(got.logp, [expected], equal_nan=True)
        made.close()


def test_token_ids_go_to_completions_and_conversations_to_chat() -> None:
    with Stub() as stub:
        stub.bodies = []
        got = one(stub, Request("p", Sampling(), seed=1, tokens=(5, 6, 7)))
        assert stub.bodies[-1]["prompt"] == [5, 6, 7] and got.finish == "stop"
        messages = ({"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"})
        got = one(stub, Request("p", Sampling(), seed=1, messages=messages))
        assert stub.bodies[-1]["messages"] == list(messages) and np.allclose(got.logp, -0.5) and len(got.tokens)
        one(stub, asked(3), api="chat")
        assert stub.bodies[-1]["messages"] == [{"role": "user", "content": "question 3"}]


def test_images_travel_as_data_urls_before_the_text(tmp_path: Path) -> None:
    pixel = b"\x89PNG\r\n\x1a\n" + b"0" * 20
    (tmp_path / "abc123").write_bytes(pixel)
    (tmp_path / "ffff").write_bytes(b"#!/bin/sh")
    with Stub() as stub:
        stub.bodies = []
        assert one(stub, asked(1, "what is it?", media=("abc123",)), media=tmp_path).finish == "stop"
        image, text = stub.bodies[-1]["messages"][0]["content"]
        assert base64.b64decode(image["image_url"]["url"].removeprefix("data:image/png;base64,")) == pixel
        assert text == {"type": "text", "text": "what is it?"}
        assert "is no PNG" in one(stub, asked(1, media=("ffff",)), media=tmp_path).error
        assert "not in" in one(stub, asked(1, media=("none",)), media=tmp_path).error
        assert "no folder" in one(stub, asked(1, media=("../etc",)), media=tmp_path).error


def test_tool_calls_become_text_that_an_environment_can_read() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    broken = {"id": "2", "type": "function", "function": {"name": "add", "arguments": '{"a": '}}

    def behave(stub: Stub, path: str, body: dict[str, Any]) -> Reply:
        made = completion(body, path)
        if "tools" in body:
            made["choices"][0] |= {"message": {"role": "assistant", "content": None, "tool_calls": [call, broken]}, "finish_reason": "tool_calls"}
        return Reply(made)

    tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
    request = Request("p", Sampling(), seed=1, messages=({"role": "user", "content": "1+1"},), structured={"tools": tools})
    with Stub(behave, owner="other") as stub:
        got = one(stub, request)
    first, second = got.text.split("\n")
    assert json.loads(first.removeprefix("<tool_call>").removesuffix("</tool_call>")) == {"name": "add", "arguments": {"a": 1}}
    assert '"arguments": "{\\"a\\": "' in second and got.finish == "stop"


def picky(*unknown: str, say: bool = True) -> Behaviour:
    def behave(stub: Stub, path: str, body: dict[str, Any]) -> Reply:
        if wrong := [name for name in unknown if name in body]:
            return Reply({"error": {"message": f"Unrecognized request argument: {wrong[0]}" if say else "bad request"}}, status=400)
        return well(stub, path, body)

    return behave


@pytest.mark.parametrize("say", [True, False])
def test_what_a_server_refuses_is_left_out_from_then_on(say: bool) -> None:
    with Stub(picky("return_token_ids", "logprobs", "seed", say=say), owner="other") as stub:
        made = engine(stub.url)
        assert made.capabilities == {"structured"}
        got = list(made.generate(asked(i) for i in range(3)))
        assert [c.finish for c in got] == ["stop"] * 3 and all(len(c.tokens) == 0 == len(c.logp) for c in got)
        assert got[0].usage == (3, 10)
        made.close()


def test_newer_names_of_fields_are_found() -> None:
    def behave(stub: Stub, path: str, body: dict[str, Any]) -> Reply:
        if "max_tokens" in body:
            return Reply({"error": {"message": "Unsupported parameter: 'max_tokens'; use 'max_completion_tokens' instead."}}, status=400)
        return Reply(completion(body, path))

    with Stub(behave, owner="other") as stub:
        stub.bodies = []
        assert one(stub, asked(1), api="chat").finish == "stop"
        assert stub.bodies[-1]["max_completion_tokens"] == 20


def test_a_local_tokenizer_gives_the_tokens_that_the_server_keeps_to_itself() -> None:
    from pipelines.policies import policy_folder

    with Stub(picky("return_token_ids", "logprobs"), owner="other") as stub:
        made = engine(stub.url, tokenizer=policy_folder("arithmetic"))
        (got,) = made.generate([asked(1)])
        assert made.decode(got.tokens.tolist()) == got.text and np.isnan(got.logp).all() and len(got.prompt_tokens)
        made.close()
        bare = engine(stub.url)
        with pytest.raises(UserError, match=r"engine\.openai\.tokenizer: .* name a local folder"):
            bare.encode("x")
        bare.close()


def test_samples_of_one_input_may_share_a_request() -> None:
    with Stub(owner="other") as stub:
        stub.bodies = []
        made = engine(stub.url, group=4, scheduling=Scheduling(concurrency=1))
        requests = [asked(i, "the same") for i in range(13)]
        got = list(made.generate(requests))
        assert {c.key for c in got} == {r.key for r in requests} and len({c.text for c in got}) == 13
        assert max(b.get("n", 1) for b in stub.bodies) == 4 and len(stub.bodies) < 9
        calls = [b for b in stub.bodies if b["max_tokens"] != 1]
        assert sum(c.usage[0] for c in got) == 3 * len(calls) and sum(c.usage[1] for c in got) == 130
        made.close()


# -- what goes wrong ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        Reply(b'{"choices": [{"te'),  # garbage
        Reply(b"[1, 2]"),
        Reply({"choices": []}),
        Reply({"choices": [{"text": 5}]}),
        Reply({"choices": [{"index": 0, "text": "x", "token_ids": [-4]}]}),
        Reply({"choices": ["x"]}),
        Reply(b""),
        Reply({"choices": [{"text": "never whole"}]}, cut=12),  # the body ends early
        Reply(b"x" * 100, cut=-1),  # reset
        Reply({"error": "oops"}, status=500),
        Reply(b"<html>bad gateway</html>", status=502),
        Reply({"error": {"message": "slow down"}}, status=429),
        Reply(b"", status=503, headers={"Retry-After": "0"}),
    ],
)
def test_a_bad_answer_is_asked_again_and_nothing_is_lost(bad: Reply) -> None:
    with Stub(sometimes(bad)) as stub:
        made = engine(stub.url)
        got = list(made.generate(asked(i) for i in range(8)))
        assert sorted(c.text for c in got) == sorted(text_for({"prompt": f"question {i}", "seed": i}) for i in range(8))
        made.close()


def test_a_request_that_the_server_refuses_is_an_error_and_the_others_go_on() -> None:
    def behave(stub: Stub, path: str, body: dict[str, Any]) -> Reply:
        return Reply({"error": {"message": "prompt too long"}}, status=400) if body["seed"] == 3 else well(stub, path, body)

    with Stub(behave) as stub:
        made = engine(stub.url)
        got = {c.key: c for c in made.generate(asked(i) for i in range(6))}
        assert got[asked(3).key].finish == "error" and "400: prompt too long" in got[asked(3).key].error
        assert sum(c.finish == "stop" for c in got.values()) == 5 and stub.asked == 7
        made.close()


def test_a_wrong_key_stops_at_once_with_one_sentence_that_does_not_hold_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_KEY", "sk-secret-123")

    def behave(stub: Stub, path: str, body: dict[str, Any]) -> Reply:
        if stub.asked <= 3:
            return well(stub, path, body)
        return Reply({"error": {"message": "Incorrect API key provided: sk-secret-123"}}, status=401)

    with Stub(behave) as stub:
        made = engine(stub.url, key_env="STUB_KEY")
        with pytest.raises(UserError, match=r"refused the key in \$STUB_KEY \(401.*put a valid key into \$STUB_KEY") as caught:
            list(made.generate(asked(i) for i in range(2000)))
        assert "sk-secret" not in str(caught.value)
        assert stub.asked < 100
        made.close()
        stub.behave = lambda stub, path, body: Reply({"error": "no"}, status=401)
        with pytest.raises(UserError, match=r"\$STUB_KEY"):
            engine(stub.url, key_env="STUB_KEY")
    monkeypatch.delenv("STUB_KEY")
    with pytest.raises(UserError, match=r"\$STUB_KEY, which is not set"):
        engine("http://127.0.0.1:9", key_env="STUB_KEY")


def test_the_key_goes_into_the_header_and_nowhere_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STUB_KEY", "sk-secret-123")
    echo = Reply({"error": {"message": "who is sk-secret-123?"}}, status=400)
    with Stub(sometimes(echo, first=99)) as stub, Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        stub.bodies = []
        made = LedgeredEngine(engine(stub.url, key_env="STUB_KEY"), ledger)
        (got,) = made.generate([asked(1)])
        made.close()
        assert stub.headers[-1]["authorization"] == "Bearer sk-secret-123"
        assert "who is $STUB_KEY?" in got.error and "sk-secret" not in json.dumps(stub.bodies)
    for file in tmp_path.rglob("*"):
        assert b"sk-secret" not in file.read_bytes()


def test_no_money_left_stops_the_run() -> None:
    spent = Reply({"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}, status=429)
    with Stub(sometimes(spent, first=99)) as stub:
        made = engine(stub.url)
        with pytest.raises(SynthError, match="no money left"):
            list(made.generate(asked(i) for i in range(500)))
        assert stub.asked < 100
        made.close()


def test_nobody_there_at_the_start_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:9/v1: nobody answers .*start the endpoint or give its right address") as caught:
        engine("http://127.0.0.1:9")
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("127.0.0.1:8000", "not an endpoint's address"),
        ("ftp://x/v1", "not an endpoint's address"),
        ("http://user:secret@host/v1", "no user, password"),
        ("http://host:99999/v1", "not an endpoint's address"),
    ],
)
def test_addresses_that_are_none(given: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        base_url(given)
    assert words.startswith("not") or "secret" not in str(caught.value)


def test_addresses() -> None:
    assert base_url("http://h:1") == base_url("http://h:1/") == base_url("http://h:1/v1/") == "http://h:1/v1"
    assert base_url("https://h/openai/deployments/x") == "https://h/openai/deployments/x"


def test_a_model_that_is_not_served_is_named_with_those_that_are() -> None:
    with Stub(models=("qwen", "llama")) as stub:
        with pytest.raises(UserError, match="serves no 'quen'; it serves llama, qwen"):
            engine(stub.url, model="quen")
        with pytest.raises(UserError, match="name one of the 2 models"):
            engine(stub.url)
        engine(stub.url, model="qwen").close()


def test_a_wrong_path_is_one_sentence() -> None:
    nothing = Reply({"detail": "Not Found"}, status=404)
    with Stub(lambda stub, path, body: nothing) as stub, pytest.raises(UserError, match="404: Not Found; is this the base"):
        engine(stub.url, model="stub")


def test_a_server_that_restarts_costs_no_request() -> None:
    stub = Stub(latency=0.02).start()
    port = stub.port
    made = engine(stub.url)
    got: list[Completion] = []
    answers = made.generate(asked(i) for i in range(300))
    for completed in answers:
        got.append(completed)
        if len(got) == 60:
            break
    stub.stop()
    threading.Timer(0.7, lambda: again.start(port)).start()
    again = Stub(latency=0.005)
    got += list(answers)
    assert len({c.key for c in got}) == 300 and all(c.finish == "stop" for c in got)
    made.close()
    again.stop()


def test_the_least_loaded_of_several_is_asked_and_a_dead_one_left_out() -> None:
    with Stub(latency=0.002) as quick, Stub(latency=0.05) as slow:
        dead = Stub().start()
        made = engine([quick.url, slow.url, dead.url])
        dead.stop()
        got = list(made.generate(asked(i) for i in range(400)))
        assert len(got) == 400 and all(c.finish == "stop" for c in got)
        assert quick.asked > 2 * slow.asked > 0
        made.close()


def test_a_copy_that_fails_quickly_does_not_draw_everything() -> None:
    def failing(stub: Stub, path: str, body: dict[str, Any]) -> Reply:
        return well(stub, path, body) if body["max_tokens"] == 1 else Reply(b"", status=500)

    with Stub(latency=0.01) as good, Stub(failing) as bad:
        made = engine([good.url, bad.url])
        got = list(made.generate(asked(i) for i in range(300)))
        assert all(c.finish == "stop" for c in got) and bad.asked < 100
        made.close()


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "3"}, 3.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-4"}, 0.0),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({}, None),
    ],
)
def test_retry_after_in_every_form(headers: Mapping[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


# -- answers of a given form --------------------------------------------------------------------------------------------


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}


def says(*texts: str) -> Behaviour:
    """One text after the other, the last for ever."""
    left = list(texts)

    def behave(stub: Stub, path: str, body: dict[str, Any]) -> Reply:
        if body.get("max_tokens") == 1:
            return well(stub, path, body)
        return Reply(completion(body, path, left.pop(0) if len(left) > 1 else left[0]))

    return behave


def test_a_wrong_form_is_asked_again_with_what_is_wrong_and_the_right_one_kept() -> None:
    with Stub(says('{"n": "three"}', "```json\n{\"n\": 3}\n```"), owner="other") as stub:
        stub.bodies = []
        messages = ({"role": "user", "content": "how many?"},)
        got = one(stub, Request("p", Sampling(), seed=1, messages=messages, structured={"json_schema": SCHEMA}), api="chat")
        assert (got.text, got.finish, got.usage) == ('{"n": 3}', "stop", (6, 20))
        first, second = stub.bodies[1:]
        assert first["response_format"]["json_schema"]["schema"] == SCHEMA
        assert second["messages"][1] == {"role": "assistant", "content": '{"n": "three"}'}
        assert "at $.n: 'three' is not of type 'integer'" in second["messages"][2]["content"]
        assert second["seed"] != first["seed"]


@pytest.mark.parametrize("api", ["chat", "completions"])
@pytest.mark.parametrize(
    ("structured", "bad", "good"),
    [
        ({"json_schema": SCHEMA}, "{n: 1}", '{"n": 1}'),
        ({"json_schema": SCHEMA}, '{"n": NaN}', '{"n": 1}'),
        ({"regex": r"\d{3}"}, "12", "123"),
        ({"choice": ["yes", "no"]}, "maybe", "yes"),
    ],
)
def test_every_form_is_checked_here(structured: dict[str, Any], bad: str, good: str, api: str) -> None:
    with Stub(says(bad, bad, good), owner="other") as stub:
        got = one(stub, asked(1, structured=structured), api=api)
        assert (got.text, got.finish) == (good, "stop") and stub.asked == 4
    with Stub(says(bad), owner="other") as stub:
        got = one(stub, asked(1, structured=structured), api=api)
        assert got.finish == "error" and "after 3 tries" in got.error and stub.asked == 4


def test_a_vllm_server_is_told_to_constrain() -> None:
    with Stub(says("123")) as stub:
        stub.bodies = []
        one(stub, asked(1, structured={"regex": r"\d+"}))
        assert stub.bodies[-1]["structured_outputs"] == {"regex": r"\d+"} and stub.bodies[-1]["prompt"] == "question 1"
        got = one(stub, asked(1, structured={"grammar": "root ::= [0-9]+"}))
        assert stub.bodies[-1]["structured_outputs"] == {"grammar": "root ::= [0-9]+"} and got.text == "123"


def test_forms_that_make_no_sense_cost_nothing() -> None:
    with Stub(owner="other") as stub:
        for structured, why in (
            ({"grammar": "root ::= x"}, "grammar"),
            ({"json_schema": {"type": "nonsense"}}, "JSON schema is wrong"),
            ({"regex": "("}, "regular expression"),
            ({"shape": 1}, "exactly one of"),
            ({"regex": "a", "choice": ["a"]}, "exactly one of"),
        ):
            asked_before = stub.asked
            got = one(stub, asked(1, structured=structured))
            assert got.finish == "error" and why in got.error, structured
            assert stub.asked == asked_before + 1  # the probe


# -- behind the ledger --------------------------------------------------------------------------------------------------


def test_heavy_tail_refusals_and_garbage_lose_nothing_and_pay_nothing_twice(tmp_path: Path) -> None:
    with Stub(moody(0.005, 1.5, 0.02, 0.01)) as stub, Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        made = LedgeredEngine(engine(stub.url), ledger)
        requests = [asked(i) for i in range(1500)]
        got = list(made.generate(requests))
        assert Counter(c.key for c in got) == Counter(r.key for r in requests) and all(c.finish == "stop" for c in got)
        paid = Counter(stub.answered.values())
        garbled = stub.asked - 1 - 1500  # every other answer was a refusal or garbage, and free of a record
        assert garbled > 0 and sum(n * k for n, k in paid.items()) <= 1500 + garbled
        before = stub.asked
        assert len(list(made.generate(requests))) == 1500 and stub.asked == before  # all from the ledger
        made.close()


def test_cancelling_on_the_way(tmp_path: Path) -> None:
    with Stub(latency=5.0) as stub:
        made = engine(stub.url, model="stub", dialect=Dialect())
        requests = [asked(i) for i in range(4)]
        threading.Timer(0.2, lambda: made.cancel(r.key for r in requests)).start()
        began = time.monotonic()
        assert [c.finish for c in made.generate(requests)] == ["cancelled"] * 4 and time.monotonic() - began < 3
        made.close()


def test_what_it_cannot_do_it_says() -> None:
    with Stub() as stub:
        made = open_engine(f"openai:{stub.url}")
        for call in (lambda: made.embed(["x"]), lambda: list(made.score([("k", [1])])), lambda: made.update(PolicyVersion("x", "y", 1, 1))):
            with pytest.raises(SynthError, match="engine"):
                call()
        made.update(PolicyVersion("x", "y"))  # the first policy is what the endpoint serves
        assert made.control("GET", "/v1/models")[0]["object"] == "list"  # type: ignore[attr-defined]
        made.close()
        made.close()


