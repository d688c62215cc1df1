"""`mr_rlvr`: process tasks out of solutions that are there already: fill in masked results, put shuffled steps back into order.

MR-RLVR (arXiv 2511.17473), stage 1: one task per solution, either masked-then-fill (r = share of masks that match) or step reordering
(r = share of steps in their place; steps that commute count as right in either order, `filters.verifiers.reorder`). Stage 2 is outcome
RLVR, the recipe's own training. Offline: candidates with a verifier each, so that audits, selection and training treat them as any
problem. The paper's own mask rates, weights and thresholds were not to be had; they are settings here.

What it pays for is agreement with one solution, not correctness: the solutions are the world's own where it made the problem, and else
answers of the policy that the verifier passed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

from data.keyed import keyed_order, keyed_rng, keyed_seed
from data.records import Candidate, Problem
from filters.verifiers.reorder import MOST
from generators.strategies.base import BaseStrategy, RoundContext
from generators.strategies.process_tasks import mask_pieces, shuffle_steps, steps_of
from generators.strategies.settings import Settings, Share, read_settings


class MrRlvrSettings(Settings):
    reorder_share: Share = 0.5
    """Share of the tasks that are step reordering; the others are masked-then-fill."""
    mask_share: float = Field(default=0.5, gt=0, le=1)
    """Share of a solution's results that are masked."""
    masks: int = Field(default=4, ge=1, le=64)
    """At most so many masks."""
    fewest: int = Field(default=2, ge=2)
    """A solution of fewer steps gives no task."""
    most: int = Field(default=8, ge=2, le=MOST)
    """A solution of more steps gives none either."""
    solutions: Literal["auto", "policy"] = "auto"
    """Whose: the world's where it made the problem and else the policy's own right answers, or always the policy's."""


class MrRlvr(BaseStrategy):
    name = "mr_rlvr"
    settings_known = frozenset(MrRlvrSettings.model_fields)

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        super().__init__(settings)
        self.set = read_settings(self.name, MrRlvrSettings, settings)

    def propose(self, ctx: RoundContext) -> Iterator[Candidate]:
        left = ctx.budget
        order = keyed_order(ctx.seed, sorted(i for i, p in ctx.problems.items() if p.split == "train"), ctx.round, self.name)
        solutions = dict(self._solutions(ctx, order))
        for ident in order:
            if not left:
                return
            task = self._task(ctx, ctx.problems[ident], solutions[ident]) if ident in solutions else None
            if task is not None:
                left -= 1
                yield Candidate(task, ctx.round, self.name, (ident,), reason=f"{task.verifier} task out of a solution of {task.meta['steps']} steps")

    def _solutions(self, ctx: RoundContext, ids: list[str]) -> Iterator[tuple[str, str]]:
        own = [i for i in ids if self.set.solutions == "auto" and ctx.world is not None and ctx.problems[i].meta.get("world") == ctx.world.name]
        for ident in own:
            assert ctx.world is not None
            yield ident, ctx.world.demonstration(ctx.problems[ident])
        yield from ctx.solutions(sorted(set(ids) - set(own))).items()

    def _task(self, ctx: RoundContext, of: Problem, solution: str) -> Problem | None:
        steps = steps_of(solution)
        if not self.set.fewest <= len(steps) <= self.set.most:
            return None
        assert ctx.render is not None, "the round's context can render no prompt"
        key = keyed_seed(ctx.seed, ctx.round, self.name, of.id)
        made = {"task_of": of.id, "steps": len(steps)}
        if keyed_rng(key, "kind").random() < self.set.reorder_share:
            shuffled = shuffle_steps(steps, of.prompt, key)
            if shuffled is None:
                return None
            prompt = ctx.render("reorder_steps", problem=of, steps=shuffled.steps)
            spec = {"order": list(shuffled.order), "needs": {str(k): list(v) for k, v in sorted(shuffled.needs.items())}}
            return Problem(prompt, " ".join(map(str, shuffled.order)), "reorder", spec, of.media, of.domain, 0, of.concepts, self.name, meta=made)
        masked = mask_pieces(steps, self.set.mask_share, self.set.masks, key)
        if masked is None:
            return None
        prompt = ctx.render("fill_masks", problem=of, text=masked.text, masks=list(masked.masks))
        reference = "; ".join(f"{k} = {v}" for k, v in masked.masks.items())
        return Problem(prompt, reference, "fill", {"masks": masked.masks}, of.media, of.domain, 0, of.concepts, self.name, meta=made)
