"""Vega, Vega-Lite and vega-embed as one script, out of the installed vl-convert package; no network."""

from __future__ import annotations

import contextlib
import hashlib
import os
from functools import cache
from importlib.metadata import version
from pathlib import Path


@cache
def vega() -> str:
    """The script, which sets `window.vegaEmbed`.

    Bundling takes two seconds of processor time, so the result is kept in the user's cache folder under its version and hash; a copy
    that is damaged, or cannot be kept, is only a reason to bundle again.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "synth"
    name = f"vega-{version('vl-convert-python')}"
    for path in sorted(folder.glob(f"{name}-*.js")):
        try:
            script = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if path.name == f"{name}-{_hash(script)}.js":
            return script
    import vl_convert

    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    temporary = folder / f"{name}.{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary.write_text(script, encoding="utf-8", newline="\n")
        temporary.replace(folder / f"{name}-{_hash(script)}.js")
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return script


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
