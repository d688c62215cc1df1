"""The doctor's lines: every attempt of the canary with what it met, and advice that fits what is missing."""

from __future__ import annotations

import pytest

from filters.sandbox import explain, levels
from filters.sandbox.canary import ATTEMPTS
from filters.sandbox.levels import Finding, Survey
from filters.sandbox.supervisor import Layers

pytestmark = pytest.mark.skipif(levels.best().level == "L0", reason="this host has no sandbox at all")


def test_the_report_has_a_line_for_every_attempt() -> None:
    good, lines = explain.report()
    seen = levels.best()
    assert lines[0].startswith(f"{seen.level} here") and good is (True if seen.level >= "L2" else None)
    for attempt in ATTEMPTS:
        assert any(attempt.name in line for line in lines), attempt
    assert not any("NOT STOPPED" in line for line in lines if line.startswith("  L1"))


def test_what_was_not_stopped_is_said_and_advice_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = tuple(Finding(a, a.level < "L2", "got through" if a.level >= "L2" else "OSError") for a in ATTEMPTS)
    weak = Survey(Layers(seccomp=True), "L1", findings)
    monkeypatch.setattr(levels, "best", lambda level="": weak)
    monkeypatch.setattr(levels, "surveyed", lambda layers: Survey(layers, "L0", (), "unshare: Operation not permitted"))
    monkeypatch.setattr(explain.kernel, "landlock_abi", lambda: 0)
    monkeypatch.setattr(explain.shutil, "which", lambda name: None)
    good, lines = explain.report()
    text = "\n".join(lines)
    assert good is None and "refused below L2" in lines[0]
    assert "NOT STOPPED: got through" in text and "lsm=landlock" in text and "bubblewrap" in text and "unshare: Operation not permitted" in text
    monkeypatch.setenv("SYNTH_SANDBOX_URL", "http://127.0.0.1:1")
    assert explain.report()[0] is True and "stamped remote" in explain.report()[1][0]


def test_other_systems_are_told_what_to_do() -> None:
    assert "endpoint" in explain.advice(Survey(Layers(), "L0", (), "no sandbox on Darwin arm64"))[0]
