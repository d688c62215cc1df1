"""`rlpt`: next-segment problems out of raw text, no labels needed.

RLPT (arXiv 2509.19249): autoregressive segment reasoning (ASR, predict s_i from what comes before) and middle segment reasoning (MSR, s_i
from what comes before and s_{i+1}); an answer is right where it is a valid prefix of what really follows (`filters.verifiers.segment`).
The paper's objective is ASR + lambda MSR with lambda in (0, 1) not given: candidates carry no weights, so `msr_share` of them are MSR, which
in expectation is lambda = share / (1 - share). Offline: the candidates pass the audits (held-out texts, duplicates) as all others do;
addresses and telephone numbers are masked. The paper first fine-tunes on the format; a policy that has never seen it will score 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from data.keyed import keyed_order, keyed_rng
from data.records import Candidate, Problem
from generators.strategies.base import BaseStrategy, RoundContext
from generators.strategies.segments import Segment, read_documents, segments, sentences
from generators.strategies.settings import Settings, Share, read_settings


class RlptSettings(Settings):
    file: str
    """Raw text: a .txt file (documents parted by lines of dashes) or a .jsonl file with a column text, or `texts`."""
    msr_share: Share = 0.5
    """Share of the problems that are middle segment reasoning; 0.5 = lambda 1."""
    fewest_words: int = Field(default=4, ge=1)
    """Shorter sentences are dropped."""
    context: int = Field(default=2000, ge=1)
    """Characters of text that are shown before the segment."""
    follows: int = Field(default=3, ge=1, le=16)
    """Real segments that the verifier compares with."""
    match: Literal["text", "meaning"] = "text"
    """`text`: word for word; `meaning`: else a model is asked, as in the paper."""


class Rlpt(BaseStrategy):
    name = "rlpt"
    settings_known = frozenset(RlptSettings.model_fields)

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        super().__init__(settings)
        self.set = read_settings(self.name, RlptSettings, settings)

    def propose(self, ctx: RoundContext) -> Iterator[Candidate]:
        found: dict[str, Segment] = {}
        for document, text in enumerate(read_documents(Path(self.set.file))):
            listed = sentences(text, self.set.fewest_words)
            for task in ("asr", "msr"):
                for one in segments(listed, document, task, context=self.set.context, follows=self.set.follows):  # type: ignore[arg-type]
                    found[f"{document}.{one.place}.{task}"] = one
        taken: set[tuple[int, int]] = set()
        left = ctx.budget
        for key in keyed_order(ctx.seed, list(found), ctx.round, self.name):
            one = found[key]
            wanted = "msr" if keyed_rng(ctx.seed, ctx.round, self.name, one.document, one.place).random() < self.set.msr_share else "asr"
            if not left:
                return
            if one.task == wanted and (one.document, one.place) not in taken:
                taken.add((one.document, one.place))
                left -= 1
                yield Candidate(self._problem(ctx, one), ctx.round, self.name, reason=f"{one.task}, sentence {one.place} of document {one.document}")

    def _problem(self, ctx: RoundContext, one: Segment) -> Problem:
        assert ctx.render is not None, "the round's context can render no prompt"
        prompt = ctx.render("next_segment", before=one.before, after=one.after)
        spec = {"following": list(one.following), "match": self.set.match}
        made = {"document": one.document, "sentence": one.place, "task": one.task}
        return Problem(prompt, one.following[0], "segment", spec, domain=f"rlpt.{one.task}", source=self.name, meta=made)
