"""`clpo`: the policy's own pass rate is the curriculum; it rewrites the hard problems into simpler ones and the medium ones into others.

CLPO (arXiv 2509.25004; `csuking/CLPO`), online: a problem solved by at most 30 % of the step's answers is hard, by at most 70 % medium
(both ends inclusive), else easy. For each hard or medium one the policy writes a rewrite with the same answer (hard: simplify, medium:
diversify); rewrites are answered `n` times, kept where 0 < acc < 1, and join the originals with 0 < acc < 1. A rewritten hard problem
has half the KL coefficient (`kl_hard`; the coefficient itself is the objective's `kl_coef`, 0.001 in the paper).

Differs from the released code: the rewriter is not shown the answer, and a rewrite that states it is refused (its prompt holds the answer,
which invites a leak); what was hard is known by id, not by the hash of a response. `most` caps the groups of a step, rewrites and hard
ones first, as the paper mixes its batch. Rewrites cost about as many rollouts again as the step itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from data.keyed import keyed_order
from data.records import Group, GroupEdit, Problem, RolloutSpec
from filters.difficulty import Band
from generators.strategies.base import BaseStrategy, Online, StepContext
from generators.strategies.rewriting import Rewrite, form_of, rewrite_spec
from generators.strategies.settings import Count, Settings, Share, read_settings
from generators.strategies.svs_decisions import read_variants, settle

Bucket = Literal["easy", "medium", "hard"]
MODES: dict[Bucket, str] = {"hard": "simplify", "medium": "diversify"}
STREAM, WRITE = "clpo.solve", "clpo.write"


class ClpoSettings(Settings):
    hard: Share = 0.3
    """Pass rates up to this one are hard."""
    medium: Share = 0.7
    """Pass rates above `hard` up to this one are medium; all above are easy."""
    kl_hard: float = Field(default=0.5, ge=0)
    """What the KL coefficient of a rewritten hard problem is multiplied with."""
    rewrites: Count = 0
    """At most so many rewrites per batch of main groups, in keyed order; 0 = all."""
    most: Count = 0
    """At most so many groups of a batch are trained on, rewrites and hard ones first; 0 = all."""
    max_tokens: int = Field(default=400, ge=1)
    """Tokens of a rewrite."""
    overlap: float = Field(default=0.9, gt=0, le=1)
    """A rewrite that shares this much of its 3-word runs with the original is a copy."""
    form: Literal["auto", "fenced", "json", "line"] = "auto"

    @model_validator(mode="after")
    def _ordered(self) -> ClpoSettings:
        if self.hard > self.medium:
            raise ValueError(f"hard ({self.hard}) is above medium ({self.medium}); give hard <= medium")
        return self


def bucket(passes: int, judged: int, asked: int, hard: float = 0.3, medium: float = 0.7) -> Bucket | None:
    """The bucket of a problem, compared on counts; None where unknown verdicts decide."""
    if settle(passes, judged, asked, Band.of(0, hard)):
        return "hard"
    upto = settle(passes, judged, asked, Band.of(0, medium))
    if upto is False:
        return "easy"
    return "medium" if upto and settle(passes, judged, asked, Band.of(0, hard)) is False else None


def in_order(groups: Sequence[Group], buckets: Mapping[str, Bucket | None], rewritten: Mapping[str, Bucket]) -> list[str]:
    """Ids of the groups as they fill a step: rewrites of hard problems, of medium ones, hard originals, medium ones, the rest."""

    def place(group: Group) -> int:
        if group.id in rewritten:
            return 0 if rewritten[group.id] == "hard" else 1
        kind = buckets.get(group.id)
        return 2 if kind == "hard" else 3 if kind == "medium" else 4

    return [g.id for g in sorted(groups, key=place)]


class Clpo(BaseStrategy):
    name = "clpo"
    settings_known = frozenset(ClpoSettings.model_fields)

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        super().__init__(settings)
        self.set = read_settings(self.name, ClpoSettings, settings)

    def online(self, ctx: StepContext) -> Online:
        mains = {spec.group_id: spec for spec in ctx.main}
        groups = yield list(ctx.main)
        buckets = {g.id: bucket(g.passes, len(g.rollouts), mains[g.id].n, self.set.hard, self.set.medium) for g in groups}
        wanted = [g.id for g in groups if buckets[g.id] in MODES]
        few = set(keyed_order(ctx.seed, wanted, ctx.round, ctx.step, self.name)[: self.set.rewrites or None])
        asked = [g for g in groups if g.id in few]
        rewrites = [self._rewrite(ctx, g, buckets[g.id]) for g in asked]
        written = (yield [r.spec for r in rewrites]) if rewrites else []
        solvers = [s for g, r, w in zip(asked, rewrites, written, strict=True) if (s := self._solver(ctx, g, mains[g.id], buckets[g.id], r, w))]
        solved = (yield solvers) if solvers else []
        kept: dict[str, Bucket] = {}
        for group in solved:
            kind = buckets[group.refs[0]] or "medium"
            said = f"{group.passes} of {len(group.rollouts)} answers to the {kind} problem's rewrite are right"
            ctx.decide(group.problem, self.name, (group.refs[1], *group.refs[2:]), "mixed", not group.zero_variance, said)
            if not group.zero_variance:
                kept[group.id] = kind
        edits = [GroupEdit.add(g, f"rewrite of a {kept[g.id]} problem") for g in solved if g.id in kept]
        return [*edits, *self._dropped(groups, [g for g in solved if g.id in kept], buckets, kept)]

    def _rewrite(self, ctx: StepContext, group: Group, kind: Bucket | None) -> Rewrite:
        of, mode = group.problem, MODES[kind or "medium"]
        form = form_of(ctx, self.set.form)
        return rewrite_spec(ctx, of, mode, form, self.name, WRITE, self.set.max_tokens, (group.id,))

    def _solver(
        self, ctx: StepContext, group: Group, main: RolloutSpec, kind: Bucket | None, rewrite: Rewrite, written: Group
    ) -> RolloutSpec | None:
        """The rewrite as a group to be solved; None, with the reason recorded, where it breaks a rule."""
        of = group.problem
        if not written.rollouts:
            ctx.decide(rewrite.spec.problem, self.name, (of.id, group.id), "unjudged", False, "the engine wrote nothing")
            return None
        writing = written.rollouts[0]
        (one,) = read_variants([(writing.text, writing.finish != "stop")], of.prompt, of.reference, rewrite.form, overlap=self.set.overlap)
        made = {"rewrite_of": of.id, "mode": MODES[kind or "medium"], "writing": writing.id}
        level = 0 if kind == "hard" else of.level  # nobody knows how much simpler it became
        problem = Problem(
            one.text, of.reference, of.verifier, of.spec, of.media, of.domain, level, of.concepts, self.name, "online", made
        )
        rule, reason = one.rule, one.reason
        if not rule and (why := ctx.heldout([one.text])[0]):
            rule, reason = "heldout", why
        if rule:
            ctx.decide(problem if one.text else rewrite.spec.problem, self.name, (of.id, writing.id), rule, False, reason)
            return None
        return RolloutSpec(
            problem,
            main.n,
            main.sampling,
            STREAM,
            template=main.template,
            environment=main.environment,
            key=(group.id,),
            refs=(group.id, of.id, writing.id),
            kl=self.set.kl_hard if kind == "hard" else 1.0,
        )

    def _dropped(
        self, groups: Sequence[Group], added: Sequence[Group], buckets: Mapping[str, Bucket | None], rewritten: Mapping[str, Bucket]
    ) -> list[GroupEdit]:
        useful = [*added, *(g for g in groups if not g.zero_variance)]
        if not self.set.most or len(useful) <= self.set.most:
            return []
        return [GroupEdit.drop(ident, "the step is full") for ident in in_order(useful, buckets, rewritten)[self.set.most :]]
