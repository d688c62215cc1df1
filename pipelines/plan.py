"""What a recipe will ask of its engine, and for how long: counted from the recipe, scaled from a pilot.

Counts are exact where the recipe decides them (probe, evaluate) and a range where the answers do: dynamic sampling draws again while
groups carry no gradient, adaptive probing while a decision is open. The pilot is the recipe itself, shrunk (`pipelines.preview`).
"""

from __future__ import annotations

from dataclasses import dataclass

from data.lake import Lake
from pipelines.recipe import Recipe


@dataclass(frozen=True)
class Pilot:
    """What a shrunk run measured on this machine."""

    response_tokens: float  # mean per answer
    prompt_tokens: float
    tokens_per_second: float  # generated
    mixed: float  # share of sampled training groups with gradient
    train_seconds_per_rollout: float
    audit_seconds_per_candidate: float
    verify_seconds_per_rollout: float


@dataclass(frozen=True)
class Line:
    """One stage over the whole run. `low` and `high` are equal where the recipe alone decides."""

    stage: str
    low: int  # requests
    high: int
    expected: int
    seconds: float | None


def measure(lake: Lake) -> Pilot:
    """From the lake of a pilot run; rates guard against a pilot in which nothing was trained."""
    tokens, prompt, answers = lake.query("SELECT sum(response_tokens), avg(prompt_tokens), count(*) FROM rollouts").row(0)
    took = dict(lake.query("SELECT stage, sum(seconds) FROM stages GROUP BY stage").iter_rows())
    counted = dict(lake.query("SELECT stage, sum(response_tokens) FROM rollouts GROUP BY stage").iter_rows())
    sums = "sum(greatest(seconds - generate_seconds, learn_seconds)), sum(generate_seconds), sum(rollouts), sum(groups), sum(groups_sampled)"
    steps = lake.query(f"SELECT {sums} FROM train_steps").row(0)
    train_seconds, generate_seconds, rollouts, groups, sampled = (float(x or 0) for x in steps)
    # The first stage that generates loads the engine, so the probe's pace says more than the first evaluation's.
    seconds = took.get("probe", 0.0) + generate_seconds
    paced = float(counted.get("probe", 0) + counted.get("train", 0))
    candidates = lake.query("SELECT count(*) FROM decisions WHERE stage = 'synthesize'").item()
    probed = lake.query("SELECT count(*) FROM rollouts WHERE stage = 'probe'").item()
    return Pilot(
        response_tokens=float(tokens or 0) / max(answers, 1),
        prompt_tokens=float(prompt or 0),
        tokens_per_second=paced / seconds if seconds else 0.0,
        mixed=groups / sampled if sampled else 0.0,
        train_seconds_per_rollout=train_seconds / rollouts if rollouts else 0.0,
        audit_seconds_per_candidate=took.get("audit", 0.0) / max(candidates, 1),
        verify_seconds_per_rollout=took.get("verify", 0.0) / max(probed, 1),
    )


def plan(recipe: Recipe, *, train_problems: int, heldout_problems: int, pilot: Pilot | None) -> list[Line]:
    """A line per stage that asks the model or takes time. `train_problems`, `heldout_problems`: what the recipe's files and world give."""
    rounds, probe, train = recipe.rounds, recipe.probe, recipe.train
    probed = min(probe.problems, train_problems)
    evaluated = heldout_problems * recipe.evaluate.n * (rounds + 1)
    asked = probed * probe.n * rounds
    more = probed * max(0, probe.most - probe.n) * rounds
    group = train.steps * train.prompts_per_step * train.group_size * rounds
    most = group * train.generation_batches
    draws = min(float(train.generation_batches), 1 / pilot.mixed) if pilot and pilot.mixed else float(train.generation_batches)
    budget = sum(part.budget for part in recipe.strategies.values()) * rounds
    lines = [
        Line("evaluate", evaluated, evaluated, evaluated, _generating(evaluated, pilot)),
        Line("probe", asked, asked, asked, _generating(asked, pilot)),
        Line("verify", 0, 0, 0, pilot.verify_seconds_per_rollout * asked if pilot else None),
    ]
    if more:
        lines.append(Line("estimate", 0, more, more // 2, _generating(more / 2, pilot)))
    if budget:
        lines.append(Line("audit", 0, 0, 0, pilot.audit_seconds_per_candidate * budget if pilot else None))
    expected = round(group * draws)
    learning = pilot.train_seconds_per_rollout * min(group, expected * pilot.mixed) if pilot else None
    generating = _generating(expected, pilot)
    lines.append(Line("train", group, most, expected, None if generating is None or learning is None else generating + learning))
    return [line for line in lines if recipe.only != "synthesize" or line.stage not in ("evaluate", "train")]


def most_money(recipe: Recipe, lines: list[Line]) -> float | None:
    """What the sampled tokens of these lines can cost at an endpoint at most, their prompts left out; None where the recipe names no price."""
    price = recipe.engine.price_per_million.get("output")
    if recipe.engine.kind != "openai" or not price:
        return None
    return sum(line.high for line in lines) * recipe.sampling.max_tokens * price / 1e6


def _generating(requests: float, pilot: Pilot | None) -> float | None:
    return None if pilot is None or not pilot.tokens_per_second else requests * pilot.response_tokens / pilot.tokens_per_second
