"""The `segment` verifier: is a predicted piece of text a beginning of what really follows? (RLPT, arXiv 2509.19249, section 2.)

The prediction stands in <segment>…</segment>. `text`: its words must be the first words of the segments that follow, numbers compared by
value; `meaning`: where they are not, a model is asked whether the prediction is a valid prefix in meaning, as the paper's generative
reward model is, which sees several following segments; without a model the verdict is then unknown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from data.records import Problem, Sampling
from filters.verifiers.asking import Asking, ModelVerifier, Wish, question, read_verdict, says_nothing
from filters.verifiers.base import register_verifier
from filters.verifiers.numbers import Number, parse_number
from filters.verifiers.spec import Judgement, Spec
from filters.verifiers.votes import majority

_TAG = re.compile(r"<segment>(.{1,4000}?)</segment>", re.S | re.I)
_WORD = re.compile(r"\d[\d,]*(?:\.\d+)?|[^\W\d_]+|[=+\-*/^<>%]")


class SegmentSpec(Spec):
    following: Annotated[tuple[str, ...], Field(min_length=1, max_length=16)]
    """The segments that really follow, the wanted one first."""
    match: Literal["text", "meaning"] = "text"
    min_words: Annotated[int, Field(ge=1)] = 3
    """A shorter prediction is none: a first word is soon guessed."""
    votes: Annotated[int, Field(ge=1, le=64)] = 3


def read_segment(response: str) -> str:
    """The one text between <segment> and </segment> behind the thought; "" where there is none, or several that differ."""
    found = {piece.strip() for piece in _TAG.findall(response.rpartition("</think>")[2][-20_000:])}
    return found.pop() if len(found) == 1 else ""


def words(text: str) -> list[str]:
    """Words, numbers (by value) and signs, case folded."""
    return [_number(w) for w in _WORD.findall(text.casefold())]


def _number(word: str) -> str:
    read = parse_number(word) if word[0].isdigit() else None
    return str(read.value) if isinstance(read, Number) else word


def is_prefix(prediction: str, following: Sequence[str], min_words: int = 3) -> bool:
    """Whether the prediction's words begin the text that follows; a shorter reference than `min_words` must be met whole."""
    said, real = words(prediction), words(" ".join(following))
    return len(said) >= min(min_words, len(words(following[0]))) > 0 and real[: len(said)] == said


class SegmentVerifier(ModelVerifier[SegmentSpec]):
    """Predicted segments."""

    name = "segment"
    Spec = SegmentSpec
    asks_model = False
    outright = True

    def alone(self, problem: Problem, spec: SegmentSpec, response: str) -> Judgement | None:
        said = read_segment(response)
        if not said or says_nothing(said):
            return "fail", 0.0, "no single <segment> with a text"
        if is_prefix(said, spec.following, spec.min_words):
            return "pass", 1.0, "its words begin what follows"
        if spec.match == "text":
            return "fail", 0.0, "its words are not those that follow"
        return ("unknown", 0.0, "a model must say whether it means what follows") if self.tools.generate is None else None

    def asking(self, problem: Problem, spec: SegmentSpec, response: str) -> Asking:
        asked = question("prefix", problem=problem, prediction=read_segment(response), following=" ".join(spec.following))
        said = yield Wish((asked,), Sampling(temperature=0.7, max_tokens=512), spec.votes)
        decided = majority([read_verdict(text, asked.fence, ("yes", "no")) for text in said[0]], 0.5)
        if decided is None:
            return "unknown", 0.0, "the judge is undecided"
        return ("pass", 1.0, "judged a prefix in meaning") if decided == "yes" else ("fail", 0.0, "judged no prefix in meaning")

    def oracle(self, problem: Problem) -> str:
        return f"<segment>{problem.spec['following'][0]}</segment>"


register_verifier("segment", SegmentVerifier)
