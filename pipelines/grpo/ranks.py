"""The processes that train together: one, or those that torchrun started. Only numbers and tensors travel, nothing is pickled."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


class Ranks:
    """Rank and size of this process's group; every method must be called by all ranks alike. `Ranks.join` under torchrun, `Ranks()` alone."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @classmethod
    def join(cls) -> Ranks:
        """The group that torchrun's environment describes (NCCL with a GPU, else gloo); a group of one without it."""
        if int(os.environ.get("WORLD_SIZE", "1")) < 2:
            return cls()
        if not dist.is_initialized():
            if torch.cuda.is_available():
                torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
            dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=timedelta(minutes=30))
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def first(self) -> bool:
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")

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
