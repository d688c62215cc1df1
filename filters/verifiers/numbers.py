"""A number as a person writes it, read into an exact `Fraction`; our own small grammar, no `eval`, no sympy.

Reads integers, decimals, fractions, mixed numbers, percent, currency, thousands separators, scientific notation, scale words
("1.5 million"), the usual LaTeX dress and the digits and minus signs of Unicode. What it cannot read it refuses with a reason:
a wrong value is worse than a refusal, so look-alikes that NFKC would turn into another number ("10²" -> "102", "3½" -> "31/2",
an invisible character between two digits) are spelled out or refused before NFKC runs.
Static guards (length, digit runs, exponent) come before any arithmetic, so that time and memory are bounded.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction

from filters.verifiers.units import UNIT_NAMES, same_unit

MAX_LENGTH = 200  # characters of one answer
MAX_DIGITS = 60  # digits in one run
MAX_EXPONENT = 300  # |e| in 1.5e300


@dataclass(frozen=True)
class Number:
    """A value with the unit it was written with ("" where there was none); "12.5 %" is Number(25/2, "%")."""

    value: Fraction
    unit: str = ""


@dataclass(frozen=True)
class Refusal:
    """Why a text is not one number. `expression`: it may still denote one (`\\sqrt{16}`), this grammar cannot tell."""

    reason: str
    expression: bool = False


_SUPERSCRIPTS = {ord(c): f"^{d}" for c, d in zip("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")}
_MINUS = dict.fromkeys(map(ord, "−﹣-‐‑‒–"), "-")
_SPACES = dict.fromkeys(map(ord, "\t\r\n"), " ")
_GROUPING = re.compile("(?<=[0-9])(?:\u00a0|\u202f|\u2009|\\\\[,! ]|\\{,\\})+(?=[0-9]{3}(?![0-9]))")
_INVISIBLE = frozenset(("Cf", "Cc", "Cs", "Co", "Cn"))

_LATEX_WORDS = re.compile(r"\\(?:text|textbf|mathrm|mathbf|operatorname|mbox)\s*\{([^{}]*)\}")
_LATEX_FRAC = re.compile(r"\\[dtc]?frac\s*(?:\{\s*([^{}]+?)\s*\}\s*\{\s*([^{}]+?)\s*\}|([0-9])\s*([0-9])(?![0-9]))")
_PLAIN_DECIMAL = re.compile(r"-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)\Z")
_ASSIGNMENT = re.compile(r"\s*(?:[A-Za-z]\w?\s*)?=\s*(?=[^=])")
_HEDGE = re.compile(r"(?:about|approximately|exactly|roughly|only|just|approx\.?)\s+", re.I)

_DEC = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])(?:\.[0-9]*)?|[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_NUMBER = re.compile(
    r"(?P<sign>[+-]\s*)?(?P<cur>[$€£¥₹]\s*)?(?P<sign2>-\s*)?"
    r"(?:(?P<whole>[0-9]+)\s+(?P<mn>[0-9]+)\s*/\s*(?P<md>[0-9]+)"
    rf"|(?P<num>{_DEC})\s*/\s*(?P<den>{_DEC})"
    rf"|(?P<mant>{_DEC})\s*(?:[eE](?P<exp>[+-]?[0-9]+)|(?:[x*×]|\\times|\\cdot)\s*10\s*\^\s*\{{?(?P<pow>[+-]?[0-9]+)\}}?)"
    r"|10\s*\^\s*\{?(?P<ten>[+-]?[0-9]+)\}?"
    rf"|(?P<dec>{_DEC}))"
)
_UNIT_WORD = r"[A-Za-z]+(?:[-/.][A-Za-z]+)*(?:\^?[23])?\.?"
_UNIT = re.compile(rf"(?:[%€£¥$]|°[CF]?|/ ?{_UNIT_WORD}|{_UNIT_WORD})(?:[ /]{{1,3}}{_UNIT_WORD}){{0,3}}\Z")
_SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_NO_UNITS = """
or and not to than minus plus times over divided by dozen dozens half halves third thirds quarter quarters pair pairs score squared cubed tens
sqrt pi e i mod is isn't are was wrong maybe but log ln sin cos tan exp inf infinity nan zero one two three four five six seven eight nine ten
eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety if because so
hundred thousand million billion trillion point excluded impossible except without never true false correct negative less more base mil mln bil"""
NO_UNIT = frozenset(_NO_UNITS.split())  # behind a number these change its value, or say that it is not the answer
_ORDINAL = re.compile(r"(?<!mon)(?<!wid)(?<!leng)ths?\Z")  # "18 hundredths" is a fraction
_OPERATOR = re.compile(r"\\[A-Za-z]+|√|π|∞|±|[0-9)}A-Za-z]\s*[-+*/^=<>!×÷·]\s*[-+(\\{0-9A-Za-z]|[0-9)]\s*!|(?<![A-Za-z])[A-Za-z](?![A-Za-z])")
_LONG_WORD = re.compile(r"(?<![\\A-Za-z])(?!sqrt|frac|sin|cos|tan|log|exp|mod)[A-Za-z]{3,}")


def plain_text(text: str) -> str | Refusal:
    """`text` as ASCII digits and signs, LaTeX dress and markdown off; the same number or a refusal, never another number."""
    text = text.strip().strip("\u200b\u200c\u200d\u2060\ufeff*_` ")
    if text.rstrip("$").endswith(("...", "…", "dots")):
        return Refusal("the answer goes on without end", expression=True)
    text = text.rstrip(".,;: ")
    if len(text) > MAX_LENGTH:
        return Refusal(f"the answer is longer than {MAX_LENGTH} characters")
    if not text.isascii():
        out = []
        for c in text.translate(_MINUS).translate(_SUPERSCRIPTS):
            category = unicodedata.category(c)
            if category in _INVISIBLE and c not in "\t\n\r":
                return Refusal("the answer holds an invisible character")
            if category == "Nd":
                c = str(unicodedata.digit(c))
            elif category == "No":
                name = unicodedata.normalize("NFKC", c)
                if "⁄" not in name or name.endswith("⁄"):
                    return Refusal(f"the answer holds {c!r}, which is not a plain digit")
                c = " " + name.replace("⁄", "/")
            elif c == "٫":
                c = "."
            elif c in "٬’":
                c = ","
            elif c == "⁄":
                c = "/"
            elif c not in "\u00a0\u202f\u2009":
                c = unicodedata.normalize("NFKC", c)
            out.append(c)
        text = "".join(out)
    text = _GROUPING.sub("", text)  # thousands set apart by a thin space: "1 000", "1\,000", "1{,}000"
    text = text.translate(_SPACES).replace("\u00a0", " ").replace("\u202f", " ").replace("\u2009", " ")
    return _undress(text).strip()


def _undress(text: str) -> str:
    """Takes off `$…$`, `\\(…\\)`, `\\boxed{…}`, `\\text{…}`, `\\frac{a}{b}` (only around plain decimals) and markdown."""
    text = text.strip()
    for _ in range(4):
        before = text
        for left, right in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("\\boxed{", "}"), ("**", "**")):
            if len(text) > len(left) + len(right) and text.startswith(left) and text.endswith(right) and not text.endswith("\\" + right):
                inner = text[len(left) : -len(right)]
                if "{" not in left or inner.count("{") == inner.count("}"):
                    text = inner.strip()
        if text == before:
            break
    if "\\" in text:
        text = text.replace("\\%", "%").replace("\\$", "$").replace("\\!", "").replace("\\left", "").replace("\\right", "")
        text = text.replace("\\,", " ").replace("\\;", " ").replace("\\:", " ").replace("\\ ", " ").replace("\\quad", " ")
        text = _LATEX_WORDS.sub(r" \1 ", text).replace("^{\\circ}", "°").replace("^\\circ", "°").replace("\\degree", "°")
        text = _LATEX_FRAC.sub(_plain_fraction, text)
    return text.replace("~", " ").strip().rstrip(".,;: ")


def _plain_fraction(match: re.Match[str]) -> str:
    over, under = (match[1], match[2]) if match[1] is not None else (match[3], match[4])
    if _PLAIN_DECIMAL.match(over) and _PLAIN_DECIMAL.match(under):
        sign, over = ("-", over[1:]) if over.startswith("-") else ("", over)
        return f"{sign} {over}/{under} " if sign else f" {over}/{under} "
    return match[0]


def parse_number(text: str) -> Number | Refusal:
    """The one number that `text` is, or why it is not one. Bounded: at most 200 characters are ever read."""
    plain = plain_text(text)
    if isinstance(plain, Refusal):
        return plain
    if not plain:
        return Refusal("the answer is empty")
    if re.search(rf"[0-9]{{{MAX_DIGITS + 1},}}", plain.replace(",", "")):
        return Refusal(f"the answer holds a run of more than {MAX_DIGITS} digits")
    body = _ASSIGNMENT.sub("", plain, count=1) if _ASSIGNMENT.match(plain) else plain
    body = _HEDGE.sub("", body, count=1) if _HEDGE.match(body) else body
    body = re.sub(r"\A(?:negative|minus)\s+(?=[0-9.$])", "-", body, flags=re.I)
    match = _NUMBER.match(body)
    if match is None:
        return _refuse(plain)
    rest = body[match.end() :]
    value = _value(match)
    if isinstance(value, Refusal):
        return value
    scaled = _unit_of(rest, value, match["cur"])
    return _refuse(plain) if scaled is None else scaled


def _value(match: re.Match[str]) -> Fraction | Refusal:
    def decimal(name: str) -> Fraction:
        return Fraction(match[name].replace(",", "").rstrip("."))

    if match["sign"] and match["sign2"]:
        return Refusal("the answer has two signs")
    sign = -1 if "-" in (match["sign"] or "") + (match["sign2"] or "") else 1
    if match["whole"] is not None:
        under = int(match["md"])
        if under == 0:
            return Refusal("the answer divides by zero")
        if int(match["mn"]) >= under:
            return Refusal("the answer is not one number: the fraction after the whole number is 1 or more")
        return sign * (int(match["whole"]) + Fraction(int(match["mn"]), under))
    if match["num"] is not None:
        below = decimal("den")
        return Refusal("the answer divides by zero") if below == 0 else sign * decimal("num") / below
    if match["mant"] is not None or match["ten"] is not None:
        power = int(match["exp"] or match["pow"] or match["ten"])
        if abs(power) > MAX_EXPONENT:
            return Refusal(f"the exponent is beyond ±{MAX_EXPONENT}")
        return sign * (decimal("mant") if match["mant"] is not None else Fraction(1)) * Fraction(10) ** power
    return sign * decimal("dec")


def _unit_of(rest: str, value: Fraction, currency: str | None) -> Number | None:
    """The number with the unit in `rest`, scale words multiplied in; None where `rest` is more than a unit."""
    spaced = rest[:1] == " "
    rest = rest.strip()
    head, _, tail = rest.partition(" ")
    if head.lower() in _SCALES:
        value, rest, spaced = value * _SCALES[head.lower()], tail.strip(), True
    money = (currency or "").strip()
    if not rest:
        return Number(value, money)
    if not _UNIT.match(rest):
        return None
    words = [w.strip(".") for w in re.split(r"[ /-]+", rest.lower().strip("/ "))]
    if any(w in NO_UNIT or _ORDINAL.search(w) for w in words):
        return None
    first = re.split(r"[ /.]", rest.strip("/ "))[0]
    if not (rest[0] in "%°$€£¥/" or _is_unit_word(first, spaced)):
        return None
    if money and rest[0] != "/" and not same_unit(money, rest):
        rest = f"{money} {rest}"
    return Number(value, rest)


def _is_unit_word(word: str, spaced: bool) -> bool:
    """"5 m", "5 apples", "5cm" are quantities; "5m", "5x", "5i", "5 M" may be products or millions."""
    word = word.rstrip("^23")
    if len(word) == 1:
        return spaced and word in "mgshlL"
    if word.lower() in UNIT_NAMES:
        return True
    return len(word) >= (3 if spaced else 4) and re.search("[aeiouyAEIOUY]", word) is not None


def _refuse(plain: str) -> Refusal:
    """Tells "\\sqrt{16}" (may be the number meant) from "3, 4" and "I don't know" (certainly is not)."""
    if re.search(r"[0-9]\s*[,;]\s*[0-9\\-]|[0-9]\s+[0-9]|[0-9].*\b(?:or|and)\b.*[0-9]", plain):
        return Refusal("the answer is more than one number")
    if not re.search(r"[0-9\\π√∞]|(?<![A-Za-z])[A-Za-z](?![A-Za-z])", plain) or _LONG_WORD.search(_LATEX_WORDS.sub("", plain)):
        return Refusal("the answer is not a number")
    if plain.count("(") != plain.count(")") or plain.count("{") != plain.count("}") or plain[-1] in "+-*/^=<>(":
        return Refusal("the answer is not well-formed")
    if _OPERATOR.search(plain):
        return Refusal("the answer is an expression, which this verifier does not evaluate", expression=True)
    return Refusal("the answer is not a number")
