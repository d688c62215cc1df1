"""Twenty problems to look at, chosen without a die: what got better, what got worse, what nobody solves, what was refused, what could not be judged.

Within each kind problems of different domains, rules or reasons come first, then the larger change, then the smaller id: the same lake
gives the same twenty.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import polars as pl

from data.lake import Lake
from pipelines.report import words
from pipelines.report.figure import LIMIT, Section, label, plural, shortened

SAMPLES = 20
KINDS: tuple[tuple[str, str, int], ...] = (
    ("better", "got better", 5),
    ("worse", "got worse", 4),
    ("never", "never solved", 4),
    ("unknown", "unknown", 3),
    ("refused", "refused", 4),
    ("trained", "trained on", 0),  # only where the others are too few
)
ANSWERS = 4
"""Answers shown of the first and of the last round that has any."""
DECISIONS = 6


def sample_section(lake: Lake, evals: pl.DataFrame) -> Section:
    chosen = _quotas(_ranked(lake, evals))
    if not chosen:
        return replace(words.SAMPLES, empty="There is no problem to show yet.")
    ids = [i for i, _, _ in chosen]
    problems = {row["problem_id"]: row for row in _problems(lake, ids).iter_rows(named=True)}
    problems |= _as_asked(lake, [i for i in ids if i not in problems])
    answers, decisions = _answers(lake, chosen), _decisions(lake, ids)
    shown = [_shown(problems[i], kind, why, answers.get(i, []), decisions.get(i, [])) for i, kind, why in chosen if i in problems]
    named = {kind: word for kind, word, _ in KINDS}
    tally = [(word, sum(s["kind"] == kind for s in shown)) for kind, word in named.items()]
    note = "; ".join(f"{n} {word}" for word, n in tally if n) + "."
    return replace(words.SAMPLES, extra={"problems": shown}, note=note[0].upper() + note[1:])


def _ranked(lake: Lake, evals: pl.DataFrame) -> dict[str, list[tuple[str, str]]]:
    """Per kind up to `SAMPLES` (problem id, why), best first."""
    return {
        **_movers(evals),
        "never": _pairs(
            lake.query(
                """
                WITH tried AS (SELECT problem_id, domain, n, passes FROM evals UNION ALL SELECT problem_id, domain, n, passes FROM difficulty),
                never AS (
                    SELECT problem_id, min(domain) AS domain, sum(n)::BIGINT AS n FROM tried GROUP BY 1 HAVING sum(passes) = 0 AND sum(n) > 0
                )
                SELECT problem_id, format('0 of {} answers right', n) FROM never
                ORDER BY row_number() OVER (PARTITION BY domain ORDER BY n DESC, problem_id), n DESC, problem_id LIMIT ?
                """,
                [SAMPLES],
            )
        ),
        "refused": _pairs(
            lake.query(
                """
                WITH refused AS (
                    SELECT problem_id, rule, min({'id': candidate_id, 'reason': reason, 'round': round}) AS one
                    FROM decisions WHERE NOT kept GROUP BY ALL
                )
                SELECT problem_id, format('{} in round {}: {}', rule, one.round, left(one.reason, 300)) FROM refused
                ORDER BY row_number() OVER (PARTITION BY rule ORDER BY one.id), rule, problem_id LIMIT ?
                """,
                [SAMPLES],
            )
        ),
        "unknown": _pairs(
            lake.query(
                """
                WITH unknown AS (
                    SELECT problem_id, min(left(reason, 300)) AS reason, count(*) AS n FROM verdicts WHERE outcome = 'unknown' GROUP BY 1
                )
                SELECT problem_id, format('{} of its answers: {}', n, reason) FROM unknown
                ORDER BY row_number() OVER (PARTITION BY reason ORDER BY problem_id), reason, problem_id LIMIT ?
                """,
                [SAMPLES],
            )
        ),
        "trained": _pairs(
            lake.query(
                """
                WITH trained AS (
                    SELECT problem_id, min(round) AS round, min(domain) AS domain FROM decisions WHERE kept AND stage = 'select' GROUP BY 1
                )
                SELECT problem_id, format('selected in round {}', round) FROM trained
                ORDER BY row_number() OVER (PARTITION BY domain ORDER BY problem_id), problem_id LIMIT ?
                """,
                [SAMPLES],
            )
        ),
    }


def _pairs(frame: pl.DataFrame) -> list[tuple[str, str]]:
    return list(frame.iter_rows())


def _movers(evals: pl.DataFrame) -> dict[str, list[tuple[str, str]]]:
    """Problems whose share of right answers changed most between the first and the last evaluation."""
    judged = evals.filter(pl.col("n") > 0)
    if judged.is_empty() or judged["round"].n_unique() < 2:
        return {"better": [], "worse": []}
    first, last = (judged.filter(pl.col("round") == r) for r in (judged["round"].min(), judged["round"].max()))
    both = first.join(last, on=["benchmark", "problem_id"], suffix="_last").with_columns(
        gain=pl.col("passes_last") / pl.col("n_last") - pl.col("passes") / pl.col("n"),
        why=pl.format("{} of {} right, then {} of {}", "passes", "n", "passes_last", "n_last"),
    )
    found = {}
    for kind, sign in (("better", 1), ("worse", -1)):
        moved = both.filter(sign * pl.col("gain") > 0).sort(sign * pl.col("gain"), "problem_id", descending=[True, False])
        moved = moved.with_columns(place=pl.int_range(pl.len()).over("domain")).sort(
            "place", sign * pl.col("gain"), "problem_id", descending=[False, True, False]
        )
        found[kind] = _pairs(moved.select("problem_id", "why").head(SAMPLES))
    return found


def _quotas(ranked: dict[str, list[tuple[str, str]]]) -> list[tuple[str, str, str]]:
    """(problem id, kind, why): each kind's share first, then what is left in turn until there are `SAMPLES`; grouped by kind."""
    taken: dict[str, tuple[str, str, str]] = {}
    left = {kind: list(ranked.get(kind, [])) for kind, _, _ in KINDS}

    def take(kind: str) -> bool:
        while left[kind]:
            problem, why = left[kind].pop(0)
            if problem not in taken:
                taken[problem] = (problem, kind, why)
                return True
        return False

    for kind, _, share in KINDS:
        for _ in range(share):
            take(kind)
    while len(taken) < SAMPLES and any(take(kind) for kind, _, _ in KINDS if len(taken) < SAMPLES):
        pass
    place = {kind: i for i, (kind, _, _) in enumerate(KINDS)}
    return sorted(taken.values(), key=lambda t: place[t[1]])


def _problems(lake: Lake, ids: list[str]) -> pl.DataFrame:
    return lake.query(
        f"""
        SELECT problem_id, left(prompt, {LIMIT}) AS prompt, length(prompt) AS prompt_length, left(reference, {LIMIT}) AS reference,
               length(reference) AS reference_length, verifier, domain, level, source, split, round
        FROM problems WHERE problem_id IN (SELECT unnest(?)) QUALIFY row_number() OVER (PARTITION BY problem_id ORDER BY round) = 1
        """,
        [ids],
    )


def _as_asked(lake: Lake, ids: list[str]) -> dict[str, dict[str, Any]]:
    """Problems that exist in a training step only (a paraphrase, a variant) and are no row of `problems`: as the model was asked them."""
    if not ids:
        return {}
    asked = lake.query(
        """
        SELECT problem_id, min(request) AS request, (SELECT min(stream) FROM rollouts r WHERE r.problem_id = q.problem_id) AS stream
        FROM requests q WHERE problem_id IN (SELECT unnest(?)) GROUP BY problem_id
        """,
        [ids],
    )
    found = {}
    for problem_id, request, stream in asked.iter_rows():
        said = json.loads(request)
        prompt = str(said.get("prompt") or said.get("messages") or "")
        unknown = {"reference": None, "reference_length": 0, "verifier": "", "domain": "", "level": 0, "split": "train", "round": 0}
        found[problem_id] = {
            "problem_id": problem_id,
            "prompt": prompt[:LIMIT],
            "prompt_length": len(prompt),
            "source": stream or "a training step",
            **unknown,
        }
    return found


def _answers(lake: Lake, chosen: list[tuple[str, str, str]]) -> dict[str, list[dict[str, Any]]]:
    """Judged answers of each problem: of its first and its last round, unknown verdicts first where the problem is shown for them."""
    wanted = pl.DataFrame(chosen, schema=["problem_id", "kind", "why"], orient="row")
    judged = lake.query(
        """
        SELECT v.problem_id, v.rollout_id, v.round, v.stage, v.shard, v.outcome, left(v.reason, 400) AS reason, v.verifier,
               r.sample, r.finish, r.response_tokens
        FROM verdicts v JOIN rollouts r USING (rollout_id)
        WHERE v.problem_id IN (SELECT unnest(?)) AND r.problem_id IN (SELECT unnest(?))
        """,
        [wanted["problem_id"].to_list()] * 2,
    ).join(wanted.select("problem_id", "kind"), on="problem_id")
    first = (pl.col("kind") == "unknown") & (pl.col("outcome") == "unknown")
    edge = (pl.col("round") == pl.col("round").min().over("problem_id")) | (pl.col("round") == pl.col("round").max().over("problem_id"))
    heldout = (pl.col("stage") == "evaluate").any().over("problem_id")
    picked = (
        judged.filter(((pl.col("stage") == "evaluate") | ~heldout) & (edge | first))
        .with_columns(first=first)
        .sort("problem_id", pl.col("first").not_(), "round", "stage", "shard", "sample", "rollout_id", "verifier")
        .with_columns(place=pl.int_range(pl.len()).over("problem_id", "first", "round"))
        .filter(pl.col("place") < ANSWERS)
        .with_columns(total=pl.len().over("problem_id"))
    )
    picked = picked.with_columns(place=pl.int_range(pl.len()).over("problem_id")).filter(pl.col("place") < 2 * ANSWERS)
    texts = lake.query(
        f"SELECT rollout_id, left(text, {LIMIT}) AS text, length(text) AS length FROM trajectories WHERE rollout_id IN (SELECT unnest(?))",
        [picked["rollout_id"].unique().to_list()],
    )
    rows = picked.join(texts, on="rollout_id", how="left", maintain_order="left")
    found: dict[str, dict[tuple[str, ...], dict[str, Any]]] = {}
    for row in rows.iter_rows(named=True):
        stage = {"verify": "probe"}.get(row["stage"], row["stage"])
        where = f"round {row['round']} · {label(stage, 20)}" + (f" step {row['shard']}" if stage == "train" else "")
        same = found.setdefault(row["problem_id"], {})
        answer = {
            "where": where,
            "outcome": row["outcome"] if row["outcome"] in ("pass", "fail") else "unknown",
            "reason": shortened(row["reason"], 300),
            "verifier": label(row["verifier"], 30),
            "text": shortened(row["text"] or "", LIMIT, row["length"]),
            "cut": row["finish"] == "length",
            "tokens": row["response_tokens"],
        }
        key = tuple(str(answer[name]) for name in ("where", "outcome", "reason", "verifier", "text"))
        same[key] = answer | {"times": same[key]["times"] + 1 if key in same else 1}
    return {problem: list(answers.values()) for problem, answers in found.items()}


def _reference(problem: dict[str, Any]) -> str:
    if problem["reference"] is None:
        return "(not stored: this problem existed in a training step only)"
    return shortened(problem["reference"], LIMIT, problem["reference_length"]) or "(none: the verifier needs none)"


def _decisions(lake: Lake, ids: list[str]) -> dict[str, list[str]]:
    rows = lake.query(
        """
        SELECT problem_id, round, stage, rule, kept, left(reason, 400) AS reason, strategy FROM decisions WHERE problem_id IN (SELECT unnest(?))
        ORDER BY problem_id, round, CASE stage WHEN 'seeds' THEN 0 WHEN 'synthesize' THEN 1 WHEN 'audit' THEN 2 WHEN 'select' THEN 4 ELSE 3 END,
                 rule, candidate_id
        """,
        [ids],
    )
    found: dict[str, list[str]] = {}
    for problem, round, stage, rule, kept, reason, strategy in rows.iter_rows():
        word = "kept" if kept else "refused"
        line = f"round {round} · {label(stage, 20)} · {label(strategy, 30)}: {word}, rule {label(rule, 30)}: {shortened(reason, 300)}"
        found.setdefault(problem, []).append(line)
    return {i: [*lines[:DECISIONS], *([f"and {len(lines) - DECISIONS} more"] if len(lines) > DECISIONS else [])] for i, lines in found.items()}


def _shown(problem: dict[str, Any], kind: str, why: str, answers: list[dict[str, Any]], decisions: list[str]) -> dict[str, Any]:
    named = {k: w for k, w, _ in KINDS}
    facts = [label(problem["domain"], 40)] if problem["domain"] else []
    facts += [f"level {problem['level']}"] if problem["level"] else []
    facts += [f"from {label(problem['source'], 30)}", "held out" if problem["split"] == "heldout" else "for training"]
    facts += [f"verifier {label(problem['verifier'], 30)}"] if problem["verifier"] else []
    return {
        "id": problem["problem_id"],
        "kind": kind,
        "word": named[kind],
        "why": shortened(why, 320),
        "head": label(problem["prompt"], 110),
        "facts": " · ".join(facts),
        "prompt": shortened(problem["prompt"], LIMIT, problem["prompt_length"]),
        "reference": _reference(problem),
        "answers": answers,
        "decisions": decisions,
        "none": "" if answers else "Nobody was asked it: " + plural(0, "answer") + " in the lake.",
    }
