"""What SwS reads out of a model's answer: concepts and judgements. Fails closed, never raises, returns nothing that the answer does not say.

Forms (the problem itself is read by `filters.written`):
  line    the dialect of the shipped policies: `addition, shop` and `perfect`, nothing else
  fenced  after the last `</think>`: the last ``` block with one list of quoted strings; the last "Final Judgement: ..." line
  json    after the last `</think>`: {"concepts": [...]} and {"final_judgement": "..."}, bare or in a ``` block
The released code runs `exec` on such a list; here a list is brackets, quoted strings and commas, read by hand.
"""

from __future__ import annotations

import re
from typing import Any

from data.text import storable
from filters.written import Form, fenced, json_value
from generators.strategies.sws_votes import JUDGEMENTS, Judgement

MOST = 50
"""A longer list is a model that repeats itself."""
LONGEST = 80  # characters of a concept

CONCEPTS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"concepts": {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": LONGEST}, "minItems": 1, "maxItems": MOST}},
    "required": ["concepts"],
    "additionalProperties": False,
}
JUDGEMENT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"analysis": {"type": "string"}, "final_judgement": {"enum": list(JUDGEMENTS)}},
    "required": ["analysis", "final_judgement"],
    "additionalProperties": False,
}

_QUOTED = re.compile(r"""\s*(?:"([^"\\\n]*)"|'([^'\\\n]*)')\s*""")
_SAID = re.compile(r"final[ \t]+judge?ment[ \t*_]*:[ \t*_]*([a-z]+)", re.I)


def read_concepts(answer: str, form: Form) -> tuple[str, ...]:
    """The concepts in their order, each once; () where the answer is not of the form. Each stands in the answer letter by letter."""
    said = _after_thought(answer)
    if said is None:
        return ()
    items = _line(said) if form == "line" else _json_concepts(said) if form == "json" else _listed(said)
    concepts = [" ".join(item.split()) if item.strip() in said else "" for item in items]
    if not concepts or len(concepts) > MOST or any(not _is_concept(concept, answer) for concept in concepts):
        return ()
    return tuple({concept.casefold(): concept for concept in reversed(concepts)}.values())[::-1]


def _is_concept(concept: str, answer: str) -> bool:
    return 0 < len(concept) <= LONGEST and concept in answer and any(c.isalpha() for c in concept)


def _line(said: str) -> list[str]:
    first, _, rest = said.strip().partition("\n")
    return [] if rest.strip() else [item.strip() for item in first.split(",")]


def _listed(said: str) -> list[str]:
    blocks = [block for _, block in fenced(said) if "[" in block]
    if not blocks:
        return []
    text = blocks[-1].strip()
    name, equals, value = text.partition("=")
    if equals and name.strip().isidentifier():
        text = value.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return []
    inside, place, items = text[1:-1], 0, []
    while place < len(inside) and inside[place:].strip():
        match = _QUOTED.match(inside, place)
        if match is None:
            return []
        items.append(match.group(1) if match.group(1) is not None else match.group(2))
        place = match.end()
        if place < len(inside):
            if inside[place] != ",":
                return []
            place += 1
        if len(items) > MOST:
            return []
    return items


def _json_concepts(said: str) -> list[str]:
    value = _object(said)
    items = value.get("concepts") if set(value) == {"concepts"} else None
    return list(items) if isinstance(items, list) and all(isinstance(item, str) for item in items) else []


def read_judgement(answer: str, form: Form) -> Judgement | None:
    """perfect, acceptable or bad; None where the answer says none of them, or two."""
    said = _after_thought(answer)
    if said is None:
        return None
    if form == "line":
        return _judgement(said.strip())
    if form == "json":
        return _judgement(_object(said).get("final_judgement"))
    spoken = {word.lower() for word in _SAID.findall(said)}
    return _judgement(spoken.pop()) if len(spoken) == 1 else None


def _judgement(word: Any) -> Judgement | None:
    return next((j for j in JUDGEMENTS if j == word), None)


def _after_thought(answer: str) -> str | None:
    """What follows the model's thoughts; None where they never end."""
    _, thought, said = storable(answer).rpartition("</think>")
    return None if not thought and "<think>" in said else said


def _object(said: str) -> dict[str, Any]:
    try:
        value = json_value(said)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
