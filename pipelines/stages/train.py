"""train: GRPO on the selected problems. One optimizer step is one shard: rollouts, verdicts, metrics, checkpoint.

The checkpoint is durable before the shard that names it is committed; a run killed anywhere goes on from the last
committed step, draws the same prompts with the same numbers, finds its answers in the ledger, and makes the same weights.

With `train.staleness = 1` step k + 1 is sampled while update k is computed, with the weights before it. Its rollouts lie in the ledger under
the policy that sampled them and reach the lake with shard k + 1; a resumed run samples them again with that older policy (the ledger
answers what it has), whose checkpoint is therefore kept. The first step of a round is on policy, and nothing is sampled past its last.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import SynthError, UserError
from data.records import PolicyVersion, Problem
from data.tables import policy_row
from pipelines.grpo.one_step_off import Overlap, ratio_corrects
from pipelines.problems import problems_by_id
from pipelines.run import Run
from pipelines.stages.base import Summary
from pipelines.stages.select import selected_ids
from pipelines.stages.train_learner import Trainer, open_trainer
from pipelines.stages.train_rollouts import Sampled, sample, shuffled, within
from pipelines.tables import train_step_row

KEEP_CHECKPOINTS = 2
"""The newest policy, and the one before it: with `train.staleness = 1` it is the one that samples the step after the newest."""


def train_stage(run: Run, round: int) -> Summary:
    part = run.recipe.train
    ids = selected_ids(run, round)
    solved = run.lake.query("SELECT count(*), count(*) FILTER (passes > 0) FROM difficulty WHERE round = ?", (round,)).row(0)
    if not ids:
        return {"steps": 0, "skipped": why_nothing(*solved)}
    lines = run.lake.shard_lines(round, "train")
    done = max((line["shard"] for line in lines), default=0)
    cursor = max((line["info"]["cursor"] for line in lines), default=0)
    if done < part.steps and not (part.tokens and trained_tokens(run, round) >= part.tokens):
        with ExitStack() as opened:
            trainer = open_trainer(run)
            opened.callback(trainer.close)
            overlap = opened.enter_context(Overlap(trainer.cancel)) if part.staleness else None
            _train(_Course(run, round, problems_by_id(run, ids), trainer, overlap), done, cursor)
    rewards = run.lake.query("SELECT step, reward_mean, groups FROM train_steps WHERE round = ? ORDER BY step", (round,))
    trained = [reward for _, reward, groups in rewards.iter_rows() if groups]
    return {
        "steps": rewards.height,
        "problems": len(ids),
        "groups": int(rewards["groups"].sum()),
        "reward_first": trained[0] if trained else None,
        "reward_last": trained[-1] if trained else None,
        "written": written(run, round),
        "unmixed": unmixed(run, round),
    }


def trained_tokens(run: Run, round: int) -> int:
    return int(run.lake.query("SELECT coalesce(sum(tokens), 0) FROM train_steps WHERE round = ?", (round,)).item())


def written(run: Run, round: int) -> dict[str, list[int]]:
    """Per strategy that lets the policy write inside training steps (stream NAME.write): problems written, and those that no rule refused."""
    rows = run.lake.query(
        """
        SELECT strategy, count(*), count(*) FILTER (kept) FROM (
            SELECT strategy, candidate_id, bool_and(kept) AS kept FROM decisions WHERE round = ? AND stage = 'train' GROUP BY ALL
        ) WHERE strategy || '.write' IN (SELECT stream FROM rollouts WHERE round = ? AND stage = 'train') GROUP BY ALL ORDER BY ALL
        """,
        (round, round),
    )
    return {strategy: counts for strategy, *counts in rows.iter_rows()}


def unmixed(run: Run, round: int) -> dict[str, int]:
    """Groups per strategy whose proposed problems were answered in this round's steps and never once with different rewards."""
    rows = run.lake.query(
        """
        WITH proposed AS (SELECT problem_id, min(strategy) AS strategy FROM decisions WHERE rule = 'proposed' GROUP BY ALL),
        each AS (
            SELECT strategy, group_id, coalesce(min(reward) < max(reward), false) AS mixed FROM rollouts JOIN proposed USING (problem_id)
            WHERE round = ? AND stage = 'train' GROUP BY ALL
        )
        SELECT strategy, count(*) FROM each GROUP BY ALL HAVING NOT bool_or(mixed) ORDER BY ALL
        """,
        (round,),
    )
    return dict(rows.iter_rows())


def why_nothing(probed: int, solved: int) -> str:
    """What to tell a user whose round has nothing to train on."""
    if solved == 0:
        return f"0 of {probed} problems solved: no gradient; use a stronger policy"
    outside = f"{solved} of {probed} problems solved at least once, none inside the difficulty band"
    return f"{outside}: nothing to train on; widen the band (difficulty.low, difficulty.high)"


@dataclass(frozen=True)
class _Course:
    """The optimizer steps of one round."""

    run: Run
    round: int
    problems: Sequence[Problem]
    trainer: Trainer
    overlap: Overlap | None  # None: every step is sampled by the newest policy

    def sample(self, step: int, cursor: int, policy: PolicyVersion) -> Sampled:
        return sample(self.run, self.round, step, cursor, self.problems, policy)


@dataclass(frozen=True)
class _Learned:
    metrics: dict[str, float]
    policy: PolicyVersion
    seconds: float  # of the update, the checkpoint left out
    ended: float  # perf_counter


def _train(course: _Course, done: int, cursor: int) -> None:
    run, round, part = course.run, course.round, course.run.recipe.train
    last = part.steps
    _check_engine(run)
    ahead: Sampled | None = None
    waited = 0.0  # that the learner has nothing to learn from
    for step in range(done + 1, last + 1):
        start = time.perf_counter()
        newest = run.policy()
        sampled = ahead
        if sampled is None:
            sampled = course.sample(step, cursor, _sampler_of(run, round, step, newest))
            waited = time.perf_counter() - start
        ends = step == last
        if part.tokens and (left := part.tokens - trained_tokens(run, round)) <= sampled.tokens:
            sampled.groups, ends = within(sampled.groups, left, run.recipe.seed, round, step), True
        if course.overlap is None:
            learned, ahead = _learn(course, sampled, newest), None
        else:
            if not ends and sampled.policy.id != newest.id:
                run.use_policy(newest)
            cursor = sampled.cursor
            learned, following = course.overlap.run(
                lambda: _learn(course, sampled, newest),  # noqa: B023 - both are over before the next turn
                lambda: course.sample(step + 1, cursor, newest) if not ends else None,  # noqa: B023
            )
            ahead = following if isinstance(following, Sampled) else None
        late = time.perf_counter() - learned.ended if ahead is not None else 0.0
        _commit(course, sampled, newest, learned, waited, time.perf_counter() - start)
        waited = late
        cursor = sampled.cursor
        if course.overlap is None or ends:
            run.use_policy(learned.policy)
        if course.overlap is not None and isinstance(following, Exception):
            raise following
        if ends:
            break


def _sampler_of(run: Run, round: int, step: int, newest: PolicyVersion) -> PolicyVersion:
    """The policy that samples `step` where nothing was sampled ahead in this process; the engine holds it afterwards."""
    if not run.recipe.train.staleness or step == 1:
        return newest
    policy = run.policy_at(round, step - 2)
    if not Path(policy.path).is_dir():
        raise SynthError(f"policy {policy.id} samples step {step} of round {round}, and its checkpoint {policy.path} is gone; restore it to go on")
    run.engine()
    run.use_policy(policy)
    return policy


def _check_engine(run: Run) -> None:
    if run.recipe.train.staleness and "logprobs" not in run.engine().capabilities:
        raise UserError("train.staleness = 1 needs the sampler's log-probs, which this engine does not give; set staleness = 0 or use another engine")


def _learn(course: _Course, sampled: Sampled, newest: PolicyVersion) -> _Learned:
    """One optimizer step and its durable checkpoint. Runs beside the sampler, so it reads no table."""
    run, round, step = course.run, course.round, sampled.step
    groups = sampled.groups
    if run.recipe.train.control == "shuffled_rewards":
        groups = [shuffled(g, run.recipe.seed, round, step) for g in groups]
    if course.overlap is None:
        run.rest_engine()  # a sampler on the same GPU makes room; one that samples ahead is not on it
    lags = sampled.policy.id != newest.id
    stale = {g.id for g in groups} if lags and ratio_corrects(course.trainer.config.objective()) else set()
    metrics = course.trainer.step(groups, sampled.factors, stale=stale)
    seconds = course.trainer.seconds
    return _Learned(metrics, _save(run, round, sampled, course.trainer), seconds, time.perf_counter())


def _save(run: Run, round: int, sampled: Sampled, trainer: Trainer) -> PolicyVersion:
    folder = run.dir / "policies" / f"r{round}-s{sampled.step:04d}"
    if folder.exists():  # a checkpoint whose shard was never committed
        shutil.rmtree(folder)
    try:
        weights = trainer.save(folder, extra={"strategies": sampled.states})
    except OSError as error:
        raise SynthError(f"cannot write the checkpoint {folder}: {error.strerror}; free some space and go on with `synth resume {run.dir}`") from None
    return PolicyVersion(PolicyVersion.lineage(run.recipe_hash, round, sampled.step), str(folder), round, sampled.step, weights)


def _commit(course: _Course, sampled: Sampled, before: PolicyVersion, learned: _Learned, waited: float, seconds: float) -> None:
    run, round, step, after, groups = course.run, course.round, sampled.step, learned.policy, sampled.groups
    row = train_step_row(
        round,
        step,
        learned.metrics,
        policy_id=after.id,
        sampled_by=sampled.policy.id,
        staleness=int(sampled.policy.id != before.id),
        ranks=course.trainer.size,
        groups=len(groups),
        groups_sampled=sum(len(s.sampled) for s in sampled.batches),
        rollouts=sum(len(g.rollouts) for g in groups),
        tokens=sampled.tokens,
        seconds=seconds,
        generate_seconds=sampled.seconds,
        wait_seconds=waited,
        learn_seconds=learned.seconds,
    )
    relative = str(Path(after.path).relative_to(run.dir))
    tables: dict[str, Any] = {
        **sampled.tables(run, round),
        "train_steps": [row],
        "policies": [policy_row(PolicyVersion(after.id, relative, round, step, after.weights_hash), round, "train")],
    }
    run.lake.commit(round, "train", step, tables, {"cursor": sampled.cursor, "policy_id": after.id})
    _prune(run, round, step)
    run.emit("progress", round=round, stage="train", done=step, total=run.recipe.train.steps, metrics=learned.metrics, seconds=seconds)


def _prune(run: Run, round: int, step: int) -> None:
    """Older checkpoints go; the last of every round stays (its policy can be evaluated, exported, compared)."""
    folders = []
    for folder in (run.dir / "policies").glob("r*-s*"):
        of_round, of_step = (int(part[1:]) for part in folder.name.split("-"))
        folders.append((of_round, of_step, folder))
    last = {of_round: of_step for of_round, of_step, _ in sorted(folders)}
    for of_round, of_step, folder in folders:
        stale = of_step <= step - KEEP_CHECKPOINTS if of_round == round else of_round < round and of_step != last[of_round]
        if stale:
            shutil.rmtree(folder, ignore_errors=True)
