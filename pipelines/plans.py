"""What the shipped policies are made from: shape, lessons, rates; one plan each, in one or several phases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pipelines.lessons import Retold


@dataclass(frozen=True)
class Phase:
    """Training that goes on from the weights of the phase before it, with a fresh optimizer; every field means what it means in `Plan`."""

    steps: int
    decay_steps: int
    learning_rate: float
    tasks: tuple[tuple[str, float], ...]
    levels: tuple[int, ...] = ()
    hard_rewrites: float = 0.25
    retold: tuple[Retold, ...] = ()
    subtle: float = 0.0
    planned: bool = False
    own: int = 0
    warmup: int = 50
    last_rate: float = 0.1
    prompt_weight: float = 0.3
    word_weight: float = 4.0
    verdict_weight: float = 1.0


@dataclass(frozen=True)
class Plan:
    """What a shipped policy is made from. Sizes in tokens, parameters follow from the shape; the rate is AdamW's."""

    world: str
    vocabulary: int = 768
    context: int = 1024
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 32
    mlp: int = 384
    steps: int = 1900
    decay_steps: int = 2400  # the cosine's length; stopping before its end leaves the policy easier to move
    batch_tokens: int = 4096
    learning_rate: float = 2e-3
    warmup: int = 100
    weight_decay: float = 0.05
    prompt_weight: float = 0.1  # of a prompt token's loss beside a response token's
    evaluate_every: int = 200
    card_problems: int = 1300
    card_samples: int = 8
    tasks: tuple[tuple[str, float], ...] = ()  # (task of pipelines.lessons, its weight); () teaches solving only
    without: tuple[str, ...] = ()  # families that no lesson is about
    word_weight: float = 1.0  # what a name or a thing counts more than other tokens
    levels: tuple[int, ...] = ()  # of all lessons; () = the world's
    hard_rewrites: float = 0.25  # these five: `pipelines.lessons.Syllabus`
    retold: tuple[Retold, ...] = ()
    subtle: float = 0.0
    planned: bool = False
    own: int = 0  # problems that the policy writes before the phase, for it to learn to judge
    verdict_weight: float = 1.0  # what perfect, acceptable and bad count more: one token of a judgement is its lesson
    last_rate: float = 0.1  # of the learning rate, at `decay_steps`
    then: tuple[Phase, ...] = ()

    def phases(self) -> list[Plan]:
        """One plan a phase, the first the plan's own."""
        return [replace(self, then=()), *(replace(self, then=(), **asdict(phase)) for phase in self.then)]


_WRITER = Plan(
    "arithmetic",
    vocabulary=896,
    steps=2600,
    decay_steps=3000,
    prompt_weight=0.3,
    word_weight=4.0,
    tasks=(("solve", 0.46), ("rewrite", 0.18), ("paraphrase", 0.07), ("sws_write", 0.18), ("sws_judge", 0.08), ("sws_concepts", 0.03)),
)

_EASY_HALF = Phase(
    steps=2000,
    decay_steps=2000,
    learning_rate=1.5e-3,
    tasks=(("solve", 0.34), ("doubt", 0.18), ("paraphrase", 0.03), ("sws_write", 0.23), ("sws_judge", 0.18), ("sws_concepts", 0.04)),
    levels=(1, 2, 3),
    hard_rewrites=0.0,
    subtle=0.5,
    planned=True,
    last_rate=0.01,
    word_weight=2.0,
)

PLANS: dict[str, Plan] = {
    "arithmetic": Plan("arithmetic"),
    # Fewer than half of the lessons are solving. A story fails by the one name in forty tokens that is another than before, hence the weights:
    # without them 2,200 steps wrote 43 % readable problems, and 40 % fell by a name or a thing.
    "writer": replace(
        _WRITER,
        # The first phase also teaches to find other numbers for an answer, which a policy this small cannot: it learns to write questions with
        # another one. The others tell the chain again; the last one minds every token alike, since digits are what a variant fails by.
        then=(
            Phase(
                steps=600,
                decay_steps=600,
                learning_rate=1.2e-3,
                tasks=(("solve", 0.36), ("rewrite", 0.38), ("paraphrase", 0.05), ("sws_write", 0.11), ("sws_judge", 0.07), ("sws_concepts", 0.03)),
                hard_rewrites=0.0,
                retold=("story", "order", "tail", "paraphrase"),
                subtle=0.5,
            ),
            Phase(
                steps=800,
                decay_steps=800,
                learning_rate=1.5e-3,
                tasks=(("solve", 0.31), ("rewrite", 0.60), ("paraphrase", 0.02), ("sws_write", 0.04), ("sws_judge", 0.02), ("sws_concepts", 0.01)),
                hard_rewrites=0.0,
                retold=("story", "paraphrase"),
                subtle=0.5,
                prompt_weight=0.05,
                word_weight=1.0,
            ),
        ),
    ),
    # Writes, judges and answers for others (`strategies.sws.teacher`): the easy half of the world, but that to the end. Of what it writes the share
    # with a wrong reference fell from 42 % (the writer's) to 3 %; planning first and the checked arithmetic did most of it, then the judge that
    # saw its own slips.
    "teacher": replace(
        _WRITER,
        then=(
            _EASY_HALF,
            replace(
                _EASY_HALF,
                steps=700,
                decay_steps=700,
                learning_rate=8e-4,
                tasks=(("solve", 0.22), ("doubt", 0.24), ("paraphrase", 0.03), ("sws_write", 0.22), ("sws_judge", 0.25), ("sws_concepts", 0.04)),
                own=8000,
                verdict_weight=8.0,
                prompt_weight=0.1,
            ),
        ),
    ),
}


def plan_of(told: Mapping[str, Any]) -> Plan:
    """The plan as a card tells it."""
    lists = {name: tuple(value) for name, value in told.items() if name in ("without", "levels", "retold")}

    def phase(of: Mapping[str, Any]) -> Phase:
        return Phase(**{**of, "tasks": _pairs(of["tasks"]), "levels": tuple(of["levels"]), "retold": tuple(of.get("retold", ()))})

    then = tuple(phase(of) for of in told.get("then", ()))
    return Plan(**{**told, **lists, "tasks": _pairs(told.get("tasks", ())), "then": then})


def _pairs(tasks: Sequence[Sequence[Any]]) -> tuple[tuple[str, float], ...]:
    return tuple((task, weight) for task, weight in tasks)
