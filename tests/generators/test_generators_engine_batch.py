"""Provider batches against a provider on loopback: resumed wherever a crash fell, and nothing is paid twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stub_endpoint import text_for
from stub_provider import Line, Provider, well

from data.errors import SynthError
from data.ledger import Ledger
from data.records import Completion, Request, Sampling
from generators.engines.batch_endpoint import BatchEngine
from generators.engines.ledgered import LedgeredEngine
from generators.engines.openai import OpenAIEngine
from generators.engines.wire import Dialect


def asked(i: int, **more: Any) -> Request:
    return Request("p", Sampling(max_tokens=20), seed=i, prompt=f"question {i}", **more)


def batched(provider: Provider, folder: Path, **how: Any) -> BatchEngine:
    inner = OpenAIEngine(provider.url, policy_id="p", model="stub", dialect=Dialect())
    return BatchEngine(inner, folder / "batches.sqlite", **{"gather_s": 0.2, "poll_s": 0.05, **how})


def test_many_requests_are_one_batch_and_every_answer_finds_its_request(tmp_path: Path) -> None:
    with Provider(polls=3) as provider:
        made = batched(provider, tmp_path)
        got = {c.key: c for c in made.generate(asked(i) for i in range(200))}
        assert len(provider.batches) == 1 and len(got) == 200
        for i in range(200):
            assert got[asked(i).key].text == text_for({"prompt": f"question {i}", "seed": i}) and got[asked(i).key].usage == (3, 10)
        assert provider.batches["batch-0"]["endpoint"] == "/v1/completions"
        made.close()


def test_it_answers_while_the_input_is_open(tmp_path: Path) -> None:
    with Provider() as provider:
        made = batched(provider, tmp_path)
        first: list[Completion] = []

        def source() -> Iterator[Request]:
            yield asked(0)
            while not first:  # more is asked only after the first answer
                import time

                time.sleep(0.01)
            yield asked(1)

        for completed in made.generate(source()):
            first += [completed]
        assert len(first) == 2 == len(provider.batches)
        made.close()


def test_conversations_and_prompts_go_into_batches_of_their_own(tmp_path: Path) -> None:
    with Provider() as provider:
        made = batched(provider, tmp_path)
        chat = Request("p", Sampling(), seed=1, messages=({"role": "user", "content": "hello"},))
        assert len(list(made.generate([asked(1), chat]))) == 2
        assert {b["endpoint"] for b in provider.batches.values()} == {"/v1/completions", "/v1/chat/completions"}
        made.close()


@pytest.mark.parametrize("seam", ["before the batch is made", "made but unknown", "while it is waited for", "answers in hand"])
def test_a_crash_picks_the_batch_up_again_and_pays_nothing_twice(tmp_path: Path, seam: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def dies(*_: Any, **__: Any) -> Any:
        raise Killed

    with Provider(polls=2) as provider, Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        first = batched(provider, tmp_path)
        with monkeypatch.context() as patch:
            if seam == "before the batch is made":
                patch.setattr(first, "_create", dies)
            elif seam == "made but unknown":
                once = first._once


                def made_then_killed(method: str, path: str, **options: Any) -> Any:
                    answer = once(method, path, **options)
                    return dies() if (method, path) == ("POST", "batches") else answer

                patch.setattr(first, "_once", made_then_killed)
            elif seam == "while it is waited for":
                patch.setattr(first, "_over", dies)
            else:
                commit = ledger.commit

                def killed_with_answers(asked: Any = (), answers: Any = (), given_up: Any = ()) -> Any:
                    return dies() if answers else commit(asked, answers, given_up)

                patch.setattr(ledger, "commit", killed_with_answers)
            with pytest.raises(Killed):
                list(LedgeredEngine(first, ledger).generate(asked(i) for i in range(30)))
        first.close()
        second = LedgeredEngine(batched(provider, tmp_path), ledger)
        got = list(second.generate(asked(i) for i in range(30)))
        assert len(got) == 30 and all(c.finish == "stop" for c in got)
        assert set(provider.paid.values()) == {1} and len(provider.paid) == 30
        assert len(provider.batches) == 1
        second.close()


def test_a_lost_answer_to_the_making_of_a_batch_makes_no_second_one(tmp_path: Path) -> None:
    with Provider() as provider:
        provider.crash = "created"
        made = batched(provider, tmp_path)
        assert len(list(made.generate(asked(i) for i in range(5)))) == 5
        assert len(provider.batches) == 1 and set(provider.paid.values()) == {1}
        made.close()


def test_what_expired_or_failed_there_is_sent_again_and_only_that(tmp_path: Path) -> None:
    seen: Counter[str] = Counter()

    def answers(line: Line) -> Line | None:
        seen[line["custom_id"]] += 1
        number = int(line["body"]["prompt"].split()[1])
        if number % 5 == 0 and seen[line["custom_id"]] == 1:
            return None
        if number % 5 == 1 and seen[line["custom_id"]] == 1:
            return {"custom_id": line["custom_id"], "response": {"status_code": 500, "body": {"error": {"message": "oops"}}}, "error": None}
        if number == 7:
            return {"custom_id": line["custom_id"], "response": {"status_code": 400, "body": {"error": {"message": "too long"}}}, "error": None}
        if number == 8:
            return None
        return well(line)

    with Provider(answers) as provider:
        made = batched(provider, tmp_path)
        got = {c.key: c for c in made.generate(asked(i) for i in range(20))}
        assert len(got) == 20
        assert "400: too long" in got[asked(7).key].error and "in 3 batches" in got[asked(8).key].error
        assert all(c.finish == "stop" for k, c in got.items() if k not in (asked(7).key, asked(8).key))
        assert set(provider.paid.values()) == {1} and seen[asked(2).key] == 1 and seen[asked(7).key] == 1
        made.close()


def test_garbage_in_the_output_file_is_not_an_answer(tmp_path: Path) -> None:
    seen: Counter[str] = Counter()

    def answers(line: Line) -> Line:
        seen[line["custom_id"]] += 1
        made = well(line)
        if seen[line["custom_id"]] == 1:
            made["response"]["body"] = {"choices": "none"}
        return made

    with Provider(answers) as provider:
        made = batched(provider, tmp_path)
        assert [c.finish for c in made.generate([asked(1)])] == ["stop"]
        made.close()


def test_a_wrong_form_is_asked_again_in_the_next_batch(tmp_path: Path) -> None:
    def answers(line: Line) -> Line:
        made = well(line)
        right = "not valid" in line["body"]["prompt"]
        made["response"]["body"]["choices"][0]["text"] = "42" if right else "forty-two"
        return made

    with Provider(answers) as provider:
        made = batched(provider, tmp_path)
        (got,) = made.generate([asked(1, structured={"regex": r"\d+"})])
        assert (got.text, got.key, got.usage) == ("42", asked(1, structured={"regex": r"\d+"}).key, (6, 20))
        (bad,) = made.generate([asked(1, structured={"regex": "("})])
        assert bad.finish == "error" and len(provider.batches) == 2
        made.close()


def test_a_batch_refused_as_a_whole_is_one_sentence(tmp_path: Path) -> None:
    with Provider() as provider:
        made = batched(provider, tmp_path)
        provider._finish = lambda batch: batch.update(status="failed", errors={"data": [{"message": "too many lines"}]})  # type: ignore[method-assign]
        with pytest.raises(SynthError, match="refused as a whole: too many lines; nothing of it is paid"):
            list(made.generate([asked(1)]))
        del provider._finish  # type: ignore[method-assign]
        assert [c.finish for c in made.generate([asked(1)])] == ["stop"]  # and asks afresh
        made.close()
