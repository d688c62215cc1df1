"""The verifier protocol: (problem, response) -> pass / fail / unknown, a reward in [0, 1], a reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from data.errors import UserError
from data.records import Problem, Verdict


class Verifier(Protocol):
    """Pure and total: never raises on a response, never executes it in process, bounded in time.

    Unknown is never silently a fail or a pass; a verifier that cannot tell says so, with reward 0.
    """

    name: str

    def verify(self, problem: Problem, response: str) -> Verdict: ...

    def check_problem(self, problem: Problem) -> str:
        """'' where this problem can be judged, else why not (an unparseable reference, a missing setting)."""
        ...


_registry: dict[str, Callable[[], Verifier]] = {}
_made: dict[str, Verifier] = {}


def register_verifier(name: str, make: Callable[[], Verifier]) -> None:
    _registry[name] = make
    _made.pop(name, None)


def verifier_names() -> list[str]:
    _load_shipped()
    return sorted(_registry)


def get_verifier(name: str) -> Verifier:
    """The verifier registered as `name`; shipped ones are imported on first use."""
    if name not in _made:
        _load_shipped()
        if name not in _registry:
            raise UserError(f"no verifier named {name!r}; there are: {', '.join(sorted(_registry))}")
        _made[name] = _registry[name]()
    return _made[name]


def verify_all(pairs: Sequence[tuple[Problem, str]]) -> list[Verdict]:
    """Verdicts in the order of `pairs`; a verifier that breaks gives `unknown`, never an exception (fail closed)."""
    verdicts = []
    for problem, response in pairs:
        try:
            verdicts.append(get_verifier(problem.verifier).verify(problem, response))
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001 - a judge that breaks must not break the run, nor pass anybody
            verdicts.append(Verdict("unknown", 0.0, f"verifier broke: {type(error).__name__}: {error}"[:300], problem.verifier))
    return verdicts


def _load_shipped() -> None:
    from filters.verifiers import code, math  # noqa: F401 - register themselves
