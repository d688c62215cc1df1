"""Charts as Vega-Lite specs: plain data in, a dictionary out. Widths come from the page, colours from its style sheet.

Why Vega: it draws SVG (crisp on paper and on a phone, labelled for screen readers, coloured by CSS, so that dark mode costs nothing),
and `vl-convert-python`, kept by the Vega project, carries the whole library inside its wheel, offline: 0.9 MB in the page.
Plotly's script is 4.8 MB a page; Bokeh's is 1.3 MB and draws on a canvas, which is blank to a screen reader and blurred in print.
Altair would write these same specs for a further dependency.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.report.palette import SERIES, var

Rows = Sequence[Mapping[str, Any]]
Spec = dict[str, Any]

SHARE = {"format": ".0%"}


def scores(rows: Rows, metrics: Sequence[str]) -> Spec:
    """Rows: round, metric, value, low, high (shares), text. A line per metric over the rounds, each point with its interval."""
    x = {"field": "round", "type": "ordinal", "title": "round", "axis": {"labelAngle": 0, "labelOverlap": True}}
    low, high = min(row["low"] for row in rows), max(row["high"] for row in rows)
    room = max(0.05, 0.1 * (high - low))
    y = {"type": "quantitative", "scale": {"domain": [max(0.0, low - room), min(1.0, high + room)]}, "axis": {**SHARE, "tickCount": 6}}
    middle, half = "bandwidth('x') / 2", min(4.0 * (len(metrics) - 1), 14)
    apart = {
        "field": "metric",
        "type": "nominal",
        "sort": list(metrics),
        "scale": {
            "type": "point",
            "range": [{"expr": f"{middle} - {half}"}, {"expr": f"{middle} + {half}"}],
        },  # so that intervals do not hide one another
    }
    colour = {
        "field": "metric",
        "type": "nominal",
        "scale": {"domain": list(metrics), "range": list(SERIES[: len(metrics)])},
        "legend": None if len(metrics) == 1 else {"orient": "top", "title": None},
    }
    return {
        "height": 280,
        "data": _values(rows, "round", "metric", "value", "low", "high", "text"),
        "encoding": {"x": x, "xOffset": apart, "color": colour, "tooltip": {"field": "text"}},
        "layer": [
            {"mark": {"type": "line", "strokeWidth": 2}, "encoding": {"y": {"field": "value", **y, "title": None}}},
            {"mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.45}, "encoding": {"y": {"field": "low", **y}, "y2": {"field": "high"}}},
            {"mark": {"type": "point", "filled": True, "size": 70, "opacity": 1}, "encoding": {"y": {"field": "value", **y}}},
        ],
    }


def before_after(rows: Rows, names: Sequence[str], whens: Sequence[str]) -> Spec:
    """Rows: name, when, value, low, high, text. A line of the chart per name, a dot with its interval per `when`."""
    y = {"field": "name", "type": "nominal", "sort": list(names), "title": None, "axis": {"labelLimit": 110, "ticks": False, "domain": False}}
    x = {"type": "quantitative", "scale": {"domainMin": 0, "domainMax": 1}, "axis": {**SHARE, "tickCount": 5}, "title": None}
    offset = {"field": "when", "type": "nominal", "sort": list(whens), "scale": {"paddingInner": 0.2, "paddingOuter": 0.9}}
    colour = {
        "field": "when",
        "type": "nominal",
        "scale": {"domain": list(whens), "range": [var("before"), var("accent")][-len(whens) :]},
        "legend": {"orient": "top", "title": None},
    }
    return {
        "height": 30 * len(names),
        "data": _values(rows, "name", "when", "value", "low", "high", "text"),
        "encoding": {"y": y, "yOffset": offset, "color": colour, "tooltip": {"field": "text"}},
        "layer": [
            {"mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.5}, "encoding": {"x": {"field": "low", **x}, "x2": {"field": "high"}}},
            {"mark": {"type": "point", "filled": True, "size": 60, "opacity": 1}, "encoding": {"x": {"field": "value", **x}}},
        ],
    }


def gains(rows: Rows, names: Sequence[str]) -> Spec:
    """Rows: name, gain, low, high (percentage points), kind (better, worse, open), text."""
    kinds = {"better": var("pass"), "worse": var("fail"), "open": var("before")}
    words = {"better": "better", "worse": "worse", "open": "within chance"}
    there = [k for k in kinds if any(row["kind"] == k for row in rows)]
    y = {"field": "name", "type": "nominal", "sort": list(names), "title": None, "axis": {"labelLimit": 110, "ticks": False, "domain": False}}
    x = {"type": "quantitative", "axis": {"format": "+d", "tickCount": 5}, "title": "percentage points"}
    colour = {
        "field": "kind",
        "type": "nominal",
        "scale": {"domain": [words[k] for k in there], "range": [kinds[k] for k in there]},
        "legend": {"orient": "top", "title": None},
    }
    return {
        "height": 30 * len(names),
        "data": {"values": [{**_cut(row, "name", "gain", "low", "high", "text"), "kind": words[row["kind"]]} for row in rows]},
        "encoding": {"y": y, "tooltip": {"field": "text"}},
        "layer": [
            {"mark": {"type": "rule", "color": var("quiet"), "strokeDash": [3, 3]}, "encoding": {"x": {"datum": 0}, "y": None, "tooltip": None}},
            {
                "mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.5},
                "encoding": {"x": {"field": "low", **x}, "x2": {"field": "high"}, "color": colour},
            },
            {"mark": {"type": "point", "filled": True, "size": 60, "opacity": 1}, "encoding": {"x": {"field": "gain", **x}, "color": colour}},
        ],
    }


def curve(rows: Rows, starts: Rows, *, format: str, series: Sequence[str], smooth: int) -> Spec:
    """Rows: at (step over all rounds), series, value, text; starts: at, label of each round. Faint values, a moving mean of 2·smooth + 1 of them."""
    x = {
        "field": "at",
        "type": "quantitative",
        "title": None,
        "scale": {"nice": False, "zero": False},
        "axis": {"tickMinStep": 1, "tickCount": 6, "format": "d"},
    }
    y = {"type": "quantitative", "title": None, "scale": {"zero": False, "padding": 6}, "axis": {"format": format, "tickCount": 4}}
    colour = {
        "field": "series",
        "type": "nominal",
        "scale": {"domain": list(series), "range": list(SERIES[: len(series)])},
        "legend": None if len(series) == 1 else {"orient": "bottom", "title": None},
    }
    lines: list[Spec] = [{"mark": {"type": "line", "strokeWidth": 1.2, "opacity": 0.4 if smooth else 1}, "encoding": {"y": {"field": "value", **y}}}]
    if smooth:
        moving = {
            "window": [{"op": "mean", "field": "value", "as": "mean"}],
            "frame": [-smooth, smooth],
            "groupby": ["series"],
            "sort": [{"field": "at"}],
        }
        lines.append({"transform": [moving], "mark": {"type": "line", "strokeWidth": 2}, "encoding": {"y": {"field": "mean", **y}}})
    lines.append(
        {
            "mark": {"type": "point", "filled": True, "size": 30, "opacity": 0 if len(rows) > 3 else 1},
            "encoding": {"y": {"field": "value", **y}, "tooltip": {"field": "text"}},
        }
    )
    return {
        "height": 150,
        "layer": [
            {
                "data": _values(starts, "at", "label"),
                "mark": {"type": "rule", "color": var("line"), "strokeWidth": 1.5},
                "encoding": {"x": x},
            },
            {
                "data": _values(starts, "at", "label"),
                "mark": {"type": "text", "align": "left", "baseline": "top", "dx": 4, "fontSize": 10, "color": var("quiet")},
                "encoding": {"x": x, "y": {"value": 0}, "text": {"field": "label"}},
            },
            {"data": _values(rows, "at", "series", "value", "text"), "encoding": {"x": x, "color": colour}, "layer": lines},
        ],
    }


def histogram(rows: Rows, bins: Sequence[str], highest: float) -> Spec:
    """Rows: bin, share, inside (in the band), text. All of one family share the vertical scale up to `highest`."""
    x = {
        "field": "bin",
        "type": "ordinal",
        "scale": {"domain": list(bins)},
        "title": None,
        "axis": {"labelAngle": 0, "labelOverlap": "greedy", "labelFontSize": 10},
    }
    return {
        "height": 110,
        "data": _values(rows, "bin", "share", "inside", "text"),
        "mark": {"type": "bar", "cornerRadiusEnd": 2},
        "encoding": {
            "x": x,
            "y": {"field": "share", "type": "quantitative", "title": None, "scale": {"domain": [0, highest]}, "axis": {**SHARE, "tickCount": 3}},
            "color": {"condition": {"test": "datum.inside", "value": var("accent")}, "value": var("before")},
            "tooltip": {"field": "text"},
        },
    }


def parts(rows: Rows, names: Sequence[str], kinds: Sequence[tuple[str, str]], *, shares: bool) -> Spec:
    """Rows: name, kind, amount, text. A stacked bar per name; `kinds` are (kind, colour) in stacking order; `shares` makes all bars as long."""
    order = {kind: place for place, (kind, _) in enumerate(kinds)}
    values = [{**_cut(row, "name", "kind", "amount", "text"), "order": order[row["kind"]]} for row in rows]
    axis: Spec = {"tickCount": 5, "labelOverlap": "greedy", "labelSeparation": 8, **(SHARE if shares else {"format": ",d", "tickMinStep": 1})}
    return {
        "height": 26 * len(names),
        "data": {"values": values},
        "mark": {"type": "bar", "height": {"band": 0.66}, "opacity": 0.92},
        "encoding": {
            "y": {
                "field": "name",
                "type": "nominal",
                "sort": list(names),
                "title": None,
                "axis": {"labelLimit": 130, "ticks": False, "domain": False},
            },
            "x": {"field": "amount", "type": "quantitative", "stack": "normalize" if shares else "zero", "title": None, "axis": axis},
            "color": {
                "field": "kind",
                "type": "nominal",
                "scale": {"domain": [kind for kind, _ in kinds], "range": [colour for _, colour in kinds]},
                "legend": {"orient": "top", "title": None, "labelLimit": 150},
            },
            "order": {"field": "order"},
            "tooltip": {"field": "text"},
        },
    }


def _values(rows: Rows, *names: str) -> Spec:
    return {"values": [_cut(row, *names) for row in rows]}


def _cut(row: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The named fields, floats to six significant digits: a chart shows no more, and the page stays small."""
    return {name: float(f"{row[name]:.6g}") if isinstance(row[name], float) else row[name] for name in names}
