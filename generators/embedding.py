"""Embeddings from a local sentence-transformers folder, behind the protocol `data.records.Embed`. Nothing is downloaded.

The default needs none of this: an engine embeds with the policy's own hidden states.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import UserError
from data.records import Embed, Float32


def embedder(path: str) -> Embed:
    """float32[n, d] of unit length, on the CPU; UserError where the folder or the package is missing."""
    model = _load(path)

    def embed(texts: Sequence[str]) -> Float32:
        return np.asarray(model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False), np.float32)

    return embed


@lru_cache(maxsize=2)
def _load(path: str) -> Any:
    if not (Path(path) / "modules.json").is_file():
        raise UserError(f"embedder: {path} is no sentence-transformers folder (it has no modules.json); give a local one")
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise UserError("embedder: sentence-transformers is not installed; pip install 'synth[embed]', or leave the setting out") from None
    return SentenceTransformer(path, device="cpu", local_files_only=True)
