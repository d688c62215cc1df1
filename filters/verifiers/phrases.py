"""Answers in words: number words, set phrases, clock times, multiple choice, and prose compared word by word and value by value."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from data.records import Outcome
from filters.verifiers.notation import Unreadable, ascii_math
from filters.verifiers.numbers import NO_UNIT

Judged = tuple[Outcome, str]

_UNITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SCALES = {"hundred": 100, "thousand": 1_000, "million": 10**6, "billion": 10**9}
NUMBER_WORDS = {w: i for i, w in enumerate(_UNITS)} | {w: 20 + 10 * i for i, w in enumerate(_TENS)}
_ORDINALS = dict(zip(["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh", "twelfth"], range(1, 13)))
_STYLED = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|operatorname|emph|boxed|boldsymbol)\s*\{([^{}]*)\}")

_PHRASES = [
    (r"(?:the set of |for )?(?:all|any|every|each) (?:of the )?reals?(?: numbers?| values?)?(?: (?:of )?[a-z])?|[a-z] (?:is|can be) (?:any|all|every) real(?: numbers?)?"
     r"|(?:the set of )?real numbers|all reals", r"\mathbb{R}"),
    (r"(?:there (?:are|is|exists?) )?no (?:real |integer |such )?(?:solutions?|roots?|real roots?|values?|answers?|integers?|numbers?)(?: exists?)?|none(?: exist)?|(?:the )?empty set"
     r"|no such (?:[a-z]+ )?exists?|there (?:is|are|exists?) no such [a-z]+|no such [a-z]+|there (?:does not|do not) exist (?:any )?such [a-z]+|the equation has no (?:real )?solutions?|null set", r"\emptyset"),
    (r"(?:all )?(?:the )?positive reals?(?: numbers?)?", r"\mathbb{R}^+"),
    (r"(?:all )?(?:the )?integers?|(?:any|every) integer", r"\mathbb{Z}"),
    (r"(?:all )?(?:the )?(?:positive integers?|natural numbers?)|(?:any|every) (?:positive integer|natural number)", r"\mathbb{Z}^+"),
    (r"(?:positive )?infinity", r"\infty"),
    (r"negative infinity|minus infinity", r"-\infty"),
]  # fmt: skip
_WHOLE_PHRASES = [(re.compile(rf"(?:{pattern})\Z"), meaning) for pattern, meaning in _PHRASES]
_EXCEPT = re.compile(r"(?:all|any|every) reals?(?: numbers?| values?)?(?: (?:of )?[a-z])?,? (?:except|other than|excluding|but|not equal to|besides)(?: for)? (.+)\Z")
_COMPARISONS = [
    (re.compile(r"\b(?:is )?(?:strictly )?(?:greater|more|larger) than or equal to\b|\bis at least\b|\bno less than\b"), r" \\ge "),
    (re.compile(r"\b(?:is )?(?:less|smaller) than or equal to\b|\bis at most\b|\bno more than\b"), r" \\le "),
    (re.compile(r"\b(?:is )?(?:strictly )?(?:greater|more|larger) than\b"), " > "),
    (re.compile(r"\b(?:is )?(?:strictly )?(?:less|smaller) than\b"), " < "),
    (re.compile(r"\b(?:is )?not equal to\b"), r" \\ne "),
    (re.compile(r"\b(?:is )?equal to\b|\bequals\b"), " = "),
    (re.compile(r"\bplus or minus\b"), r" \\pm "),
    (re.compile(r"\bsquare root of\b"), r" \\sqrt "),
    (re.compile(r"\btimes\b"), r" \\times "),
    (re.compile(r"\bdivided by\b"), " / "),
]
_SYNONYMS = [
    {"yes", "true", "correct"}, {"no", "false", "incorrect"}, {"undefined", "dne", "does not exist", "not defined", "doesn't exist"},
    {"impossible", "not possible", "cannot be done", "it is impossible"}, {"infinitely many", "infinite", "infinitely many solutions"},
]  # fmt: skip


def plain_words(text: str) -> str:
    """The text without its dress: `\\text{}` off, dollars off, one blank between words."""
    for _ in range(3):
        before, text = text, _STYLED.sub(r" \1 ", text)
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
    r"(?: such that| with| for which| satisfying)? (?=[A-Za-z]\s*(?:[<>=]|\\[lg]e|\\ne))", re.IGNORECASE
)
_NOUNS = re.compile(
    r"(?:the |all )?(?:only |ordered |integer |real |possible |required |minimum |maximum |smallest |largest |least |greatest )*"
    r"(?:pairs?|triples?|points?|solutions?|solution set|set|interval|roots?|lines?|circle|equation|functions?|values?|numbers?|integers?|matrix|vector|polynomials?|coordinates|union|point)"
    r"(?: of [a-z]\b)?(?: is| are)?:? (?=[\\({\[0-9+-]|[a-zA-Z]\s*[=<>(])", re.IGNORECASE
)
_COMPOUND = (
    ("minutes", {"day": 1440, "hour": 60, "hr": 60, "h": 60, "minute": 1, "min": 1}), ("seconds", {"hour": 3600, "minute": 60, "min": 60, "second": 1, "sec": 1, "s": 1}),
    ("inches", {"yard": 36, "feet": 12, "foot": 12, "ft": 12, "inche": 1, "inch": 1, "in": 1}), ("cents", {"dollar": 100, "cent": 1}),
    ("days", {"week": 7, "day": 1}), ("months", {"year": 12, "month": 1}), ("ounces", {"pound": 16, "lb": 16, "ounce": 1, "oz": 1}),
    ("centimeters", {"meter": 100, "metre": 100, "m": 100, "centimeter": 1, "cm": 1}), ("grams", {"kilogram": 1000, "kg": 1000, "gram": 1, "g": 1}),
)  # fmt: skip
_PAIR = re.compile(r"(\d+)\s*([a-z]+)(?:,?\s+(?:and\s+)?|\Z)", re.IGNORECASE)


def _compound(text: str) -> str:
    """"2 hours 30 minutes" as 150 minutes; other texts as they are."""
    parts = _PAIR.findall(text)
    if not 2 <= len(parts) <= 3 or _PAIR.sub("", text).strip():
        return text
    names = [name.lower() if len(name) <= 2 else name.lower().removesuffix("s") for _, name in parts]
    for unit, scale in _COMPOUND:
        if all(n in scale for n in names) and all(scale[a] > scale[b] for a, b in zip(names, names[1:])):
            return f"{sum(int(n) * scale[name] for (n, _), name in zip(parts, names))} {unit}"
    return text


_PARTS = {"half": 2, "halve": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8, "ninth": 9, "tenth": 10, "hundredth": 100}
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


# multiple choice

_CHOICE = re.compile(r"(?:(?:option|choice|answer|part)\s*:?\s*)?(?:\(\s*([A-Ja-j])\s*\)|([A-J])(?:[.):]|(?=\s*\Z)))\s*[.:,-]?\s*(.*)\Z", re.IGNORECASE | re.DOTALL)


@lru_cache(maxsize=16_384)
def choice(text: str) -> tuple[str, str]:
    """(letter, what follows it) of "C", "(C)", "C. 12", "option (c)"; ("", text) where there is no letter."""
    words = plain_words(text)
    match = _CHOICE.match(words)
    if match is None or re.search(r"\([A-Ja-j]\)|\b[A-J]\)", match[3]):
        return "", text  # several letters are parts or several options
    letter = match[1] or match[2]
    if match[1] is None and letter.islower():
        return "", text
    return letter.upper(), match[3].strip()


_OPTION = re.compile(r"(?:\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{\s*)?(?:\(([A-H])\)|(?<![A-Za-z\\])([A-H])[.:)])\s*\}?(?:\\ |~|\s)*")


@lru_cache(maxsize=4_096)
def options(prompt: str) -> tuple[tuple[str, str], ...]:
    """((letter, content), …) of a multiple-choice question, letters in order from A; () where there are none."""
    marks = list(_OPTION.finditer(prompt[-6_000:]))
    for start in range(len(marks) - 1, -1, -1):
        letters = [(m[1] or m[2]) for m in marks[start:]]
        if len(letters) >= 2 and letters == list("ABCDEFGH"[: len(letters)]):
            ends = [*(m.start() for m in marks[start + 1 :]), min(len(prompt[-6_000:]), marks[-1].end() + 300)]
            texts = [prompt[-6_000:][m.end() : end].split("\n\n")[0] for m, end in zip(marks[start:], ends)]
            return tuple((letter, re.sub(r"\\q?quad|\\\\|&", " ", text).strip(" \n$,;")) for letter, text in zip(letters, texts))
    return ()


_NUMBERED = re.compile(r"\(\s*([1-9]|i{1,3}|iv|v)\s*\)\s*")


@lru_cache(maxsize=16_384)
def numbered_parts(text: str) -> tuple[str, ...]:
    """"(1) 3; (2) [0,1]" as its parts; () where the text does not consist of parts numbered from 1."""
    marks = list(_NUMBERED.finditer(text.strip().strip("$")))
    plain = text.strip().strip("$")
    if len(marks) < 2 or marks[0].start() > 0:
        return ()
    names = [m[1] for m in marks]
    if names not in (list("123456789")[: len(names)], ["i", "ii", "iii", "iv", "v"][: len(names)]):
        return ()
    return tuple(plain[m.end() : n.start() if n else len(plain)].strip(" ,;.$") for m, n in zip(marks, [*marks[1:], None]))


# clock times

_TIME = re.compile(r"(?:at )?(\d{1,2}):(\d\d)(?::\d\d)?\s*([ap])?\.?\s*(?:m\.?)?\Z|(?:at )?(\d{1,2})\s*([ap])\.?\s*m\.?\Z", re.IGNORECASE)


@lru_cache(maxsize=16_384)
def clock(text: str) -> tuple[int, str] | None:
    """(minutes after midnight, "a", "p" or "" where only twelve hours are told)."""
    match = _TIME.match(plain_words(text))
    if match is None:
        return None
    hour, minute, half = int(match[1] or match[4]), int(match[2] or 0), (match[3] or match[5] or "").lower()
    if hour > 24 or minute > 59 or (half and not 1 <= hour <= 12):
        return None
    if half:
        return (hour % 12 + (12 if half == "p" else 0)) * 60 + minute, half
    return hour * 60 + minute, ("p" if hour > 12 else "")


def same_time(want: tuple[int, str], got: tuple[int, str]) -> bool:
    return want == got or (want[0] == got[0] and not (want[1] and got[1])) or (not (want[1] and got[1]) and want[0] % 720 == got[0] % 720)


# prose

_STOP = frozenset(
    ["the", "a", "an", "is", "are", "was", "were", "be", "been", "of", "for", "to", "that", "it", "this", "these", "those", "so", "there", "will", "would", "has", "have", "had", "then", "thus", "hence", "therefore", "we", "get", "both", "each", "answer", "final", "value", "values", "respectively", "which", "its", "their", "his", "her", "in", "on", "by", "at", "you", "can", "must", "should", "text", "only", "exactly", "such", "as", "all", "solution", "solutions"]
)
_TURNING = frozenset(
    ["not", "no", "never", "none", "neither", "nor", "without", "except", "unless", "less", "more", "fewer", "greater", "least", "most", "than", "other", "opposite", "or", "either", "maybe", "if", "only"]
)
_MATH = re.compile(r"\$([^$]+)\$|\\\((.+?)\\\)|(?<![A-Za-z0-9_])-?(?:\d[\d,]*\.?\d*|\.\d+)(?:\s*/\s*\d+)?\s*%?|\\[a-z]+(?:\{[^{}]*\})+")
_WORD = re.compile(r"[^\W\d_]+(?:'[a-z]+)?")


def _parts(text: str) -> list[tuple[str, str]]:
    """("m", math) and ("w", word) in order, idle words left out."""
    for _ in range(3):
        before, text = text, _STYLED.sub(r" \1 ", text)
        if text == before:
            break
    out: list[tuple[str, str]] = []
    at = 0
    for match in [*_MATH.finditer(text), None]:
        for word in _WORD.findall(text[at : match.start() if match else len(text)]):
            low = word.lower().removesuffix("'s")
            if low in NUMBER_WORDS:
                out.append(("m", str(NUMBER_WORDS[low])))
            elif low not in _STOP or low in _TURNING:
                out.append(("w", _stem(low)))
        if match is not None:
            at = match.end()
            value = (match[1] or match[2] or match.group()).strip().rstrip(",.")
            out.append(("w", value) if len(value) == 1 and value.isalpha() else ("m", value))
    return out


def _stem(word: str) -> str:
    for end in ("ies", "es", "s"):
        if word.endswith(end) and len(word) > len(end) + 2 and not word.endswith("ss"):
            return word.removesuffix(end) + ("y" if end == "ies" else "")
    return word


def same_prose(reference: str, answer: str, agree: Callable[[str, str], bool]) -> Judged:
    """Pass where both say the same words about the same values in the same order; fail where words or values plainly differ; else unknown."""
    reference, answer = ascii_prose(reference), ascii_prose(answer)
    want_words, got_words = plain_words(reference).lower(), plain_words(answer).lower()
    if want_words == got_words or any(want_words in s and got_words in s for s in _SYNONYMS):
        return "pass", "equal text"
    want, got = _parts(reference), _parts(answer)
    if len(want) > 80 or len(got) > 80 or not want or not got:
        return "unknown", "the texts cannot be compared"
    values, others = [v for k, v in want if k == "m"], [v for k, v in got if k == "m"]
    words, other_words = [v for k, v in want if k == "w"], [v for k, v in got if k == "w"]
    turned = (set(words) ^ set(other_words)) & _TURNING
    if want_words in ("yes", "no") and (said := re.match(r"(yes|no)\b[,.;:]? ", got_words)) is not None:
        return ("pass", "the same answer") if said[1] == want_words else ("fail", "the other answer")
    if not values and not others:
        return _same_words(words, other_words, bool(turned))
    if len(values) == len(others) and all(map(agree, values, others)) and not turned:
        if words == other_words or set(words) == set(other_words) == set():
            return "pass", "the same words and values"
        if len(values) == 1 and words and other_words and all(_idle(w) for w in set(words) ^ set(other_words)):
            return "pass", "the same words and value"
        kept = [w for w in words if w in other_words]
        if other_words and kept == [w for w in other_words if w in words] and (set(other_words) <= set(words)) and len(set(other_words)) >= len(values):
            return "pass", "the same words and values"
    one, other = labelled(reference), labelled(answer)
    if one and other and len(one) == len(other) > 1 and not turned:
        told = _same_labels(one, other, agree)
        if told is not None:
            return told
    if len(values) != len(others) or not all(any(agree(v, o) for o in others) for v in values):
        return "unknown" if len(values) == 0 or len(others) == 0 else "fail", "other values in the text"
    return "unknown", "the same values in other words"


def ascii_prose(text: str) -> str:
    """Prose keeps its dollars, which say where the mathematics is, unless they stand around all of it."""
    text = text.strip()
    if text.startswith("$") and text.endswith("$") and text.count("$") in (2, 4):
        text = text.strip("$")
    if text.isascii():
        return text
    try:
        return ascii_math(text.replace("$", " "))
    except Unreadable:
        return ""


def _same_words(words: list[str], others: list[str], turned: bool) -> Judged:
    if words == others:
        return "pass", "equal text"
    if turned or not words or not others:
        return "unknown", "the texts cannot be compared"
    if sorted(words) == sorted(others) and len(words) <= 2:
        return "pass", "the same words"
    shorter, longer = sorted((words, others), key=len)
    if len(words) == 1 and len(others) == 1:
        one, other = words[0], others[0]
        return ("unknown", "one word begins the other") if one.startswith(other) or other.startswith(one) else ("fail", "another word")
    if len(shorter) <= 2 and all(w in longer for w in shorter):
        idle = [w for w in longer if w not in shorter]
        if len(idle) <= 3 and all(map(_idle, idle)):
            return "pass", "the same word in a sentence"
    if not set(words) & set(others):
        return "unknown", "other words"
    return "unknown", "the texts cannot be compared"


_SUBJECTS = frozenset(["win", "winning", "strategy", "always", "person", "integer", "number", "function", "number", "graph", "shape", "integer", "sequence", "player", "person", "student", "result", "winner", "day", "month", "direction", "triangle", "quadrilateral", "conic", "curve"])


def _idle(word: str) -> bool:
    return len(word) == 1 or word in _SUBJECTS


def labelled(text: str) -> dict[frozenset[str], str]:
    """{words: value} of "Thomas has 40, Johanna has 60"; {} where a clause has not exactly one value with words of its own."""
    clauses = [c for c in re.split(r"[,;\n]| and |\. ", text) if c.strip()]
    found: list[tuple[frozenset[str], str]] = []
    for clause in clauses:
        parts = _parts(clause)
        values = [v for k, v in parts if k == "m"]
        names = frozenset(v for k, v in parts if k == "w")
        if len(values) != 1 or not names:
            return {}
        found.append((names, values[0]))
    if len(found) < 2:
        return {}
    common = frozenset.intersection(*(n for n, _ in found))
    out = {n - common: v for n, v in found}
    return out if len(out) == len(found) and frozenset() not in out else {}


def _same_labels(one: dict[frozenset[str], str], other: dict[frozenset[str], str], agree: Callable[[str, str], bool]) -> Judged | None:
    pairs = []
    for names, value in one.items():
        matches = [v for n, v in other.items() if n & names]
        if len(matches) != 1:
            return None
        pairs.append((value, matches[0]))
    if all(agree(a, b) for a, b in pairs):
        return "pass", "every named value is equal"
    return "fail", "a named value differs"


# one value in a sentence

_COPULA = re.compile(r"(?:\b(?:is|are|equals|be|was|were|becomes)\b(?:\s+(?:equal to|exactly|precisely|simply|just|given by))?|:)\s*")
_DOUBT = re.compile(r"\b(?:or|either|maybe|perhaps|not|isn't|possibly|might|could|unless|least|most|more|less|than|between|approximately|about|wrong|incorrect)\b", re.I)


_REMARK = re.compile(
    r"\s*(?:\(|\\text\{ ?\()[^()0-9]*[a-z]{3}[^()0-9]*\)\}?\Z|,? \\?(?:since|because|attained|achieved|when|as|by)\b[^0-9]*\Z"
    r"|\s*(?:\\text\{\s*)?\bis the (?:only|unique|smallest|largest|least|greatest|minimum|maximum)\b[^0-9=]*\Z",
    re.IGNORECASE,
)


def stated_value(text: str, *, lone: bool) -> list[str]:
    """What a sentence says its value is: behind its only copula; if `lone`, the one number among its words. [] where in doubt."""
    plain = ascii_prose(text)
    for _ in range(2):
        plain = _STYLED.sub(r" \1 ", plain)
    plain = plain.strip()
    if len(plain) > 300 or _DOUBT.search(plain) or "\n" in plain:
        return []
    out = []
    if (remark := _REMARK.search(plain)) is not None and remark.start() > 0:
        out.append(plain[: remark.start()].strip())
    copulas = list(_COPULA.finditer(plain))
    if len(copulas) == 1 and plain[: copulas[0].start()].strip() and plain[copulas[0].end() :].strip():
        out.append(plain[copulas[0].end() :].strip())
    found = list(_MATH.finditer(plain))
    if lone and len(found) == 1:
        rest = plain[: found[0].start()] + " " + plain[found[0].end() :]
        behind = (re.findall(r"[a-z]+", plain[found[0].end() :].lower()) or [""])[0]
        if re.fullmatch(r"[A-Za-z ,.'()-]*[A-Za-z]{3}[A-Za-z ,.'()-]*", rest) and behind not in NO_UNIT:
            out.append((found[0][1] or found[0][2] or found[0].group()).strip().rstrip(",."))
    return list(dict.fromkeys(out))


def has_words(text: str) -> bool:
    """Prose, not only formulae: a word of two letters or more that is no function or unit."""
    return any(len(w) > 1 and w.lower() not in ("sin", "cos", "tan", "cot", "log", "ln", "lg", "max", "min", "pi") for w in _WORD.findall(re.sub(r"\\[a-zA-Z]+", " ", plain_words(text))))
