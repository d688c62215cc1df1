"""GRPO on its own: train a policy on a file of problems, or on the problems of a run's lake."""

from __future__ import annotations

import argparse
from pathlib import Path

from flows.cli.torchrun import add_ranks, ranks_asked

HELP = "the GRPO stage on its own"
EPILOG = """examples:
  synth train problems.jsonl --policy my-model --steps 100       rows {"prompt": …, "answer": …[, "verifier": …, "spec": …]}
  synth train problems.jsonl --preset dapo --set train.objective.clip_high=0.3
  synth train problems.jsonl --policy my-model --set train.trainer.lora_rank=16 --set train.trainer.precision=bf16
  synth train problems.jsonl --policy my-model --ranks 4 --set train.trainer.precision=bf16     FSDP2 on 4 GPUs
  synth train problems.jsonl --set train.staleness=1             one-step-off: the next step is sampled while this one is learned
  torchrun --nproc-per-node 4 -m flows.cli.main train problems.jsonl        the same ranks, for who is used to torchrun
  synth train runs/arithmetic-001 --preset gspo                  its lake's problems, from its newest policy
  synth resume runs/train-001                                    go on after a stop or a crash

The result is a run folder: every rollout, verdict and metric in its lake, the trained policy under policies/.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="FILE|DIR", help="problems: .jsonl or .jsonl.gz, or a run folder")
    parser.add_argument(
        "--policy", metavar="DIR", help="local Hugging Face model folder or shipped policy (default: the run's newest, or arithmetic)"
    )
    parser.add_argument("--dialect", choices=["compact", "instruct"], help="how prompts are written (default: what suits the policy)")
    parser.add_argument("--preset", metavar="NAME", help="objective; `synth presets` lists them (default: grpo)")
    parser.add_argument("--steps", type=int, metavar="N", help="optimizer steps (default: 50)")
    add_ranks(parser, "the recipe's train.ranks, 1")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the run folder (default: runs/train-001, counting up)")
    parser.add_argument(
        "--heldout", type=float, metavar="SHARE", help="share of the problems kept out and answered before and after (default: 0.1; 0: none)"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="run seed (default: 0)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a recipe key; may be given again and again")
    parser.add_argument("--tensorboard", action="store_true", help="also write every metric under DIR/tensorboard")
    parser.add_argument("--quiet", action="store_true", help="print the closing table only")


def main(args: argparse.Namespace) -> int:
    from data.errors import UserError
    from flows.cli.drive import drive
    from flows.cli.run import _next_folder
    from pipelines.train_only import train_recipe

    ranks = ranks_asked(args.ranks)
    if ranks == 0:
        return 0
    if not args.source.exists():
        raise UserError(f"{args.source}: no such file or folder; give a .jsonl file of problems or a run folder")
    changes = {
        "train__preset": args.preset,
        "train__steps": args.steps,
        "problems__heldout_share": args.heldout,
        "seed": args.seed,
        "train__ranks": ranks,
        "train__tensorboard": args.tensorboard or None,
    }
    recipe = train_recipe(args.source, args.set, policy=args.policy, dialect=args.dialect, **changes)
    return drive(args.out or _next_folder("train"), recipe, prefect=False, quiet=args.quiet)
