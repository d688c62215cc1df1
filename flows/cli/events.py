"""The events of a run as JSON lines: what `synth run --json` prints, and what every run keeps in `logs/events.jsonl` for `synth watch`.

An event is {"time": …, "event": …, …}; nothing depends on it, so a log that cannot be written ends quietly and the run goes on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

Listener = Callable[[str, Mapping[str, Any]], None]

LOG = Path("logs") / "events.jsonl"
OFTEN = ("generating", "progress")
EVERY = 0.5  # seconds between two events of a kind that comes often


def plain(value: Any) -> Any:
    """JSON-able: a recipe becomes its table, numbers of numpy and torch become numbers, what is not finite becomes null."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(v) for v in value]
    if hasattr(value, "plain"):
        return value.plain()
    if isinstance(value, (str, bool, int)) or value is None:
        return value
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value)
    return number if number - number == 0 else None


class EventLines:
    """A listener that writes one line per event to `stream`, those that come often at most every `EVERY` seconds."""

    def __init__(self, stream: TextIO) -> None:
        self.stream: TextIO | None = stream
        self._last: dict[str, float] = {}

    def __call__(self, kind: str, data: Mapping[str, Any]) -> None:
        now = time.monotonic()
        if self.stream is None or (kind in OFTEN and now - self._last.get(kind, -EVERY) < EVERY and data.get("done") != data.get("total")):
            return
        self._last[kind] = now
        try:
            self.stream.write(json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": kind, **plain(data)}) + "\n")
            self.stream.flush()
        except BrokenPipeError:
            raise  # the reader of `--json` has gone
        except OSError:
            self.stream = None


class EventLog:
    """Appends the events of a run to its `logs/events.jsonl`, opened with the first event (the folder is the run's by then)."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOG
        self._lines: EventLines | None = None

    def __call__(self, kind: str, data: Mapping[str, Any]) -> None:
        if self._lines is None:
            try:
                self.path.parent.mkdir(exist_ok=True)
                self._lines = EventLines(self.path.open("a", encoding="utf-8"))
            except OSError:
                return
        self._lines(kind, data)

    def close(self) -> None:
        if self._lines is not None and self._lines.stream is not None:
            self._lines.stream.close()
            self._lines.stream = None


def read_events(path: Path, *, last_bytes: int = 1_000_000) -> Iterator[dict[str, Any]]:
    """The events at the end of a log, oldest first; a torn line (a crash, or one just being written) is left out."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - last_bytes))
            lines = file.read().split(b"\n")
    except OSError:
        return
    for line in lines[1 if size > last_bytes else 0 :]:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "event" in event:
            yield event
