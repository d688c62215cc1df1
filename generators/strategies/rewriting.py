"""Asking the policy to put a problem into other words: what CLPO, Co-Reward and their like share."""

from __future__ import annotations

from dataclasses import dataclass

from data.records import Problem, RolloutSpec, Sampling
from filters.written import PROBLEM_SCHEMA, Form
from generators.strategies.base import StepContext


@dataclass(frozen=True)
class Rewrite:
    """The wish for one rewrite, and how its text will be set into the answer."""

    spec: RolloutSpec
    form: Form


def form_of(ctx: StepContext, form: str) -> Form:
    """The setting's form; `auto` is what the dialect's prompts ask for."""
    if form == "auto":
        return "line" if ctx.dialect == "compact" else "fenced"
    return form  # type: ignore[return-value]


def rewrite_spec(
    ctx: StepContext, of: Problem, mode: str, form: Form, strategy: str, stream: str, max_tokens: int, refs: tuple[str, ...]
) -> Rewrite:
    """One answer to the template `paraphrase` for this problem. `mode`: same (only the words change), simplify or diversify.

    The answer is not in the prompt, so that it cannot be copied from there.
    """
    assert ctx.render is not None, "the step's context can render no prompt"
    prompt = ctx.render("paraphrase", problem=of, mode=mode, structured=form == "json")
    made = {"task": mode, "source": of.id}
    task = Problem(prompt, of.reference, "written", {"form": form}, of.media, of.domain, of.level, of.concepts, strategy, "online", made)
    schema = PROBLEM_SCHEMA if form == "json" else None
    s = ctx.sampling
    sampling = Sampling(s.temperature, s.top_p, s.top_k, max_tokens)
    return Rewrite(RolloutSpec(task, 1, sampling, stream, prompt=prompt, key=refs, refs=refs, structured=schema), form)
