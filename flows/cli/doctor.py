"""What works on this host: Python, engines, GPU, shipped policies, lake, sandbox (attempt by attempt), orchestrator."""

from __future__ import annotations

import argparse
from collections.abc import Callable

HELP = "what works on this host"
EPILOG = """examples:
  synth doctor
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pass


def main(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    failed = False
    for name, look in CHECKS.items():
        try:
            good, said = look()
        except Exception as error:  # noqa: BLE001 - a broken part is what this verb is there to report
            good, said = False, f"{type(error).__name__}: {error}"
        mark, style = {True: ("ok", "green"), False: ("broken", "red"), None: ("absent", "yellow")}[good]
        failed |= good is False
        console.print(Text.assemble(f"{name:<13} ", (f"{mark:<7}", style), f" {said}"), soft_wrap=True)
    return 1 if failed else 0


Found = tuple[bool | None, str]


def _python() -> Found:
    import os
    import platform

    return True, f"Python {platform.python_version()} on {platform.machine()}, {os.cpu_count()} cores"


def _torch() -> Found:
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return True, f"torch {torch.__version__}, " + (
        f"GPU: {', '.join(gpus)}" if gpus else "no GPU: the embedded engine generates and trains on the CPU"
    )


def _local() -> Found:
    import time

    from data.records import Request, Sampling
    from generators.engines.registry import open_engine
    from generators.worlds.registry import get_world
    from pipelines.policies import policy_folder

    world = get_world("arithmetic")
    problem = world.make(world.families()[0], 1, 0, seed=0, split="heldout")
    engine = open_engine("local", path=str(policy_folder("arithmetic")), policy_id="doctor", threads=1)
    try:
        messages = ({"role": "user", "content": problem.prompt},)
        requests = [Request("doctor", Sampling(max_tokens=32), seed, messages=messages) for seed in range(64)]
        began = time.perf_counter()
        answers = list(engine.generate(requests))
        seconds = time.perf_counter() - began
    finally:
        engine.close()
    broken = [a.error for a in answers if a.finish == "error"]
    if broken or len(answers) != len(requests):
        return False, broken[0] if broken else f"{len(answers)} answers to {len(requests)} requests"
    return True, f"embedded engine, policy arithmetic, 1 thread: {sum(len(a.tokens) for a in answers) / seconds:,.0f} tokens/s"


def _vllm() -> Found:
    from data.errors import SynthError
    from generators.engines.environment import find_python, has_gpu, verify

    try:
        python = find_python()
    except SynthError as error:
        return None, str(error)
    version = verify(python)
    return True, f"vllm {version} in {python} ({'GPU' if has_gpu() else 'CPU'}); `synth engine check vllm` tries it"


def _policies() -> Found:
    from pipelines.policies import shipped_policies

    names = shipped_policies()
    return bool(names), ", ".join(names) or "none shipped"


def _lake() -> Found:
    import tempfile
    from pathlib import Path

    import duckdb

    from data.lake import Lake

    with tempfile.TemporaryDirectory() as folder, Lake.open(Path(folder), write=True, create=True) as lake:
        lake.commit(0, "doctor", 0, {})
        found = lake.has_shard(0, "doctor", 0)
    return found, f"DuckLake in DuckDB {duckdb.__version__}, SQLite catalog: wrote and read a shard"


def _prefect() -> Found:
    import os
    from importlib.metadata import PackageNotFoundError, version

    try:
        where = os.environ.get("PREFECT_API_URL") or "a server of our own, started for the run"
        return True, f"prefect {version('prefect')}; `synth run --prefect` would use {where}"
    except PackageNotFoundError:
        return None, "not installed"


def _sandbox() -> Found:
    from filters.sandbox.explain import report

    good, lines = report()
    return good, "\n".join(lines)


CHECKS: dict[str, Callable[[], Found]] = {
    "python": _python,
    "torch": _torch,
    "engine local": _local,
    "engine vllm": _vllm,
    "policies": _policies,
    "lake": _lake,
    "sandbox": _sandbox,
    "prefect": _prefect,
}
