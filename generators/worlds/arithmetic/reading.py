"""From a text in the world's language back to what it asks: the ground truth of a problem that a policy wrote.

A text is read when it is, word for word, one of the surfaces of a shape told with any numbers and consistent words: one name per person,
pronouns that fit, the things asked for the things told. Everything else is unparseable, and so is a question without an answer
or with two. The answer is the formula's (`solving.py`), never the chain's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from string import Formatter

from generators.worlds.arithmetic.families import FAMILIES
from generators.worlds.arithmetic.shape import Shape
from generators.worlds.arithmetic.solving import Ill, solve
from generators.worlds.arithmetic.splits import split_of
from generators.worlds.arithmetic.steps import decimal
from generators.worlds.arithmetic.words import GOODS, HOLDERS, MAKERS, NAMES, PEOPLE, THINGS, VEHICLES, Words
from generators.worlds.base import Split

LONGEST = 600  # characters; the longest surface has about 260

_HIS = {"he": "his", "she": "her"}
_PRONOUN = dict(NAMES)
_WORDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys("ABC", tuple(name for name, _ in NAMES)),
    **dict.fromkeys(("x", "y"), tuple(one for one, _ in THINGS)),
    **dict.fromkeys(("xs", "ys"), tuple(many for _, many in THINGS)),
    "he": ("he", "she"),
    "He": ("He", "She"),
    "his": ("his", "her"),
    "holder": tuple(one for one, _ in HOLDERS),
    "holders": tuple(many for _, many in HOLDERS),
    "good": GOODS,
    "vehicle": VEHICLES,
    "maker": MAKERS,
    "people": PEOPLE,
}
_SINGULAR = {many: one for one, many in (*THINGS, *HOLDERS)}
_NUMBER = r"(?:0|[1-9]\d{0,6})"


@dataclass(frozen=True)
class Reading:
    """What a text asks. `numbers` by name as the story tells them, hidden ones not among them."""

    family: str
    shape: str
    level: int
    numbers: dict[str, int]
    words: Words
    answer: str
    split: Split


@dataclass(frozen=True)
class _Grammar:
    family: str
    shape: Shape
    pattern: re.Pattern[str]
    slots: tuple[str, ...]  # of the pattern's groups, in order

    def told(self, text: str) -> tuple[dict[str, int], Words] | None:
        """Numbers and words of a story that makes sense, whether or not its question has an answer."""
        match = self.pattern.fullmatch(text)
        if match is None:
            return None
        found: dict[str, str] = {}
        for slot, value in zip(self.slots, match.groups(), strict=True):
            if value is not None and found.setdefault(slot, value) != value:
                return None
        words = {slot: value for slot, value in found.items() if slot in _WORDS}
        numbers = {slot: int(value) for slot, value in found.items() if slot not in _WORDS} | _untold(self.family, self.shape.name)
        return (numbers, words) if _consistent(words) else None

    def read(self, text: str) -> Reading | None:
        told = self.told(text)
        if told is None:
            return None
        numbers, words = told
        try:
            answer = decimal(solve(f"{self.family}/{self.shape.name}", numbers))
        except (Ill, ValueError):  # ValueError: a fraction without a short decimal form
            return None
        return Reading(self.family, self.shape.name, self.shape.level, numbers, words, answer, split_of(self.family, numbers))


def read(text: str) -> Reading | None:
    """The one thing that `text` asks; None where it is not of this world's language, has no answer, or reads in two ways."""
    text = text.strip()
    if len(text) > LONGEST:
        return None
    readings = [reading for grammar in _grammars() if (reading := grammar.read(text)) is not None]
    if len({reading.answer for reading in readings}) != 1:
        return None
    return next((reading for reading in readings if _own(reading)), readings[0])


def stories(text: str) -> list[tuple[str, Shape, dict[str, int]]]:
    """(family, shape, numbers) of everything that `text` may tell, also where its question has no answer."""
    text = text.strip()
    if len(text) > LONGEST:
        return []
    return [(grammar.family, grammar.shape, told[0]) for grammar in _grammars() if (told := grammar.told(text)) is not None]


def _own(reading: Reading) -> bool:
    """Easy and hard percentages share their texts; the easy shapes take one part in so many (50, 25, 20, 10 %), the hard ones the rest."""
    if reading.family != "percent":
        return True
    percent = reading.numbers["p"]
    return (reading.level <= 2) is (percent > 0 and 100 % percent == 0)


def _untold(family: str, shape: str) -> dict[str, int]:
    """Numbers that are words in the text ("twice"); they count as told to the split."""
    return {"k": 2} if (family, shape) == ("compare", "1.twice") else {}


def _consistent(words: Words) -> bool:
    people = [words[slot] for slot in "ABC" if slot in words]
    if len(set(people)) != len(people):
        return False
    if words.get("he", words.get("He", "")).lower() != words.get("He", words.get("he", "")).lower():
        return False
    he = words.get("he") or words.get("He", "").lower()
    if "A" in words and he and _PRONOUN[words["A"]] != he:
        return False
    if "his" in words and he and _HIS[he] != words["his"]:
        return False
    things = {}
    for one, many in (("x", "xs"), ("y", "ys"), ("holder", "holders")):
        named = {words[one]} if one in words else set()
        if many in words:
            named.add(_SINGULAR[words[many]])
        if len(named) > 1:
            return False
        things[one] = next(iter(named), "")
    return not things["x"] or things["x"] != things["y"]


@cache
def _grammars() -> tuple[_Grammar, ...]:
    return tuple(_grammar(family.name, shape) for family in FAMILIES.values() for shape in family.shapes.values())


def _grammar(family: str, shape: Shape) -> _Grammar:
    slots: list[str] = []

    def option(text: str) -> str:
        parts = []
        for literal, slot, _, _ in Formatter().parse(text):
            parts.append(re.escape(literal))
            if slot:
                slots.append(slot)
                parts.append(f"({'|'.join(sorted(_WORDS[slot], key=len, reverse=True)) if slot in _WORDS else _NUMBER})")
        return "".join(parts)

    segments = ["(?:" + "|".join(option(text) for text in segment) + ")" for segment in shape.text]
    return _Grammar(family, shape, re.compile(" ".join(segments)), tuple(slots))
