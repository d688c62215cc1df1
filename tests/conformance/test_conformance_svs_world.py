"""SvS on the arithmetic world with a policy that reads: planted answer-changing variants are refused by the band, honest ones are kept."""

from __future__ import annotations

from collections import Counter
from typing import Any

from conformance_fakes import FakeEngine

from data.keyed import keyed_rng
from data.records import Problem, Request, RolloutSpec, Sampling
from generators.strategies.base import StepContext
from generators.strategies.svs import SOLVE, WRITE, Svs
from generators.worlds.registry import get_world
from pipelines.online import sample_step
from pipelines.rollout import Rollouts

WORLD = get_world("arithmetic")
SAMPLING = Sampling(max_tokens=256)


def texts() -> dict[str, tuple[Problem, list[tuple[str, bool]]]]:
    """By prompt: problems with variants of theirs, each with whether it keeps the answer."""
    found = {}
    for index, family in enumerate(WORLD.families()):
        problem = WORLD.make(family, 2, index, seed=4, split="train")
        honest = {v.prompt for key in range(12) if (v := WORLD.variant(problem, key)) is not None}
        planted = {v.prompt for key in range(12) if (v := WORLD.spoil(problem, key)) is not None}
        made = [(t, True) for t in sorted(honest)[:4]] + [(t, False) for t in sorted(planted - honest)[:4]]
        found[problem.prompt] = (problem, made)
    return found


def test_planted_variants_are_refused_by_the_band_and_honest_ones_kept() -> None:
    """Solvers are right half the time by the text's own truth, and wrong in ways of their own otherwise."""
    known = texts()
    honest = {text: keeps for _, variants in known.values() for text, keeps in variants}

    def say(request: Request, prompt: str) -> str:
        if prompt.startswith("R: "):
            _, variants = known[prompt[3:].split(" @@ ")[1].split(" ####")[0]]
            return variants[request.index % len(variants)][0] if variants else "?"
        truth = WORLD.read(prompt)
        assert truth is not None
        if request.index % 2:
            return f"@@ {prompt} #### {int(keyed_rng(request.seed, 'wrong').integers(10_000, 99_999))}"
        return f"way {request.index} @@ {prompt} #### {truth.reference}"

    def render(template: str, **values: Any) -> str:
        return f"R: {values['response']}" if template == "rewrite" else values["problem"].prompt

    specs = [RolloutSpec(p, 8, SAMPLING, key=(i,)) for i, (p, variants) in enumerate(known.values()) if variants]
    made = Rollouts(FakeEngine(say), "policy", "fake", render, "compact", 5, (0, "train"), "train")
    ctx = StepContext(0, 1, 7, specs, SAMPLING, "policy", WORLD, render, dialect="compact")
    step = sample_step([Svs({"answers": 1})], {"svs": ctx}, specs, made.sample)
    band = [d for d in ctx.decided if d.rule == "band"]
    fate = Counter((honest[d.candidate.problem.prompt], d.kept) for d in band)
    assert fate[True, True] > 20 and fate[False, False] > 20
    assert fate[False, True] == 0 and fate[True, False] == 0  # half of 8 agree, or none
    assert all(d.candidate.problem.reference == known_reference(known, d.candidate.problem) for d in band)
    assert {s.stream for s in step.specs.values()} == {"main", WRITE, SOLVE}
    trained = [e.group for e in step.edits if e.group is not None and e.group.stream == SOLVE]
    assert trained and all(honest[g.problem.prompt] for g in trained)


def known_reference(known: dict[str, tuple[Problem, list[tuple[str, bool]]]], variant: Problem) -> str:
    """The reference of the problem that it is a variant of."""
    return next(p.reference for p, _ in known.values() if p.id == variant.meta["variant_of"])
