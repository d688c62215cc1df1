"""Dates as people write them, read into (year, month, day) with None where a part is not said; ambiguous ones are not read."""

from __future__ import annotations

import re
from dataclasses import dataclass

_MONTHS = ["january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december"]
_MONTH = {name: i + 1 for i, name in enumerate(_MONTHS)} | {name[:3]: i + 1 for i, name in enumerate(_MONTHS)} | {"sept": 9}
_NAME = rf"({'|'.join(sorted(_MONTH, key=len, reverse=True))})\.?"
_FORMS = tuple(
    re.compile(form, re.I)
    for form in (
        rf"(?P<d>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?(?P<m>{_NAME}),?\s+(?P<y>\d{{3,4}})",
        rf"(?P<m>{_NAME})\s+(?P<d>\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?P<y>\d{{3,4}})",
        r"(?P<y>\d{4})-(?P<m>\d{1,2})-(?P<d>\d{1,2})",
        r"(?P<y>\d{4})/(?P<m>\d{1,2})/(?P<d>\d{1,2})",
        rf"(?P<m>{_NAME})(?:\s+of)?,?\s+(?P<y>\d{{4}})",
        rf"(?P<d>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?(?P<m>{_NAME})",
        rf"(?P<m>{_NAME})\s+(?P<d>\d{{1,2}})(?:st|nd|rd|th)?",
        r"(?:the\s+year\s+)?(?P<y>[12]\d{3})(?:\s*(?:ad|ce))?",
    )
)
_WEEKDAY = re.compile(r"\s*(?:on\s+|in\s+)?(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day,?\s+)?", re.I)


@dataclass(frozen=True)
class Date:
    year: int | None
    month: int | None = None
    day: int | None = None

    @property
    def whole(self) -> bool:
        return None not in (self.year, self.month, self.day)


def read_date(text: str) -> Date | None:
    """The one date that `text` is; None where it is not one. 03/04/1990 is not read: it is two dates."""
    if len(text) > 60:
        return None
    body = _WEEKDAY.sub("", text, count=1).strip().rstrip(".,; ")
    for form in _FORMS:
        match = form.fullmatch(body)
        if match is None:
            continue
        part = match.groupdict()
        month = part.get("m")
        number = None if month is None else _MONTH[month.lower().rstrip(".")] if not month.isdigit() else int(month)
        day = int(part["d"]) if part.get("d") else None
        if (number is not None and not 1 <= number <= 12) or (day is not None and not 1 <= day <= 31):
            return None
        return Date(int(part["y"]) if part.get("y") else None, number, day)
    return None


def same_date(one: Date, other: Date) -> bool | None:
    """True or False where it can be told; None where one says less than the other and what both say agrees."""
    said = [(a, b) for a, b in zip((one.year, one.month, one.day), (other.year, other.month, other.day), strict=True) if None not in (a, b)]
    if any(a != b for a, b in said):
        return False
    return True if one == other else None
