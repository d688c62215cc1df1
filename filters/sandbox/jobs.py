"""What is asked of a sandbox and what it answers: plain data, the same for the local one and a remote one."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, Protocol

Kind = Literal["calls", "stdin", "judge", "beside"]
Status = Literal["ended", "timeout", "output", "broken"]

_IMPORTS = re.compile(r"(?:^|;)[ \t]*(?:import[ \t]+([\w., \t]+)|from[ \t]+([\w.]+))", re.M)


@dataclass(frozen=True)
class Limits:
    """Of one job. `test` and `total` are CPU seconds (a job that sleeps is stopped on the clock, see `deadline`)."""

    test: float = 10.0  # for loading the program, and for each test
    total: float = 60.0
    output: int = 8 << 20  # bytes of one record, and of standard output


@dataclass(frozen=True)
class Job:
    """One program and what to do with it.

    calls: expressions evaluated in the program's namespace. stdin: the program as __main__ with this input.
    judge: `script` in a process of its own, calling the functions `names` of the program. beside: `script` in the program's process.
    """

    kind: Kind
    code: str
    calls: tuple[str, ...] = ()
    stdin: str = ""
    script: str = ""
    names: tuple[str, ...] = ()
    setup: str = ""  # runs after the program and before the tests
    entry: str = ""  # also bound to the name `candidate`
    limits: Limits = field(default_factory=Limits)
    seed: int = 0

    def request(self) -> dict[str, Any]:
        """The job as the process that runs it reads it."""
        imports = [name for source in (self.code, self.script, self.setup) if source for name in standard_imports(source)]
        return {
            "kind": self.kind,
            "code": self.code,
            "calls": self.calls,
            "script": self.script,
            "names": self.names,
            "setup": self.setup,
            "entry": self.entry,
            "seed": self.seed,
            "cpu": int(self.limits.total) + 2,
            "imports": imports,
        }

    @property
    def expected(self) -> int:
        """Records that a job emits when all goes well."""
        return len(self.calls) + 1 if self.kind == "calls" else 1 if self.kind == "stdin" else 2


@dataclass(frozen=True)
class Result:
    """What came out of a job. `records` are raw and untrusted: only `filters.sandbox.wire` and `json` may read them.

    `broken` means that the sandbox lost the job: nothing is known about the program.
    """

    status: Status
    records: tuple[bytes, ...] = ()
    stdout: bytes = b""
    times: tuple[float, ...] = ()  # CPU seconds up to each record that was seen arriving
    cpu: float = 0.0
    wall: float = 0.0
    signal: int = 0


class Runner(Protocol):
    """A place where jobs run. `isolation` is stamped on every verdict that comes from it."""

    isolation: str

    def run(self, jobs: list[Job]) -> list[Result]:
        """Results in the order of `jobs`."""
        ...


def results(runner: Runner, jobs: list[Job]) -> Iterator[Result]:
    """In the order of `jobs`; as they come, where the place can: whoever judges them then does so while others run."""
    stream = getattr(runner, "stream", None)
    return iter(runner.run(jobs)) if stream is None else stream(jobs)


@lru_cache(maxsize=4096)
def standard_imports(source: str) -> tuple[str, ...]:
    """Modules of the standard library that a program seems to import: read for it before it is locked in, where files may be out of reach."""
    found = (part.split(" as ")[0].strip() for names, name in _IMPORTS.findall(source) for part in [*names.split(","), name])
    return tuple(name for name in dict.fromkeys(found) if name.split(".")[0] in sys.stdlib_module_names)
