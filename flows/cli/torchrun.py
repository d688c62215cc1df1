"""`--ranks`, and what it means to be started by torchrun: the run stays one process, which starts the ranks that learn itself."""

from __future__ import annotations

import argparse
import os

from data.errors import UserError


def add_ranks(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("--ranks", type=int, metavar="N", help=f"processes that learn together, one GPU or core each (default: {default})")


def ranks_asked(given: int | None) -> int | None:
    """How many ranks shall learn: `--ranks`, or torchrun's --nproc-per-node; None = as the recipe says, 0 = this process has nothing to do.

    torchrun's first process is the run (one writer of lake and ledger) and starts the ranks; the others leave at once.
    """
    if given is not None and given < 1:
        raise UserError(f"--ranks {given}: give 1 or more")
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return given
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size != int(os.environ.get("LOCAL_WORLD_SIZE", size)):
        raise UserError("torchrun started this on several machines, and a run is one machine; give --nnodes 1")
    if int(os.environ.get("RANK", "0")):
        return 0
    if given is not None and given != size:
        raise UserError(f"--ranks {given} beside torchrun --nproc-per-node {size}: give one of them")
    return size
