"""train: GRPO on the selected problems. One optimizer step is one shard: rollouts, verdicts, metrics, checkpoint.

The checkpoint is durable before the shard that names it is committed; a run killed anywhere goes on from the last
committed step, draws the same prompts with the same numbers, finds its answers in the ledger, and makes the same weights.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import SynthError
from data.keyed import keyed_order, keyed_rng
from data.records import Group, PolicyVersion, Problem, RolloutSpec
from data.tables import policy_row
from generators.strategies.base import Decision, StepContext
from pipelines.grpo.callbacks import TensorBoard
from pipelines.grpo.presets import preset_named
from pipelines.grpo.recompose import apply_edits, drop_zero_variance
from pipelines.grpo.trainer import GRPOConfig, GRPOTrainer
from pipelines.judging import Judge
from pipelines.online import StepRollouts, sample_step
from pipelines.problems import problems_by_id
from pipelines.run import Run
from pipelines.stages.base import Summary
from pipelines.stages.leaks import refuse_leaks
from pipelines.stages.online_rows import online_tables, trained_rewards
from pipelines.stages.rows import rollouts_of, sampled_tables
from pipelines.stages.select import selected_ids
from pipelines.tables import train_step_row

KEEP_CHECKPOINTS = 2


def train_stage(run: Run, round: int) -> Summary:
    part = run.recipe.train
    ids = selected_ids(run, round)
    solved = run.lake.query("SELECT count(*), count(*) FILTER (passes > 0) FROM difficulty WHERE round = ?", (round,)).row(0)
    if not ids:
        return {"steps": 0, "skipped": why_nothing(*solved)}
    problems = problems_by_id(run, ids)
    lines = run.lake.shard_lines(round, "train")
    done = max((line["shard"] for line in lines), default=0)
    cursor = max((line["info"]["cursor"] for line in lines), default=0)
    trainer = _trainer(run)
    for step in range(done + 1, part.steps + 1):
        if part.tokens and trained_tokens(run, round) >= part.tokens:
            break
        cursor = _step(run, round, step, cursor, problems, trainer)
    rewards = run.lake.query("SELECT step, reward_mean, groups FROM train_steps WHERE round = ? ORDER BY step", (round,))
    trained = [reward for _, reward, groups in rewards.iter_rows() if groups]
    return {
        "steps": rewards.height,
        "problems": len(ids),
        "groups": int(rewards["groups"].sum()),
        "reward_first": trained[0] if trained else None,
        "reward_last": trained[-1] if trained else None,
    }


def trained_tokens(run: Run, round: int) -> int:
    return int(run.lake.query("SELECT coalesce(sum(tokens), 0) FROM train_steps WHERE round = ?", (round,)).item())


def why_nothing(probed: int, solved: int) -> str:
    """What to tell a user whose round has nothing to train on."""
    if solved == 0:
        return f"0 of {probed} problems solved: no gradient; use a stronger policy"
    outside = f"{solved} of {probed} problems solved at least once, none inside the difficulty band"
    return f"{outside}: nothing to train on; widen the band (difficulty.low, difficulty.high)"


def _config(run: Run) -> GRPOConfig:
    part = run.recipe.train
    return GRPOConfig(
        preset=part.preset,
        overrides=dict(part.objective),
        learning_rate=part.learning_rate,
        warmup_steps=part.warmup_steps,
        decay_steps=part.steps * run.recipe.rounds,
        final_share=part.final_rate,
        max_grad_norm=part.max_grad_norm,
        micro_tokens=part.micro_tokens,
        reference="" if part.trainer.get("lora_rank") else str(run.base_policy),  # adapters have their base as reference
        threads=run.threads,
        **part.trainer,
    )


def _trainer(run: Run) -> GRPOTrainer:
    """At the newest committed policy, with its optimizer state; strategies get their state back, too."""
    policy = run.policy()
    watching = [TensorBoard(run.dir / "tensorboard")] if run.recipe.train.tensorboard else []
    if policy.path == str(run.base_policy):
        return GRPOTrainer(run.base_policy, _config(run), callbacks=watching)
    trainer = GRPOTrainer.resume(Path(policy.path), _config(run), callbacks=watching)
    states = trainer.extra.get("strategies", {})
    for strategy in run.strategies:
        if strategy.name in states:
            strategy.load_state_dict(states[strategy.name])
    return trainer


@dataclass
class _Sampled:
    """Everything sampled for one optimizer step, over its generation batches."""

    steps: list[StepRollouts]
    groups: list[Group]  # edited, with variance
    factors: dict[str, float]
    judged: list[dict[str, Any]]  # rows of `requests` that verifiers made
    refused: list[dict[str, Any]]  # decision rows of groups that give a held-out problem away
    decided: list[Decision]  # of strategies, about what they made
    cursor: int
    seconds: float


def _step(run: Run, round: int, step: int, cursor: int, problems: Sequence[Problem], trainer: GRPOTrainer) -> int:
    start = time.perf_counter()
    before = run.policy()
    sampled = _sample(run, round, step, cursor, problems)
    groups = sampled.groups
    if run.recipe.train.control == "shuffled_rewards":
        groups = [shuffled(g, run.recipe.seed, round, step) for g in groups]
    metrics = trainer.step(groups, sampled.factors)
    after = _save(run, round, step, trainer)
    seconds = time.perf_counter() - start
    row = train_step_row(
        round,
        step,
        metrics,
        policy_id=after.id,
        sampled_by=before.id,
        groups=len(groups),
        groups_sampled=sum(len(s.sampled) for s in sampled.steps),
        rollouts=sum(len(g.rollouts) for g in groups),
        tokens=sum(r.response_length for g in groups for r in g.rollouts),
        seconds=seconds,
        generate_seconds=sampled.seconds,
        learn_seconds=trainer.seconds,
    )
    run.lake.commit(round, "train", step, _tables(run, round, step, sampled, row, after), {"cursor": sampled.cursor, "policy_id": after.id})
    run.use_policy(after)
    _prune(run, round, step)
    run.emit("progress", round=round, stage="train", done=step, total=run.recipe.train.steps, metrics=metrics, seconds=seconds)
    return sampled.cursor


def _sample(run: Run, round: int, step: int, cursor: int, problems: Sequence[Problem]) -> _Sampled:
    """Dynamic sampling (DAPO): draw prompts until enough groups have variance, or the batches are used up."""
    part, recipe = run.recipe.train, run.recipe
    start = time.perf_counter()
    rollouts, asker = rollouts_of(run, round, "train"), Judge(run)
    sampled = _Sampled([], [], {}, [], [], [], cursor, 0.0)
    stream = _endless(problems, recipe.seed, round, cursor)
    policy_id = run.policy().id
    keeps_flat = preset_named(part.preset, part.objective).keeps_flat_groups
    for batch in range(part.generation_batches):
        missing = part.prompts_per_step - len(sampled.groups)
        if missing <= 0:
            break
        main = []
        for _ in range(min(missing, len(problems))):
            problem, sampled.cursor = next(stream)
            main.append(RolloutSpec(problem, part.group_size, recipe.sampling.sampling(), key=(step, batch, sampled.cursor)))
        contexts = {
            s.name: StepContext(
                round=round,
                step=step,
                seed=recipe.seed,
                main=main,
                sampling=recipe.sampling.sampling(),
                policy_id=policy_id,
                world=run.world,
                render=run.render,
                settings=recipe.strategies[s.name].model_dump(),
                dialect=recipe.policy.dialect,
                heldout=lambda texts: [hit.reason if hit else "" for hit in run.heldout.hits(texts)] if texts else [],
            )
            for s in run.strategies
        }
        made = sample_step(run.strategies, contexts, main, rollouts.sample, asker.tools)
        groups, factors = apply_edits(made.main, made.edits)
        groups, refused = refuse_leaks(groups, {p.id for p in problems}, run.heldout, round=round, step=step)
        sampled.refused.extend(refused)
        sampled.decided.extend(d for _, context in sorted(contexts.items()) for d in context.decided)
        sampled.steps.append(made)
        sampled.groups.extend(drop_zero_variance(groups, keeps_flat))
        sampled.factors.update(factors)
    sampled.judged = asker.requests(round, "train", step)
    sampled.seconds = time.perf_counter() - start
    return sampled


def _endless(problems: Sequence[Problem], seed: int, round: int, cursor: int) -> Iterator[tuple[Problem, int]]:
    """(problem, position after it) from `cursor` on: keyed epochs over the selected problems, for ever."""
    by_id = {p.id: p for p in problems}
    while True:
        epoch, offset = divmod(cursor, len(by_id))
        for problem_id in keyed_order(seed, sorted(by_id), round, "train", epoch)[offset:]:
            cursor += 1
            yield by_id[problem_id], cursor


def shuffled(group: Group, seed: int, round: int, step: int) -> Group:
    """The control experiment: the group's own rewards, dealt to its rollouts at random."""
    order = keyed_rng(seed, round, step, "shuffled_rewards", group.id).permutation(len(group.rewards))
    return replace(group, rewards=np.asarray(group.rewards)[order])


def _save(run: Run, round: int, step: int, trainer: GRPOTrainer) -> PolicyVersion:
    folder = run.dir / "policies" / f"r{round}-s{step:04d}"
    if folder.exists():  # a checkpoint whose shard was never committed
        shutil.rmtree(folder)
    try:
        weights = trainer.save(folder, extra={"strategies": {s.name: s.state_dict() for s in run.strategies}})
    except OSError as error:
        raise SynthError(f"cannot write the checkpoint {folder}: {error.strerror}; free some space and go on with `synth resume {run.dir}`") from None
    return PolicyVersion(PolicyVersion.lineage(run.recipe_hash, round, step), str(folder), round, step, weights)


def _tables(run: Run, round: int, step: int, sampled: _Sampled, row: dict[str, Any], policy: PolicyVersion) -> dict[str, Any]:
    tables: dict[str, Any] = {}
    for made in sampled.steps:
        rewards = trained_rewards(made.edits, {i: [r.id for r in g.rollouts] for i, g in made.sampled.items()})
        for name, rows in sampled_tables(run, round, "train", step, list(made.specs.values()), made.trajectories, made.verdicts, rewards).items():
            tables[name] = [*tables.get(name, []), *rows]
    tables["requests"] = [*tables.get("requests", []), *sampled.judged]
    tables["train_steps"] = [row]
    specs = [spec for made in sampled.steps for spec in made.specs.values()]
    known = run.lake.known_ids("problems", {s.problem.id for s in specs} | {d.candidate.problem.id for d in sampled.decided})
    made_online = online_tables(specs, sampled.decided, known, round=round, step=step)
    tables |= {"problems": made_online["problems"], "decisions": [*sampled.refused, *made_online["decisions"]]}
    relative = str(Path(policy.path).relative_to(run.dir))
    tables["policies"] = [policy_row(PolicyVersion(policy.id, relative, round, step, policy.weights_hash), round, "train")]
    return tables


def _prune(run: Run, round: int, step: int) -> None:
    """Older checkpoints go; the last of every round stays (its policy can be evaluated, exported, compared)."""
    last = run.recipe.train.steps
    for folder in (run.dir / "policies").glob("r*-s*"):
        of_round, of_step = (int(part[1:]) for part in folder.name.split("-"))
        stale = of_step <= step - KEEP_CHECKPOINTS if of_round == round else of_round < round and of_step != last
        if stale:
            shutil.rmtree(folder, ignore_errors=True)
