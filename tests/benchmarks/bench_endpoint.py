"""`synth bench endpoint`: what the scheduler, the openai engine and the ledger cost, beside a bare client and beside other libraries.

A stub endpoint answers on loopback from a process of its own (tests/stub_endpoint.py). Figures, one JSON line each:
  fixed  2,000 requests at 100 ms, 64 at a time: span on the server (first request to last answer) and CPU seconds, beside bare aiohttp
  client bare aiohttp and bare httpx on 500 of those
  fast   20,000 requests at 10 ms, 256 at a time: CPU milliseconds a request
  tail   heavy-tailed latency with 2 % of 429 and 1 % of garbage: what is lost, what is paid twice
  beside distilabel, curator, Data Designer and datatrove on `fixed`, each in an environment of its own, whose Python `--beside NAME=PYTHON` or
         SYNTH_DISTILABEL_PYTHON, SYNTH_CURATOR_PYTHON, SYNTH_DATADESIGNER_PYTHON, SYNTH_DATATROVE_PYTHON names; why, where there is no figure
Ours is the whole way: LedgeredEngine, a ledger file, requests made one by one. They take turns; medians of `--reps`. CPU is the process's own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS.parent)]
PROMPT = "Question {i}: what is {i} plus one? Answer with a number."


@contextlib.contextmanager
def stub(**how: float) -> Iterator[str]:
    """A stub process; its root URL."""
    words = [sys.executable, str(TESTS / "stub_endpoint.py"), *(w for k, v in how.items() for w in (f"--{k}", str(v)))]
    started = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert started.stdout is not None
        yield f"http://127.0.0.1:{int(started.stdout.readline())}"
    finally:
        started.kill()
        started.wait()


def counts(root: str, path: str = "/stub") -> dict[str, Any]:
    with urllib.request.urlopen(root + path) as answer:
        return dict(json.loads(answer.read()))


def body_for(i: int) -> dict[str, Any]:
    return {"model": "stub", "prompt": PROMPT.format(i=i), "max_tokens": 64, "temperature": 1.0, "seed": i, "logprobs": 0, "return_token_ids": True}


def bare_aiohttp(root: str, n: int, at_once: int, start: int) -> int:
    import aiohttp

    async def run() -> int:
        left = iter(range(start, start + n))
        done = 0
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def worker() -> None:
                nonlocal done
                for i in left:
                    async with session.post(f"{root}/v1/completions", json=body_for(i)) as answer:
                        got = await answer.json()
                    done += len(got["choices"])

            await asyncio.gather(*(worker() for _ in range(at_once)))
        return done

    return asyncio.run(run())


def bare_httpx(root: str, n: int, at_once: int, start: int) -> int:
    import httpx

    async def run() -> int:
        left = iter(range(start, start + n))
        done = 0
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        async with httpx.AsyncClient(limits=limits, timeout=60) as client:

            async def worker() -> None:
                nonlocal done
                for i in left:
                    answer = await client.post(f"{root}/v1/completions", json=body_for(i))
                    done += len(answer.json()["choices"])

            await asyncio.gather(*(worker() for _ in range(at_once)))
        return done

    return asyncio.run(run())


def ours(root: str, n: int, at_once: int, start: int) -> int:
    from data.ledger import Ledger
    from data.records import Request, Sampling
    from generators.engines.ledgered import LedgeredEngine
    from generators.engines.openai import OpenAIEngine
    from generators.engines.scheduler import Scheduling

    rule = Sampling(max_tokens=64)
    with tempfile.TemporaryDirectory() as folder, Ledger.open(Path(folder) / "ledger.sqlite") as ledger:
        engine = LedgeredEngine(OpenAIEngine(root, policy_id="bench", scheduling=Scheduling(concurrency=at_once)), ledger)
        requests = (Request("bench", rule, seed=i, prompt=PROMPT.format(i=i), model="stub", purpose="bench") for i in range(start, start + n))
        done = sum(c.finish == "stop" for c in engine.generate(requests))
        engine.close()
    return done


CONTESTANTS: dict[str, Callable[[str, int, int, int], int]] = {"aiohttp": bare_aiohttp, "ours": ours, "httpx": bare_httpx}


def compare(root: str, names: Sequence[str], n: int, at_once: int, reps: int) -> dict[str, dict[str, float]]:
    """Medians of span (seconds on the server) and CPU seconds of each contestant; they take turns."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for rep in range(reps):
        for place, name in enumerate(names):
            counts(root, "/stub/reset")
            began = time.process_time()
            answered = CONTESTANTS[name](root, n, at_once, (rep * len(names) + place) * n)
            cpu = time.process_time() - began
            told = counts(root)
            assert answered == n, (name, answered, n)
            taken[name].append((told["span"], cpu))
    return {name: {"span_s": round(median(s for s, _ in each), 3), "cpu_s": round(median(c for _, c in each), 3)} for name, each in taken.items()}


def tail(root: str, n: int, at_once: int) -> dict[str, Any]:
    counts(root, "/stub/reset")
    answered = ours(root, n, at_once, 0)
    told = counts(root)
    lost = n - answered
    return {"asked": told["asked"], "lost": lost, "distinct": told["distinct"], "given_whole_and_paid_again": told["whole_repeats"]}


def say(**figures: Any) -> None:
    print(json.dumps({"bench": "endpoint", **figures}), flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="synth bench endpoint", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("figures", nargs="*", default=["fixed", "fast", "tail"], help="fixed, client, fast, tail, beside (default: fixed fast tail)")
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--beside", action="append", default=[], metavar="NAME=PYTHON", help="another library and the Python that has it")
    parser.add_argument("--json", action="store_true", help="accepted for all benchmarks; this one prints JSON anyway")
    options = parser.parse_args(argv)
    if "fixed" in options.figures:
        with stub(latency=0.1) as root:
            found = compare(root, ("aiohttp", "ours"), 2000, 64, options.reps)
            ratio = round(found["ours"]["span_s"] / found["aiohttp"]["span_s"], 3)
            say(figure="fixed", requests=2000, latency_ms=100, at_once=64, span_ratio=ratio, **found)
    if "client" in options.figures:
        with stub(latency=0.1) as root:
            say(figure="client", requests=500, latency_ms=100, at_once=64, **compare(root, ("aiohttp", "httpx"), 500, 64, options.reps))
    if "fast" in options.figures:
        with stub(latency=0.01) as root:
            found = compare(root, ("aiohttp", "ours"), 20_000, 256, options.reps)
            per = {name: round(1e3 * figures["cpu_s"] / 20_000, 3) for name, figures in found.items()}
            say(figure="fast", requests=20_000, latency_ms=10, at_once=256, cpu_ms_per_request=per, **found)
    if "tail" in options.figures:
        with stub(latency=0.02, tail=1.2, busy=0.02, garbage=0.01) as root:
            say(figure="tail", requests=5000, at_once=64, **tail(root, 5000, 64))
    if "beside" in options.figures or options.beside:
        sys.path.insert(0, str(Path(__file__).parent))
        from beside import others, pythons

        for figures in others(pythons(dict(pair.split("=", 1) for pair in options.beside), os.environ), stub, counts):
            say(figure="beside", requests=2000, latency_ms=100, at_once=64, **figures)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
