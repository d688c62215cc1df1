"""Rollout history: how each problem fared at every visit, in probes and training steps, across all rounds so far."""

from __future__ import annotations

import polars as pl

from data.lake import Lake


def rollout_history(lake: Lake, round: int) -> pl.DataFrame:
    """problem_id, domain, level, policy_id, round, step, passes, n: one row per problem and visit up to `round`, in time order.

    A visit is a probe (step 0; its adaptive waves are one visit) or a training step in which the problem was a main prompt, counted before
    any strategy's edit. n: judged answers; unknown verdicts are in neither. What strategies made inside a step is no visit.
    """
    return lake.query(
        """
        SELECT v.problem_id, p.domain, p.level, min(v.policy_id) AS policy_id, v.round::INTEGER AS round,
               (CASE v.stage WHEN 'train' THEN v.shard ELSE 0 END)::INTEGER AS step,
               count(*) FILTER (v.outcome = 'pass') AS passes, count(*) FILTER (v.outcome <> 'unknown') AS n
        FROM verdicts v
        JOIN rollouts r USING (rollout_id)
        JOIN (SELECT problem_id, min(domain) AS domain, min(level) AS level FROM problems WHERE split = 'train' GROUP BY 1) p
          ON p.problem_id = v.problem_id
        WHERE v.round <= ? AND (v.stage IN ('verify', 'estimate') OR (v.stage = 'train' AND r.stream = 'main'))
        GROUP BY v.problem_id, p.domain, p.level, v.round, 6
        ORDER BY round, step, v.problem_id
        """,
        (round,),
    )
