"""Multiple choice, numbered parts and clock times: answers whose form says what they are."""

from __future__ import annotations

import re
from functools import lru_cache

from filters.verifiers.wording import plain_words

_CHOICE = re.compile(
    r"(?:(?:option|choice|answer|part)\s*:?\s*)?(?:\(\s*([A-Ja-j])\s*\)|([A-J])(?:[.):]|(?=\s*\Z)))\s*[.:,-]?\s*(.*)\Z", re.IGNORECASE | re.DOTALL
)


@lru_cache(maxsize=16_384)
def choice(text: str) -> tuple[str, str]:
    """(letter, what follows it) of "C", "(C)", "C. 12", "option (c)"; ("", text) where there is no letter."""
    words = plain_words(text)
    match = _CHOICE.match(words)
    if match is None or re.search(r"\([A-Ja-j]\)|\b[A-J]\)", match[3]):
        return "", text  # several letters are parts or several options
    letter = match[1] or match[2]
    if match[1] is None and letter.islower():
        return "", text
    return letter.upper(), match[3].strip()


_OPTION = re.compile(r"(?:\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{\s*)?(?:\(([A-H])\)|(?<![A-Za-z\\])([A-H])[.:)])\s*\}?(?:\\ |~|\s)*")


@lru_cache(maxsize=4_096)
def options(prompt: str) -> tuple[tuple[str, str], ...]:
    """((letter, content), …) of a multiple-choice question, letters in order from A; () where there are none."""
    marks = list(_OPTION.finditer(prompt[-6_000:]))
    for start in range(len(marks) - 1, -1, -1):
        letters = [(m[1] or m[2]) for m in marks[start:]]
        if len(letters) >= 2 and letters == list("ABCDEFGH"[: len(letters)]):
            ends = [*(m.start() for m in marks[start + 1 :]), min(len(prompt[-6_000:]), marks[-1].end() + 300)]
            texts = [prompt[-6_000:][m.end() : end].split("\n\n")[0] for m, end in zip(marks[start:], ends)]
            return tuple((letter, re.sub(r"\\q?quad|\\\\|&", " ", text).strip(" \n$,;")) for letter, text in zip(letters, texts))
    return ()


_NUMBERED = re.compile(r"\(\s*([1-9]|i{1,3}|iv|v)\s*\)\s*")


@lru_cache(maxsize=16_384)
def numbered_parts(text: str) -> tuple[str, ...]:
    """ "(1) 3; (2) [0,1]" as its parts; () where the text does not consist of parts numbered from 1."""
    marks = list(_NUMBERED.finditer(text.strip().strip("$")))
    plain = text.strip().strip("$")
    if len(marks) < 2 or marks[0].start() > 0:
        return ()
    names = [m[1] for m in marks]
    if names not in (list("123456789")[: len(names)], ["i", "ii", "iii", "iv", "v"][: len(names)]):
        return ()
    return tuple(plain[m.end() : n.start() if n else len(plain)].strip(" ,;.$") for m, n in zip(marks, [*marks[1:], None]))


# clock times

_TIME = re.compile(r"(?:at )?(\d{1,2}):(\d\d)(?::\d\d)?\s*([ap])?\.?\s*(?:m\.?)?\Z|(?:at )?(\d{1,2})\s*([ap])\.?\s*m\.?\Z", re.IGNORECASE)


@lru_cache(maxsize=16_384)
def clock(text: str) -> tuple[int, str] | None:
    """(minutes after midnight, "a", "p" or "" where only twelve hours are told)."""
    match = _TIME.match(plain_words(text))
    if match is None:
        return None
    hour, minute, half = int(match[1] or match[4]), int(match[2] or 0), (match[3] or match[5] or "").lower()
    if hour > 24 or minute > 59 or (half and not 1 <= hour <= 12):
        return None
    if half:
        return (hour % 12 + (12 if half == "p" else 0)) * 60 + minute, half
    return hour * 60 + minute, ("p" if hour > 12 else "")


def same_time(want: tuple[int, str], got: tuple[int, str]) -> bool:
    return want == got or (want[0] == got[0] and not (want[1] and got[1])) or (not (want[1] and got[1]) and want[0] % 720 == got[0] % 720)
