"""`svs`: variational problem synthesis. The policy turns its own right answers into new problems with the same answer, and learns from all of it.

SvS (arXiv 2508.14029v4, Alg. 1; `MasterVito/SvS`), online, in one update with the step's own groups:

1. the main groups; those solved by 1 to 4 of 8 are sources;
2. for every right answer to a source, `variants` problems written from that answer alone (the problem is not shown), stream `svs.write`;
3. every variant that keeps the rules is solved against the source's own reference, stream `svs.solve`.

A group of solvers joins the update where its answers are mixed, a group of writers where at least one of its variants lies in the band
(1 to 5 of 8). Why no labeller is needed: where nobody agrees with the inherited answer the variant has changed it or is nonsense, where
everybody does it gives itself away.

Differs from the released code, which (a) reuses the previous variant's text where an answer cannot be read: here it is worth 0 and nobody
solves anything; (b) skips the whole step where nothing is under-performing: here the main groups are trained on all the same; (c) knows
no duplicates, leaks or copies: here rules refuse them before they cost rollouts. Where verdicts are unknown and decide, a variant is
worth neither 0 nor 1: it leaves its group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator

from data.keyed import keyed_order
from data.records import Group, GroupEdit, Problem, RolloutSpec, Sampling, Trajectory
from filters.written import PROBLEM_SCHEMA, Form
from generators.strategies.base import BaseStrategy, Online, StepContext
from generators.strategies.settings import Count, Settings, Share, band_of, read_settings
from generators.strategies.svs_decisions import SOURCE, VARIANT, Written, is_source, is_trained, read_variants, writing_reward

WRITE, SOLVE = "svs.write", "svs.solve"
Place = tuple[str, int]
"""(group of writers, rollout in it)"""


class SvsSettings(Settings):
    source: tuple[float, float] = (float(SOURCE.lo), float(SOURCE.hi))
    """Inclusive pass rates of problems that variants are written for: under-performing (1..4 of 8)."""
    band: tuple[float, float] = (float(VARIANT.lo), float(VARIANT.hi))
    """Inclusive agreement with the inherited answer that makes a variant worth 1 (1..5 of 8)."""
    variants: Count = 0
    """Variants per right answer, G_v; 0 = the group size of the step."""
    solvers: Count = 0
    """Answers per variant; 0 = the group size of the step."""
    sources: Count = 0
    """At most so many sources per batch of main groups, in keyed order; 0 = all."""
    answers: Count = 0
    """At most so many right answers per source, in keyed order; 0 = all."""
    max_tokens: Count = 0
    """Tokens a variant may have; 0 = as many as an answer."""
    max_prompt: int = Field(default=16_000, ge=1)
    """A right answer of more characters is not written from (the paper's 4,096 tokens of prompt)."""
    ngram: int = Field(default=3, ge=1)
    overlap: float = Field(default=0.9, gt=0, le=1)
    """A variant that shares this much of its word n-grams with the source's text (Jaccard) is a copy."""
    write_coef: float = Field(default=1.0, ge=0)
    solve_coef: float = Field(default=1.0, ge=0)
    """Weights of the two streams in the loss."""
    write_share: Share = 1.0
    """Share of the groups of writers that are trained on (the paper's `r2q_training_ratio`; its ablation takes 0.2)."""
    form: Literal["auto", "fenced", "json", "line"] = "auto"
    """How a variant is set into the answer; auto: line in the compact dialect, else fenced. json holds the answer to a schema where
    the engine can; its log-probs are then of the held, not of the free distribution."""

    @field_validator("source", "band")
    @classmethod
    def _is_a_band(cls, pair: tuple[float, float]) -> tuple[float, float]:
        band_of(pair)
        return pair


@dataclass(frozen=True)
class _Task:
    """One right answer that variants are written from."""

    source: Group
    main: RolloutSpec
    answer: Trajectory
    spec: RolloutSpec


class Svs(BaseStrategy):
    name = "svs"
    settings_known = frozenset(SvsSettings.model_fields)

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        super().__init__(settings)
        self.set = read_settings(self.name, SvsSettings, settings)
        self.source_band, self.band = band_of(self.set.source), band_of(self.set.band)

    def online(self, ctx: StepContext) -> Online:
        mains = {spec.group_id: spec for spec in ctx.main}
        groups = yield list(ctx.main)
        tasks = self._tasks(ctx, groups, mains)
        if not tasks:
            return []
        writers = dict(zip([t.spec.group_id for t in tasks], (yield [t.spec for t in tasks]), strict=True))
        written, first = self._read(ctx, tasks, writers)
        owner = {t.spec.group_id: t for t in tasks}
        specs = {place: self._solve(owner[place[0]], writers[place[0]].rollouts[place[1]], w) for place, w in written.items() if w.solvable}
        solved = dict(zip(specs, (yield list(specs.values())), strict=True)) if specs else {}
        worth = {place: self._worth(place, written, first, specs, solved) for place in written}
        for place, one in written.items():
            self._record(ctx, owner[place[0]], writers[place[0]].rollouts[place[1]], one, specs.get(place), solved.get(place), worth[place])
        return self._edits(ctx, writers, solved, worth)

    def _edits(
        self, ctx: StepContext, writers: Mapping[str, Group], solved: Mapping[Place, Group], worth: Mapping[Place, float | None]
    ) -> list[GroupEdit]:
        """What joins the update: mixed groups of solvers, and groups of writers with a positive among them."""
        edits = [GroupEdit.add(g, "answers to a variant") for g in solved.values() if not g.zero_variance]
        order = keyed_order(ctx.seed, list(writers), ctx.round, ctx.step, WRITE)
        trained = set(order[: int(self.set.write_share * len(order) + 0.5)])
        for ident, group in writers.items():
            rewards = [worth[ident, n] for n in range(len(group.rollouts))]
            known = [n for n, r in enumerate(rewards) if r is not None]
            paid = np.asarray([rewards[n] for n in known], np.float32)
            if ident in trained and is_trained(paid.tolist()):
                rollouts, verdicts = tuple(group.rollouts[n] for n in known), tuple(group.verdicts[n] for n in known)
                paid_for = replace(group, rollouts=rollouts, verdicts=verdicts, rewards=paid)
                edits.append(GroupEdit.add(paid_for, "variants written from a right answer"))
        return edits

    # ------------------------------------------------------------------------------------------------------------ waves
    def _tasks(self, ctx: StepContext, groups: Sequence[Group], mains: Mapping[str, RolloutSpec]) -> list[_Task]:
        sources = {g.id: g for g in groups if is_source(g.passes, len(g.rollouts), mains[g.id].n, self.source_band)}
        chosen = keyed_order(ctx.seed, list(sources), ctx.round, ctx.step, self.name)[: self.set.sources or None]
        tasks = []
        for ident in (g.id for g in groups if g.id in set(chosen)):
            source, main = sources[ident], mains[ident]
            right = {r.id: r for r, v in zip(source.rollouts, source.verdicts, strict=True) if v.outcome == "pass"}
            short = [i for i, r in right.items() if len(_answer(r)) <= self.set.max_prompt and r.finish == "stop"]
            few = set(keyed_order(ctx.seed, short, ctx.round, ctx.step, ident)[: self.set.answers or None])
            tasks += [_Task(source, main, right[i], self._write(ctx, source, main, right[i])) for i in short if i in few]
        return tasks

    def _write(self, ctx: StepContext, source: Group, main: RolloutSpec, answer: Trajectory) -> RolloutSpec:
        assert ctx.render is not None, "the step's context can render no prompt"
        form = self._form(ctx)
        prompt = ctx.render("rewrite", response=_answer(answer), structured=form == "json")
        of = source.problem
        task = Problem(
            prompt, of.reference, "written", {"form": form}, of.media, of.domain, of.level, of.concepts, self.name, "online",
            {"task": "variant", "source": of.id, "answer": answer.id},
        )  # fmt: skip
        s = main.sampling
        sampling = Sampling(s.temperature, s.top_p, s.top_k, self.set.max_tokens or s.max_tokens)
        return RolloutSpec(
            task,
            self.set.variants or main.n,
            sampling,
            WRITE,
            coef=self.set.write_coef,
            prompt=prompt,
            key=(source.id, answer.id),
            refs=(source.id, answer.id),
            structured=PROBLEM_SCHEMA if form == "json" else None,
        )

    def _form(self, ctx: StepContext) -> Form:
        if self.set.form != "auto":
            return self.set.form
        return "line" if ctx.dialect == "compact" else "fenced"

    def _read(
        self, ctx: StepContext, tasks: Sequence[_Task], writers: Mapping[str, Group]
    ) -> tuple[dict[Place, Written], dict[Place, Place]]:
        """What was written at each place, and for duplicates the place of the first. Rules look at the variants of one source together."""
        written: dict[Place, Written] = {}
        first: dict[Place, Place] = {}
        for ident, of in {t.source.id: t.source.problem for t in tasks}.items():
            places = [(t.spec.group_id, n) for t in tasks if t.source.id == ident for n in range(len(writers[t.spec.group_id].rollouts))]
            rollouts = [writers[by].rollouts[n] for by, n in places]
            answers = [(r.text, r.finish != "stop") for r in rollouts]
            found = read_variants(
                answers, of.prompt, of.reference, self._form(ctx), ngram=self.set.ngram, overlap=self.set.overlap
            )
            written |= dict(zip(places, found, strict=True))
            first |= {places[n]: places[w.same_as] for n, w in enumerate(found) if w.same_as is not None}
        asked = [place for place, w in written.items() if w.solvable]
        for place, why in zip(asked, ctx.heldout([written[place].text for place in asked]), strict=True):
            if why:
                written[place] = replace(written[place], rule="heldout", reason=why)
        return written, first

    def _solve(self, task: _Task, writing: Trajectory, one: Written) -> RolloutSpec:
        """The variant with the source's own reference, verifier and settings, solved as the main problems are."""
        return RolloutSpec(
            self._variant(task, writing, one.text),
            self.set.solvers or task.main.n,
            task.main.sampling,
            SOLVE,
            coef=self.set.solve_coef,
            template=task.main.template,
            environment=task.main.environment,
            key=(task.spec.group_id, writing.id),
            refs=(task.source.id, writing.id),
        )

    def _variant(self, task: _Task, writing: Trajectory, text: str) -> Problem:
        of = task.source.problem
        made = {"variant_of": of.id, "answer": task.answer.id, "writing": writing.id}
        return Problem(
            text, of.reference, of.verifier, of.spec, of.media, of.domain, of.level, of.concepts, self.name, "online", made
        )

    # -------------------------------------------------------------------------------------------------------- decisions
    def _worth(
        self,
        place: Place,
        written: Mapping[Place, Written],
        first: Mapping[Place, Place],
        specs: Mapping[Place, RolloutSpec],
        solved: Mapping[Place, Group],
    ) -> float | None:
        place = first.get(place, place)
        if not written[place].solvable:
            return 0.0
        group = solved[place]
        return writing_reward(group.passes, len(group.rollouts), specs[place].n, self.band)

    def _record(
        self,
        ctx: StepContext,
        task: _Task,
        writing: Trajectory,
        one: Written,
        spec: RolloutSpec | None,
        group: Group | None,
        worth: float | None,
    ) -> None:
        """A row that says what the writing is worth and why; for a variant that was solved another that says whether its answers are trained on."""
        parents = (task.source.problem.id, task.answer.id, writing.id)
        if group is None or spec is None:
            problem = self._variant(task, writing, one.text) if one.text else task.spec.problem
            ctx.decide(problem, self.name, parents, one.rule, False, one.reason)
            return
        said = f"{group.passes} of {len(group.rollouts)} answers agree with the inherited {spec.problem.reference[:60]}"
        if worth is None:
            unknown = spec.n - len(group.rollouts)
            ctx.decide(spec.problem, self.name, parents, "unjudged", False, f"{said}; {unknown} of {spec.n} could not be judged, and they decide")
        else:
            ctx.decide(spec.problem, self.name, parents, "band", worth > 0, f"{said}; the band is {self.band}")
        ctx.decide(spec.problem, self.name, parents, "mixed", not group.zero_variance, f"{said}; answers are trained on where they differ")


def _answer(rollout: Trajectory) -> str:
    """What the writer is shown: the answer behind the thought, without blanks at its ends."""
    return rollout.text.rpartition("</think>")[2].strip()
