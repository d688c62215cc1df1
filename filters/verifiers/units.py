"""Names of common units, enough to tell an equal unit from a wrong one, and exact conversions inside one system."""

from __future__ import annotations

import re
from fractions import Fraction

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


_LENGTH = {"mm": Fraction(1), "cm": Fraction(10), "m": Fraction(1000), "km": Fraction(10**6)}
_IMPERIAL = {"in": Fraction(1), "ft": Fraction(12), "yd": Fraction(36), "mi": Fraction(63360)}
_MASS = {"mg": Fraction(1), "g": Fraction(1000), "kg": Fraction(10**6)}
_POUNDS = {"oz": Fraction(1), "lb": Fraction(16)}
_TIME = {"s": Fraction(1), "min": Fraction(60), "h": Fraction(3600), "day": Fraction(86400), "week": Fraction(604800)}
_VOLUME = {"ml": Fraction(1), "l": Fraction(1000)}
_MONEY = {"¢": Fraction(1), "$": Fraction(100)}
_SPEED = {"m/s": Fraction(36), "km/h": Fraction(10)}
_SCALES = (_LENGTH, _IMPERIAL, _MASS, _POUNDS, _TIME, _VOLUME, _MONEY, _SPEED)
"""Exact conversions inside one system; anything else (inches to centimetres, temperatures) is the science verifier's."""

_POWER = re.compile(r"(?:square|sq\.?|cubic|cu\.?)\s+|\s*\^?\{?([23])\}?\Z|\s+(squared|cubed)\Z", re.IGNORECASE)


def split_power(unit: str) -> tuple[str, int]:
    """("cm", 2) of "cm^2", "square centimeters", "sq. cm", "cm squared"."""
    unit = unit.replace(" per ", "/")
    if "/" in unit:
        whole = canonical_unit(unit)
        return (whole if whole in _ALIASES else UNIT_NAMES.get(parts := "/".join(canonical_unit(u.strip()) for u in unit.split("/")), parts)), 1
    power = 1
    for match in _POWER.finditer(unit):
        word = match.group().lower()
        power = 2 if "sq" in word or "2" in word else 3
    return canonical_unit(_POWER.sub("", unit)), power


def converted(unit: str, into: str) -> Fraction | None:
    """How many `into` one `unit` is, where both are known and of one kind and system; else None."""
    (one, power), (other, powered) = split_power(unit), split_power(into)
    if power != powered:
        return None
    for scale in _SCALES:
        if one in scale and other in scale:
            return (scale[one] / scale[other]) ** power
    return None


def compare_units(left: str, right: str) -> str:
    """same | different (both are known, and they are two) | unknown."""
    one, other = split_power(left), split_power(right)
    if one == other:
        return "same"
    words = {w for u in (one[0], other[0]) for w in u.split()}
    if words <= {"unit", "sq", "square", "cubic"} or "unit" in (one[0], other[0]):
        return "same" if one[1] == other[1] or 1 in (one[1], other[1]) else "different"
    return "different" if one[0] in _ALIASES and other[0] in _ALIASES else "unknown"
