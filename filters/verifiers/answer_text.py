"""Short answers as SQuAD and HotpotQA compare them: normalisation, exact match, token F1; and our rules for one thing written in two ways.

`normalize`, `exact_match`, `f1` follow the official evaluation scripts (SQuAD 1.1; HotpotQA: yes, no and noanswer have no partial credit).
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_CLOSED = ("yes", "no", "noanswer")


def normalize(text: str) -> str:
    """Lower case, punctuation off, articles off, blanks folded; in this order, as the official scripts do it."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, reference: str) -> bool:
    return normalize(answer) == normalize(reference)


def f1(answer: str, reference: str) -> float:
    """Harmonic mean of token precision and recall after `normalize`; HotpotQA's 0 where one side is yes, no or noanswer and they differ."""
    got, want = normalize(answer), normalize(reference)
    if got != want and (got in _CLOSED or want in _CLOSED):
        return 0.0
    got_tokens, want_tokens = got.split(), want.split()
    same = sum((Counter(got_tokens) & Counter(want_tokens)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(got_tokens), same / len(want_tokens)
    return 2 * precision * recall / (precision + recall)


def contains(answer: str, reference: str) -> bool:
    """Search-R1's subEM: the normalised reference stands in the normalised answer, at word boundaries."""
    got, want = normalize(answer), normalize(reference)
    return bool(want) and f" {want} " in f" {got} "


_TITLES = frozenset((
    "mr", "mrs", "ms", "dr", "prof", "sir", "dame", "lord", "lady", "king", "queen", "prince", "princess", "emperor", "empress", "pope",
    "president", "in", "from", "at", "on", "by",
))  # fmt: skip
_SUFFIXES = frozenset(["inc", "ltd", "llc", "co", "corp", "corporation", "company", "plc"])
_SAME = {
    "united states of america": "united states",
    "usa": "united states",
    "us": "united states",
    "uk": "united kingdom",
    "great britain": "united kingdom",
    "ussr": "soviet union",
    "nyc": "new york city",
    "new york new york": "new york city",
}
_WORDS = {"saint": "st", "mount": "mt", "fort": "ft"}
_ORDINALS = [
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh", "twelfth", "thirteenth",
    "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth", "nineteenth", "twentieth",
]  # fmt: skip


def canonical(text: str) -> str:
    """`normalize` beyond the official one: diacritics folded, "&" is "and", dots of initials off, "1st" is "first", hyphens are blanks,
    well-known country names are one. Two texts with one canonical form mean the same."""
    text = unicodedata.normalize("NFKD", text)
    text = "".join(c for c in text if not unicodedata.combining(c)).translate(str.maketrans("’‘“”–—−ıİ", "''\"\"---iI"))
    text = re.sub(r"\b([A-Za-z])\.\s*(?=[A-Za-z]\b)", r"\1", text)  # "U.S." and "J. K." in one piece
    text = re.sub(r"[-/]", " ", text.lower().replace("&", " and "))
    words = [_WORDS.get(w, w) for w in normalize(text).split()]
    words = [w if (m := re.fullmatch(r"(\d+)(?:st|nd|rd|th)", w)) is None else _ordinal(int(m[1])) for w in words]
    said = " ".join(words)
    return _SAME.get(said, said)


def shorter(text: str) -> set[str]:
    """Canonical forms of `text` without what one may leave out: a bracket that explains, "It is" in front, a title or preposition in front,
    a company form."""
    bare = re.sub(r"\s*[\(\[][^()\[\]]{0,80}[\)\]]\s*\Z", "", text)
    said = re.sub(r"\A\s*(?:it|that|this|he|she|they)\s+(?:is|was|are|were)\s+(?!not\b|n't)", "", bare, flags=re.I)
    forms = {canonical(text), canonical(bare), canonical(said)} - {""}
    for form in list(forms):
        words = form.split()
        front = words[1:] if len(words) > 1 and words[0] in _TITLES else words
        back = front[:-1] if len(front) > 1 and front[-1] in _SUFFIXES else front
        forms |= {" ".join(front), " ".join(back)}
    return forms


def alias(one: str, other: str) -> bool:
    """Whether the two are one thing written in two ways. Only one side may leave something out: "Mr Smith" is no "Mrs Smith"."""
    left, right = canonical(one), canonical(other)
    return bool(left) and bool(right) and (left in shorter(other) or right in shorter(one))


def _ordinal(number: int) -> str:
    return _ORDINALS[number - 1] if 1 <= number <= len(_ORDINALS) else f"{number}th"
