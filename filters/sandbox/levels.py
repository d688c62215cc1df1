"""What this host really gives: a canary tries to break out, and the level is what it failed to do.

L3  namespaces (own files, processes, network) around everything of L2
L2  files out of reach (Landlock), no privilege, everything of L1
L1  no socket, process, signal, trace, kernel interface or large memory (seccomp, rlimits); a job may open no file at all
L0  nothing: model-written programs are refused
"""

from __future__ import annotations

import os
import platform
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from data.errors import SynthError, UserError
from filters.sandbox import seccomp
from filters.sandbox.canary import ATTEMPTS, PROGRAM, Attempt, attempts_text
from filters.sandbox.jobs import Job, Limits
from filters.sandbox.pool import Sandbox
from filters.sandbox.supervisor import Layers, Zygote

LEVELS = ("L0", "L1", "L2", "L3")
DEFAULT_MINIMUM = "L2"


@dataclass(frozen=True)
class Finding:
    """One attempt of the canary: did it get through, and what it met."""

    attempt: Attempt
    stopped: bool
    met: str


@dataclass(frozen=True)
class Survey:
    """What one set of walls was worth. `level` is the highest whose attempts were all stopped."""

    layers: Layers
    level: str
    findings: tuple[Finding, ...]
    error: str = ""

    @property
    def name(self) -> str:
        return " + ".join(
            name
            for name, has in (
                ("bubblewrap", self.layers.bubblewrap),
                ("namespaces", self.layers.namespaces and not self.layers.bubblewrap),
                ("Landlock", self.layers.landlock),
                ("seccomp", self.layers.seccomp),
                ("uid per job", self.layers.drop),
                ("rlimits", True),
            )
            if has
        )


def candidates(level: str = "") -> list[Layers]:
    """Walls to try, strictest first; with `level`, only those meant to give that level."""
    root = os.geteuid() == 0
    plans = [
        ("L3", Layers(namespaces=True, landlock=True, seccomp=True, drop=root)),
        ("L3", Layers(namespaces=True, bubblewrap=True, landlock=True, seccomp=True)),
        ("L3", Layers(namespaces=True, landlock=False, seccomp=True, drop=root)),
        ("L2", Layers(landlock=True, seccomp=True, drop=root)),
        ("L1", Layers(seccomp=True, drop=root)),
    ]
    if not root and has_bubblewrap():
        plans[0], plans[1] = plans[1], plans[0]
    return [layers for name, layers in plans if level in ("", name) and (not layers.bubblewrap or has_bubblewrap())]


def meant(layers: Layers) -> str:
    """The level that these walls may give at most, whatever the canary did not think of."""
    return "L3" if layers.namespaces else "L2" if layers.landlock else "L1" if layers.seccomp else "L0"


def has_bubblewrap() -> bool:
    import shutil

    return shutil.which("bwrap") is not None


def survey(layers: Layers) -> Survey:
    """Start a sandbox with these walls and let the canary try them; a sandbox that does not start is L0."""
    if platform.system() != "Linux" or (layers.seccomp and not seccomp.supported()):
        return Survey(layers, "L0", (), f"no sandbox on {platform.system()} {platform.machine()}")
    with _bait() as (secret, outside), Sandbox(layers, workers=1) as sandbox:
        text = attempts_text(str(secret), str(outside), os.getpid())
        limits = Limits(0.2, 2.0, 1 << 20)
        try:
            results = sandbox.run(Job("calls", PROGRAM + text, calls=(a.call,), limits=limits) for a in ATTEMPTS)
            hello = sandbox.zygotes(1)[0].hello
        except SynthError as error:
            return Survey(layers, "L0", (), str(error))
        findings = [_finding(a, r.records, r.status) for a, r in zip(ATTEMPTS, results)]
        leftovers = [p.name for p in outside.iterdir()]
    findings += _seen_by_the_zygote(hello, leftovers)
    level = "L0"
    for name in LEVELS[1 : LEVELS.index(meant(layers)) + 1]:
        if any(not f.stopped for f in findings if f.attempt.level == name):
            break
        level = name
    return Survey(layers, level, tuple(findings))


def _finding(attempt: Attempt, records: tuple[bytes, ...], status: str) -> Finding:
    """Stopped means: it raised, was killed, or said that it saw nothing. A value other than None is a breach."""
    import json

    if status == "timeout":
        return Finding(attempt, attempt.by_deadline, "stopped at its deadline" if attempt.by_deadline else "no answer")
    if not records or json.loads(records[0]) != ["loaded"]:
        return Finding(attempt, False, f"the canary did not come up: {records[0].decode()[:120] if records else 'no word'}")
    if len(records) < 2:
        return Finding(attempt, not attempt.by_deadline, "the process was killed")
    record = json.loads(records[1])
    if record[0] == "x":
        return Finding(attempt, True, f"{record[1]}: {record[2]}"[:90])
    return Finding(attempt, record == ["v", None], "saw nothing" if record == ["v", None] else f"got through: {str(record[1])[:60]}")


def _seen_by_the_zygote(hello: dict[str, object], leftovers: list[str]) -> list[Finding]:
    interfaces = hello.get("interfaces")
    others = [i for i in interfaces if i != "lo"] if isinstance(interfaces, list) else ["?"]
    return [
        Finding(Attempt("own process namespace", "L3", "", "namespaces"), hello.get("pid") in (1, 2), f"the zygote is process {hello.get('pid')}"),
        Finding(Attempt("own network namespace", "L3", "", "namespaces"), not others, f"interfaces: {', '.join(others) or 'loopback, down'}"),
        Finding(Attempt("nothing left outside", "L2", "", "Landlock"), not leftovers, ", ".join(leftovers) or "the folder is empty"),
    ]


@contextmanager
def _bait() -> Iterator[tuple[Path, Path]]:
    """A secret that anybody may read and a folder that anybody may write, outside the sandbox: only its walls protect them."""
    with tempfile.TemporaryDirectory(prefix="synth-canary-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        secret, outside = folder / "secret", folder / "outside"
        secret.write_text("the canary may not read this")
        secret.chmod(0o644)
        outside.mkdir()
        outside.chmod(0o777)
        yield secret, outside


_opened: dict[tuple[int, str, int], Sandbox] = {}
_surveys: dict[tuple[int, Layers], Survey] = {}
_opening = threading.Lock()
_minimum = ""


def require(level: str) -> None:
    """The least isolation that programs may run under in this process (a recipe's setting); `SYNTH_SANDBOX_MINIMUM` says it for a host."""
    global _minimum
    if level not in LEVELS[1:]:
        raise UserError(f"the sandbox level must be one of {', '.join(LEVELS[1:])}, got {level!r}")
    _minimum = level


def minimum() -> str:
    named = _minimum or os.environ.get("SYNTH_SANDBOX_MINIMUM", "") or DEFAULT_MINIMUM
    if named not in LEVELS[1:]:
        raise UserError(f"SYNTH_SANDBOX_MINIMUM must be one of {', '.join(LEVELS[1:])}, got {named!r}")
    return named


def surveyed(layers: Layers) -> Survey:
    """The survey of these walls, made once per process."""
    key = (os.getuid(), layers)
    if key not in _surveys:
        _surveys[key] = survey(layers)
    return _surveys[key]


def best(level: str = "") -> Survey:
    """The strictest walls that hold here (of those meant for `level`)."""
    found: Survey | None = None
    for layers in candidates(level):
        seen = surveyed(layers)
        if found is None or LEVELS.index(seen.level) > LEVELS.index(found.level):
            found = seen
        if found.level in (level or "L3"):
            break
    assert found is not None
    return found


def open_sandbox(level: str = "", workers: int = 0) -> Sandbox:
    """The process's sandbox: strictest level of this host, or the given one. Refuses (SynthError) below the minimum."""
    with _opening:
        key = (os.getpid(), level, workers)
        if key not in _opened:
            seen = best(level)
            least = level or minimum()
            if LEVELS.index(seen.level) < LEVELS.index(least):
                why = seen.error or next((f"{f.attempt.name}: {f.met}" for f in seen.findings if not f.stopped), "")
                gives = f"this host's sandbox gives {seen.level}, below the minimum {least}"
                raise SynthError(f"programs are not run: {gives} ({why}); `synth doctor` explains")
            _opened[key] = Sandbox(replace(seen.layers), level or seen.level, workers)
        return _opened[key]


__all__ = [
    "DEFAULT_MINIMUM",
    "LEVELS",
    "Finding",
    "Survey",
    "Zygote",
    "best",
    "candidates",
    "minimum",
    "open_sandbox",
    "require",
    "survey",
    "surveyed",
]
