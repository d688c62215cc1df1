"""The sandbox beside a fresh `python -I` per program, on HumanEval's canonical programs and MBPP's references with all their tests.

    python tests/benchmarks/bench_sandbox.py [throughput|matrix|soak|told] [--data ../shared/data] [--levels L1,L3] [--programs N]

throughput: programs per second at each level and the ratio to fresh processes, interleaved in chunks, by the clock and by the CPU seconds of
everything involved (this process, zygotes, jobs, fresh interpreters): one at a time, and as many as there are cores on both sides.
matrix: 16 programs × 16 tests over 100 problems beside the ideal, cells / (rate of one worker on one core × cores), interleaved.
soak: 10,000 programs in a row; processes, descriptors and memory before and after.
told: correct and buggy solutions of a file that is not ours (`--pack`, rows as in HumanEvalPack: prompt, canonical_solution, buggy_solution, test,
entry_point), through the `code` verifier: how many of each are judged rightly. Prints one JSON line per figure.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from filters.sandbox import levels
from filters.sandbox.checks import Check, read_checks
from filters.sandbox.jobs import Job, Limits
from filters.sandbox.judging import judge, plan
from filters.sandbox.matrix import run_matrix
from filters.sandbox.pool import Sandbox

TICK = os.sysconf("SC_CLK_TCK")
CHUNK, MATRIX_CHUNKS, HEAVY = 40, 20, 0.05
Item = tuple[str, list[Check], str, str]  # program, checks, setup, the same as one plain script


def programs(data: Path) -> dict[str, list[Item]]:
    """By set."""

    def rows(name: str) -> Iterator[dict[str, Any]]:
        with gzip.open(data / name, "rt", encoding="utf-8") as file:
            yield from map(json.loads, file)

    sets: dict[str, list[Item]] = {"HumanEval": [], "MBPP": []}
    for row in rows("HumanEval.jsonl.gz"):
        code = row["prompt"] + row["canonical_solution"]
        script = f"{row['test']}\ncheck({row['entry_point']})"
        sets["HumanEval"].append((code, _checks([script], row["entry_point"]), "", f"{code}\n{script}"))
    for row in rows("mbpp.jsonl.gz"):
        tests = [*row["test_list"], *row["challenge_test_list"]]
        sets["MBPP"].append((row["code"], _checks(tests), row["test_setup_code"], "\n".join([row["code"], row["test_setup_code"], *tests])))
    return sets


def _checks(scripts: Sequence[str], entry: str = "") -> list[Check]:
    return [c for group in read_checks([{"script": s} for s in scripts], entry=entry) for c in group]


def cpu_of_sandbox(sandbox: Sandbox) -> float:
    """CPU seconds of this process, the zygotes and every job they have reaped."""
    own = os.times()
    total = own.user + own.system
    for zygote in sandbox._zygotes:
        for pid in _tree(zygote.process.pid):
            with suppress(FileNotFoundError):  # ended meanwhile, and counted by its parent
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                total += sum(map(int, fields[11:15])) / TICK
    return total


def _tree(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [pid, *(p for child in children for p in _tree(int(child)))]


class Cost(NamedTuple):
    """Of running some programs."""

    programs: int = 0
    accepted: int = 0
    cpu: float = 0.0  # seconds, of everybody who took part
    clock: float = 0.0

    def __add__(self, other: Any) -> Cost:
        return Cost(*(a + b for a, b in zip(self, other)))


def run_fresh(items: Sequence[Item], folder: Path, workers: int) -> Cost:
    """One interpreter per program, `workers` at a time."""

    def one(numbered: tuple[int, Item]) -> bool:
        path = folder / f"program{numbered[0]}.py"
        path.write_text(numbered[1][3], encoding="utf-8")
        done = subprocess.run([sys.executable, "-I", str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120, check=False)
        return done.returncode == 0

    before, began = os.times(), time.perf_counter()
    if workers == 1:
        accepted = sum(map(one, enumerate(items)))
    else:
        with ThreadPoolExecutor(workers) as pool:
            accepted = sum(pool.map(one, enumerate(items)))
    clock, after = time.perf_counter() - began, os.times()
    return Cost(len(items), accepted, sum(after[:4]) - sum(before[:4]), clock)


def run_sandboxed(sandbox: Sandbox, items: Sequence[Item]) -> Cost:
    before, began, accepted = cpu_of_sandbox(sandbox), time.perf_counter(), 0
    planned = [[(checks, p) for p in plan(code, checks, setup=setup)] for code, checks, setup, _ in items]
    results = sandbox.stream(item[0] for jobs in planned for _, item in jobs)
    for jobs in planned:
        cells = [cell for checks, item in jobs for cell in judge(checks, item, next(results))]
        accepted += all(c.outcome == "pass" for c in cells)
    list(results)
    clock = time.perf_counter() - began
    return Cost(len(items), accepted, cpu_of_sandbox(sandbox) - before, clock)


def throughput(data: Path, names: Sequence[str], limit: int) -> None:
    """Each set in parts of about CHUNK programs that every runner gets in turn, one program at a time and as many as there are cores.

    Programs that compute for more than HEAVY seconds themselves cost every runner the same; what they hide is told by `light`, without them.
    """
    cores = len(os.sched_getaffinity(0))
    for title, items in programs(data).items():
        items = items[: limit or None]
        seen = {name: levels.best(name) for name in names}
        sandboxes = {(name, n): Sandbox(seen[name].layers, seen[name].level, workers=n) for name in names for n in (1, cores)}
        alone = [max(r.cpu for r in sandboxes[names[-1], 1].run(job for job, _ in plan(c, k, setup=s))) for c, k, s, _ in items]
        for sandbox in sandboxes.values():
            run_sandboxed(sandbox, items[: 8 * cores])
        light = [item for item, cpu in zip(items, alone) if cpu <= HEAVY]
        heavy = [item for item, cpu in zip(items, alone) if cpu > HEAVY]
        costs: dict[tuple[str, int, str], Cost] = defaultdict(Cost)
        chunks = max(1, round(len(light) / CHUNK))
        with tempfile.TemporaryDirectory() as folder:
            for turn, (weight, part) in enumerate([*(("light", light[chunk::chunks]) for chunk in range(chunks)), ("heavy", heavy)]):
                order = deque((name, n) for n in (1, cores) for name in ("fresh", *names))
                order.rotate(turn)  # who comes after the fresh processes finds their pages in the caches, not his own
                for name, n in order:
                    costs[name, n, weight] += run_fresh(part, Path(folder), n) if name == "fresh" else run_sandboxed(sandboxes[name, n], part)
        for sandbox in sandboxes.values():
            sandbox.close()
        for name in ("fresh", *names):
            for n in (1, cores):
                cost = {"light": costs[name, n, "light"], "all": costs[name, n, "light"] + costs[name, n, "heavy"]}
                plain = {"light": costs["fresh", n, "light"], "all": costs["fresh", n, "light"] + costs["fresh", n, "heavy"]}
                line: dict[str, Any] = {"set": title, "runner": name, "workers": n, "programs": len(items), "accepted": cost["all"].accepted}
                line |= {"heavy": len(heavy), "heavy_seconds": round(sum(cpu for cpu in alone if cpu > HEAVY), 2)}
                for which in cost:
                    line[f"{which}_per_second"] = round(cost[which].programs / cost[which].clock, 1)
                    line[f"{which}_per_cpu_second"] = round(cost[which].programs / cost[which].cpu, 1)
                    if name != "fresh":
                        line[f"{which}_times_fresh"] = round(plain[which].clock / cost[which].clock, 2)
                        line[f"{which}_times_fresh_by_cpu"] = round(plain[which].cpu / cost[which].cpu, 2)
                print(json.dumps(line), flush=True)


def matrix(problems: int, size: int) -> None:
    """Programs that differ, tests that some of them fail: per problem `size` programs × `size` tests.

    The rate that the ideal is made of is that of one worker on one core, its supervisor included; a worker alone on the whole machine uses more than
    one core (the next process is forked beside the job that runs), so its rate times the cores is more than the machine has: `ratio_free`.
    """
    cores = sorted(os.sched_getaffinity(0))
    seen = levels.best()
    tests = [[c] for c in _checks([f"assert f({k}) == {k * k + 1}" for k in range(size)])]
    counter = iter(range(10**9))

    def fresh() -> list[str]:
        """Programs that nobody has seen: equal ones are not run twice."""
        q = next(counter)
        return [f"def f(x):\n    return x * x + 1 + (x == {p}) * {q}\n" for p in range(size)]

    with ExitStack() as stack:
        sandboxes = {}
        for name, on, workers in (("one core", cores[:1], 1), ("free", cores, 1), ("all", cores, len(cores))):
            os.sched_setaffinity(0, on)  # whoever is started now stays there
            sandboxes[name] = (stack.enter_context(Sandbox(seen.layers, seen.level, workers=workers)), on)
            run_matrix(sandboxes[name][0], fresh(), tests)
        cells: dict[str, int] = dict.fromkeys(sandboxes, 0)
        seconds: dict[str, float] = dict.fromkeys(sandboxes, 0.0)
        for chunk in range(MATRIX_CHUNKS):
            for name, (sandbox, on) in sandboxes.items():
                os.sched_setaffinity(0, on)
                count = problems // MATRIX_CHUNKS + (chunk < problems % MATRIX_CHUNKS) if name == "all" else 2
                made = [fresh() for _ in range(count)]
                began = time.perf_counter()
                for programs in made:
                    run_matrix(sandbox, programs, tests)
                seconds[name] += time.perf_counter() - began
                cells[name] += count * size * size
        os.sched_setaffinity(0, cores)
    rate = {name: cells[name] / seconds[name] for name in sandboxes}
    line = {"figure": "matrix", "problems": problems, "cells": cells["all"], "workers": len(cores), "seconds": round(seconds["all"], 2)}
    line |= {f"{name.replace(' ', '_')}_cells_per_second": round(rate[name]) for name in rate}
    line |= {"ratio": round(rate["one core"] * len(cores) / rate["all"], 3), "ratio_free": round(rate["free"] * len(cores) / rate["all"], 3)}
    print(json.dumps(line))


def soak(count: int) -> None:
    seen = levels.best()
    kinds = (
        Job("calls", "def f(x):\n    return [x] * 100", calls=("f(1)",) * 3),
        Job("stdin", "print(sum(map(int, input().split())))", stdin="1 2 3\n"),
        Job("judge", "def f(x):\n    return x", script="for i in range(3):\n    assert f(i) == i", names=("f",)),
        Job("calls", "import os\nfor i in range(3): open(f'left{i}', 'w').write('x')\ndef f(x):\n    return x", calls=("f(1)",)),
        Job("calls", "def f(x):\n    raise ValueError", calls=("f(1)",)),
        Job("calls", "import os\nos._exit(3)", calls=("f(1)",)),
        Job("calls", "held = bytearray(50 << 20)\ndef f(x):\n    return len(held)", calls=("f(1)",)),
    )
    slow = replace(kinds[0], code="def f(x):\n    while True: pass", limits=Limits(0.02, 0.1))
    with Sandbox(seen.layers, seen.level, workers=2) as sandbox:
        sandbox.run([*kinds, slow] * 8)
        before = state(sandbox)
        began = time.perf_counter()
        for _ in sandbox.stream(slow if i % 200 == 199 else kinds[i % len(kinds)] for i in range(count)):
            pass
        seconds = time.perf_counter() - began
        after = state(sandbox)
    print(json.dumps({"figure": "soak", "programs": count, "level": seen.level, "seconds": round(seconds, 1), "before": before, "after": after}))


def told(pack: Path) -> None:
    """The reference is the correct solution: deadlines come from it, as they do for any problem that brings one."""
    from data.records import Problem
    from filters.verifiers.code import CodeVerifier

    rows = [json.loads(line) for line in pack.read_text(encoding="utf-8").splitlines() if line.strip()]
    names, pairs = [row["task_id"] for row in rows], []
    for row in rows:
        right, wrong = (row["prompt"] + row[key] for key in ("canonical_solution", "buggy_solution"))
        spec = {"tests": [{"script": row["test"]}], "entry": row["entry_point"]}
        problem = Problem(row["prompt"], right, "code", spec)
        pairs += [(problem, right), (problem, wrong)]
    began = time.perf_counter()
    verdicts = CodeVerifier().verify_batch(pairs)
    seconds = time.perf_counter() - began
    missed = [f"{n} correct: {v.reason}" for n, v in zip(names, verdicts[::2]) if v.outcome != "pass"]
    missed += [f"{n} buggy: {v.outcome} {v.reason}" for n, v in zip(names, verdicts[1::2]) if v.outcome != "fail"]
    why: dict[str, int] = {}
    for verdict in verdicts[1::2]:
        kind = verdict.reason.split(": ")[1] if ": " in verdict.reason else verdict.outcome
        why[kind] = why.get(kind, 0) + 1
    right = sum(v.outcome == "pass" for v in verdicts[::2])
    wrong = sum(v.outcome == "fail" for v in verdicts[1::2])
    line = {"figure": "told", "problems": len(rows), "correct_passed": right, "buggy_failed": wrong, "buggy_by": why, "seconds": round(seconds, 1)}
    print(json.dumps(line | {"misjudged": missed}))


def state(sandbox: Sandbox) -> dict[str, Any]:
    pids = [pid for zygote in sandbox._zygotes for pid in _tree(zygote.process.pid)]
    rss = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4 for pid in (os.getpid(), *pids)]
    fds = [len(os.listdir(f"/proc/{pid}/fd")) for pid in (os.getpid(), *pids)]
    return {"processes": len(pids), "descriptors": fds, "rss_kib": rss}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="throughput", choices=("throughput", "matrix", "soak", "told"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--levels", default="")
    parser.add_argument("--programs", type=int, default=0, help="0: all (throughput), 10000 (soak)")
    parser.add_argument("--problems", type=int, default=100)
    parser.add_argument("--pack", type=Path, help="JSON lines for told")
    args = parser.parse_args()
    if args.what == "throughput":
        throughput(args.data, [n for n in args.levels.split(",") if n] or ["L1", levels.best().level], args.programs)
    elif args.what == "matrix":
        matrix(args.problems, 16)
    elif args.what == "told":
        if args.pack is None:
            parser.error("told needs --pack FILE")
        told(args.pack)
    else:
        soak(args.programs or 10_000)


if __name__ == "__main__":
    main()
