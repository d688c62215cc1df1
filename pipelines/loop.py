"""The round loop: the control flow of a run, written once. `call` is the seam where an orchestrator steps in."""

from __future__ import annotations

from pipelines.run import Run
from pipelines.stages import stages_of
from pipelines.stages.base import Call, Summary, run_stage


def run_loop(run: Run, call: Call = run_stage) -> list[dict[str, Summary]]:
    """All rounds of the recipe, going on wherever the lake says the run stands. Summaries by stage, round 0 first."""
    rounds: list[dict[str, Summary]] = []
    for round in range(run.recipe.rounds + 1):
        stages = stages_of(run.recipe, round)
        run.emit("round_started", round=round, rounds=run.recipe.rounds)
        summaries = {stage.name: call(run, stage, round) for stage in stages}
        run.lake.merge()
        rounds.append(summaries)
        run.emit("round_done", round=round, summaries=summaries)
    return rounds
