"""A page for an experiment over several runs, in the report's own dress: what `synth bench` writes beside its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines.report.figure import Section
from pipelines.report.head import Head
from pipelines.report.page import page


def write_experiment(
    path: Path,
    title: str,
    verdict: str,
    sections: Sequence[Section],
    *,
    tiles: Sequence[tuple[str, str, str]] = (),
    facts: Sequence[tuple[str, str]] = (),
    command: str,
    recipe: Mapping[str, Any],
    tone: str = "open",
) -> None:
    """`tiles`: name, value, what it means; `recipe`: what all runs have in common."""
    top = Head(
        title=title,
        when=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        state="finished",
        finished=True,
        verdict=verdict,
        tone=tone,
        facts=list(facts),
        tiles=list(tiles),
        commands=[command],
        again=command,
        digest="synth digest RUN",
        resume="",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(top, sections, recipe_text(recipe)), encoding="utf-8")


def recipe_text(recipe: Mapping[str, Any]) -> str:
    import tomli_w

    return tomli_w.dumps(dict(recipe))
