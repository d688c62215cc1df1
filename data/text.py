"""Text as it can be stored: models and users write lone surrogates, and NULs, which no catalog takes everywhere."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from data.ids import canonical_json, finite

_REFUSED = re.compile("[\x00\ud800-\udfff]")


def storable(text: str) -> str:
    """`text` with NUL and lone surrogates as U+FFFD: PostgreSQL takes no NUL, and DuckLake's file pruning is wrong with one."""
    return _REFUSED.sub("\ufffd", text)


def storable_json(value: Any) -> str:
    """Canonical JSON; where it holds lone surrogates they are written as `\\udXXX` escapes, so that nothing is lost."""
    text = canonical_json(value)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "".join(json.dumps(c)[1:-1] if "\ud800" <= c <= "\udfff" else c for c in text)
    return text


def without_nan(value: Any) -> Any:
    """`value` with NaN and infinities as None, all the way down: what a metric may hold and JSON may not."""
    if isinstance(value, Mapping):
        return {k: without_nan(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(v) for v in value]
    if isinstance(value, (float, np.floating)):
        return finite(float(value))
    return value
