"""The closed loop as a Prefect flow: one task per stage over the same `call=` seam, nothing else.

Prefect neither caches nor stores results; exactly-once comes from the lake and the ledger, so a task that ran already
returns at once. Import this module only after `flows.prefect_server` has set the environment (Prefect reads it on import).
"""

from __future__ import annotations

from typing import Any

from pipelines.run import Run
from pipelines.stages.base import Stage, Summary, run_stage


def run_with_prefect(run: Run) -> list[dict[str, Summary]]:
    """Run the loop as a flow against PREFECT_API_URL, or against a server started for this run and stopped after it."""
    from flows.prefect_server import prefect_api

    with prefect_api(run.dir / "prefect"):
        return _flow(run)


def _flow(run: Run) -> list[dict[str, Summary]]:
    from prefect import flow, task
    from prefect.artifacts import create_table_artifact
    from prefect.cache_policies import NO_CACHE

    from flows.prefect_server import close_dead_flow_runs
    from pipelines.loop import run_loop

    name = f"synth-{run.dir.name}"
    close_dead_flow_runs(name)  # we hold the run's writer lock: any flow run of ours still "running" is dead

    def as_task(run: Run, stage: Stage, round: int) -> Summary:
        @task(
            name=stage.name,
            task_run_name=f"{stage.name}-r{round}",
            tags=["gpu" if stage.generates else "cpu"],
            cache_policy=NO_CACHE,
            persist_result=False,
        )
        def stage_task() -> Summary:
            return run_stage(run, stage, round)

        return stage_task()

    @flow(name="synth-run", flow_run_name=name, persist_result=False, validate_parameters=False)
    def synth_run() -> list[dict[str, Summary]]:
        rounds = run_loop(run, call=as_task)
        rows: list[dict[str, Any]] = [
            {"round": number, "stage": stage, **{k: str(v) for k, v in summary.items()}}
            for number, stages in enumerate(rounds)
            for stage, summary in stages.items()
        ]
        create_table_artifact(key=artifact_key(run.dir.name), table=rows, description=f"Stages of {run.dir}")
        return rounds

    return synth_run()


def artifact_key(name: str) -> str:
    """Prefect allows lower-case letters, digits and dashes."""
    return "synth-" + "".join(c if c.isascii() and c.isalnum() else "-" for c in name.lower()).strip("-")
