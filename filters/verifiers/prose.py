"""Prose compared word by word and value by value, and the value that a sentence states."""

from __future__ import annotations

import re
from collections.abc import Callable

from data.records import Outcome
from filters.verifiers.expressions import words
from filters.verifiers.notation import Unreadable, ascii_math
from filters.verifiers.numbers import NO_UNIT
from filters.verifiers.wording import NUMBER_WORDS, STYLED, plain_words

Judged = tuple[Outcome, str]

SYNONYMS = [
    {"yes", "true", "correct"}, {"no", "false", "incorrect"}, {"undefined", "dne", "does not exist", "not defined", "doesn't exist"},
    {"impossible", "not possible", "cannot be done", "it is impossible"},
    {"infinitely many", "infinite", "infinitely many solutions", "there are infinitely many", "an infinite number"},
]  # fmt: skip
_STOP = words(
    "the a an is are was were be been of for to that it this these those so there will would has have had then thus hence therefore we "
    "get both each answer final value values respectively which its their his her in on by at you can must should text only exactly "
    "such as all solution solutions"
)
_TURNING = words("not no never none neither nor without except unless less more fewer greater least most than other opposite or either maybe if only")
_MATH = re.compile(r"\$([^$]+)\$|\\\((.+?)\\\)|(?<![A-Za-z0-9_])-?(?:\d[\d,]*\.?\d*|\.\d+)(?:\s*/\s*\d+)?\s*%?|\\[a-z]+(?:\{[^{}]*\})+")
_WORD = re.compile(r"[^\W\d_]+(?:'[a-z]+)?")


def _parts(text: str) -> list[tuple[str, str]]:
    """("m", math) and ("w", word) in order, idle words left out."""
    for _ in range(3):
        before, text = text, STYLED.sub(r" \1 ", text)
        if text == before:
            break
    out: list[tuple[str, str]] = []
    at = 0
    for match in [*_MATH.finditer(text), None]:
        for word in _WORD.findall(text[at : match.start() if match else len(text)]):
            low = word.lower().removesuffix("'s")
            if low in NUMBER_WORDS:
                out.append(("m", str(NUMBER_WORDS[low])))
            elif low not in _STOP or low in _TURNING:
                out.append(("w", _stem(low)))
        if match is not None:
            at = match.end()
            value = (match[1] or match[2] or match.group()).strip().rstrip(",.")
            out.append(("w", value) if len(value) == 1 and value.isalpha() else ("m", value))
    return out


def _stem(word: str) -> str:
    for end in ("ies", "es", "s"):
        if word.endswith(end) and len(word) > len(end) + 2 and not word.endswith("ss"):
            return word.removesuffix(end) + ("y" if end == "ies" else "")
    return word


def same_prose(reference: str, answer: str, agree: Callable[[str, str], bool]) -> Judged:
    """Pass where both say the same words about the same values in the same order; fail where words or values plainly differ; else unknown."""
    reference, answer = ascii_prose(reference), ascii_prose(answer)
    want_words, got_words = plain_words(reference).lower(), plain_words(answer).lower()
    if want_words == got_words or any(want_words in s and got_words in s for s in SYNONYMS):
        return "pass", "equal text"
    want, got = _parts(reference), _parts(answer)
    if len(want) > 80 or len(got) > 80 or not want or not got:
        return "unknown", "the texts cannot be compared"
    values, others = [v for k, v in want if k == "m"], [v for k, v in got if k == "m"]
    words, other_words = [v for k, v in want if k == "w"], [v for k, v in got if k == "w"]
    turned = (set(words) ^ set(other_words)) & _TURNING
    if want_words in ("yes", "no") and (said := re.match(r"(yes|no)\b[,.;:]? ", got_words)) is not None:
        return ("pass", "the same answer") if said[1] == want_words else ("fail", "the other answer")
    if not values and not others:
        return _same_words(words, other_words, bool(turned))
    if len(values) == len(others) and all(map(agree, values, others)) and not turned:
        if words == other_words or set(words) == set(other_words) == set():
            return "pass", "the same words and values"
        if len(values) == 1 and words and other_words and all(_idle(w) for w in set(words) ^ set(other_words)):
            return "pass", "the same words and value"
        kept = [w for w in words if w in other_words]
        if (
            other_words
            and kept == [w for w in other_words if w in words]
            and (set(other_words) <= set(words))
            and len(set(other_words)) >= len(values)
        ):
            return "pass", "the same words and values"
    one, other = labelled(reference), labelled(answer)
    if one and other and len(one) == len(other) > 1 and not turned:
        told = _same_labels(one, other, agree)
        if told is not None:
            return told
    if len(values) != len(others) or not all(any(agree(v, o) for o in others) for v in values):
        return "unknown" if len(values) == 0 or len(others) == 0 else "fail", "other values in the text"
    return "unknown", "the same values in other words"


def ascii_prose(text: str) -> str:
    """Prose keeps its dollars, which say where the mathematics is, unless they stand around all of it."""
    text = text.strip()
    if text.startswith("$") and text.endswith("$") and text.count("$") in (2, 4):
        text = text.strip("$")
    if text.isascii():
        return text
    try:
        return ascii_math(text.replace("$", " "))
    except Unreadable:
        return ""


def _same_words(words: list[str], others: list[str], turned: bool) -> Judged:
    if words == others:
        return "pass", "equal text"
    if turned or not words or not others:
        return "unknown", "the texts cannot be compared"
    if sorted(words) == sorted(others) and len(words) <= 2:
        return "pass", "the same words"
    shorter, longer = sorted((words, others), key=len)
    if len(words) == 1 and len(others) == 1:
        one, other = words[0], others[0]
        return ("unknown", "one word begins the other") if one.startswith(other) or other.startswith(one) else ("fail", "another word")
    if len(shorter) <= 2 and all(w in longer for w in shorter):
        idle = [w for w in longer if w not in shorter]
        if len(idle) <= 3 and all(map(_idle, idle)):
            return "pass", "the same word in a sentence"
    if not set(words) & set(others):
        return "unknown", "other words"
    return "unknown", "the texts cannot be compared"


_SUBJECTS = words(
    "win winning strategy always person integer number function number graph shape integer sequence player person student result winner "
    "day month direction triangle quadrilateral conic curve"
)


def _idle(word: str) -> bool:
    return len(word) == 1 or word in _SUBJECTS


def labelled(text: str) -> dict[frozenset[str], str]:
    """{words: value} of "Thomas has 40, Johanna has 60"; {} where a clause has not exactly one value with words of its own."""
    clauses = [c for c in re.split(r"[,;\n]| and |\. ", text) if c.strip()]
    found: list[tuple[frozenset[str], str]] = []
    for clause in clauses:
        parts = _parts(clause)
        values = [v for k, v in parts if k == "m"]
        names = frozenset(v for k, v in parts if k == "w")
        if len(values) != 1 or not names:
            return {}
        found.append((names, values[0]))
    if len(found) < 2:
        return {}
    common = frozenset.intersection(*(n for n, _ in found))
    out = {n - common: v for n, v in found}
    return out if len(out) == len(found) and frozenset() not in out else {}


def _same_labels(one: dict[frozenset[str], str], other: dict[frozenset[str], str], agree: Callable[[str, str], bool]) -> Judged | None:
    pairs = []
    for names, value in one.items():
        matches = [v for n, v in other.items() if n & names]
        if len(matches) != 1:
            return None
        pairs.append((value, matches[0]))
    if all(agree(a, b) for a, b in pairs):
        return "pass", "every named value is equal"
    return "fail", "a named value differs"


# one value in a sentence

_COPULA = re.compile(r"(?:\b(?:is|are|equals|be|was|were|becomes)\b(?:\s+(?:equal to|exactly|precisely|simply|just|given by))?|:)\s*")
_DOUBT = re.compile(
    r"\b(?:or|either|maybe|perhaps|not|isn't|possibly|might|could|unless|least|most|more|less|than|between|approximately|about|wrong|incorrect)\b",
    re.I,
)


_REMARK = re.compile(
    r"\s*(?:\(|\\text\{ ?\()[^()0-9]*[a-z]{3}[^()0-9]*\)\}?\Z|,? \\?(?:since|because|attained|achieved|when|as|by)\b[^0-9]*\Z"
    r"|\s*(?:\\text\{\s*)?\bis the (?:only|unique|smallest|largest|least|greatest|minimum|maximum)\b[^0-9=]*\Z",
    re.IGNORECASE,
)


def stated_value(text: str, *, lone: bool) -> list[str]:
    """What a sentence says its value is: behind its only copula; if `lone`, the one number among its words. [] where in doubt."""
    plain = ascii_prose(text)
    for _ in range(2):
        plain = STYLED.sub(r" \1 ", plain)
    plain = plain.strip()
    if len(plain) > 300 or _DOUBT.search(plain) or "\n" in plain:
        return []
    out = []
    if (remark := _REMARK.search(plain)) is not None and remark.start() > 0:
        out.append(plain[: remark.start()].strip())
    copulas = list(_COPULA.finditer(plain))
    if len(copulas) == 1 and plain[: copulas[0].start()].strip() and plain[copulas[0].end() :].strip():
        out.append(plain[copulas[0].end() :].strip())
    found = list(_MATH.finditer(plain))
    if lone and len(found) == 1:
        rest = plain[: found[0].start()] + " " + plain[found[0].end() :]
        behind = (re.findall(r"[a-z]+", plain[found[0].end() :].lower()) or [""])[0]
        if re.fullmatch(r"[A-Za-z ,.'()-]*[A-Za-z]{3}[A-Za-z ,.'()-]*", rest) and behind not in NO_UNIT:
            out.append((found[0][1] or found[0][2] or found[0].group()).strip().rstrip(",."))
    return list(dict.fromkeys(out))


def has_words(text: str) -> bool:
    """Prose, not only formulae: a word of two letters or more that is no function or unit."""
    return any(
        len(w) > 1 and w.lower() not in ("sin", "cos", "tan", "cot", "log", "ln", "lg", "max", "min", "pi")
        for w in _WORD.findall(re.sub(r"\\[a-zA-Z]+", " ", plain_words(text)))
    )
