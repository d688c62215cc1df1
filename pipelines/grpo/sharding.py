"""FSDP2 and DCP: weights, gradients and optimizer state in shards, one per rank; checkpoints that any number of ranks can load.

DCP writes through its safetensors storage, so that no checkpoint holds a pickle.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.grpo.ranks import Ranks


def shard(packed: nn.Module, model: Any, half: bool) -> None:
    """Shards every decoder layer, then the rest (embedding, norm, head) with `packed`; `half`: forward in bfloat16, reduce in float32."""
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False) if half else MixedPrecisionPolicy()
    for layer in model.base_model.layers:
        fully_shard(layer, mp_policy=policy)
    fully_shard(packed, mp_policy=policy)


def whole(tensor: Tensor) -> Tensor:
    """The full tensor of a sharded one, on every rank (all must ask); any other as it is."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor  # type: ignore[no-any-return, operator]


def save_shards(tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Every rank writes its own shards."""
    import torch.distributed.checkpoint as dcp

    dcp.save(dict(tensors), storage_writer=dcp.HuggingFaceStorageWriter(str(folder), save_distributed=True, thread_count=1))


def load_shards(tensors: Mapping[str, Tensor], folder: Path, ranks: Ranks) -> None:
    """Fills `tensors` (sharded or whole) in place from shards that any number of ranks wrote."""
    import torch.distributed.checkpoint as dcp

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a single process is told that it is one
        dcp.load(dict(tensors), storage_reader=dcp.HuggingFaceStorageReader(str(folder)), no_dist=ranks.size == 1)


def shards_hash(folder: Path) -> str:
    """32 hex digits over names and bytes of the shard files."""
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(folder.iterdir()):
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 24):
                digest.update(block)
    return digest.hexdigest()
