"""`sws`: weakness-driven problem synthesis. What the policy keeps failing at decides how many new problems of which kind are written.

SwS (arXiv 2506.08989, section 2; `MasterVito/SwS`), offline, once a round after `after` rounds of preliminary RL:

1. problems that the policy does not learn (`sws_weakness`), their share per category, the budget that follows;
2. the concepts of those problems: the world's own, the problem's, or asked for;
3. `budget` orders: a category by its budget, five concepts that go together (`sws_concepts`), a difficulty; a problem written to each;
4. refused in this order, each with its rule: unreadable, proof, plan (it states a false equality), repeated, heldout, quality (two
   judges), answer (at least half of eight answers agree), band (the student solves it two to six times of eight), weights (beyond its
   category's share of `keep`).

`teacher` writes, judges and answers, the policy is the student; without a teacher the policy is both (the paper's self-evolving
variant, which gains less: an own mistake that is consistent passes the vote). Differs from the released code, which never puts
the problem into the concept prompt, runs `exec` on what comes back, lets the string "None" win the vote, and asks the judge about tags
that the writer is never asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, field_validator

from data.keyed import keyed_order, keyed_rng
from data.records import Candidate, Problem, Sampling
from filters.dedup import normalise_texts
from filters.difficulty import PRESETS
from generators.strategies.base import BaseStrategy, RoundContext
from generators.strategies.settings import Count, Settings, band_of, read_settings
from generators.strategies.speaker import Speaker
from generators.strategies.sws_concepts import ConceptPool, Cooccurrence, draw_concepts, pool_of
from generators.strategies.sws_steps import Draft, Order, answer, extract_concepts, judge, sit, write
from generators.strategies.sws_weakness import Weakness, budgets, uniform, weaknesses

DIFFICULTIES = ("AMC12", "HMMT-Nov", "HMMT-Feb", "AIME", "USAJMO", "USAMO", "USOJMO", "USOMO")
"""The paper's labels, for problems without levels."""


class SwsSettings(Settings):
    keep: Count = 0
    """At most so many new problems per round, shared among the categories like the budget; 0 = all that pass."""
    after: Count = 1
    """Rounds of preliminary RL before anything is written: the history is too short to show what is not learned."""
    teacher: str = ""
    """A shipped policy or a model folder that writes, judges and answers; "" = the policy itself."""
    allocation: Literal["weakness", "uniform"] = "weakness"
    """`uniform` is the control: every category alike, concepts of all its problems, everything else the same."""
    strict: bool = False
    """Weak means max < 0.5 and slope < 0 as the paper writes, not <= as in its released data."""
    concepts: int = Field(default=5, ge=1, le=20)
    """Concepts per problem; fewer where a category has fewer."""
    tau: float = Field(default=0.2, gt=0)
    cooccurrence: Cooccurrence = "count"
    """`log` softens the count, which otherwise outweighs the similarity."""
    embedder: str = ""
    """A local sentence-transformers folder; "" = the policy's hidden states."""
    levels: tuple[int, ...] = ()
    """World levels to write at; () = those of the weak problems' category."""
    judges: bool = True
    votes: int = Field(default=8, ge=1)
    """Answers that vote on the reference."""
    agreement: float = Field(default=0.5, gt=0, le=1)
    """Share of the votes that have to agree, the paper's half; a weak teacher is consistently wrong more often, and needs more."""
    answers: int = Field(default=8, ge=1)
    """Answers of the student that measure the difficulty."""
    band: tuple[float, float] = (float(PRESETS["sws"].lo), float(PRESETS["sws"].hi))
    arithmetic: bool = True
    """Arithmetic that a program can check is checked: a plan with a false equality is refused, an answer with one does not vote, and the
    votes have to come to what the plan comes to, where it says. Not in the paper."""
    max_tokens: int = Field(default=160, ge=8)
    """Tokens that a written problem, a judgement or a list of concepts may have (the paper: 4,096)."""
    answer_tokens: Count = 0
    """Tokens of a voting answer; 0 = as many as the policy's own."""

    @field_validator("band")
    @classmethod
    def _is_band(cls, pair: tuple[float, float]) -> tuple[float, float]:
        band_of(pair)
        return pair


class Sws(BaseStrategy):
    name = "sws"
    settings_known = frozenset(SwsSettings.model_fields)

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        super().__init__(settings)
        self.set = read_settings(self.name, SwsSettings, settings)
        self.band = band_of(self.set.band)

    def propose(self, ctx: RoundContext) -> Iterator[Candidate]:
        if ctx.round <= self.set.after or not ctx.budget or ctx.history.is_empty():
            return
        weakness = weaknesses(ctx.history, strict=self.set.strict)
        teacher = self._teacher(ctx)
        orders = self._orders(ctx, weakness, teacher)
        drafts = write(teacher, orders, Sampling(0.6, max_tokens=self.set.max_tokens), self.set.arithmetic, ctx.seed, ctx.round)
        drafts = [d for d in drafts if not self._refused(ctx, d, d.rule, d.reason)]
        drafts = self._fresh(ctx, drafts)
        if self.set.judges:
            judge(teacher, drafts, Sampling(0.6, max_tokens=self.set.max_tokens), ctx.seed, ctx.round)
            drafts = [d for d in drafts if not self._refused(ctx, d, d.rule, d.reason)]
        voting = Sampling(0.7, 0.95, max_tokens=self.set.answer_tokens or ctx.sampling.max_tokens)
        answer(teacher, drafts, voting, self.set.votes, self.set.agreement, self.set.arithmetic, ctx.seed, ctx.round)
        drafts = [d for d in drafts if not self._refused(ctx, d, d.rule, d.reason)]
        sit(ctx.speaker, drafts, ctx.sampling, self.set.answers, self.band, ctx.seed, ctx.round)
        drafts = [d for d in drafts if not self._refused(ctx, d, d.rule, d.reason)]
        for draft in self._augmented(ctx, weakness, drafts):
            yield Candidate(problem_of(draft), ctx.round, self.name, parents_of(draft), reason=draft.told())

    def _teacher(self, ctx: RoundContext) -> Speaker:
        if not self.set.teacher:
            return ctx.speaker
        if ctx.teacher is None:
            raise ValueError("this round cannot open a teacher")
        return ctx.teacher(self.set.teacher)

    def _rates(self, weakness: Weakness) -> Mapping[str, Any]:
        return weakness.rates if self.set.allocation == "weakness" else uniform(weakness.visited)

    def _orders(self, ctx: RoundContext, weakness: Weakness, teacher: Speaker) -> list[Order]:
        """Category by category in its budget; each order drawn by a generator of its own."""
        shares = budgets(ctx.budget, self._rates(weakness))
        members = self._members(ctx, weakness, shares)
        listed = self._concepts(ctx, [p for ids in members.values() for p in ids], teacher)
        vectors = self._vectors(ctx, sorted({c for concepts in listed.values() for c in concepts}))
        orders = []
        for category, share in shares.items():
            ids = [i for i in members.get(category, ()) if listed[i]]
            pool = pool_of([listed[i] for i in ids], vectors)
            labels = self._labels(ctx, ids)
            orders += [self._order(ctx, category, number, ids, listed, pool, labels) for number in range(share if ids else 0)]
        return orders

    def _members(self, ctx: RoundContext, weakness: Weakness, shares: Mapping[str, int]) -> dict[str, list[str]]:
        """Problems whose concepts a category's orders draw from: its weak ones, or all that were visited (uniform)."""
        if self.set.allocation == "weakness":
            return {category: [i for i in weakness.weak.get(category, ()) if i in ctx.problems] for category, n in shares.items() if n}
        by: dict[str, list[str]] = {}
        for i in sorted(set(ctx.history["problem_id"].to_list()) & ctx.problems.keys()):
            by.setdefault(ctx.problems[i].domain, []).append(i)
        return {category: by.get(category, []) for category, n in shares.items() if n}

    def _concepts(self, ctx: RoundContext, ids: Sequence[str], teacher: Speaker) -> dict[str, tuple[str, ...]]:
        """By problem id. Only problems that nobody has said anything about are asked for."""
        known: dict[str, tuple[str, ...]] = {}
        for i in ids:
            problem = ctx.problems[i]
            known[i] = (ctx.world.fine_concepts(problem) if ctx.world is not None else ()) or problem.concepts
        asked = [ctx.problems[i] for i in ids if not known[i]]
        return known | extract_concepts(teacher, asked, self.set.max_tokens, ctx.seed, ctx.round)

    def _vectors(self, ctx: RoundContext, concepts: Sequence[str]) -> dict[str, Any] | None:
        embed = ctx.embedder(self.set.embedder) if self.set.embedder and ctx.embedder is not None else ctx.embed
        return None if embed is None or not concepts else dict(zip(concepts, embed(concepts), strict=True))

    def _labels(self, ctx: RoundContext, ids: Sequence[str]) -> Sequence[int | str]:
        return self.set.levels or sorted({ctx.problems[i].level for i in ids} - {0}) or DIFFICULTIES

    def _order(
        self,
        ctx: RoundContext,
        category: str,
        number: int,
        ids: Sequence[str],
        listed: Mapping[str, tuple[str, ...]],
        pool: ConceptPool,
        labels: Sequence[int | str],
    ) -> Order:
        rng = keyed_rng(ctx.seed, ctx.round, self.name, category, number)
        concepts = draw_concepts(rng, pool, self.set.concepts, self.set.tau, self.set.cooccurrence)
        holders = [i for i in ids if concepts[0] in listed[i]]
        return Order(category, number, concepts, labels[int(rng.integers(len(labels)))], holders[int(rng.integers(len(holders)))])

    def _refused(self, ctx: RoundContext, draft: Draft, rule: str, reason: str) -> bool:
        if rule:
            ctx.decide(problem_of(draft), self.name, parents_of(draft), rule, False, reason)
        return bool(rule)

    def _fresh(self, ctx: RoundContext, drafts: Sequence[Draft]) -> list[Draft]:
        """Those whose text no other draft or known problem has, and that give no held-out problem away."""
        seen = set(normalise_texts([p.prompt for p in ctx.problems.values()]))
        hits = ctx.heldout([d.text for d in drafts]) if drafts else []
        fresh = []
        for draft, text, why in zip(drafts, normalise_texts([d.text for d in drafts]), hits, strict=True):
            if self._refused(ctx, draft, "repeated" if text in seen else "", "its text was written or known before"):
                continue
            seen.add(text)
            if not self._refused(ctx, draft, "heldout" if why else "", why):
                fresh.append(draft)
        return fresh

    def _augmented(self, ctx: RoundContext, weakness: Weakness, drafts: Sequence[Draft]) -> list[Draft]:
        """The category weights again: `keep` shared by failure rate among the categories that have anything left."""
        by: dict[str, list[Draft]] = {}
        for draft in drafts:
            by.setdefault(draft.order.category, []).append(draft)
        total = self.set.keep or len(drafts)
        places = budgets(total, {c: r for c, r in self._rates(weakness).items() if c in by}, {c: len(of) for c, of in by.items()})
        kept: list[Draft] = []
        for category, of in sorted(by.items()):
            named = {str(d.order.number): d for d in of}
            ranked = [named[i] for i in keyed_order(ctx.seed, list(named), ctx.round, self.name, "keep", category)]
            kept += ranked[: places.get(category, 0)]
            for draft in ranked[places.get(category, 0) :]:
                self._refused(ctx, draft, "weights", f"beyond the {places.get(category, 0)} new problems of {category}")
        return kept


def problem_of(draft: Draft) -> Problem:
    """The problem as far as it got: without a reference where no answer was agreed on."""
    order = draft.order
    made = {"concepts": list(order.concepts), "difficulty": order.difficulty, "written_by": draft.written_by, **draft.measured}
    level = order.difficulty if isinstance(order.difficulty, int) else 0
    return Problem(draft.text, draft.reference, "math", domain=order.category, level=level, concepts=order.concepts, source="sws", meta=made)


def parents_of(draft: Draft) -> tuple[str, ...]:
    """The failing problem it was ordered for, and the request that wrote it."""
    return (draft.order.weak, draft.request)
