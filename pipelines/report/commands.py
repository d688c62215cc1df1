"""The commands that wrote to a run, kept beside it so that its report can say them."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

COMMANDS = Path("logs") / "commands.jsonl"
"""In a run folder: a line per `synth run` or `synth resume` that wrote to it, {"at": …, "cwd": …, "argv": […]}."""

SHOWN = 20
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


def record_command(folder: Path, argv: Sequence[str]) -> None:
    """Appends `argv` (the program's name first), names and passwords inside URLs left out. It is a courtesy: no error leaves here."""
    line = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "cwd": os.getcwd(), "argv": [_CREDENTIALS.sub("…@", word) for word in argv]}
    try:
        (folder / COMMANDS).parent.mkdir(exist_ok=True)
        with (folder / COMMANDS).open("a", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")
    except OSError:
        return


def recorded_commands(folder: Path) -> list[str]:
    """The last `SHOWN` of them as one would type them, oldest first; a damaged line is left out."""
    found = []
    try:
        lines = (folder / COMMANDS).read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return []
    for line in lines[-SHOWN:]:
        try:
            found.append(shlex.join(str(word) for word in json.loads(line)["argv"]))
        except (ValueError, KeyError, TypeError):
            continue
    return found
