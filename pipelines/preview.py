"""Looking before leaping: the recipe, shrunk to a few items per stage, really run in a scratch folder.

`--preview` shows what such a run asked and was answered; `--dry-run` scales what it measured up to the whole recipe.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.lake import Lake
from pipelines.loop import run_loop
from pipelines.recipe import Recipe, check_recipe
from pipelines.run import Run, read_lake

FEWEST = 12
"""Problems that a shrunk run probes at least: with fewer there is often none in the band, and nothing to propose or train on."""

ASKING = ("evaluate", "probe", "estimate", "synthesize", "train")
"""Stages that ask the model, in the order of a round."""


@dataclass(frozen=True)
class Item:
    """One request as the model was asked it, with its answer and verdict."""

    prompt: str
    prompt_tokens: int
    answer: str
    answer_tokens: int
    outcome: str  # pass | fail | unknown | "" where nothing judges it
    reason: str
    reference: str


def shrunk(recipe: Recipe, items: int) -> Recipe:
    """The same recipe with one round, one optimizer step and about `items` problems or prompts per stage; answers per problem stay."""
    raw = recipe.plain()
    raw["rounds"] = 1
    raw["probe"]["problems"] = min(max(items, FEWEST), raw["probe"]["problems"])
    raw["evaluate"]["problems"] = min(items, raw["evaluate"]["problems"])
    raw["train"]["steps"] = 1
    raw["train"]["prompts_per_step"] = min(items, raw["train"]["prompts_per_step"])
    for part in raw["strategies"].values():
        part["budget"] = min(items, part["budget"])
    return check_recipe(raw, "preview")


@contextmanager
def tried(recipe: Recipe, items: int) -> Iterator[Lake]:
    """The lake of the shrunk recipe's run, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="synth-preview-") as scratch:
        folder = Path(scratch) / "run"
        with Run.create(folder, shrunk(recipe, items)) as run:
            run_loop(run)
        with read_lake(folder) as lake:
            yield lake


def asked(lake: Lake, stage: str, items: int) -> list[Item]:
    """The stage's first `items` problems, one request each, in id order; the last round that asked."""
    rows = lake.query(
        """
        WITH mine AS (
            SELECT q.*, row_number() OVER (PARTITION BY q.problem_id ORDER BY q.key) AS place FROM requests q
            WHERE q.stage = $1 AND q.round = (SELECT max(round) FROM requests WHERE stage = $1)
        )
        SELECT m.request, len(m.prompt_tokens), m.text, len(m.tokens), v.outcome, v.reason, p.reference
        FROM mine m
        LEFT JOIN trajectories t ON list_contains(t.request_keys, m.key) AND t.round = m.round AND t.stage = m.stage
        LEFT JOIN (
            SELECT rollout_id, any_value(outcome) AS outcome, any_value(reason) AS reason FROM verdicts GROUP BY rollout_id
        ) v USING (rollout_id)
        LEFT JOIN problems p ON p.problem_id = m.problem_id
        WHERE m.place = 1 ORDER BY m.problem_id, m.key LIMIT $2
        """,
        (stage, items),
    )
    return [
        Item(prompt_text(json.loads(request)), int(prompt_tokens or 0), text or "", int(tokens or 0), outcome or "", reason or "", reference or "")
        for request, prompt_tokens, text, tokens, outcome, reason, reference in rows.iter_rows()
    ]


def prompt_text(request: dict[str, Any]) -> str:
    """What the model was asked, readable: a prompt as it is, messages with their roles, bare tokens by their number."""
    if request.get("prompt") is not None:
        return str(request["prompt"])
    if request.get("messages"):
        return "\n".join(f"[{m.get('role', '?')}] {m.get('content', '')}" for m in request["messages"])
    return f"({len(request.get('tokens') or ())} tokens of a conversation that goes on)"


def proposed(lake: Lake, items: int) -> list[tuple[str, str, str, str]]:
    """(strategy, prompt, reference, why) of the first candidates that strategies proposed."""
    rows = lake.query(
        """
        SELECT d.strategy, p.prompt, p.reference, d.reason FROM decisions d JOIN problems p USING (problem_id)
        WHERE d.stage = 'synthesize' ORDER BY d.strategy, d.candidate_id LIMIT ?
        """,
        (items,),
    )
    return [(s, p, r, w) for s, p, r, w in rows.iter_rows()]
