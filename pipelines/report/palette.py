"""The report's colours, light and dark: one accent, three verdicts, a few quiet hues for parts of a whole.

Charts name them as CSS variables, which SVG attributes understand, so that a change of theme (or the printer) needs no new drawing.
Passes and fails are teal and vermilion, which readers with any of the usual colour-vision deficiencies tell apart.
"""

from __future__ import annotations

COLOURS: dict[str, tuple[str, str]] = {  # name: (light, dark)
    "page": ("#f6f5f2", "#131416"),
    "card": ("#ffffff", "#1b1d20"),
    "sunk": ("#f4f3ef", "#232629"),
    "ink": ("#1d1e20", "#e9e7e2"),
    "quiet": ("#64656a", "#a3a4a8"),
    "line": ("#e3e1db", "#34373b"),
    "accent": ("#2f5fa8", "#86b4f2"),
    "accent-soft": ("#e8eef8", "#22304a"),
    "pass": ("#1f7f6b", "#5cc2a8"),
    "fail": ("#c2502f", "#ef8a66"),
    "unknown": ("#b07d12", "#e6ba58"),
    "before": ("#9a9ba1", "#7d8087"),
    "c1": ("#2f5fa8", "#86b4f2"),
    "c2": ("#1f8a8a", "#62c7c2"),
    "c3": ("#b26a1f", "#e5a663"),
    "c4": ("#8a4f9e", "#cc9be0"),
    "c5": ("#a8444f", "#ec8f97"),
    "c6": ("#6b7a2a", "#b5c46c"),
    "c7": ("#7a6a58", "#bfae99"),
    "c8": ("#5f6f86", "#9fb0c8"),
}

SERIES = tuple(f"var(--c{i})" for i in range(1, 9))


def var(name: str) -> str:
    """The colour as a chart or a style sheet names it."""
    if name not in COLOURS:
        raise KeyError(name)
    return f"var(--{name})"


def variables(theme: int) -> str:
    """CSS declarations of every colour; theme 0 is light, 1 dark."""
    return " ".join(f"--{name}: {both[theme]};" for name, both in COLOURS.items())
