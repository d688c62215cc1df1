"""A loopback endpoint with a temper: OpenAI-compatible, cheap in CPU, counts what it is asked. A thread for tests, a process for benchmarks.

    python tests/stub_endpoint.py --latency 0.1 --tail 0 --busy 0.02 --garbage 0.01     prints its port; GET /stub gives the counts as JSON
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson


@dataclass
class Reply:
    """What the stub sends: `body` after `delay` seconds. `cut`: only so many of its bytes, then the connection closes; -1 = it is reset at once."""

    body: Any = b""
    status: int = 200
    delay: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None

    def bytes(self) -> bytes:
        if not isinstance(self.body, bytes):
            self.body = orjson.dumps(self.body)
        return self.body


Behaviour = Callable[["Stub", str, dict[str, Any]], Reply]


def text_for(body: Mapping[str, Any], index: int = 0) -> str:
    """What the stub's model says: a function of the input, the seed and the choice's index."""
    asked = orjson.dumps([body.get("prompt") or body.get("messages"), body.get("seed"), index])
    return "answer " + hashlib.blake2b(asked, digest_size=6).hexdigest()


def completion(body: Mapping[str, Any], path: str, text: str | None = None) -> dict[str, Any]:
    """A well-formed answer; token ids are the text's bytes, each with log-prob -0.5."""
    chat = path.endswith("chat/completions")
    choices = []
    for index in range(int(body.get("n", 1))):
        said = text_for(body, index) if text is None else text
        ids = list(said.encode()) if body.get("return_token_ids") else None
        choice: dict[str, Any] = {"index": index, "finish_reason": "stop"}
        choice |= {"message": {"role": "assistant", "content": said}} if chat else {"text": said}
        if ids is not None:
            choice |= {"token_ids": ids, "prompt_token_ids": [1, 2, 3]}
        logprobs = body.get("logprobs")
        if logprobs is not None and logprobs is not False:
            n = len(said.encode())
            choice["logprobs"] = {"content": [{"logprob": -0.5}] * n} if chat else {"token_logprobs": [-0.5] * n}
        choices.append(choice)
    n = len(choices)
    usage = {"prompt_tokens": 3, "completion_tokens": 10 * n, "total_tokens": 3 + 10 * n}
    return {"id": "x", "model": body.get("model"), "choices": choices, "usage": usage}


def well(stub: Stub, path: str, body: dict[str, Any]) -> Reply:
    return Reply(completion(body, path), delay=stub.latency)


class Stub:
    """Counts: `asked` requests for completions, `answered` ones by (input, seed), `now` and `most` at once, `when` each arrived."""

    def __init__(self, behave: Behaviour = well, *, latency: float = 0.0, owner: str = "vllm", models: tuple[str, ...] = ("stub",)) -> None:
        self.behave, self.latency, self.owner, self.models = behave, latency, owner, models
        self.asked = self.now = self.most = 0
        self.answered: Counter[str] = Counter()  # well and whole, by (input, seed)
        self.first = self.last = 0.0
        self.bodies: list[dict[str, Any]] | None = None  # a list where a test wants to see them
        self.headers: list[dict[str, str]] = []
        self.port = 0
        self._transports: set[asyncio.Transport] = set()

    async def serve(self, port: int = 0) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    # in a thread

    def start(self, port: int = 0) -> Stub:
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()

        def run() -> None:
            asyncio.set_event_loop(self._loop)
            self._loop.run_until_complete(self.serve(port))
            ready.set()
            self._loop.run_forever()
            self._loop.close()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        if not ready.wait(10):
            raise RuntimeError("the stub did not start")
        return self

    def stop(self) -> None:
        """Like a killed server: nobody listens any more, open connections break."""

        def end() -> None:
            self._server.close()
            for transport in list(self._transports):
                transport.abort()
            self._loop.call_later(0.01, self._loop.stop)

        self._loop.call_soon_threadsafe(end)
        self._thread.join(10)

    def __enter__(self) -> Stub:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # what it says

    def reply(self, method: str, path: str, headers: dict[str, str], content: bytes) -> Reply:
        if method == "GET" and path.endswith("/models"):
            return Reply({"object": "list", "data": [{"id": m, "object": "model", "owned_by": self.owner} for m in self.models]})
        if method == "GET" and path == "/stub":
            repeats = sum(n - 1 for n in self.answered.values())
            return Reply(
                {"asked": self.asked, "answered": sum(self.answered.values()), "distinct": len(self.answered), "whole_repeats": repeats,
                 "most": self.most, "span": self.last - self.first, "cpu": time.process_time()}
            )
        if path == "/stub/reset":
            self.asked = self.most = 0
            self.answered.clear()
            self.first = self.last = 0.0
            return Reply({})
        body = orjson.loads(content)
        self.asked += 1
        if body.get("max_tokens") != 1:  # not a probe
            self.first = self.first or time.perf_counter()
        if self.bodies is not None:
            self.bodies.append(body)
            self.headers.append(headers)
        reply = self.behave(self, path, body)
        whole = reply.status == 200 and reply.cut is None and reply.bytes().endswith(b"}")
        if whole and body.get("max_tokens") != 1:
            asked = orjson.dumps([body.get("prompt") or body.get("messages"), body.get("seed")])
            self.answered[hashlib.blake2b(asked, digest_size=8).hexdigest()] += 1
        return reply


class _Connection(asyncio.Protocol):
    def __init__(self, stub: Stub) -> None:
        self.stub, self.buffer = stub, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.stub._transports.add(self.transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.stub._transports.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        first, *lines = self.buffer[:end].decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", 0))
        if len(self.buffer) < end + 4 + length:
            return
        content, self.buffer = self.buffer[end + 4 : end + 4 + length], self.buffer[end + 4 + length :]
        method, path, _ = first.split(" ", 2)
        stub = self.stub
        if path.startswith("/stub"):
            return self.transport.write(_answer(stub.reply(method, path, headers, content)))
        stub.now += 1
        stub.most = max(stub.most, stub.now)
        reply = stub.reply(method, path, headers, content)
        if reply.delay:
            asyncio.get_running_loop().call_later(reply.delay, self._send, reply)
        else:
            self._send(reply)

    def _send(self, reply: Reply) -> None:
        self.stub.now -= 1
        self.stub.last = time.perf_counter()
        if self.transport.is_closing():
            return
        if reply.cut == -1:
            return self.transport.abort()
        self.transport.write(_answer(reply))
        if reply.cut is not None:
            self.transport.close()


def _answer(reply: Reply) -> bytes:
    body = reply.bytes()
    more = "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items())
    head = f"HTTP/1.1 {reply.status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + (body if reply.cut is None else body[: reply.cut])


def moody(latency: float, tail: float, busy: float, garbage: float, seed: int = 0) -> Behaviour:
    """`latency` seconds, heavy-tailed by `tail` (Pareto of that shape, at most 20 times; 0 = fixed); shares of 429 and of garbage."""
    draw = random.Random(seed)

    def behave(stub: Stub, path: str, body: dict[str, Any]) -> Reply:
        delay = latency * (min(20.0, draw.paretovariate(tail)) if tail else 1.0)
        lot = draw.random()
        if lot < busy:
            return Reply({"error": {"message": "slow down"}}, status=429, headers={"retry-after-ms": "200"})
        if lot < busy + garbage:
            return Reply(b'{"choices": [{"te', delay=delay)
        return Reply(completion(body, path), delay=delay)

    return behave


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency", type=float, default=0.1)
    parser.add_argument("--tail", type=float, default=0.0)
    parser.add_argument("--busy", type=float, default=0.0)
    parser.add_argument("--garbage", type=float, default=0.0)
    parser.add_argument("--owner", default="vllm")
    args = parser.parse_args()

    async def run() -> None:
        stub = Stub(moody(args.latency, args.tail, args.busy, args.garbage), owner=args.owner)
        await stub.serve()
        print(stub.port, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)  # until whoever started us is gone

    asyncio.run(run())


if __name__ == "__main__":
    main()
