"""The stages of a round, in order. Each reads tables, writes tables shard by shard, and returns a small summary."""

from __future__ import annotations

from pipelines.recipe import Recipe
from pipelines.stages.audit import audit_stage
from pipelines.stages.base import Stage
from pipelines.stages.estimate import estimate_stage
from pipelines.stages.evaluate import evaluate_stage
from pipelines.stages.given import given_stage
from pipelines.stages.probe import probe_stage
from pipelines.stages.seeds import seeds_stage
from pipelines.stages.select import select_stage
from pipelines.stages.synthesize import synthesize_stage
from pipelines.stages.train import train_stage
from pipelines.stages.verify import verify_stage

SEEDS = Stage("seeds", seeds_stage, "store the seed and held-out problems")
EVALUATE = Stage("evaluate", evaluate_stage, "answer held-out problems", generates=True)

FIRST = (SEEDS, EVALUATE)
"""Round 0: what the policy can do before anything was trained."""

TRAIN = Stage("train", train_stage, "GRPO, one shard per optimizer step", generates=True)

ROUND = (
    Stage("probe", probe_stage, "the policy answers problems", generates=True),
    Stage("verify", verify_stage, "programs judge the answers"),
    Stage("estimate", estimate_stage, "pass rates become difficulty", generates=True),
    Stage("synthesize", synthesize_stage, "strategies propose new problems", generates=True),
    Stage("audit", audit_stage, "candidates and their checks are examined"),
    Stage("select", select_stage, "what is worth training on"),
    TRAIN,
    EVALUATE,
)

SYNTHESIS = ROUND[:-2]
"""A round of a recipe with only = "synthesize": problems, answers and verdicts, and no weights that change."""

ALONE = (Stage("select", given_stage, "every problem given is trained on"), TRAIN, EVALUATE)
"""A round of a recipe with only = "train"."""


def stages_of(recipe: Recipe, round: int) -> tuple[Stage, ...]:
    """The stages of a round; held-out problems are answered where there are some."""
    if round == 0:
        return FIRST if _evaluates(recipe) else (SEEDS,)
    if not recipe.only:
        return ROUND
    if recipe.only == "synthesize":
        return SYNTHESIS
    return ALONE if _evaluates(recipe) else ALONE[:-1]


def _evaluates(recipe: Recipe) -> bool:
    return not recipe.only or (recipe.only == "train" and recipe.problems.heldout_share > 0)


__all__ = ["EVALUATE", "FIRST", "ROUND", "SEEDS", "Stage", "stages_of"]
