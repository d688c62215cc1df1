"""A transformers folder on disk: config, tokenizer, safetensors weights. Nothing is downloaded, unpickled or executed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from data.errors import UserError


def load_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Tensors of a folder's safetensors file or shards. Raises UserError where there are none (pickled weights are never read)."""
    from safetensors.torch import load_file

    index = folder / "model.safetensors.index.json"
    names = sorted(set(json.loads(index.read_text())["weight_map"].values())) if index.exists() else ["model.safetensors"]
    weights: dict[str, torch.Tensor] = {}
    for name in names:
        if not (folder / name).is_file():
            raise UserError(f"{folder} has no {name}; a policy folder holds its weights as safetensors")
        weights.update(load_file(folder / name))
    return weights


def open_folder(path: Path) -> tuple[Any, Any]:
    """(config, tokenizer) of a transformers folder; nothing is downloaded, no code of the folder is run."""
    if not (path / "config.json").is_file():
        raise UserError(f"{path} holds no config.json; a policy is a transformers folder with config, tokenizer and model.safetensors")
    if not any((path / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")):
        # transformers would quietly make an empty tokenizer here.
        raise UserError(f"{path} holds no tokenizer.json; a policy is a transformers folder with config, tokenizer and model.safetensors")
    from transformers import AutoConfig, AutoTokenizer

    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UserError(f"{path} can't be opened as a transformers folder: {error}") from error
    return config, tokenizer


def text_of(tokenizer: Any) -> Callable[[list[int]], str]:
    """Token ids -> text without special tokens and without tidying. Where transformers only passes the ids on, they are given to `tokenizers` itself:
    its wrapper looks at each id in Python, which takes four times as long as decoding."""
    from transformers.tokenization_utils_tokenizers import TokenizersBackend

    if getattr(type(tokenizer), "_decode", None) is TokenizersBackend._decode:
        backend = tokenizer.backend_tokenizer
        return lambda ids: str(backend.decode(ids, skip_special_tokens=True))
    return lambda ids: str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def end_tokens(path: Path, config: Any, tokenizer: Any) -> list[int]:
    """Every id that ends a text: the tokenizer's, the config's and the generation config's (chat models have two)."""
    file = path / "generation_config.json"
    stored = json.loads(file.read_text()).get("eos_token_id") if file.is_file() else None
    ids: set[int] = set()
    for value in (stored, getattr(config, "eos_token_id", None), tokenizer.eos_token_id):
        ids.update(value if isinstance(value, list) else [] if value is None else [value])
    return sorted(ids)
