"""Run a recipe: seeds → probe → verify → estimate → synthesize → audit → select → train → evaluate, round after round."""

from __future__ import annotations

import argparse
from pathlib import Path

from flows.cli.intake import KINDS, first_look, problem_tables
from flows.cli.torchrun import add_ranks, ranks_asked

HELP = "run a recipe from the start"
EPILOG = """examples:
  synth run                                        the default recipe `arithmetic`
  synth run my.toml --out runs/mine
  synth run --problems gsm8k.jsonl.gz --rounds 1   your own problems, {"prompt"|"question": …, "answer": …} a line
  synth run --problems algebra=a.csv --problems b.parquet --map prompt=text,answer=final
  synth run --problems mine.jsonl --set evaluate.benchmarks.math500=math500.jsonl.gz      held out, and nothing like it is trained on
  synth run --set train.learning_rate=1e-4 --set evaluate.n=8
  synth run --set train.staleness=1                the next step is sampled while this one is learned (one-step-off)
  synth run my.toml --ranks 4 --set "train.devices=[0, 1, 2, 3]"      4 GPUs learn (FSDP2), the others are the engine's
  synth run --preview 2                            what is asked and answered, two items per stage
  synth run my.toml --dry-run                      is the recipe in order, and what will it cost?
  synth run --engine openai:http://127.0.0.1:8000/v1 --set only=synthesize    data with any endpoint's model
  synth run --engine replay:runs/arithmetic-001    that run again from its recorded answers, without a model
  synth run --prefect                              the same run as a Prefect flow, a task per stage
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", nargs="?", default="arithmetic", metavar="RECIPE", help="a TOML file or a shipped recipe (default: arithmetic)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the run folder (default: runs/NAME-001, counting up)")
    parser.add_argument("--problems", action="append", default=[], metavar="[DOMAIN=]FILE", help=f"your own problems, again for more: {KINDS}")
    parser.add_argument("--map", action="append", default=[], metavar="FIELD=COLUMN,…", help="which column of --problems holds which field")
    what = "what generates: local, vllm, openai:http://127.0.0.1:8000/v1, replay:DIR (default: the recipe's)"
    parser.add_argument("--engine", metavar="KIND[:ADDRESS]", help=what)
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds (default: the recipe's)")
    parser.add_argument("--seed", type=int, metavar="N", help="run seed (default: the recipe's)")
    add_ranks(parser, "the recipe's train.ranks")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a recipe key; may be given again and again")
    parser.add_argument("--prefect", action="store_true", help="as a Prefect flow, against PREFECT_API_URL or a server of our own")
    parser.add_argument("--preview", type=int, metavar="N", help="show N prompts, answers and verdicts of every stage; keep nothing")
    parser.add_argument("--dry-run", action="store_true", help="check everything, print the resolved recipe, estimate requests, tokens and time")
    parser.add_argument("--json", action="store_true", help="print the run's events as JSON lines and nothing else")
    parser.add_argument("--quiet", action="store_true", help="print the closing table only")


def main(args: argparse.Namespace) -> int:
    from flows.cli.drive import drive
    from pipelines.engine_part import engine_changes
    from pipelines.recipe import load_recipe

    ranks = ranks_asked(args.ranks)
    if ranks == 0:
        return 0
    changes = {**engine_changes(args.engine), "rounds": args.rounds, "seed": args.seed, "train__ranks": ranks}
    if args.problems or args.map:
        changes |= {"problems__files": problem_tables(args.problems, args.map), "problems__world": ""}
    recipe = load_recipe(args.recipe, args.set, **changes)
    local = Path(recipe.policy.path)
    if (local / "config.json").is_file() and not local.is_absolute():  # so that `synth resume` finds it from any folder
        recipe = load_recipe(args.recipe, args.set, **changes, policy__path=str(local.resolve()))
    if recipe.problems.files or recipe.evaluate.benchmarks:
        first_look(recipe, quiet=args.quiet or args.json)  # a wrong file is said before anything is written
    if args.preview is not None or args.dry_run:
        from rich.console import Console

        from flows.cli.look import dry_run, preview

        console = Console(highlight=False)
        if args.preview is not None:
            preview(console, recipe, args.preview)
        else:
            dry_run(console, recipe)
        return 0
    folder = args.out or _next_folder(recipe.name)
    return drive(folder, recipe, prefect=args.prefect, quiet=args.quiet, events=args.json)


def _next_folder(name: str) -> Path:
    taken = {p.name for p in Path("runs").glob(f"{name}-*")}
    number = next(n for n in range(1, 1_000_000) if f"{name}-{n:03d}" not in taken)
    return Path("runs") / f"{name}-{number:03d}"
