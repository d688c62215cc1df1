"""Names of common units, enough to tell an equal unit from a wrong one; converting between them is another verifier's work."""

from __future__ import annotations

_ALIASES: dict[str, str] = {
    "%": "% percent pct percentage",
    "$": "$ dollar usd us$",
    "€": "€ euro eur",
    "£": "£ gbp",
    "¥": "¥ yen jpy",
    "¢": "cent ¢",
    "°": "° degree deg",
    "mm": "mm millimeter millimetre",
    "cm": "cm centimeter centimetre",
    "m": "m meter metre",
    "km": "km kilometer kilometre",
    "in": "in inch inche",
    "ft": "ft foot feet",
    "yd": "yd yard",
    "mi": "mi mile",
    "mg": "mg milligram",
    "g": "g gram gm",
    "kg": "kg kilogram kilo",
    "lb": "lb pound",
    "oz": "oz ounce",
    "s": "s sec second",
    "min": "min minute",
    "h": "h hr hour",
    "day": "day",
    "week": "week wk",
    "month": "month",
    "year": "year yr",
    "ml": "ml milliliter millilitre",
    "l": "l liter litre",
    "gal": "gal gallon",
    "mph": "mph",
    "km/h": "km/h kph kmh",
    "m/s": "m/s",
    "am": "am a.m",
    "pm": "pm p.m",
}
UNIT_NAMES: dict[str, str] = {alias: unit for unit, aliases in _ALIASES.items() for alias in aliases.split()}
"""alias -> canonical name; plurals are folded by `canonical_unit`."""


def canonical_unit(unit: str) -> str:
    """Lower case, plural and full stop off, alias resolved; "dollars" -> "$", "red apples" -> "red apple"."""
    words = [w.rstrip(".") for w in unit.lower().replace("^", "").split()]
    folded = " ".join(UNIT_NAMES.get(w) or UNIT_NAMES.get(w.removesuffix("s")) or (w.removesuffix("s") if len(w) > 3 else w) for w in words)
    return UNIT_NAMES.get(folded, folded)


def known_unit(unit: str) -> bool:
    return canonical_unit(unit) in _ALIASES


def same_unit(left: str, right: str) -> bool:
    return canonical_unit(left) == canonical_unit(right)
