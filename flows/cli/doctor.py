"""What works on this host, one line each: Python, engines, GPU, shipped policies, lake, orchestrator."""

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
    from data.records import Request, Sampling
    from generators.engines.registry import open_engine
    from pipelines.policies import policy_folder

    engine = open_engine("local", path=str(policy_folder("arithmetic")), policy_id="doctor", threads=1)
    try:
        prompt = "Tom has 3 apples and buys 4 more. How many apples does Tom have now?"
        request = Request("doctor", Sampling(temperature=0.0, max_tokens=32), 0, messages=({"role": "user", "content": prompt},))
        (answer,) = list(engine.generate([request]))
    finally:
        engine.close()
    if answer.finish == "error":
        return False, answer.error
    return True, f"embedded engine with policy arithmetic: 3 apples and 4 more?{answer.text}"


def _vllm() -> Found:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return True, f"vllm {version('vllm')}"
    except PackageNotFoundError:
        return None, "not installed; on a GPU machine: pip install '.[vllm]'"


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


CHECKS: dict[str, Callable[[], Found]] = {
    "python": _python,
    "torch": _torch,
    "engine local": _local,
    "engine vllm": _vllm,
    "policies": _policies,
    "lake": _lake,
    "prefect": _prefect,
}
