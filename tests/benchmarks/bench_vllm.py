"""`synth bench vllm`: what of vLLM's speed is left behind our engine, and whether structured answers are always valid.

Needs vLLM (`synth engine install vllm`). The server is pinned to one core and the client to another (`--share`: to the same). A bare client posts
the very bodies of the pipeline to the same server, 64 at a time over aiohttp: it asks for the same token ids and log-probs, reads the JSON, counts
the tokens and throws the rest away. The pipeline goes through the engine, the scheduler and the ledger, with a run's window. They take turns, who is
first alternates; the ratio is the median over the turns. Prints one JSON line per figure.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

BASE = Path(__file__).parents[2] / "data" / "policies" / "arithmetic"
SCHEMA = {
    "type": "object",
    "properties": {
        "answer": {"type": "integer", "minimum": -9999, "maximum": 9999},
        "steps": {"type": "array", "items": {"type": "string", "pattern": "^[0-9+*/=() -]{1,12}$"}, "maxItems": 3},
        "unit": {"enum": ["m", "s", "kg", None]},
    },
    "required": ["answer", "steps", "unit"],
    "additionalProperties": False,
}


def pinned(engine: Any, server_core: int, own_core: int) -> None:
    """Server and client on one core each, or on the same."""
    import psutil

    for process in [psutil.Process(engine.server.pid), *psutil.Process(engine.server.pid).children(recursive=True)]:
        for thread in process.threads():
            os.sched_setaffinity(thread.id, {server_core})
    for thread in psutil.Process().threads():
        os.sched_setaffinity(thread.id, {own_core})


def requests(repeat: int, prompts: Sequence[str], samples: int, new: int) -> list[Any]:
    from data.records import Request, Sampling

    rule = Sampling(max_tokens=new)
    return [
        Request("bench", rule, seed=(repeat << 40) | (i << 10) | j, index=j, prompt=text) for i, text in enumerate(prompts) for j in range(samples)
    ]


async def bare(engine: Any, asked: Sequence[Any], at_a_time: int) -> int:
    """Tokens that a client gets which does nothing but post the same bodies."""
    import aiohttp

    bodies = [engine._body(r, engine._prompt(r), {}) for r in asked]
    tokens, waiting = 0, iter(bodies)
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {engine.server.key}"}) as session:

        async def work() -> None:
            nonlocal tokens
            for body in waiting:
                async with session.post(engine.server.url + "/inference/v1/generate", json=body) as answer:
                    tokens += len((await answer.json())["choices"][0]["token_ids"])

        await asyncio.gather(*(work() for _ in range(at_a_time)))
    return tokens


def throughput(engine: Any, folder: Path, prompts: Sequence[str], samples: int, new: int, reps: int, at_a_time: int) -> dict[str, float]:
    """Medians: tokens per second of both on the wall clock and their ratio, and the ratio of tokens per CPU second (server and client together).

    The second is what a busy machine measures, too; the first also sees a server that is left waiting.
    """
    import psutil

    from data.ledger import Ledger
    from generators.engines.ledgered import LedgeredEngine

    speed: dict[str, list[float]] = {"pipeline": [], "bare": []}
    share, worked = [], []
    server = psutil.Process(engine.server.pid)

    def cpu() -> float:
        times = [p.cpu_times() for p in (psutil.Process(), server, *server.children(recursive=True))]
        return sum(each.user + each.system for each in times)

    with Ledger.open(folder / "ledger.sqlite") as ledger:
        ledgered = LedgeredEngine(engine, ledger, window=max(64, 2 * at_a_time))  # as a run has it
        for rep in range(reps + 1):
            found, per_cpu = {}, {}
            for name in ("bare", "pipeline") if rep % 2 else ("pipeline", "bare"):
                asked = requests(2 * rep + (name == "bare"), prompts, samples, new)
                engine.tell("POST", "/reset_prefix_cache")
                spent, began = cpu(), time.perf_counter()
                tokens = asyncio.run(bare(engine, asked, at_a_time)) if name == "bare" else sum(len(c.tokens) for c in ledgered.generate(asked))
                found[name] = tokens / (time.perf_counter() - began)
                per_cpu[name] = tokens / (cpu() - spent)
            if rep:  # the first of each warms up
                share.append(found["pipeline"] / found["bare"])
                worked.append(per_cpu["pipeline"] / per_cpu["bare"])
                for name, value in found.items():
                    speed[name].append(value)
    return {name: median(values) for name, values in speed.items()} | {"ratio": median(share), "cpu_ratio": median(worked)}


def structured(engine: Any, prompts: Sequence[str], count: int) -> dict[str, Any]:
    from dataclasses import replace

    from jsonschema import Draft202012Validator

    from data.records import Sampling

    check = Draft202012Validator(SCHEMA)
    asked = [
        replace(r, structured={"json_schema": SCHEMA}, sampling=Sampling(max_tokens=128))
        for r in requests(10_000, prompts, count // len(prompts) + 1, 128)[:count]
    ]
    before, began = engine.scheduler.traffic.sent, time.perf_counter()
    answers = list(engine.generate(asked))
    seconds = time.perf_counter() - began

    def good(text: str) -> bool:
        try:
            return check.is_valid(json.loads(text))
        except ValueError:
            return False

    sent = engine.scheduler.traffic.sent - before
    return {"replies": len(answers), "valid": sum(good(a.text) for a in answers), "sent": sent, "seconds": round(seconds, 1)}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="synth bench vllm", description=__doc__.splitlines()[0] if __doc__ else None)
    for name, value in {"prompts": 64, "samples": 8, "new": 48, "reps": 9, "concurrency": 64, "replies": 1000}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--share", action="store_true", help="server and client on one and the same core")
    options = parser.parse_args(argv)

    from generators.engines.scheduler import Scheduling
    from generators.engines.vllm import VllmEngine
    from generators.engines.vllm_settings import VllmSettings
    from generators.worlds.registry import get_world

    world = get_world("arithmetic")
    families = world.families()
    made = [world.make(families[i % len(families)], 1, i // len(families), seed=0, split="heldout") for i in range(options.prompts)]
    texts = [f"Q: {problem.prompt}\nA:" for problem in made]
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        scheduling = Scheduling(concurrency=options.concurrency, slow=0)
        settings = VllmSettings(max_num_seqs=options.concurrency)
        engine = VllmEngine(BASE, policy_id="bench", settings=settings, log=Path(folder) / "vllm.log", scheduling=scheduling)
        try:
            pinned(engine, cores[0], cores[0 if options.share else -1])
            speed = throughput(engine, Path(folder), texts, options.samples, options.new, options.reps, options.concurrency)
            print(json.dumps({
                "bench": "vllm", "prompts": options.prompts, "samples": options.samples, "new": options.new, "concurrency": options.concurrency,
                "pipeline_tok_s": round(speed["pipeline"]), "bare_tok_s": round(speed["bare"]), "ratio": round(speed["ratio"], 3),
                "cpu_ratio": round(speed["cpu_ratio"], 3),
                "cores": "one for both" if options.share or len(cores) == 1 else "one each", "reps": options.reps,
            }), flush=True)  # fmt: skip
            if options.replies:
                print(json.dumps({"bench": "vllm structured"} | structured(engine, texts, options.replies)), flush=True)
        finally:
            engine.close()
            os.sched_setaffinity(0, set(cores))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
