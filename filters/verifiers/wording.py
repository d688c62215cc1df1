"""Words of mathematics in signs: number words, set phrases, comparisons, compound quantities."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise

_UNITS_WORDS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"""
_TENS_WORDS = """twenty thirty forty fifty sixty seventy eighty ninety"""
_SCALES = {"hundred": 100, "thousand": 1_000, "million": 10**6, "billion": 10**9}
NUMBER_WORDS = {w: i for i, w in enumerate(_UNITS_WORDS.split())} | {w: 20 + 10 * i for i, w in enumerate(_TENS_WORDS.split())}
_ORDINAL_WORDS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
_ORDINALS = {word: i for i, word in enumerate(_ORDINAL_WORDS.split(), 1)}
STYLED = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|operatorname|emph|boxed|boldsymbol)\s*\{([^{}]*)\}")

_PHRASES = [
    (r"(?:the set of |for )?(?:all|any|every|each) (?:of the )?reals?(?: numbers?| values?)?(?: (?:of )?[a-z])?"
     r"|[a-z] (?:is|can be) (?:any|all|every) real(?: numbers?)?"
     r"|(?:the set of )?real numbers|all reals", r"\mathbb{R}"),
    (r"(?:there (?:are|is|exists?) )?no (?:real |integer |such )?(?:solutions?|roots?|real roots?|values?|answers?|integers?|numbers?)(?: exists?)?"
     r"|none(?: exist)?|(?:the )?empty set"
     r"|no such (?:[a-z]+ )?exists?|there (?:is|are|exists?) no such [a-z]+|no such [a-z]+"
     r"|there (?:does not|do not) exist (?:any )?such [a-z]+"
     r"|the equation has no (?:real )?solutions?|null set", r"\emptyset"),
    (r"(?:all )?(?:the )?positive reals?(?: numbers?)?", r"\mathbb{R}^+"),
    (r"(?:all )?(?:the )?integers?|(?:any|every) integer", r"\mathbb{Z}"),
    (r"(?:all )?(?:the )?(?:positive integers?|natural numbers?)|(?:any|every) (?:positive integer|natural number)", r"\mathbb{Z}^+"),
    (r"(?:positive )?infinity", r"\infty"),
    (r"negative infinity|minus infinity", r"-\infty"),
]  # fmt: skip
_WHOLE_PHRASES = [(re.compile(rf"(?:{pattern})\Z"), meaning) for pattern, meaning in _PHRASES]
_EXCEPT = re.compile(
    r"(?:all|any|every) reals?(?: numbers?| values?)?(?: (?:of )?[a-z])?,? (?:except|other than|excluding|but|not equal to|besides)(?: for)? (.+)\Z"
)
_COMPARISONS = [
    (re.compile(r"\b(?:is )?(?:strictly )?(?:greater|more|larger) than or equal to\b|\bis at least\b|\bno less than\b"), r" \\ge "),
    (re.compile(r"\b(?:is )?(?:less|smaller) than or equal to\b|\bis at most\b|\bno more than\b"), r" \\le "),
    (re.compile(r"\b(?:is )?(?:strictly )?(?:greater|more|larger) than\b"), " > "),
    (re.compile(r"\b(?:is )?(?:strictly )?(?:less|smaller) than\b"), " < "),
    (re.compile(r"\b(?:is )?not equal to\b"), r" \\ne "),
    (re.compile(r"\b(?:is )?equal to\b|\bequals\b"), " = "),
    (re.compile(r"(?<=\d) (?:out of|in) (?=\d)"), "/"),
    (re.compile(r"\A(\d+) to (\d+)\Z"), r"\1:\2"),
    (re.compile(r"\A(?:Rs\.?|INR|₹) ?(?=\d)"), "rupees "),
    (re.compile(r"\Arupees ([\d.,]+)\Z"), r"\1 rupees"),
    (re.compile(r"\bplus or minus\b"), r" \\pm "),
    (re.compile(r"\bsquare root of\b"), r" \\sqrt "),
    (re.compile(r"\btimes\b"), r" \\times "),
    (re.compile(r"\bdivided by\b"), " / "),
]


def plain_words(text: str) -> str:
    """The text without its dress: `\\text{}` off, dollars off, one blank between words."""
    for _ in range(3):
        before, text = text, STYLED.sub(r" \1 ", text)
        if text == before:
            break
    return re.sub(r"\s+", " ", re.sub(r"\\[,;:! ]|[$*_~]|\\\(|\\\)|\\\[|\\\]", " ", text)).strip().rstrip(".,;:! ").strip()


@lru_cache(maxsize=16_384)
def spelled_out(text: str) -> str:
    """`text` in signs where it is one of the phrases of mathematics ("all real numbers", "twenty-one", "x is at least 3"), else ""."""
    words = plain_words(text)
    lowered = words.lower()
    if not re.search("[a-z]{2}", lowered):
        return ""
    for pattern, meaning in _WHOLE_PHRASES:
        if pattern.match(lowered):
            return meaning
    if (hole := _EXCEPT.match(lowered)) is not None:
        return rf"\mathbb{{R}} \setminus \{{ {hole[1].replace(' and ', ',').replace(' or ', ',').replace('=', '').replace('x', '')} \}}"
    out = _compound(_NOUNS.sub("", _LEADING.sub("", words)))
    for pattern_, sign in _COMPARISONS:
        out = pattern_.sub(sign, out)
    if (between := re.match(r"(?:[a-zA-Z] is )?between (\S+) and (\S+)(,? inclusive)?\Z", out)) is not None:
        return f"[{between[1]},{between[2]}]" if between[3] else f"({between[1]},{between[2]})"
    out = _FRACTION_WORDS.sub(lambda m: f"{_digits(m[1]) if m[1].lower() != 'a' else 1}/{_PARTS[m[2].lower().rstrip('s')]}", out)
    out = re.sub(r"(?<!\\)\b[A-Za-z]+(?:[- ][A-Za-z]+)*\b", lambda m: _digits(m.group()), out)
    out = re.sub(r"\b(\d+)(?:st|nd|rd|th)\b", r"\1", out)
    return out if out != words else ""


_LEADING = re.compile(
    r"(?:for )?(?:all|any|every|each)(?: (?:of the|the))?(?: positive| real)?(?: integers?| numbers?| values?(?: of)?| reals?| natural numbers?)?"
    r"(?: such that| with| for which| satisfying)? (?=[A-Za-z]\s*(?:[<>=]|\\[lg]e|\\ne))",
    re.IGNORECASE,
)
_NOUNS = re.compile(
    r"(?:the |all )?(?:only |ordered |integer |real |possible |required |minimum |maximum |smallest |largest |least |greatest )*"
    r"(?:pairs?|triples?|points?|solutions?|solution set|set|interval|roots?|lines?|circle|equation|functions?"
    r"|values?|numbers?|integers?|matrix|vector|polynomials?|coordinates|union|point)"
    r"(?: of [a-z]\b)?(?: is| are)?:? (?=[\\({\[0-9+-]|[a-zA-Z]\s*[=<>(])",
    re.IGNORECASE,
)
_COMPOUND = (
    ("minutes", {"day": 1440, "hour": 60, "hr": 60, "h": 60, "minute": 1, "min": 1}),
    ("seconds", {"hour": 3600, "minute": 60, "min": 60, "second": 1, "sec": 1, "s": 1}),
    ("inches", {"yard": 36, "feet": 12, "foot": 12, "ft": 12, "inche": 1, "inch": 1, "in": 1}), ("cents", {"dollar": 100, "cent": 1}),
    ("days", {"week": 7, "day": 1}), ("months", {"year": 12, "month": 1}), ("ounces", {"pound": 16, "lb": 16, "ounce": 1, "oz": 1}),
    ("centimeters", {"meter": 100, "metre": 100, "m": 100, "centimeter": 1, "cm": 1}), ("grams", {"kilogram": 1000, "kg": 1000, "gram": 1, "g": 1}),
)  # fmt: skip
_PAIR = re.compile(r"(\d+)\s*([a-z]+)(?:,?\s+(?:and\s+)?|\Z)", re.IGNORECASE)


def _compound(text: str) -> str:
    """ "2 hours 30 minutes" as 150 minutes; other texts as they are."""
    parts = _PAIR.findall(text)
    if not 2 <= len(parts) <= 3 or _PAIR.sub("", text).strip():
        return text
    names = [name.lower() if len(name) <= 2 else name.lower().removesuffix("s") for _, name in parts]
    for unit, scale in _COMPOUND:
        if all(n in scale for n in names) and all(scale[a] > scale[b] for a, b in pairwise(names)):
            return f"{sum(int(n) * scale[name] for (n, _), name in zip(parts, names))} {unit}"
    return text


_PARTS = {
    "half": 2,
    "halve": 2,
    "third": 3,
    "quarter": 4,
    "fourth": 4,
    "fifth": 5,
    "sixth": 6,
    "seventh": 7,
    "eighth": 8,
    "ninth": 9,
    "tenth": 10,
    "hundredth": 100,
}
_FRACTION_WORDS = re.compile(rf"\b(a|{'|'.join(NUMBER_WORDS)})[ -]({'|'.join(_PARTS)})s?\b", re.IGNORECASE)


def _digits(words: str) -> str:
    """Number words as digits, other words as they are: "twenty-one apples" -> "21 apples"."""
    out: list[str] = []
    total, current, open_ = 0, 0, False
    for word in re.split(r"[ -]", words):
        low = word.lower()
        value = NUMBER_WORDS.get(low, _ORDINALS.get(low) if len(words) == len(word) or open_ else None)
        if value is not None:
            current += value
            open_ = True
        elif low in _SCALES and open_:
            current *= _SCALES[low]
            if low != "hundred":
                total, current = total + current, 0
        elif low == "and" and open_ and current % 100 == 0 and current:
            continue
        else:
            if open_:
                out.append(str(total + current))
                total, current, open_ = 0, 0, False
            out.append(word)
    if open_:
        out.append(str(total + current))
    return " ".join(out)
