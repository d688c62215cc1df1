"""What a section of the report is made of, and how its numbers are written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

LIMIT = 1200
"""Characters of a prompt, an answer or a reason that are shown; the full length is stated."""

_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]")


@dataclass(frozen=True)
class Table:
    """Rows of cells, shown as they are; columns of numbers are set right, in tabular figures."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric_from: int = 1  # the first column that holds numbers
    wordy: Sequence[int] = ()  # columns after it that hold words all the same


@dataclass(frozen=True)
class Figure:
    """A chart (a Vega-Lite spec without width), what it says in words, and the numbers behind it."""

    id: str
    title: str
    spec: dict[str, Any]
    alt: str
    note: str = ""
    table: Table | None = None


@dataclass(frozen=True)
class Section:
    """One section. `look` says what the reader looks at, `bad` what would be bad; `empty` replaces the rest where there is nothing."""

    id: str
    link: str
    title: str
    look: str
    bad: str = ""
    figures: Sequence[Figure] = ()
    layout: str = "one"  # one below the other, "two" or "three" side by side where there is room
    tables: Sequence[tuple[str, Table]] = ()
    extra: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    empty: str = ""


def percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f}%"


def share(part: int, whole: int) -> str:
    """A share that is never shown as 0 or all where it is not."""
    if not whole:
        return "–"
    shown = percent(part / whole)
    return "<0.1%" if part and shown == "0.0%" else ">99.9%" if part < whole and shown == "100.0%" else shown


def points(value: float | None) -> str:
    """A difference of two shares, in percentage points with its sign."""
    return "–" if value is None else f"{100 * value:+.1f}".replace("-", "−")


def interval(value: float | None, low: float | None, high: float | None) -> str:
    if value is None or low is None or high is None:
        return "–"
    return f"{100 * value:.1f}% [{100 * low:.1f}, {100 * high:.1f}]"


def count(value: float | None) -> str:
    return "–" if value is None else f"{int(value):,}"


def short(value: float | None) -> str:
    """12.3 M rather than 12,345,678."""
    if value is None:
        return "–"
    for size, unit in ((1e9, " B"), (1e6, " M"), (1e4, " k")):
        if abs(value) >= size:
            shown = value / (1e3 if unit == " k" else size)
            return f"{shown:.3g}{unit}" if shown < 1000 else f"{shown:.0f}{unit}"
    return f"{value:,.0f}"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def visible(text: str) -> str:
    """`text` with every character that hides or reorders its neighbours written out, e.g. ⟨U+202E⟩ for a right-to-left override."""
    return _HIDDEN.sub(lambda found: f"⟨U+{ord(found.group()):04X}⟩", text)


def shortened(text: str, limit: int = LIMIT, length: int | None = None) -> str:
    """`visible` text of at most `limit` characters; a longer one says how long it is (`length` where the rest was never read)."""
    whole = len(text) if length is None else length
    return visible(text) if whole <= limit else f"{visible(text[:limit])} … ({whole:,} characters in all)"


def label(text: str | None, limit: int = 60) -> str:
    """A name for an axis or a cell: one line, never empty."""
    line = " ".join(visible(text or "").split())
    return (line if len(line) <= limit else line[: limit - 1] + "…") or "(no name)"


def plural(number: int, noun: str, nouns: str = "") -> str:
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"
