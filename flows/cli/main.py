"""The `synth` command. Each verb is a file of its own; heavy imports wait until a verb runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

VERBS = (
    *("run", "resume", "runs", "watch", "show", "diff", "digest", "query", "requests", "report"),
    *("check-data", "dedup", "decontaminate", "verify", "audit", "train", "presets"),
    *("policy", "engine", "doctor", "bench"),
)

EPILOG = """examples:
  synth run                                   the default recipe on the shipped policy: no GPU, no download
  synth run --problems mine.jsonl             your own problems: rows {"prompt": …, "answer": …}
  synth run arithmetic --rounds 1 --set train.steps=5 --out /tmp/try
  synth resume runs/arithmetic-001            go on after a stop or a crash
  synth query runs/arithmetic-001 "SELECT * FROM train_steps"

exit status: 0 done, 1 the run failed, 2 wrong input, 3 a budget was reached, 130 interrupted (resumable)
"""


def parser() -> argparse.ArgumentParser:
    from flows.cli.parser import Parser  # not before it is known that our packages can be imported

    top = Parser(
        prog="synth",
        description="Turns a few seed problems into verified training data for reasoning models, and closes the loop by training on it.",
        epilog=EPILOG,
    )
    top.add_argument("--debug", action="store_true", help="show tracebacks")
    top.add_argument("--version", action="store_true", help="print the version and exit")
    verbs = top.add_subparsers(dest="verb", metavar="VERB")
    for name in VERBS:
        module = import_module(f"flows.cli.{name.replace('-', '_')}")
        verb = verbs.add_parser(name, help=module.HELP, description=module.__doc__, epilog=module.EPILOG)
        verb.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        module.add_arguments(verb)
        verb.set_defaults(main=module.main)
    return top


def _hidden() -> str:
    """Why our packages cannot be imported, where a user's own file of the same name hides one; '' where all is well."""
    for name in ("data", "filters", "generators", "pipelines", "flows"):
        found = import_module(name)
        if not hasattr(found, "__path__"):
            return f"synth needs its own package {name!r}, but {found.__file__} hides it; rename that file or start from another folder"
    return ""


def main(argv: Sequence[str] | None = None) -> int:
    if hidden := _hidden():
        print(f"synth: {hidden}", file=sys.stderr)
        return 2
    from data.errors import SynthError

    top = parser()
    try:
        args = top.parse_args(argv)
    except SynthError as error:
        print(f"synth: {error}", file=sys.stderr)
        return error.code
    if args.version:
        from importlib.metadata import version

        print(f"synth {version('synth')}")
        return 0
    if args.verb is None:
        top.print_help()
        return 0
    try:
        return int(args.main(args) or 0)
    except SynthError as error:
        if args.debug:
            raise
        print(f"synth: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        if args.debug:
            raise
        print("synth: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `synth query … | head`
        sys.stderr.close()
        return 0
    except ModuleNotFoundError as error:
        if args.debug:
            raise
        print(f"synth: this Python ({sys.executable}) has no package {error.name!r}; `pip install .` in synth's folder brings it", file=sys.stderr)
        return 1
    except Exception as error:
        if args.debug:
            raise
        print(f"synth: internal error: {type(error).__name__}: {error} (run again with --debug for the traceback)", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
