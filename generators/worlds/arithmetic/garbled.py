"""Questions gone wrong: a sentence lost, two stories mixed, a name that nobody has, a number that does not come out. None can be read."""

from __future__ import annotations

import re

from generators.worlds.arithmetic.draw import Draw
from generators.worlds.arithmetic.reading import read
from generators.worlds.arithmetic.words import NAMES, THINGS

_SENTENCE = re.compile(r"(?<=[.?]) ")
_WORD_LISTS = (tuple(name for name, _ in NAMES), tuple(many for _, many in THINGS))


def garbled(text: str, other: str, draw: Draw, *, subtle: bool = False) -> str | None:
    """`text` with one to three faults, sentences of `other` among them; None where twenty tries still make sense.

    `subtle`: one name or one thing is another one, nothing else.
    """
    for _ in range(20):
        broken = text
        for _ in range(1 if subtle else draw(1, 3)):
            broken = _swap_word(broken, other, draw) if subtle else draw.pick(_FAULTS)(broken, other, draw)
        if broken and broken != text and read(broken) is None:
            return broken
    return None


def renumbered(text: str, draw: Draw) -> str:
    """`text` with one or two of its numbers drawn again, which may leave it without an answer."""
    for _ in range(draw(1, 2)):
        text = _other_number(text, "", draw)
    return text


def _lose(text: str, other: str, draw: Draw) -> str:
    sentences = _SENTENCE.split(text)
    sentences.pop(draw(0, len(sentences) - 1))
    return " ".join(sentences)


def _mix(text: str, other: str, draw: Draw) -> str:
    sentences = _SENTENCE.split(text)
    sentences[draw(0, len(sentences) - 1)] = draw.pick(_SENTENCE.split(other))
    return " ".join(sentences)


def _swap_word(text: str, other: str, draw: Draw) -> str:
    words = text.split(" ")
    for options in _WORD_LISTS if draw(0, 1) else _WORD_LISTS[::-1]:
        places = [place for place, word in enumerate(words) if word.strip(".,?") in options]
        if places:
            place = draw.pick(places)
            bare = words[place].strip(".,?")
            words[place] = words[place].replace(bare, draw.pick(options))
            break
    return " ".join(words)


def _other_number(text: str, other: str, draw: Draw) -> str:
    numbers = list(re.finditer(r"\d+", text))
    if not numbers:
        return text
    chosen = draw.pick(numbers)
    return text[: chosen.start()] + str(draw(0, 99)) + text[chosen.end() :]


def _lose_number(text: str, other: str, draw: Draw) -> str:
    numbers = list(re.finditer(r" \d+", text))
    if not numbers:
        return text
    chosen = draw.pick(numbers)
    return text[: chosen.start()] + text[chosen.end() :]


_FAULTS = (_lose, _mix, _swap_word, _other_number, _lose_number)
