"""Content-hash identities: blake2b over canonical JSON, so that the same thing has the same id on any machine."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import numpy as np


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no canonical JSON form; pass str, int, float, bool, None, list, tuple or dict")


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no blanks, unescaped unicode; NaN and infinities are refused (they have no JSON form)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_plain)


def content_hash(*parts: Any) -> str:
    """32 hex digits (128 bits) over the canonical JSON of `parts`; surrogates that JSON let through are kept, not refused."""
    return hashlib.blake2b(canonical_json(parts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def finite(value: float | None) -> float | None:
    """`None` for NaN and infinities, which canonical JSON refuses."""
    return None if value is None or not math.isfinite(value) else float(value)
