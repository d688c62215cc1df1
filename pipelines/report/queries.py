"""Everything that the report asks of the lake: one function a question, aggregated by DuckDB, at most a few thousand rows each.

Only `evals` comes as it is, a row per problem and round: the intervals need the problems.
"""

from __future__ import annotations

import polars as pl

from data.lake import Lake

STAGE_ORDER = ("seeds", "probe", "verify", "estimate", "synthesize", "audit", "select", "train", "evaluate")
MAX_POINTS = 600
"""Points of a curve; longer ones are averaged over equal stretches."""


def stages(lake: Lake) -> pl.DataFrame:
    """round, stage, info (JSON), seconds, finished_at; in the order in which they finished."""
    return lake.query("SELECT round, stage, info, seconds, finished_at FROM stages ORDER BY finished_at, round, stage")


def moments(lake: Lake) -> tuple[object, object]:
    """When the run began and when it last wrote something; None where it did not."""
    began = lake.query("SELECT min(started_at) FROM runs").item()
    first, last = lake.query("SELECT min(committed_at), max(committed_at) FROM shards").row(0)
    finished = lake.query("SELECT max(finished_at) FROM stages").item()
    return began or first, max((t for t in (last, finished) if t is not None), default=None)


def starts(lake: Lake) -> int:
    return int(lake.query("SELECT count(*) FROM runs").item())


def evals(lake: Lake) -> pl.DataFrame:
    """One row per evaluated problem and round, columns as in the table (newer runs may have more)."""
    return lake.query("SELECT * FROM evals ORDER BY round, benchmark, problem_id")


def steps(lake: Lake) -> pl.DataFrame:
    """One row per optimizer step or stretch of steps: `at` counts over all rounds, `per_point` steps were averaged; rates in tokens per second."""
    rows = lake.query(
        """
        WITH sampled AS (SELECT round, shard AS step, sum(response_tokens) AS sampled_tokens FROM rollouts WHERE stage = 'train' GROUP BY ALL)
        SELECT t.*, coalesce(s.sampled_tokens, 0)::DOUBLE AS sampled_tokens FROM train_steps t LEFT JOIN sampled s USING (round, step)
        ORDER BY round, step
        """
    ).with_row_index("at", offset=1)
    # One-step-off rollouts are generated beside an earlier update, so that the difference of the two says nothing there.
    learning = pl.max_horizontal(pl.col("seconds") - pl.col("generate_seconds").fill_null(0), pl.col("learn_seconds"))
    rows = rows.with_columns(
        sampled_per_second=pl.when(pl.col("generate_seconds") > 0).then(pl.col("sampled_tokens") / pl.col("generate_seconds")),
        trained_per_second=pl.when(learning > 0).then(pl.col("tokens") / learning),
        ratio_mean=pl.when(pl.col("ratio_mean") > 0).then(pl.col("ratio_mean")),  # a step that learned nothing has none
    )
    per_point = -(-rows.height // MAX_POINTS) if rows.height else 1
    numbers = [c for c, kind in rows.schema.items() if kind.is_numeric() and c not in ("at", "round", "step", "shard")]
    return (
        rows.group_by("round", pl.col("step") // per_point if per_point > 1 else pl.col("step"), maintain_order=True)
        .agg(pl.col("at").first(), *(pl.col(c).mean() for c in numbers))
        .with_columns(per_point=pl.lit(per_point))
    )


def pass_counts(lake: Lake) -> pl.DataFrame:
    """round, passes, n, problems, open: how many probed problems had that many passing answers, and of how many the band is undecided."""
    decided = "decision" in lake.query("SELECT * FROM difficulty LIMIT 0").columns  # not in a lake of an older version
    undecided = "count(*) FILTER (decision = 'open')" if decided else "0"
    return lake.query(f"SELECT round, passes, n, count(*) AS problems, {undecided} AS open FROM difficulty GROUP BY ALL ORDER BY round, n, passes")


def fates(lake: Lake) -> pl.DataFrame:
    """round, strategy, fate, stage, rule, candidates. Each candidate is counted once, under the first rule that refused it.

    fate: refused, selected (trained on), admitted (round 0), open (no stage has decided yet).
    """
    order = "CASE stage WHEN 'seeds' THEN 0 WHEN 'synthesize' THEN 1 WHEN 'audit' THEN 2 WHEN 'select' THEN 4 ELSE 3 END"
    return lake.query(
        f"""
        WITH each AS (
            SELECT round, strategy, candidate_id,
                   arg_min({{'stage': stage, 'rule': rule}}, ({order}, rule)) FILTER (NOT kept) AS refused,
                   bool_or(kept AND stage IN ('select', 'train')) AS selected, bool_and(stage = 'seeds') AS seed
            FROM decisions GROUP BY ALL
        )
        SELECT round, strategy,
               CASE WHEN refused IS NOT NULL THEN 'refused' WHEN selected THEN 'selected' WHEN seed THEN 'admitted' ELSE 'open' END AS fate,
               coalesce(refused.stage, '') AS stage, coalesce(refused.rule, '') AS rule, count(*) AS candidates
        FROM each GROUP BY ALL ORDER BY round, strategy, fate, stage, rule
        """
    )


def streams(lake: Lake) -> pl.DataFrame:
    """round, stream, groups, mixed (groups of more than one reward), answers, reward, passes, tokens: what the training steps sampled."""
    return lake.query(
        """
        WITH each AS (
            SELECT round, stream, group_id, count(*) AS answers, coalesce(min(reward) < max(reward), false) AS mixed, sum(reward) AS reward,
                   count(*) FILTER (outcome = 'pass') AS passes, sum(response_tokens) AS tokens
            FROM rollouts WHERE stage = 'train' GROUP BY ALL
        )
        SELECT round, stream, count(*) AS groups, count(*) FILTER (mixed) AS mixed, sum(answers)::BIGINT AS answers,
               sum(reward) / sum(answers) AS reward, sum(passes)::BIGINT AS passes, sum(tokens)::BIGINT AS tokens
        FROM each GROUP BY round, stream ORDER BY round, CASE stream WHEN 'main' THEN '' ELSE stream END
        """
    )


def verdict_mix(lake: Lake) -> pl.DataFrame:
    """round, stage, outcome, answers."""
    return lake.query("SELECT round, stage, outcome, count(*) AS answers FROM verdicts GROUP BY ALL ORDER BY round, stage, outcome")


def top_reasons(lake: Lake, limit: int = 8) -> pl.DataFrame:
    """outcome, reason, answers, example: the most frequent reasons of fail and of unknown, numbers and details taken out of them."""
    return lake.query(
        r"""
        WITH exact AS (SELECT outcome, left(reason, 300) AS reason, count(*) AS n FROM verdicts WHERE outcome <> 'pass' GROUP BY ALL),
        alike AS (
            SELECT outcome, regexp_replace(regexp_replace(reason, '^([^:]*\s[^:]*):.*', '\1', 's'), '[0-9]+([.,][0-9]+)*', '#', 'g') AS reason,
                   sum(n)::BIGINT AS answers, min(reason) AS example
            FROM exact GROUP BY ALL
        )
        SELECT * FROM alike QUALIFY row_number() OVER (PARTITION BY outcome ORDER BY answers DESC, reason) <= ? ORDER BY outcome, answers DESC, reason
        """,
        [limit],
    )


def costs(lake: Lake) -> pl.DataFrame:
    """A row per round and stage: seconds, rollouts, prompt, response and trained tokens, requests, resent, repeats, failed; null where none."""
    return lake.query(
        """
        WITH time AS (SELECT round, stage, seconds FROM stages),
        sampled AS (
            SELECT round, stage, count(*) AS rollouts, sum(prompt_tokens)::BIGINT AS prompt_tokens, sum(response_tokens)::BIGINT AS response_tokens
            FROM rollouts GROUP BY ALL
        ),
        asked AS (
            SELECT round, stage, count(*) AS requests, sum(greatest(attempts - 1, 0))::BIGINT AS resent, sum(repeats)::BIGINT AS repeats,
                   count(*) FILTER (error <> '') AS failed
            FROM requests GROUP BY ALL
        ),
        trained AS (SELECT round, 'train' AS stage, sum(tokens)::BIGINT AS trained_tokens, sum(seconds) AS step_seconds FROM train_steps GROUP BY ALL)
        SELECT round, stage, coalesce(seconds, step_seconds) AS seconds, * EXCLUDE (round, stage, seconds, step_seconds)
        FROM time FULL JOIN sampled USING (round, stage) FULL JOIN asked USING (round, stage) FULL JOIN trained USING (round, stage)
        ORDER BY round, stage
        """
    )
