"""Content-hash identities: blake2b over canonical JSON, so that the same thing has the same id on any machine."""

from __future__ import annotations

import hashlib
import json
import json.encoder
import math
from collections.abc import Callable
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


def _encoder() -> Callable[[Any], str]:
    """`json.dumps` builds its C encoder anew for every call, more than half of the cost of hashing a request; this one is built once."""
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:  # a Python without the C accelerator
        return json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_plain).encode
    encode = make(None, _plain, json.encoder.encode_basestring, None, ":", ",", True, False, False)
    return lambda value: "".join(encode(value, 0))


_encode = _encoder()


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no blanks, unescaped unicode; NaN and infinities are refused (they have no JSON form)."""
    return _encode(value)


def content_hash(*parts: Any) -> str:
    """32 hex digits (128 bits) over the canonical JSON of `parts`; surrogates that JSON let through are kept, not refused."""
    return hashlib.blake2b(canonical_json(parts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def finite(value: float | None) -> float | None:
    """`None` for NaN and infinities, which canonical JSON refuses."""
    return None if value is None or not math.isfinite(value) else float(value)
