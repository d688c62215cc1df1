"""Finer concepts than a family's own: what a shape is about (its name) and the operations of its chain.

`Problem.concepts` stays the family's list, which is the same for all its problems; what is weak about one of them is in these.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

from generators.worlds.arithmetic.draw import Draw
from generators.worlds.arithmetic.families import FAMILIES
from generators.worlds.arithmetic.shape import Family, Shape

_OPERATIONS = {"+": "addition", "-": "subtraction", "*": "multiplication", "/": "division"}
MOST = 5  # concepts of one assignment (SwS, arXiv 2506.08989: sets of five)


def shape_concepts(family: Family, shape: Shape) -> tuple[str, ...]:
    """Topic of the shape, the family's concepts, the operations; each once."""
    topic = shape.name.partition(".")[2].replace("_", " ")
    return tuple(dict.fromkeys((topic, *family.concepts, *(_OPERATIONS[op] for _, op, _ in shape.steps))))


@cache
def family_concepts(family: str) -> tuple[str, ...]:
    """All concepts of the family's shapes, sorted."""
    kind = FAMILIES[family]
    return tuple(sorted({concept for shape in kind.shapes.values() for concept in shape_concepts(kind, shape)}))


def covered(family: str, shape: str, concepts: Iterable[str]) -> int:
    """How many of `concepts` the shape is about."""
    kind = FAMILIES[family]
    return len(set(concepts) & set(shape_concepts(kind, kind.shapes[shape])))


def assignment(family: str, shape: str, draw: Draw) -> list[str]:
    """One to five concepts that a writer may be given so that this shape answers them: some of its own, sometimes a stranger of the family."""
    kind = FAMILIES[family]
    own = list(shape_concepts(kind, kind.shapes[shape]))
    chosen = draw.pick_distinct(own, draw(1, min(len(own), MOST)))
    best = len(chosen)
    strangers = [c for c in family_concepts(family) if c not in own]
    for stranger in draw.pick_distinct(strangers, min(len(strangers), draw(0, 2), MOST - best)):
        others = [s for s in kind.at(kind.shapes[shape].level) if covered(family, s.name, [*chosen, stranger]) > best]
        if not others:  # no other shape of this level answers it better
            chosen.append(stranger)
    return _shuffled(chosen, draw)


def _shuffled(items: Sequence[str], draw: Draw) -> list[str]:
    return draw.pick_distinct(items, len(items))
