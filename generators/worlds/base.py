"""Worlds: procedural sources of problems with exact ground truth, as many as one asks for."""

from __future__ import annotations

from typing import Any, Literal, Protocol

from data.records import Problem

Split = Literal["train", "heldout", "online"]  # no world makes the last: a rewrite of what a strategy wrote inherits it


class World(Protocol):
    """Every problem is a pure function of (seed, split, family, level, index).

    The splits are disjoint by construction: a problem's own content decides, by hash, which split it may appear in,
    so that no choice of seeds or indices can leak one into the other.
    """

    name: str

    def families(self) -> tuple[str, ...]: ...

    def levels(self) -> tuple[int, ...]: ...

    def concepts(self, family: str) -> tuple[str, ...]: ...

    def make(self, family: str, level: int, index: int, *, seed: int, split: Split) -> Problem:
        """Problem with `reference`, `domain=family`, `level`, `concepts`, `split`, `source="world"` and `meta`."""
        ...

    def demonstration(self, problem: Problem) -> str:
        """A correct worked response in the compact dialect, for pretraining and as an oracle."""
        ...

    def paraphrase(self, problem: Problem, key: int) -> Problem | None:
        """An answer-preserving rewrite of a problem of this world (other names, objects, template); None where it is not one."""
        ...

    def variant(self, problem: Problem, key: int) -> Problem | None:
        """A question of another structure with the same answer, on the same side of the split; None where there is none."""
        ...

    def spoil(self, problem: Problem, key: int) -> Problem | None:
        """A planted wrong variant: it inherits the reference, and its text asks for something else; None where there is none."""
        ...

    def read(self, text: str) -> Problem | None:
        """Ground truth for any text in the world's language, by a way of its own: the problem it is, its true answer as reference,
        its own numbers' split. None where the text is unparseable or has no single answer."""
        ...

    def fine_concepts(self, problem: Problem) -> tuple[str, ...]:
        """What this very problem is about, finer than `concepts(family)`; () for a problem from elsewhere."""
        ...

    def check_chain(self, problem: Problem, response: str) -> bool | None:
        """Whether the response's reasoning is right step by step, whatever its answer; None for a problem from elsewhere."""
        ...


def world_problem(world: str, problem: Problem) -> dict[str, Any] | None:
    """The parameters a world left in `problem.meta`, or None for a problem from elsewhere."""
    made = problem.meta.get("world")
    return dict(problem.meta) if made == world else None
