"""The lake tables of this room: what training and evaluation write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data.ids import finite
from data.schema import Column, table

METRICS = {
    "loss": "value of the objective",
    "reward_mean": "mean reward of the rollouts that were trained on",
    "pass_rate": "share of trained rollouts with verdict pass",
    "entropy": "mean token entropy of the policy in nats",
    "kl": "mean KL to the reference policy, where the objective asks for it",
    "clip_share": "share of trained tokens whose ratio was clipped",
    "ratio_mean": "mean probability ratio of the trained tokens",
    "ratio_max": "largest probability ratio of a trained token",
    "grad_norm": "norm of the gradient before clipping",
    "learning_rate": "learning rate of this step",
    "response_length_mean": "mean sampled tokens per trained rollout",
    "response_length_max": "most sampled tokens of a trained rollout",
    "zero_variance": "share of the groups handed to the trainer whose rewards are all equal",
    "rows_dropped": "rollouts left out: no finite reward, no verdict, or no finite log-prob",
    "updates": "optimizer updates made of this step's rollouts",
    "tokens_forwarded": "tokens forwarded while learning, shared prefixes once",
    "mismatch_mean": "mean |behaviour - trainer| log-prob difference of the trained tokens in nats",
    "mismatch_max": "largest |behaviour - trainer| log-prob difference of a trained token in nats",
}

TRAIN_STEPS = table(
    "train_steps",
    "One row per optimizer step; `shard` equals `step`.",
    Column("step", "INTEGER", "Optimizer step within the round, from 1."),
    Column("policy_id", "VARCHAR", "Policy that this step made."),
    Column("sampled_by", "VARCHAR", "Policy that sampled the rollouts."),
    Column("staleness", "INTEGER", "Updates between the weights that sampled and those that learned; 0 = on policy."),
    Column("ranks", "INTEGER", "Processes that learned together.", digest=False),
    Column("groups", "INTEGER", "Groups trained on."),
    Column("groups_sampled", "INTEGER", "Groups sampled, those without variance included."),
    Column("rollouts", "INTEGER", "Rollouts trained on."),
    Column("tokens", "BIGINT", "Tokens trained on (loss mask 1)."),
    *(Column(name, "DOUBLE", doc[0].upper() + doc[1:] + ".") for name, doc in METRICS.items()),
    Column("seconds", "DOUBLE", "Wall seconds of the step.", digest=False),
    Column("generate_seconds", "DOUBLE", "Wall seconds spent generating its rollouts; with staleness 1 during the step before.", digest=False),
    Column("wait_seconds", "DOUBLE", "Wall seconds that the learner waited for its rollouts.", digest=False),
    Column("learn_seconds", "DOUBLE", "Wall seconds of it spent learning; tokens / learn_seconds = tokens per second.", digest=False),
    key=("round", "step"),
)

EVALS = table(
    "evals",
    "One row per round, benchmark and problem; round 0 is the policy before any training.",
    Column("policy_id", "VARCHAR", "Policy evaluated."),
    Column("benchmark", "VARCHAR", "Set of problems evaluated on."),
    Column("problem_id", "VARCHAR", "Problem."),
    Column("domain", "VARCHAR", "Category or world family."),
    Column("level", "INTEGER", "World level, 0 = unknown."),
    Column("n", "INTEGER", "Answers sampled."),
    Column("passes", "INTEGER", "Answers that passed."),
    Column("unknowns", "INTEGER", "Answers that could not be judged; they count as not passed."),
    Column("majority", "DOUBLE", "Chance in [0, 1] that the most frequent final answer passes; null where the verifier cannot compare answers."),
    Column("chain_passes", "INTEGER", "Answers that passed and whose chain is right, too; null where no chain was judged."),
    key=("round", "benchmark", "problem_id"),
)


def train_step_row(round: int, step: int, metrics: Mapping[str, float], **columns: Any) -> dict[str, Any]:
    return {"round": round, "stage": "train", "shard": step, "step": step, **{k: finite(metrics.get(k)) for k in METRICS}, **columns}
