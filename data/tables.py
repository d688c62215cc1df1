"""The tables of the data room, and the way of its records into rows and back.

JSON columns hold canonical JSON text; a row made here comes back as an equal record (`*_from_row`), bit for bit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from data.records import Check, PolicyVersion, Problem, Sampling, Trajectory, Turn
from data.schema import Column, table
from data.text import storable, storable_json

RUNS = table(
    "runs",
    "One line per start or resume of the run.",
    Column("run_id", "VARCHAR", "Content hash of the resolved recipe and the run seed."),
    Column("attempt", "INTEGER", "0 for the first start, then one more for each resume.", digest=False),
    Column("recipe_hash", "VARCHAR", "Hash of the resolved recipe."),
    Column("seed", "BIGINT", "Run seed that every random number is keyed with."),
    Column("versions", "VARCHAR", "JSON: versions of synth, Python and the libraries that compute.", digest=False),
    Column("host", "VARCHAR", "JSON: processor, threads, accelerator.", digest=False),
    Column("started_at", "TIMESTAMPTZ", "When it started (UTC).", digest=False),
    key=("run_id", "attempt"),
)
PROBLEMS = table(
    "problems",
    "Every problem the run knows, once: seeds, held-out problems, and what the strategies wrote.",
    Column("problem_id", "VARCHAR", "Content hash of prompt, media, reference and verifier spec."),
    Column("prompt", "VARCHAR", "The question as the policy is asked it, before any template."),
    Column("reference", "VARCHAR", "The reference answer, empty where the verifier needs none."),
    Column("verifier", "VARCHAR", "Name of the verifier that judges answers."),
    Column("spec", "VARCHAR", "JSON: the verifier's own settings for this problem."),
    Column("media", "VARCHAR[]", "Content hashes of its images, in order."),
    Column("domain", "VARCHAR", "Category or world family."),
    Column("level", "INTEGER", "The world's own difficulty level, 0 where unknown."),
    Column("concepts", "VARCHAR[]", "Concepts that solving it takes."),
    Column("source", "VARCHAR", "Where it comes from: user, seed, world, or the strategy's name."),
    Column("split", "VARCHAR", "train, heldout (never trained on), online (for the one training step that made it), or refused (by its strategy)."),
    Column("meta", "VARCHAR", "JSON: how it was made."),
    key=("problem_id",),
)
CHECKS = table(
    "checks",
    "Executable or declarative checks of problems, with the audit that says how far to trust each.",
    Column("check_id", "VARCHAR", "Content hash of problem, kind and body."),
    Column("problem_id", "VARCHAR", "Problem that it checks."),
    Column("kind", "VARCHAR", "reference, test, rubric, checklist, ..."),
    Column("body", "VARCHAR", "JSON: the check itself."),
    Column("audit", "VARCHAR", "JSON: detection rate, verifier accuracy, mutation score and the like, each in [0, 1]."),
    key=("check_id",),
)
ROLLOUTS = table(
    "rollouts",
    "Narrow: one line per sampled trajectory, for counting and joining; the tokens are in trajectories.",
    Column("rollout_id", "VARCHAR", "Content hash of problem, policy, sampling, seed, index and parent."),
    Column("problem_id", "VARCHAR", "Problem that it answers."),
    Column("group_id", "VARCHAR", "Group whose rewards it is compared with, empty outside training."),
    Column("policy_id", "VARCHAR", "Policy that sampled it: recipe hash, round, step."),
    Column("stream", "VARCHAR", "main, or the strategy's own stream."),
    Column("sample", "INTEGER", "Sample index inside the group."),
    Column("reward", "FLOAT", "Reward it was trained or counted with, null before judgement."),
    Column("outcome", "VARCHAR", "pass, fail or unknown; empty before judgement."),
    Column("finish", "VARCHAR", "Why sampling ended: stop, length, error, cancelled."),
    Column("prompt_tokens", "INTEGER", "Tokens before the first sampled one."),
    Column("response_tokens", "INTEGER", "Sampled tokens."),
    key=("rollout_id",),
)
TRAJECTORIES = table(
    "trajectories",
    "Wide: the tokens, masks and behaviour log-probs of every rollout, exactly as sampled.",
    Column("rollout_id", "VARCHAR", "The rollout these tokens belong to."),
    Column("problem_id", "VARCHAR", "Problem that it answers."),
    Column("policy_id", "VARCHAR", "Policy that sampled it."),
    Column("tokens", "INTEGER[]", "Token ids: prompt, sampled and observed, length T."),
    Column("loss_mask", "UTINYINT[]", "1 where the policy sampled the token and is trained on it, length T."),
    Column("logp", "FLOAT[]", "Behaviour log-prob at the sampling temperature, NaN where not sampled, length T."),
    Column("sampling", "VARCHAR", "JSON: temperature, top_p, top_k, max_tokens, stop."),
    Column("seed", "BIGINT", "Seed of the request."),
    Column("sample", "INTEGER", "Sample index inside the group."),
    Column("finish", "VARCHAR", "Why sampling ended."),
    Column("text", "VARCHAR", "What the verifier read: the policy's last turn."),
    Column("version_spans", "VARCHAR", "JSON: [policy id, start, end] per token range."),
    Column("turns", "VARCHAR", "JSON: role, start, end, text and tool name of each turn."),
    Column("media", "VARCHAR", "JSON: [hash, start, end] per image."),
    Column("parent_id", "VARCHAR", "Trajectory that this one continues, null for none."),
    Column("parent_offset", "INTEGER", "Token of the parent where it branches off, null for none."),
    Column("request_keys", "VARCHAR[]", "Keys of the model requests that it is made of."),
    key=("rollout_id",),
)
REQUESTS = table(
    "requests",
    "Model requests with their answers, sealed from the ledger into the shard that used them.",
    Column("model", "VARCHAR", "Model id, empty for the run's own policy."),
    Column("policy_id", "VARCHAR", "Policy that was asked."),
    Column("purpose", "VARCHAR", "Stage or strategy that asked."),
    Column("problem_id", "VARCHAR", "Problem that it is about, empty for none."),
    Column("request", "VARCHAR", "JSON: prompt, messages or tokens, sampling, seed, index."),
    Column("prompt_tokens", "INTEGER[]", "Token ids of the prompt as the engine saw it."),
    Column("tokens", "INTEGER[]", "Sampled token ids."),
    Column("logp", "FLOAT[]", "Behaviour log-prob of each sampled token."),
    Column("text", "VARCHAR", "The answer as text."),
    Column("finish", "VARCHAR", "stop, length, error or cancelled; null where it was never answered."),
    Column("error", "VARCHAR", "Why it failed, empty where it did not."),
    Column("attempts", "INTEGER", "Times it was sent.", digest=False),
    Column("repeats", "INTEGER", "Answers that came after the first success and were ignored.", digest=False),
    Column("ms", "DOUBLE", "Milliseconds that the engine took.", digest=False),
    Column("key", "VARCHAR", "Content hash of model, policy, input, sampling, seed and index."),
    key=("round", "stage", "shard", "key"),
)
MEDIA = table(
    "media",
    "Images that problems and observations refer to; the bytes lie in media/ under their hash.",
    Column("media_id", "VARCHAR", "Content hash of the bytes."),
    Column("mime", "VARCHAR", "Media type, e.g. image/png."),
    Column("bytes", "BIGINT", "Size in bytes."),
    Column("width", "INTEGER", "Pixels."),
    Column("height", "INTEGER", "Pixels."),
    key=("media_id",),
)
SHARDS = table(
    "shards",
    "One line per committed shard, in the same transaction as its rows.",
    Column("rows", "VARCHAR", "JSON: rows that the shard wrote, per table."),
    Column("info", "VARCHAR", "JSON: what the stage wants to know on resume, e.g. the checkpoint.", digest=False),
    Column("committed_at", "TIMESTAMPTZ", "When it was committed (UTC).", digest=False),
    key=("round", "stage", "shard"),
)
STAGES = table(
    "stages",
    "One line per finished stage, after its last shard; `shard` is -1.",
    Column("info", "VARCHAR", "JSON: the stage's own summary.", digest=False),
    Column("seconds", "DOUBLE", "Wall-clock seconds.", digest=False),
    Column("finished_at", "TIMESTAMPTZ", "When it finished (UTC).", digest=False),
    key=("round", "stage"),
)
POLICIES = table(
    "policies",
    "Policy versions of the lineage.",
    Column("policy_id", "VARCHAR", "Recipe hash, round and step."),
    Column("step", "INTEGER", "Optimizer step inside the round, 0 for the round's first policy."),
    Column("path", "VARCHAR", "Where the weights lie, relative to the run folder where inside it.", digest=False),
    Column("weights_hash", "VARCHAR", "Hash of the weights, an attribute rather than the identity.", digest=False),
    key=("policy_id",),
)


def problem_row(problem: Problem, round: int, stage: str | None = None) -> dict[str, Any]:
    """Row of `problems`; `stage` and `shard` are filled in by `Lake.commit` where absent, in all of these."""
    return _place(round, stage) | {
        "problem_id": problem.id,
        "prompt": storable(problem.prompt),
        "reference": storable(problem.reference),
        "verifier": problem.verifier,
        "spec": storable_json(dict(problem.spec)),
        "media": list(problem.media),
        "domain": problem.domain,
        "level": problem.level,
        "concepts": list(problem.concepts),
        "source": problem.source,
        "split": problem.split,
        "meta": storable_json(dict(problem.meta)),
    }


def problem_from_row(row: Mapping[str, Any]) -> Problem:
    return Problem(
        prompt=row["prompt"],
        reference=row["reference"],
        verifier=row["verifier"],
        spec=json.loads(row["spec"]),
        media=tuple(row["media"]),
        domain=row["domain"],
        level=row["level"],
        concepts=tuple(row["concepts"]),
        source=row["source"],
        split=row["split"],
        meta=json.loads(row["meta"]),
    )


def check_row(check: Check, round: int, stage: str | None = None) -> dict[str, Any]:
    """Row of `checks`."""
    return _place(round, stage) | {
        "check_id": check.id,
        "problem_id": check.problem_id,
        "kind": check.kind,
        "body": storable_json(dict(check.body)),
        "audit": storable_json(dict(check.audit)),
    }


def check_from_row(row: Mapping[str, Any]) -> Check:
    return Check(row["problem_id"], row["kind"], json.loads(row["body"]), json.loads(row["audit"]))


def policy_row(policy: PolicyVersion, round: int, stage: str | None = None) -> dict[str, Any]:
    """Row of `policies`."""
    return _place(round, stage) | {"policy_id": policy.id, "step": policy.step, "path": policy.path, "weights_hash": policy.weights_hash}


def rollout_row(
    trajectory: Trajectory,
    round: int,
    stage: str | None = None,
    stream: str = "main",
    *,
    reward: float | None = None,
    outcome: str = "",
    group_id: str = "",
) -> dict[str, Any]:
    """Row of `rollouts`, the narrow table."""
    return _place(round, stage) | {
        "rollout_id": trajectory.id,
        "problem_id": trajectory.problem_id,
        "group_id": group_id,
        "policy_id": trajectory.policy_id,
        "stream": stream,
        "sample": trajectory.index,
        "reward": None if reward is None else float(reward),
        "outcome": outcome,
        "finish": trajectory.finish,
        "prompt_tokens": trajectory.prompt_length,
        "response_tokens": trajectory.response_length,
    }


def trajectory_row(trajectory: Trajectory, round: int, stage: str | None = None) -> dict[str, Any]:
    """Row of `trajectories`, the wide table; arrays stay numpy."""
    parent = trajectory.parent or (None, None)
    return _place(round, stage) | {
        "rollout_id": trajectory.id,
        "problem_id": trajectory.problem_id,
        "policy_id": trajectory.policy_id,
        "tokens": np.asarray(trajectory.tokens, np.int32),
        "loss_mask": np.asarray(trajectory.loss_mask, np.uint8),
        "logp": np.asarray(trajectory.logp, np.float32),
        "sampling": sampling_json(trajectory.sampling),
        "seed": trajectory.seed,
        "sample": trajectory.index,
        "finish": trajectory.finish,
        "text": storable(trajectory.text),
        "version_spans": storable_json([list(span) for span in trajectory.version_spans]),
        "turns": storable_json([[t.role, t.start, t.end, t.text, t.name] for t in trajectory.turns]),
        "media": storable_json([list(m) for m in trajectory.media]),
        "parent_id": parent[0],
        "parent_offset": parent[1],
        "request_keys": list(trajectory.request_keys),
    }


def trajectory_from_row(row: Mapping[str, Any]) -> Trajectory:
    return Trajectory(
        problem_id=row["problem_id"],
        policy_id=row["policy_id"],
        tokens=np.asarray(row["tokens"], np.int32),
        loss_mask=np.asarray(row["loss_mask"], np.uint8),
        logp=np.asarray(row["logp"], np.float32),
        sampling=sampling_from_json(row["sampling"]),
        seed=row["seed"],
        index=row["sample"],
        finish=row["finish"],
        text=row["text"],
        version_spans=tuple((p, s, e) for p, s, e in json.loads(row["version_spans"])),
        turns=tuple(Turn(*turn) for turn in json.loads(row["turns"])),
        media=tuple((m, s, e) for m, s, e in json.loads(row["media"])),
        parent=None if row["parent_id"] is None else (row["parent_id"], row["parent_offset"]),
        request_keys=tuple(row["request_keys"]),
    )


def sampling_json(sampling: Sampling) -> str:
    names = ("temperature", "top_p", "top_k", "max_tokens", "stop")
    return storable_json(dict(zip(names, sampling.key())))


def sampling_from_json(text: str) -> Sampling:
    fields = json.loads(text)
    return Sampling(**{**fields, "stop": tuple(fields["stop"])})


def _place(round: int, stage: str | None) -> dict[str, Any]:
    return {"round": round} if stage is None else {"round": round, "stage": stage}
