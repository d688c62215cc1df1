"""`paraphrase`: the same problem in other words, as an extra group of the step.

Online. For a keyed share of the step's main problems the world rewrites the problem so that the answer stays (names,
objects and template change, numbers do not); the rewrite is answered, judged against the same reference, and joins the
step as a group of its own. It keeps a policy from hanging on to one surface form.
"""

from __future__ import annotations

from data.keyed import keyed_order, keyed_seed
from data.records import GroupEdit, RolloutSpec
from generators.strategies.base import BaseStrategy, Online, StepContext


def chosen(group_ids: list[str], share: float, seed: int, round: int, step: int) -> set[str]:
    """A keyed subset of `round(share * n)` ids, the same whatever order they come in."""
    count = int(share * len(group_ids) + 0.5)
    return set(keyed_order(seed, group_ids, round, step, "paraphrase")[:count])


class Paraphrase(BaseStrategy):
    name = "paraphrase"
    settings_known = frozenset({"share", "coef", "budget"})

    def online(self, ctx: StepContext) -> Online:
        picked = chosen([s.group_id for s in ctx.main], float(self.settings.get("share", 0.125)), ctx.seed, ctx.round, ctx.step)
        specs = []
        for main in ctx.main:
            if main.group_id not in picked or ctx.world is None:
                continue
            problem = ctx.world.paraphrase(main.problem, keyed_seed(ctx.seed, ctx.round, ctx.step, "paraphrase", main.problem.id))
            if problem is not None and problem.id != main.problem.id:
                specs.append(
                    RolloutSpec(
                        problem,
                        main.n,
                        main.sampling,
                        stream=self.name,
                        coef=float(self.settings.get("coef", 1.0)),
                        refs=(main.group_id,),
                        key=(main.group_id,),
                    )
                )
        if not specs:
            return []
        groups = yield specs
        for group in groups:
            said = f"{group.passes} of {len(group.rollouts)} answers are right; answers are trained on where they differ"
            ctx.decide(group.problem, self.name, (group.problem.meta.get("paraphrase_of", ""), *group.refs), "mixed", not group.zero_variance, said)
        return [GroupEdit.add(group, "same answer in other words") for group in groups]
