"""Physical quantities: a value, its significant figures and its unit, read by our own grammar and converted by pint.

pint only ever sees single unit names of letters: products, powers and slashes are taken apart here (its own expression parser would
compute `10**10**10`). The registry is made on first use (0.3 s).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

from filters.verifiers.expressions import Node, walk
from filters.verifiers.grammar import read
from filters.verifiers.notation import Unreadable, ascii_math
from filters.verifiers.sameness import constant

EXACT = 99  # significant figures of a number that was not measured


@dataclass(frozen=True)
class Quantity:
    """`value` in the unit as written; `figures`: significant digits as written, `EXACT` for integers, fractions and closed forms.

    `unit` is a pint unit, None where none was written.
    """

    value: float
    figures: int
    unit: Any = None
    text: str = ""


@lru_cache(maxsize=1)
def registry() -> Any:
    import pint

    return pint.UnitRegistry(autoconvert_offset_to_baseunit=True, cache_folder=None)


_VALUE = re.compile(
    r"(?P<sign>[-+]?)\s*(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d*)?|\.\d+)"
    r"(?:\s*(?:\\times|\\cdot|\*|x)\s*10\s*\^\s*(?:\{\s*(?P<braced>[-+]?\d{1,3})\s*\}|\(?(?P<plain>[-+]?\d{1,3})\)?)|[eE](?P<exp>[-+]?\d{1,3}))?(?![\d/])"
)
_ASSIGNED = re.compile(r"\A\s*[A-Za-z\\][A-Za-z0-9_\\{}\s'(),]{0,40}?(?:=|\\approx|\\simeq)\s*")
_HEDGE = re.compile(r"\A(?:about|approximately|approx\.?|roughly|around|\\approx|\\simeq|\\sim)\s*", re.IGNORECASE)
_WORDS_OFF = re.compile(r"\\(?:text|mathrm|mbox|operatorname|rm|textrm|mathit|si|unit)\s*\{([^{}]*)\}|\{\\rm\s+([^{}]*)\}")
_NAMES = {
    "degrees celsius": "degC", "degree celsius": "degC", "celsius": "degC", "°c": "degC", "^\\circ c": "degC", "degrees fahrenheit": "degF",
    "fahrenheit": "degF", "degrees": "degree", "°": "degree", "Ω": "ohm", "ohms": "ohm", "Å": "angstrom", "A": "ampere", "amps": "ampere",
    "M": "molar", "sec": "second", "secs": "second", "hr": "hour", "hrs": "hour", "mins": "minute", "cc": "centimeter**3", "rev": "turn",
    "rpm": "rpm", "kph": "km/hour", "mph": "mile/hour", "percent": "percent", "%": "percent", "dollars": "", "units": "",
    "u": "unified_atomic_mass_unit",
    "amu": "unified_atomic_mass_unit", "cal": "calorie", "kcal": "kilocalorie", "Cal": "kilocalorie", "C": "coulomb", "F": "farad", "G": "gauss",
    "g": "gram",
    "h": "hour", "l": "liter", "L": "liter", "mol": "mole", "moles": "mole", "kWh": "kilowatt_hour", "eV": "electron_volt", "T": "tesla",
    "S": "siemens",
    "d": "day", "a": "year", "y": "year", "yr": "year", "yrs": "year", "in": "inch", "lb": "pound", "lbs": "pound",
    "psi": "psi", "Hz": "hertz", "K": "kelvin", "kilohm": "kiloohm", "kilohms": "kiloohm",
    "megohm": "megaohm", "megohms": "megaohm",
}  # fmt: skip
_UNIT_TOKEN = re.compile(r"\s*(?:(?P<name>[A-Za-zµμΩÅ°%]+(?:_[A-Za-z]+)?)|(?P<op>\*\*|[*/()^]|\\cdot|\\times|[-+]?\d+))")


@lru_cache(maxsize=16_384)
def unit_of(text: str) -> Any:
    """The pint unit that `text` names; None where it names none. "" is no unit."""
    from contextlib import suppress

    plain = _unit_text(text)
    if not plain or len(plain) > 60:
        return None
    lowered = plain.lower()
    if _NAMES.get(lowered):
        return registry().Unit(_NAMES[lowered])
    with suppress(Unreadable):
        return _Units(plain).parsed()
    return None


def _unit_text(text: str) -> str:
    for _ in range(3):
        text = _WORDS_OFF.sub(lambda m: " " + (m[1] if m[1] is not None else m[2]).replace("~", " ") + " ", text)
    text = re.sub(r"\^\s*\{?\s*\\circ\s*\}?\s*(?:\\mathrm)?\{?\s*([CFK])\b\}?", r" deg\1 ", text).replace("degK", "kelvin")
    text = re.sub(r"\^\s*\{?\s*\\circ\s*\}?", " degree ", text).replace("\\degree", " degree ").replace("\\Omega", "ohm").replace("\\omega", "ohm")
    text = re.sub(r"\\mu\s*(?=[A-Za-z])", "µ", text).replace("\\AA", "angstrom").replace("\\%", "%").replace("\\hbar", "hbar")
    text = re.sub(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"(\1)/(\2)", text)
    text = re.sub(r"\\[,;:! ]|~|\\left|\\right", " ", text).replace("\\cdot", "*").replace("\\times", "*").replace("·", "*").replace("⋅", "*")
    text = re.sub(r"\^\s*\{\s*([-+]?\d+)\s*\}", r"^\1", text).replace("{", "(").replace("}", ")").replace("$", " ")
    text = re.sub(r"\bper\b", "/", text)
    text = re.sub(r"\b(?:square|sq\.?)\s+([A-Za-z]+)", r"\1^2", text)
    text = re.sub(r"\bcubic\s+([A-Za-z]+)", r"\1^3", text)
    text = re.sub(r"([A-Za-z]+)\s+squared\b", r"\1^2", text)
    return re.sub(r"\s+", " ", text).strip().rstrip(".,;")


class _Units:
    """unit := factor ((* | / | blank) factor)*; a slash divides by the one factor behind it; exponents are small integers."""

    def __init__(self, text: str) -> None:
        self.tokens: list[str] = []
        at = 0
        while at < len(text):
            match = _UNIT_TOKEN.match(text, at)
            if match is None or match.end() == at:
                raise Unreadable("no unit")
            self.tokens.append(match.group().strip())
            at = match.end()
        self.at = 0

    def parsed(self) -> Any:
        unit = self.product()
        if self.at < len(self.tokens):
            raise Unreadable("no unit")
        return unit

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def product(self) -> Any:
        unit = self.factor()
        while (token := self.peek()) and token != ")":
            if token in ("*", "/", "\\cdot", "\\times"):
                self.at += 1
            unit = unit / self.factor() if token == "/" else unit * self.factor()
        return unit

    def factor(self) -> Any:
        token = self.peek()
        self.at += 1
        if token == "(":
            unit = self.product()
            if self.peek() != ")":
                raise Unreadable("no unit")
            self.at += 1
        elif token == "1" and self.peek() == "/":
            unit = registry().Unit("dimensionless")
        else:
            unit = single_unit(token)
            if unit is None:
                raise Unreadable("no unit")
        power = 1
        if self.peek() in ("^", "**"):
            self.at += 1
            opened = self.peek() == "("
            self.at += opened
            power = self.integer()
            self.at += opened
        elif re.fullmatch(r"[-+]?\d", self.peek()):
            power = self.integer()
        return unit**power

    def integer(self) -> int:
        token = self.peek()
        self.at += 1
        if not re.fullmatch(r"[-+]?\d", token) or abs(int(token)) > 6:
            raise Unreadable("no unit")
        return int(token)


@lru_cache(maxsize=4_096)
def single_unit(name: str) -> Any:
    """One unit by its name or symbol, plural or prefixed; None where pint knows none."""
    name = _NAMES.get(name, name)
    if not re.fullmatch(r"[A-Za-zµμΩÅ°%_]{1,30}(?:(?:\*\*|/)[a-z0-9]+)?", name):
        return None
    import pint

    for attempt in (name, name.lower() if len(name) > 3 else name):
        try:
            return registry().Unit(attempt)
        except (pint.errors.UndefinedUnitError, AttributeError, ValueError, TypeError):
            continue
    return None


@lru_cache(maxsize=16_384)
def parse_quantity(text: str) -> Quantity | str:
    """The quantity that `text` states, or why it states none."""
    try:
        plain = ascii_math(text.replace("μ", "\\mu ").replace("µ", "\\mu ").replace("Å", "\\AA ").replace("Ω", "\\Omega "))
    except Unreadable as error:
        return str(error)
    plain = _HEDGE.sub("", _ASSIGNED.sub("", plain, count=1), count=1).strip()
    match = _VALUE.match(plain)
    if match is not None:
        rest = plain[match.end() :].strip()
        unit = unit_of(rest) if rest else None
        if not rest or unit is not None:
            digits = match["digits"].replace(",", "")
            power = int(match["braced"] or match["plain"] or match["exp"] or 0)
            value = float(Fraction(digits.rstrip(".")) * Fraction(10) ** power) * (-1 if match["sign"] == "-" else 1)
            return Quantity(value, _figures(digits, power != 0), unit, text)
    split = re.search(r"\\(?:text|mathrm|mbox|operatorname|unit|si)\s*\{|(?<=[\d})])\s+(?=[A-Za-z])", plain)
    head, tail = (plain[: split.start()], plain[split.start() :]) if split else (plain, "")
    tree = read(head) if head.strip() else "no value"
    unit = unit_of(tail) if tail else None
    if isinstance(tree, str) or (tail and unit is None):
        return "no quantity"
    if tree.op == "quantity" and tree.args[1] == "%":
        tree, unit = tree.args[0], registry().Unit("percent")
    value = constant(tree)
    if value is None or getattr(value, "imag", 0) != 0:
        return "no quantity"
    value = getattr(value, "real", value)
    decimals = [n for n in walk(tree) if n.op == "num" and n.args[1] > 0]
    try:
        return Quantity(float(value), min((_figures(_digits(n), False) for n in decimals), default=EXACT), unit, text)
    except OverflowError:
        return "the value is too large"


def _digits(node: Node) -> str:
    return f"{float(node.args[0]):.{node.args[1]}f}"


def _figures(digits: str, scientific: bool) -> int:
    """Significant figures as written: 0.050 has 2, 1200 is exact (an integer), 1.20e3 has 3."""
    if "." not in digits and not scientific:
        return EXACT
    return max(1, len(digits.replace(".", "").lstrip("0")))


def convert(quantity: Quantity, unit: Any) -> float | None:
    """The value in another unit; None where the dimensions differ."""
    import pint

    if quantity.unit is None or unit is None:
        return None
    if quantity.unit == unit:
        return quantity.value
    try:
        return float(registry().Quantity(quantity.value, quantity.unit).to(unit).magnitude)
    except (pint.errors.DimensionalityError, pint.errors.OffsetUnitCalculusError, OverflowError, ValueError):
        return None


def equal_values(want: float, got: float, figures: int, other_figures: int, rel_tol: float) -> bool:
    """Equal to the significant figures of the coarser of the two, at least two of them and at most one fewer than the reference has.

    A relative rule throughout: "equal to two decimals" would make 1e-5 and 2e-5 the same.
    """
    if want == got or (want != 0 and abs(got - want) <= max(rel_tol, 1e-9) * abs(want)):
        return True
    if (figures == EXACT and other_figures == EXACT) or want == 0 or got == 0:
        return False
    common = max(2, min(figures, other_figures), min(figures, 6) - 1 if figures != EXACT else 3)
    step = 10.0 ** (math.floor(math.log10(abs(want))) - min(common, 12) + 1)
    return abs(got - want) <= step * 0.5000001
