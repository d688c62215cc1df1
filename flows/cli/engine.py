"""Make an engine's own environment, or try an engine: start it, generate, score, give it new weights, compare log-probs."""

from __future__ import annotations

import argparse
from pathlib import Path

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
    raise NotImplementedError
