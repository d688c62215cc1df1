"""Sets the sections into one HTML page: style, scripts, charts and data inlined, every text escaped, every outside request forbidden."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from data.lake import Lake
from filters.difficulty import PRESETS, Band
from generators.worlds.registry import get_world
from pipelines.report import queries
from pipelines.report.candidates import fate_section, verdict_section
from pipelines.report.cost import cost_section
from pipelines.report.figure import Section, visible
from pipelines.report.funnel import with_funnel
from pipelines.report.head import Head, head, skipped
from pipelines.report.learning import domain_section, score_section
from pipelines.report.palette import variables
from pipelines.report.samples import sample_section
from pipelines.report.streams import stream_section
from pipelines.report.training import difficulty_section, steps_section
from pipelines.report.vega import vega

ASSETS = Path(__file__).parent / "assets"


def render(folder: Path, begun: Mapping[str, Any], lake: Lake) -> str:
    """The whole page. `begun`: what `run.json` says."""
    recipe = begun["recipe"]
    stages, evals, costs, fates = queries.stages(lake), queries.evals(lake), queries.costs(lake), queries.fates(lake)
    sections = [
        score_section(evals),
        domain_section(evals),
        steps_section(queries.steps(lake), skipped(stages)),
        *([streamed] if (streamed := stream_section(queries.streams(lake))) else []),
        difficulty_section(queries.pass_counts(lake), _band(recipe["difficulty"])),
        with_funnel(fate_section(fates), lake, get_world(world) if (world := recipe["problems"].get("world")) else None),
        verdict_section(queries.verdict_mix(lake), queries.top_reasons(lake)),
        sample_section(lake, evals),
        cost_section(costs),
    ]
    top = head(folder, begun, stages, costs, fates, queries.moments(lake), queries.starts(lake))
    return page(top, sections, _recipe_text(recipe))


def _band(part: Mapping[str, Any]) -> Band:
    return PRESETS[part["band"]] if part.get("band") else Band.of(part["low"], part["high"])


def page(top: Head, sections: Iterable[Section], recipe: str) -> str:
    """`Content-Security-Policy` allows our own scripts by their hash and nothing else, so that a text which slipped past the escaping
    could neither run nor ask for anything."""
    import jinja2

    sections = list(sections)
    scripts = [_script(vega()), _script((ASSETS / "page.js").read_text("utf-8"))]
    specs = {figure.id: figure.spec for section in sections for figure in section.figures}
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    policy = f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ASSETS), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["code"] = lambda text: jinja2.filters.Markup(_set_code(str(jinja2.filters.escape(text))))
    return environment.get_template("page.html.j2").render(
        head=top,
        sections=sections,
        recipe=recipe,
        policy=policy,
        style=jinja2.filters.Markup((ASSETS / "page.css").read_text("utf-8")),
        light=variables(0),
        dark=variables(1),
        specs=jinja2.filters.Markup(inert_json(specs)),
        scripts=[jinja2.filters.Markup(script) for script in scripts],
        written=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    )


def _set_code(html: str) -> str:
    """Names in `backticks` as code, and no line break before a percent sign."""
    return re.sub("`([^`]*)`", r"<code>\1</code>", html).replace(" %", " %")


def inert_json(value: Any) -> str:
    """JSON that may stand inside a script element: it can neither end the element nor begin a comment."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _script(text: str) -> str:
    """`text` as it may stand inside a script element: what would end it occurs in string literals only, where a backslash changes nothing."""
    return re.sub(r"</(?=script)", r"<\\/", text.replace("\r\n", "\n"), flags=re.IGNORECASE)


def _recipe_text(recipe: Mapping[str, Any]) -> str:
    import tomli_w

    return visible(tomli_w.dumps(_without_none(recipe)))


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(part) for key, part in value.items() if part is not None}
    return [_without_none(part) for part in value] if isinstance(value, list) else value
