"""The verifier protocol: (problem, response) -> pass / fail / unknown, a reward in [0, 1], a reason; and the registry by name.

Adding a verifier is one file, which ends in `register_verifier(name, make)`, and one line in `SHIPPED`. A verifier's module is imported
when its name is first asked for and not before, so this module stays light.
What a verifier may offer beyond the protocol, each looked for by name:
`Spec` (a `filters.verifiers.spec.Spec`: its settings, typed); `verify_batch(pairs)` (faster than one by one); `bind(tools)` (the same
verifier with a model to ask) and `asks_model` (it can tell nothing without); `needs_reference`; `deadline_s` (seconds that a row of
`synth verify` may take); `answer_key(problem, response)` (what majority votes count); and for the audits `oracle(problem)` (a response that
must pass), `outright` (answers are checked themselves, so another problem's may be right), `form_only` (words without sense may pass).
"""

from __future__ import annotations

import difflib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, Protocol

from data.errors import UserError
from data.records import Embed, Generate, Outcome, Problem, Verdict
from data.text import storable

SHIPPED: dict[str, str] = {
    "math": "filters.verifiers.math",
    "science": "filters.verifiers.science",
    "code": "filters.verifiers.code",
    "choice": "filters.verifiers.choice",
    "answer": "filters.verifiers.answer",
    "instruction": "filters.verifiers.instruction",
    "sql": "filters.verifiers.sql",
    "logic": "filters.verifiers.logic",
    "rubric": "filters.verifiers.rubric",
    "judge": "filters.verifiers.judge",
    "process": "filters.verifiers.process",
    "consistency": "filters.verifiers.consistency",
    "written": "filters.verifiers.written",
    "fill": "filters.verifiers.fill",
    "reorder": "filters.verifiers.reorder",
    "segment": "filters.verifiers.segment",
}
"""name -> the module that registers it"""


class Verifier(Protocol):
    """Pure and total: never raises on a response, never executes it in process, bounded in time.

    Unknown is never silently a fail or a pass; a verifier that cannot tell says so, with reward 0.
    """

    name: str

    def verify(self, problem: Problem, response: str) -> Verdict: ...

    def check_problem(self, problem: Problem) -> str:
        """'' where this problem can be judged, else why not (an unparseable reference, a missing setting)."""
        ...


class PlainVerifier:
    """What verifiers without typed settings share: `decide` says outcome and reason, a pass is worth 1 and everything else 0.

    A problem that cannot be judged is unknown, with the reason of `check_problem`.
    """

    name = ""

    def decide(self, problem: Problem, response: str) -> tuple[Outcome, str]:
        raise NotImplementedError

    def check_problem(self, problem: Problem) -> str:
        raise NotImplementedError

    def verify(self, problem: Problem, response: str) -> Verdict:
        start = time.perf_counter()
        why = self.check_problem(problem)
        outcome: Outcome
        outcome, reason = ("unknown", why) if why else self.decide(problem, response)
        ms = (time.perf_counter() - start) * 1e3
        return Verdict(outcome, 1.0 if outcome == "pass" else 0.0, reason, self.name, problem_id=problem.id, ms=ms)


@dataclass(frozen=True)
class Tools:
    """What the rooms above hand to verifiers that cannot judge alone; None where there is no model."""

    generate: Generate | None = None
    embed: Embed | None = None
    policy_id: str = "judge"  # what requests ask for
    dialect: Literal["instruct", "compact"] = "instruct"  # how the model wants its prompts: as chat messages, or as plain text


NO_TOOLS = Tools()

_registry: dict[str, Callable[[], Verifier]] = {}
_made: dict[str, Verifier] = {}


def register_verifier(name: str, make: Callable[[], Verifier]) -> None:
    _registry[name] = make
    _made.pop(name, None)


def verifier_names() -> list[str]:
    return sorted(_registry.keys() | {name for name, module in SHIPPED.items() if find_spec(module) is not None})


def get_verifier(name: str) -> Verifier:
    """The verifier registered as `name`; a shipped one is imported on first use. UserError names the nearest where there is none."""
    if name not in _made:
        if name not in _registry and name in SHIPPED and find_spec(SHIPPED[name]) is not None:
            import_module(SHIPPED[name])
        if name not in _registry:
            near = difflib.get_close_matches(name, verifier_names(), n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UserError(f"no verifier named {name!r}; {hint}there are: {', '.join(verifier_names())}")
        _made[name] = _registry[name]()
    return _made[name]


def check_spec(name: str, spec: Mapping[str, Any]) -> str:
    """'' where verifier `name` takes these settings, else one sentence with the setting, its value and what would be right.

    A recipe asks this before a run begins, `synth verify` for every row. UserError where there is no such verifier.
    """
    kind = getattr(get_verifier(name), "Spec", None)
    if kind is None:
        return ""
    from filters.verifiers.spec import read_spec

    read = read_spec(kind, spec)
    return read if isinstance(read, str) else ""


def verify_all(pairs: Sequence[tuple[Problem, str]], tools: Tools = NO_TOOLS) -> list[Verdict]:
    """Verdicts in the order of `pairs`; a verifier that breaks gives `unknown`, never an exception (fail closed).

    Pairs of one verifier go to its `verify_batch` together where it has one; a batch that breaks is judged again one by one, so that
    only the pair that breaks it is unknown.
    """
    verdicts: list[Verdict | None] = [None] * len(pairs)
    places: dict[str, list[int]] = {}
    for place, (problem, _) in enumerate(pairs):
        places.setdefault(problem.verifier, []).append(place)
    for name, mine in places.items():
        verifier = bound(get_verifier(name), tools)
        for place, verdict in zip(mine, _judged(verifier, name, [pairs[i] for i in mine]), strict=True):
            verdicts[place] = verdict
    return [v for v in verdicts if v is not None]


def bound(verifier: Verifier, tools: Tools) -> Verifier:
    """`verifier` with `tools` at hand, where it has a use for them."""
    bind = getattr(verifier, "bind", None)
    return bind(tools) if bind is not None and tools != NO_TOOLS else verifier


def _judged(verifier: Verifier, name: str, pairs: Sequence[tuple[Problem, str]]) -> list[Verdict]:
    batch: Callable[[Sequence[tuple[Problem, str]]], list[Verdict]] | None = getattr(verifier, "verify_batch", None)
    if batch is not None and len(pairs) > 1:
        try:
            found = list(batch(pairs))
        except UserError:
            raise
        except Exception:  # noqa: BLE001 - each pair is tried on its own below, and the one that breaks is named there
            found = []
        if len(found) == len(pairs):
            return [checked(v) for v in found]
    verdicts = []
    for problem, response in pairs:
        try:
            one = verifier.verify(problem, response) if batch is None else batch([(problem, response)])[0]
            verdicts.append(checked(one))
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001 - a judge that breaks must not break the run, nor pass anybody
            verdicts.append(Verdict("unknown", 0.0, storable(f"verifier broke: {type(error).__name__}: {error}"[:300]), name, problem_id=problem.id))
    return verdicts


def checked(verdict: Verdict) -> Verdict:
    """`verdict` where it keeps the protocol; `unknown` where its outcome or reward is none that the protocol knows."""
    if verdict.outcome not in ("pass", "fail", "unknown") or not math.isfinite(verdict.reward) or not 0.0 <= verdict.reward <= 1.0:
        said = f"verifier broke: outcome {verdict.outcome!r} with reward {verdict.reward!r}"
        return replace(verdict, outcome="unknown", reward=0.0, reason=said)
    return replace(verdict, reward=0.0) if verdict.outcome == "unknown" and verdict.reward else verdict
