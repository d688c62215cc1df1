"""`synth bench ledger`: what the request ledger costs at full load, through the whole streaming path of `LedgeredEngine`.

An engine that answers at once (64 tokens with log-probs, 40 prompt tokens, 200 characters) stands where a model would be, so that all time is
ours. Prints one JSON line per figure: responses a second sustained and CPU per request beside the bare engine's; what each part costs
alone; a finished stage taken up again (`lookup` alone, keys ready, and the whole pass with its requests made anew); memory at two sizes.
CPU is the process's own time, so that a busy machine measures the same.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from data.ledger import Ledger
from data.ledger_rows import request_json
from data.records import Completion, Request, Sampling
from generators.engines.ledgered import LedgeredEngine

RULE = Sampling(max_tokens=64)
TOKENS, LOGP, PROMPT = np.arange(64, dtype=np.int32), np.linspace(-3, 0, 64, dtype=np.float32), np.arange(40, dtype=np.int32)
TEXT, QUESTION = "so the answer is 42. " * 10, "A train leaves at noon with {0} passengers; how many are left after every stop of its way home? " * 2


class Instant:
    """Answers each request as soon as it is handed over, in order."""

    capabilities = frozenset({"logprobs", "tokens"})

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        for r in requests:
            yield Completion(r.key, TEXT, TOKENS, LOGP, PROMPT, "stop", r.policy_id, "", 1.0)

    def close(self) -> None:
        pass


def asked(n: int, first: int = 0) -> Iterator[Request]:
    """`n` requests in groups of 8 samples, made one by one."""
    for i in range(first, first + n):
        group, index = divmod(i, 8)
        yield Request("bench-r0-s0", RULE, i, index, prompt=QUESTION.format(group), model="bench", purpose="train", problem_id=f"p{group}")


def clocks(work: Callable[[], Any]) -> tuple[float, float]:
    """(wall, CPU) seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def drain(answers: Iterable[Any]) -> None:
    for _ in answers:
        pass


def say(**figures: Any) -> None:
    print(json.dumps({"bench": "ledger", **figures}), flush=True)


def sustained(folder: Path, n: int, reps: int) -> None:
    """Interleaved: the bare engine and the one behind the ledger, new requests each time; medians."""
    bare, ours = [], []
    with Ledger.open(folder / "sustained.sqlite") as ledger:
        for rep in range(reps):
            bare.append(clocks(lambda rep=rep: drain(Instant().generate(asked(n, rep * n))))[1])  # type: ignore[misc]
            ours.append(clocks(lambda rep=rep: drain(LedgeredEngine(Instant(), ledger).generate(asked(n, rep * n)))))  # type: ignore[misc]
    wall, cpu = median(w for w, _ in ours), median(c for _, c in ours)
    say(
        figure="sustained", requests=n, per_second=round(n / wall), cpu_us=round(1e6 * cpu / n), bare_engine_cpu_us=round(1e6 * median(bare) / n),
        ledger_cpu_us=round(1e6 * (cpu - median(bare)) / n),
    )  # fmt: skip


def parts(folder: Path, n: int, group: int = 256) -> None:
    """Each part alone, in groups as the stream makes them; CPU microseconds per request."""
    requests = list(asked(n, 1 << 32))
    answers = list(Instant().generate(requests))
    fresh = [Request(**{f: getattr(r, f) for f in r.__dataclass_fields__}) for r in requests]
    groups: list[Sequence[Request]] = [requests[i : i + group] for i in range(0, n, group)]
    with Ledger.open(folder / "parts.sqlite") as ledger:
        work: dict[str, Callable[[], Any]] = {
            "key": lambda: drain(r.key for r in fresh),
            "request_json": lambda: drain(request_json(r) for r in requests),
            "lookup_miss": lambda: drain(ledger.lookup([r.key for r in g]) for g in groups),
            "intend": lambda: drain(ledger.intend(g) for g in groups),
            "record": lambda: drain(ledger.record(answers[i : i + group]) for i in range(0, n, group)),
            "lookup_hit": lambda: drain(ledger.lookup([r.key for r in g]) for g in groups),
        }
        say(figure="parts", requests=n, group=group, **{f"{name}_us": round(1e6 * clocks(do)[1] / n, 1) for name, do in work.items()})


def resumed(folder: Path, n: int) -> None:
    with Ledger.open(folder / "resume.sqlite") as ledger:
        drain(LedgeredEngine(Instant(), ledger).generate(asked(n)))
    with Ledger.open(folder / "resume.sqlite") as ledger:
        keys = [r.key for r in asked(n)]
        lookup = clocks(lambda: ledger.lookup(keys))
    with Ledger.open(folder / "resume.sqlite") as ledger:
        ready = list(asked(n))
        drain(r.key for r in ready)
        engine = LedgeredEngine(Instant(), ledger)
        keyed = clocks(lambda: drain(engine.generate(ready)))
        assert engine.counts.replayed == n and not engine.counts.generated
        anew = clocks(lambda: drain(LedgeredEngine(Instant(), ledger).generate(asked(n))))
    for name, (wall, cpu) in {"lookup": lookup, "pass, keys ready": keyed, "pass, requests made anew": anew}.items():
        say(figure="resume", of=name, requests=n, wall_s=round(wall, 2), cpu_s=round(cpu, 2))


def memory(n: int) -> None:
    """Peak memory of a process that streams `n` requests, in MiB, before and after."""
    before = _peak_mib()
    with tempfile.TemporaryDirectory() as folder, Ledger.open(Path(folder) / "ledger.sqlite") as ledger:
        drain(LedgeredEngine(Instant(), ledger).generate(asked(n)))
    say(figure="memory", requests=n, peak_mib=_peak_mib(), before_mib=before)


def _peak_mib() -> float:
    """Of this program alone: `ru_maxrss` counts what the process was before it became this program."""
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return round(int(peak.split()[1]) / 1024, 1)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="synth bench ledger", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--requests", type=int, default=20_000, help="requests of the sustained load, and of each part")
    parser.add_argument("--resume", type=int, default=100_000, help="requests of the stage that is taken up again")
    parser.add_argument("--memory", type=int, nargs="*", default=[10_000, 200_000], help="sizes at which memory is measured")
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--only", choices=("sustained", "parts", "resume", "memory"))
    parser.add_argument("--alone", type=int, help=argparse.SUPPRESS)  # one memory measurement, in a process of its own
    options = parser.parse_args(argv)
    if options.alone:
        memory(options.alone)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if options.only in (None, "sustained"):
            sustained(folder, options.requests, options.reps)
        if options.only in (None, "parts"):
            parts(folder, options.requests)
        if options.only in (None, "resume"):
            resumed(folder, options.resume)
    if options.only in (None, "memory"):
        for n in options.memory:
            subprocess.run([sys.executable, __file__, "--alone", str(n)], check=True, env=_environment())
    return 0


def _environment() -> dict[str, str]:
    import os

    root = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH", ""))))}


if __name__ == "__main__":
    raise SystemExit(main())
