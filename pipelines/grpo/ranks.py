"""The processes that train together: one, or those that torchrun started. Only numbers and tensors travel, nothing is pickled."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from data.errors import UserError

T = TypeVar("T")


def found_device(wanted: str) -> torch.device:
    """`auto` = the current GPU where there is one, else the CPU; UserError where the GPU that is wanted is not there."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(wanted)
    if device.type != "cuda":
        return device
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (device.index or 0) >= count:
        raise UserError(f"train.trainer.device = {wanted!r}, and this process sees {count or 'no'} GPU{'s' * (count > 1)}; set 'auto' or 'cpu'")
    return torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)


class Ranks:
    """Rank and size of this process's group; every method must be called by all ranks alike. `Ranks.join` under torchrun, `Ranks()` alone."""

    def __init__(self, rank: int = 0, size: int = 1, device: str = "auto") -> None:
        self.rank, self.size = rank, size
        self.device = found_device(device)

    @classmethod
    def join(cls, device: str = "auto") -> Ranks:
        """The group that torchrun's environment describes (NCCL on GPUs, one a rank, else gloo); a group of one without it."""
        size, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
        if size < 2:
            return cls(device=device)
        found = found_device(device)
        if found.type == "cuda":
            if (here := int(os.environ.get("LOCAL_WORLD_SIZE", size))) > torch.cuda.device_count():
                raise UserError(f"{here} ranks need a GPU each, and {torch.cuda.device_count()} can be seen; set fewer ranks, or device = 'cpu'")
            found = torch.device("cuda", local)
            torch.cuda.set_device(found)
        if not dist.is_initialized():
            dist.init_process_group("nccl" if found.type == "cuda" else "gloo", timeout=timedelta(minutes=30))
        return cls(dist.get_rank(), dist.get_world_size(), str(found))

    @property
    def first(self) -> bool:
        return self.rank == 0

    def sums(self, values: Sequence[float], maxima: Sequence[float] = ()) -> tuple[list[float], list[float]]:
        """Sums and maxima over all ranks."""
        if self.size == 1:
            return list(values), list(maxima)
        added = torch.tensor(values, dtype=torch.float64, device=self.device)
        highest = torch.tensor(maxima, dtype=torch.float64, device=self.device)
        dist.all_reduce(added)
        if len(maxima):
            dist.all_reduce(highest, dist.ReduceOp.MAX)
        return added.tolist(), highest.tolist()

    def any(self, mine: bool) -> bool:
        return mine if self.size == 1 else self.sums([], [float(mine)])[1][0] > 0

    def added(self, tensor: Tensor) -> Tensor:
        """The element-wise sum of all ranks' tensors."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def share(self, things: Sequence[T]) -> list[T | None]:
        """This rank's part of `things`, dealt in turn; filled up with None so that all ranks have equally many."""
        own: list[T | None] = list(things[self.rank :: self.size])
        return own + [None] * (-(-len(things) // self.size) - len(own))

    def wait(self) -> None:
        if self.size > 1:
            dist.barrier()
