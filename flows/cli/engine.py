"""Make an engine's own environment, or try an engine: start it, generate, score, give it new weights, compare log-probs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

HELP = "make an engine's own environment, try it"
EPILOG = """examples:
  synth engine install vllm                 vLLM for the CPU (or this machine's GPU) in an environment of its own
  synth engine install vllm --dir /opt/vllm --python python3.12
  synth engine check vllm                   starts it on the shipped policy and says what works, with times
  synth engine check local
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    install = verbs.add_parser("install", help="make the environment (again: finds it whole or mends it)")
    install.add_argument("name", choices=["vllm"])
    install.add_argument("--dir", type=Path, metavar="DIR", help="where (default: engines/vllm in $SYNTH_HOME or the user's data folder)")
    install.add_argument("--python", default="", metavar="PATH", help="the Python 3.11 or 3.12 to make it with (default: the first found)")
    install.add_argument("--build", choices=["cpu", "gpu"], default="", help="which vLLM (default: gpu where there is one)")
    check = verbs.add_parser("check", help="start an engine on a policy and try everything it can do")
    check.add_argument("name", choices=["vllm", "local"])
    check.add_argument("--policy", default="arithmetic", metavar="NAME|DIR", help="a shipped policy or a folder (default: arithmetic)")
    check.add_argument("--python", default="", metavar="PATH", help="the python of an environment that holds vLLM (default: as `synth run` finds it)")


def main(args: argparse.Namespace) -> int:
    return _install(args) if args.action == "install" else _check(args)


def _install(args: argparse.Namespace) -> int:
    from generators.engines.environment import default_folder, has_gpu, install

    def say(line: str) -> None:
        print(line, flush=True)

    if has_gpu() and args.build != "cpu":
        say("this machine has a GPU: `pip install '.[vllm]'` puts vLLM into synth's own environment; this makes a separate one")
    made = install(args.dir or default_folder(args.name), python=args.python, build=args.build, say=say)
    say(f"vLLM {made.version} is ready: {made.python}")
    if args.dir is not None:
        say(f"recipes find it by engine.vllm.python = \"{made.python}\" or SYNTH_VLLM_PYTHON={made.python}")
    return 0


def _check(args: argparse.Namespace) -> int:
    import tempfile
    import time

    from rich.console import Console

    from data.errors import SynthError, UserError
    from generators.engines.registry import open_engine
    from generators.engines.trial import Finding, try_engine
    from pipelines.policies import policy_folder

    console = Console(highlight=False)
    base = policy_folder(args.policy)
    good = True

    def show(found: Finding) -> None:
        nonlocal good
        good = good and found.good is not False
        mark, style = {True: ("ok", "green"), False: ("broken", "red"), None: ("absent", "yellow")}[found.good]
        console.print(f"{found.name:<11} [{style}]{mark:<7}[/] {found.seconds:6.1f} s  ", end="")
        console.print(found.said, markup=False, soft_wrap=True)

    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "engine.log"
        began = time.perf_counter()
        try:
            engine = open_engine(args.name, **_options(args, base, log))
        except UserError:
            raise
        except SynthError as error:
            show(Finding("start", False, str(error), time.perf_counter() - began))
            return 1
        try:
            show(Finding("start", True, f"{args.name} on {base.name}", time.perf_counter() - began))
            for found in try_engine(engine, base, "check", _prompts()):
                show(found)
        finally:
            began = time.perf_counter()
            engine.close()
        show(Finding("stop", True, "", time.perf_counter() - began))
    return 0 if good else 1


def _options(args: argparse.Namespace, base: Path, log: Path) -> dict[str, Any]:
    if args.name == "local":
        return {"path": base, "policy_id": "check", "threads": 1}
    from generators.engines.vllm_settings import VllmSettings

    return {"base": base, "policy_id": "check", "settings": VllmSettings(python=args.python), "log": log}


def _prompts() -> list[str]:
    from generators.worlds.registry import get_world

    world = get_world("arithmetic")
    return [world.make(world.families()[0], 1, index, seed=0, split="heldout").prompt for index in range(8)]
