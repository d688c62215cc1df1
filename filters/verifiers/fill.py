"""The `fill` verifier: masked pieces of a worked solution, filled in by name. r = right pieces / all pieces (MR-RLVR, arXiv 2511.17473).

Pieces are read by id (`<m1>36</m1>`, or a JSON object {"m1": "36"}), never by their place, and divided by the number of masks, so that
answering only the easy ones is not worth 1. A piece given twice with two values is wrong; ids that nobody asked for are ignored.
A piece is right where both are one number, or equal texts once normalised. Pass is all of them.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field

from data.records import Problem
from filters.dedup import normalise_texts
from filters.verifiers.asking import read_json
from filters.verifiers.base import register_verifier
from filters.verifiers.numbers import Number, parse_number
from filters.verifiers.spec import Judgement, Spec, TypedVerifier

_PIECE = re.compile(r"<(m\d{1,3})>([^<]{0,400})</\1>")


class FillSpec(Spec):
    masks: Annotated[dict[str, str], Field(min_length=1, max_length=64)]
    """What stands behind each mask, by id (m1, m2, …)."""


def read_pieces(response: str) -> dict[str, str]:
    """What the response says behind its last thought, by id; an id with two values says nothing."""
    said = response.rpartition("</think>")[2][-20_000:]
    found: dict[str, set[str]] = {}
    for ident, piece in _PIECE.findall(said):
        found.setdefault(ident, set()).add(piece.strip())
    if not found:
        found = {k: {str(v).strip()} for k, v in (read_json(said) or {}).items() if isinstance(v, str | int | float) and not isinstance(v, bool)}
    return {ident: pieces.pop() for ident, pieces in found.items() if len(pieces) == 1}


def same_piece(one: str, other: str) -> bool:
    """Whether both are one number, or one text but for case, blanks and punctuation."""
    left, right = parse_number(one), parse_number(other)
    if isinstance(left, Number) and isinstance(right, Number):
        return left == right
    a, b = normalise_texts([one, other])
    return bool(a) and a == b


class FillVerifier(TypedVerifier[FillSpec]):
    """Masked pieces by id."""

    name = "fill"
    Spec = FillSpec
    needs_reference = False
    outright = True

    def judge(self, problem: Problem, spec: FillSpec, response: str) -> Judgement:
        said = read_pieces(response)
        right = sum(ident in said and same_piece(said[ident], piece) for ident, piece in spec.masks.items())
        reason = f"{right} of {len(spec.masks)} pieces are right, {len(spec.masks.keys() - said.keys())} are missing"
        return ("pass" if right == len(spec.masks) else "fail"), right / len(spec.masks), reason

    def oracle(self, problem: Problem) -> str:
        return " ".join(f"<{ident}>{piece}</{ident}>" for ident, piece in problem.spec["masks"].items())


register_verifier("fill", FillVerifier)
