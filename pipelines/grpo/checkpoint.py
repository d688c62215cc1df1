"""Durable checkpoints: a folder appears under its name only when every byte of it is on disk.

Written beside its final place, synced file by file, then renamed; a crash leaves the old folder or the new one, never half.
Nothing in it is ever unpickled: weights and optimizer state are safetensors, the rest is JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from data.errors import SynthError, UserError
from pipelines.grpo.sharding import shards_hash, whole

STATE, OPTIMIZER, SHARDS = "state.json", "optimizer.safetensors", "shards"
FORMAT = 1


def weights_hash(tensors: Mapping[str, Tensor]) -> str:
    """32 hex digits: blake2b over names, types, shapes and bytes of the tensors, sorted by name. Sharded ones are made whole one at a time."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        tensor = whole(tensors[name].detach()).cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def part_folder(folder: Path, tag: str) -> Path:
    """Where `folder` is written before it gets its name."""
    return folder.parent / f".{folder.name}.{tag}.part"


def write_folder(folder: Path, write: Callable[[Path], None], tag: str = "") -> None:
    """Calls `write` on a new folder beside `folder`, makes every file durable, then renames it into place (replacing an old one).

    `tag` names the new folder where other processes write into it, too.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    for leftover in folder.parent.glob(f".{folder.name}.*.part"):  # of a process killed here; runs have one writer
        shutil.rmtree(leftover, ignore_errors=True)
    part = part_folder(folder, tag or uuid.uuid4().hex[:8])
    part.mkdir()
    try:
        write(part)
        for path in sorted(part.rglob("*")):
            _sync(path)
        _sync(part)
        if folder.exists():
            old = part_folder(folder, uuid.uuid4().hex[:8])
            folder.rename(old)
            part.rename(folder)
            shutil.rmtree(old, ignore_errors=True)
        else:
            part.rename(folder)
        _sync(folder.parent)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def write_state(folder: Path, optimizer: Mapping[str, Tensor] | None, state: Mapping[str, Any]) -> None:
    """`optimizer.safetensors` and `state.json` (with the optimizer's hash) into an open folder.

    `optimizer` None: it lies in the shards beside it, whose hash counts instead.
    """
    if optimizer is not None:
        save_file({k: v.contiguous() for k, v in sorted(optimizer.items())}, folder / OPTIMIZER)
    digest = weights_hash(optimizer) if optimizer is not None else shards_hash(folder / SHARDS)
    full = {"format": FORMAT, "optimizer_hash": digest, **state}
    (folder / STATE).write_text(json.dumps(full, sort_keys=True, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_state(folder: Path) -> dict[str, Any]:
    """The state of a checkpoint, its optimizer's bytes compared with their hash; UserError where it is none, SynthError where it is damaged."""
    if not (folder / STATE).is_file():
        raise UserError(f"{folder} is not a trainer checkpoint: it has no {STATE}")
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        sharded = (folder / SHARDS).is_dir()
        found = shards_hash(folder / SHARDS) if sharded else weights_hash(load_file(folder / OPTIMIZER))
    except (OSError, ValueError, SafetensorError) as error:
        raise SynthError(f"the checkpoint {folder} is damaged: {error}") from error
    if state.get("format") != FORMAT:
        raise UserError(f"the checkpoint {folder} has format {state.get('format')!r}; this version reads {FORMAT}")
    if found != state["optimizer_hash"]:
        raise SynthError(f"the checkpoint {folder} is damaged: {SHARDS if sharded else OPTIMIZER} does not have the hash that {STATE} names")
    return dict(state)


def read_optimizer(folder: Path) -> dict[str, Tensor]:
    """The optimizer's tensors of an unsharded checkpoint that `read_state` has found whole."""
    return load_file(folder / OPTIMIZER)
