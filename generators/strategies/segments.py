"""Raw text into next-segment problems: documents, sentences, and the pairs of RLPT's two tasks. Pure functions but for reading the file.

RLPT (arXiv 2509.19249), section 2: a document is cut into sentences, short ones are dropped; (s_<i, s_i, s_{i+1}) gives ASR (predict s_i
from what comes before) and MSR (fill in s_i between what comes before and s_{i+1}).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import data
from data.errors import UserError
from data.text import storable

Task = Literal["asr", "msr"]
SHIPPED = Path(data.__file__).parent / "seeds"
_ABBREVIATIONS = "".join(rf"(?<!\b{word}\.)" for word in ("Mr", "Mrs", "Dr", "St", "vs", r"e\.g", r"i\.e", "cf", "Fig", "Eq", "No", "[A-Z]"))
_SENTENCE = re.compile(rf"(?<=[.!?]){_ABBREVIATIONS}[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])|\n\s*\n|(?<=[。！？])")
_PRIVATE = (
    (re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+\w"), "<email>"),
    (re.compile(r"(?<![\w.,=+*/-])(?:\+\d{1,3}[ -])?(?:\(\d{2,4}\)[ -]?|\d{3,4}[ -])\d{3,4}[ -]\d{3,4}(?![\w=+*/-]|[.,]\d)"), "<phone>"),
)


@dataclass(frozen=True)
class Segment:
    """One prediction: the text before it, what really follows (the wanted segment first), and for MSR the segment behind it."""

    document: int
    place: int
    before: str
    following: tuple[str, ...]
    task: Task

    @property
    def after(self) -> str:
        return self.following[1] if self.task == "msr" else ""


def read_documents(path: Path) -> Iterator[str]:
    """Documents of a .jsonl file (rows with "text") or of any other text file (parted by lines of three or more dashes, or one in all).

    A bare name may be that of a shipped text: `texts` is data/seeds/texts.txt.
    """
    if not path.is_file() and path.name == str(path) and (SHIPPED / f"{path}.txt").is_file():
        path = SHIPPED / f"{path}.txt"
    if not path.is_file():
        raise UserError(f"strategies.rlpt.file: no such file: {path}; give a .txt file, a .jsonl file with a column text, or the shipped `texts`")
    try:
        whole = path.read_text("utf-8")
    except UnicodeDecodeError:
        raise UserError(f"strategies.rlpt.file: {path} is not UTF-8 text") from None
    if path.suffix != ".jsonl":
        yield from (part.strip() for part in re.split(r"^-{3,}[ \t]*$", whole, flags=re.M) if part.strip())
        return
    for line, row in enumerate(whole.splitlines(), 1):
        if row.strip():
            try:
                text = json.loads(row)["text"]
                assert isinstance(text, str)
            except (ValueError, KeyError, TypeError, AssertionError, RecursionError):
                raise UserError(f'strategies.rlpt.file: {path}, line {line}: not an object with a text under "text"') from None
            yield text


def without_private(text: str) -> str:
    """E-mail addresses and telephone numbers masked."""
    for pattern, mask in _PRIVATE:
        text = pattern.sub(mask, text)
    return text


def sentences(text: str, fewest_words: int = 4) -> list[str]:
    """The sentences of a document, in order; shorter ones are dropped."""
    parts = [" ".join(part.split()) for part in _SENTENCE.split(without_private(storable(text)))]
    return [part for part in parts if len(part.split()) >= fewest_words]


def segments(listed: Sequence[str], document: int, task: Task, *, context: int = 2000, least: int = 1, follows: int = 3) -> Iterator[Segment]:
    """Every (s_<i, s_i, s_{i+1}, …) of a document with at least `least` sentences before it; `before` keeps its last `context` characters,
    whole sentences only. MSR needs a segment behind the wanted one; the judge of either sees up to `follows`."""
    for place in range(least, len(listed) - (task == "msr")):
        before: list[str] = []
        for sentence in reversed(listed[:place]):
            if before and sum(len(s) + 1 for s in before) + len(sentence) > context:
                break
            before.insert(0, sentence)
        yield Segment(document, place, " ".join(before), tuple(listed[place : place + follows]), task)
