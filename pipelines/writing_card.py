"""How well a policy writes: what of its texts the world can read, and whether they ask for what they should. Part of its card."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.keyed import keyed_seed
from data.records import Problem, Request, Sampling
from data.render import Renderer
from filters.written import read_problem
from generators.strategies.sws_reading import read_concepts, read_judgement
from generators.worlds.arithmetic import ArithmeticWorld
from generators.worlds.arithmetic.concepts import assignment
from generators.worlds.arithmetic.draw import Draw
from generators.worlds.arithmetic.garbled import garbled
from pipelines.intervals import mean_with_interval
from pipelines.policy_card import PROMPTS, heldout_problems

TEMPERATURE = 0.6  # what SwS writes and judges at
_FREELY = 1.0  # what SvS writes variants at
_LONGEST = 128  # tokens


def measure_writing(folder: Path, world: ArithmeticWorld, *, problems: int, seed: int, levels: Sequence[int] = ()) -> dict[str, Any]:
    """On held-out problems, by task: shares of texts that the world can read, and of those that ask what was asked for.

    rewrite, paraphrase: right = same answer; sws_write: right = of the category ordered; sws_judge: right = bad for a garbled text, not bad
    for a sound one; sws_concepts: right = exactly the problem's.
    """
    from generators.engines.local import LocalEngine

    asked, renderer = heldout_problems(world, problems, seed, levels), Renderer([PROMPTS], "compact")
    draws = [Draw(keyed_seed(seed, "writing card", place)) for place in range(len(asked))]
    orders = [{"category": p.domain, "concepts": assignment(p.domain, p.meta["shape"], draw), "level": p.level} for p, draw in zip(asked, draws)]
    shown = [(garbled(p.prompt, asked[-place - 1].prompt, draws[place]) if place % 2 else None) or p.prompt for place, p in enumerate(asked)]
    prompts = {
        "rewrite": [renderer.render("rewrite", response=world.demonstration(p)) for p in asked],
        "paraphrase": [renderer.render("paraphrase", problem=p) for p in asked],
        "sws_write": [renderer.render("sws_write", **order) for order in orders],
        "sws_judge": [renderer.render("sws_judge", question=text, **order) for text, order in zip(shown, orders)],
        "sws_concepts": [renderer.render("sws_concepts", question=p.prompt) for p in asked],
    }
    engine = LocalEngine(folder, policy_id="card")
    heat = {task: _FREELY if task == "rewrite" else TEMPERATURE for task in prompts}
    said = {task: _ask(engine, of, heat[task], keyed_seed(seed, "writing card", task)) for task, of in prompts.items()}
    engine.close()
    read = {task: [world.read(read_problem(text, "line")[0]) for text in said[task]] for task in ("rewrite", "paraphrase", "sws_write")}
    same: Callable[[Problem | None, Problem], bool] = lambda made, p: made is not None and made.reference == p.reference  # noqa: E731
    right = {
        "rewrite": [same(made, p) for made, p in zip(read["rewrite"], asked, strict=True)],
        "paraphrase": [same(made, p) for made, p in zip(read["paraphrase"], asked, strict=True)],
        "sws_write": [made is not None and made.domain == p.domain for made, p in zip(read["sws_write"], asked, strict=True)],
        "sws_judge": [
            (said_of in ("perfect", "acceptable")) == (world.read(text) is not None) and said_of is not None
            for said_of, text in zip((read_judgement(t, "line") for t in said["sws_judge"]), shown, strict=True)
        ],
        "sws_concepts": [set(read_concepts(t, "line")) == set(world.fine_concepts(p)) for t, p in zip(said["sws_concepts"], asked, strict=True)],
    }
    readable = {task: [made is not None for made in of] for task, of in read.items()}
    return {
        "problems": len(asked),
        "tasks": [
            {"task": task, "temperature": heat[task], "right": _share(right[task])}
            | ({"readable": _share(readable[task])} if task in readable else {})
            for task in prompts
        ],
    }


def _ask(engine: Any, prompts: Sequence[str], temperature: float, seed: int) -> list[str]:
    sampling = Sampling(temperature, max_tokens=_LONGEST)
    requests = [Request("card", sampling, keyed_seed(seed, place), prompt=prompt) for place, prompt in enumerate(prompts)]
    answers = {c.key: c.text for c in engine.generate(requests)}
    return [answers[r.key].strip() for r in requests]


def _share(hits: Sequence[bool]) -> dict[str, float]:
    mean, low, high = mean_with_interval(np.array(hits, np.float64))
    return {"share": mean, "low": low, "high": high}
