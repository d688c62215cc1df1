"""Problems that a model wrote: read out of its answer, and the rules a text must keep before anybody spends rollouts on it.

Grammar, by form; whatever does not fit is no problem (fail closed), and never the text of an earlier answer (the released code of SvS
reuses it, `reference/strategies.md` section 3):
  fenced  after the last `</think>`: the ```text block; else the only other ``` block; else what follows "**Reconstructed Question:**"
          (or the heading that the prompt asked for). Two different blocks are no problem.
  json    after the last `</think>`: one JSON object with the text under "problem", bare or in a ```json block (`PROBLEM_SCHEMA`)
  line    the first line, where the dialect of the shipped policies ends its texts; what comes after it may only be blank. A plan may stand
          before the problem, on the same line, and ends with "Q:"
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Literal

from data.text import storable
from filters.dedup import normalise_texts
from filters.verifiers.numbers import Number, parse_number

Form = Literal["fenced", "json", "line"]
FORMS: tuple[Form, ...] = ("fenced", "json", "line")

PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"problem": {"type": "string", "minLength": 1}},
    "required": ["problem"],
    "additionalProperties": False,
}
"""What an engine with structured outputs is held to under the form json."""

AFTER_PLAN = "Q:"
"""Ends the plan that a problem of the form `line` may begin with."""

MIN_WORDS = 4
MAX_CHARS = 16_000
"""About the 4096 tokens beyond which SvS drops a prompt."""

SMALL = 10
"""Integers below are in every other text: of the arithmetic world's honest problems with such an answer 11.5 % state that number as one
of their own; from 10 on it is 4.8 % (to 19), 2.2 % (to 99) and none above (1,625 problems)."""

_FENCE = re.compile(r"[ \t]*+```[ \t]*+([A-Za-z]*+)[ \t]*+")
_HEADING = re.compile(r"^[ \t#]*+\*{0,2}[ \t]*+(?:Reconstructed|Rewritten|New) (?:Question|Problem)[ \t]*:?[ \t]*\*{0,2}[ \t]*:?", re.I | re.M)
_NUMBER = re.compile(r"(?<![\w.])[-−]?\d[\d,]*(?:\.\d+)?(?![\w])")
_AS_ANSWER = (r"\\boxed\s*\{{\s*{0}\s*\}}", r"####\s*{0}(?![\d])", r"\banswer\b[^.?!\n]{{0,24}}?(?:\bis\b|:|=|\bof\b|\bbe\b)\s*\$?{0}(?![\d]|\.\d)")


def read_problem(text: str, form: Form = "fenced") -> tuple[str, str]:
    """(the problem's text, "") or ("", why there is none)."""
    said = storable(text)
    if form == "line":
        first, _, rest = said.strip().partition("\n")
        found, why = (first, "more than one line") if rest.strip() else (first.rpartition(AFTER_PLAN)[2], "")
    else:
        _, thought, said = said.rpartition("</think>")
        if not thought and "<think>" in said:
            return "", "the thought never ends"
        found, why = _from_json(said) if form == "json" else _from_fence(said)
    if why:
        return "", why
    found = found.strip()
    if len(found.split()) < MIN_WORDS:
        return "", f"fewer than {MIN_WORDS} words"
    if len(found) > MAX_CHARS:
        return "", f"more than {MAX_CHARS} characters"
    if "```" in found or "####" in found or not any(c.isalpha() for c in found):
        return "", "what is there is markup rather than a problem"
    return found, ""


def plan_before(text: str, form: Form = "fenced") -> str:
    """What a model said before the problem, thoughts left out; "" where it planned nothing."""
    said = storable(text)
    if form == "line":
        return said.strip().partition("\n")[0].rpartition(AFTER_PLAN)[0].strip()
    return said.rpartition("</think>")[2].partition("```")[0].strip() if form == "fenced" else ""


def fenced(said: str) -> Iterator[tuple[str, str]]:
    """(kind, body) of every block between a line of ``` with or without a kind and the next line of ``` alone. Line by line, so that the time
    grows with the text and no faster, however many blocks are opened and never closed."""
    kind: str | None = None
    body: list[str] = []
    for line in said.split("\n"):
        fence = _FENCE.fullmatch(line)
        if kind is None:
            kind, body = (fence[1], []) if fence else (None, [])
        elif fence and not fence[1]:
            yield kind, "\n".join(body)
            kind = None
        else:
            body.append(line)


def _from_fence(said: str) -> tuple[str, str]:
    blocks = [(kind.lower(), body.strip()) for kind, body in fenced(said)]
    named = list(dict.fromkeys(body for kind, body in blocks if kind == "text"))
    others = list(dict.fromkeys(body for _, body in blocks))
    for found in (named, others):
        if len(found) > 1:
            return "", "several problems"
        if found:
            return found[0], ""
    if "```" in said:
        return "", "a block that never ends"
    headings = list(_HEADING.finditer(said))
    if not headings:
        return "", "no block and no heading"
    return said[headings[-1].end() :], ""


def json_value(said: str) -> Any:
    """What the one block holds, or the whole text where there is not one block. ValueError where that is no JSON."""
    blocks = [body for _, body in fenced(said)]
    try:
        return json.loads((blocks[0] if len(blocks) == 1 else said).strip())
    except RecursionError:
        raise ValueError("nested too deep") from None


def _from_json(said: str) -> tuple[str, str]:
    try:
        value = json_value(said)
    except ValueError:
        return "", "no JSON object"
    if not isinstance(value, dict) or set(value) != {"problem"} or not isinstance(value["problem"], str):
        return "", 'not an object with one text under "problem"'
    return storable(value["problem"]), ""


def grams(text: str, n: int) -> frozenset[tuple[str, ...]]:
    """Runs of `n` words of the normalised text; a shorter text is one run."""
    words = _normal(text).split()
    return frozenset(tuple(words[i : i + n]) for i in range(max(1, len(words) - n + 1))) if words else frozenset()


def jaccard(one: str, other: str, n: int = 3) -> float:
    """Shared over all word n-grams, in [0, 1]; two empty texts are equal."""
    a, b = grams(one, n), grams(other, n)
    return len(a & b) / len(a | b) if a | b else 1.0


def states_answer(text: str, reference: str, source: str = "") -> str:
    """Why `text` gives its answer away, "" where it does not. `source`: the problem it was made from, whose own words are no leak.

    Stated as the answer ("the answer is 12", \\boxed{12}, "#### 12"): always a leak. Otherwise a number leaks where the text states its
    value and the source does not, unless it is an integer below `SMALL` in size, which any story may hold; any other reference leaks
    where it stands in the text word for word, has at least four letters or digits, and is not in the source.
    """
    reference = reference.strip()
    if not reference:
        return ""
    shown = r"\s*".join(re.escape(part) for part in reference.split())
    if any(re.search(pattern.format(shown), text, re.I) for pattern in _AS_ANSWER):
        return f"states {reference[:60]!r} as its answer"
    value = _value(reference)
    if value is not None:
        small = value.denominator == 1 and abs(value) < SMALL
        return "" if small or value not in set(_values(text)) or value in set(_values(source)) else f"states the number {reference[:60]}"
    wanted = f" {_normal(reference)} "
    if sum(c.isalnum() for c in wanted) < 4 or wanted not in f" {_normal(text)} " or wanted in f" {_normal(source)} ":
        return ""
    return f"states {reference[:60]!r} word for word"


@lru_cache(maxsize=65_536)
def _normal(text: str) -> str:
    return normalise_texts([text])[0]


def _value(text: str) -> Any:
    read = parse_number(text)
    return read.value if isinstance(read, Number) else None


def _values(text: str) -> Iterator[Any]:
    for found in _NUMBER.findall(text):
        value = _value(found.rstrip(","))
        if value is not None:
            yield value
