"""References of competitions written otherwise (must pass) and spoilt (must not): the math verifier's development set.

Rewrites work on the text alone and know nothing of the verifier. Both are deterministic: seeded by the reference.
"""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

SHARED = Path(__file__).parents[3] / "shared" / "data"
FILES = ("math500.jsonl.gz", "olympiadbench_675.jsonl.gz", "aime24.jsonl", "amc23.jsonl")
Pair = tuple[str, str, str, bool]  # kind of rewrite, reference, response, equal


def references(files: tuple[str, ...] = FILES) -> list[str]:
    """Every reference of the files that are on this machine, multiple answers joined by commas as the data set prints them."""
    found = []
    for name in files:
        path = SHARED / name
        if not path.exists():
            continue
        text = gzip.decompress(path.read_bytes()).decode() if name.endswith(".gz") else path.read_text(encoding="utf-8")
        if text:
            for line in text.splitlines():
                row = json.loads(line)
                answer = row.get("final_answer", row.get("answer"))
                found.append(", ".join(answer) if isinstance(answer, list) else str(answer))
    return found


def undressed(text: str) -> str:
    return re.sub(r"(?<!\\)\$", "", text).strip().rstrip(".")


# rewrites: text -> text of equal meaning, or None where the rewrite has nothing to hold on to


def display_fractions(t: str) -> str | None:
    return t.replace("\\frac", "\\dfrac") if "\\frac" in t else None


def slashes(t: str) -> str | None:
    out = re.sub(r"\\d?frac\{([^{}]*)\}\{([^{}]*)\}", r"((\1)/(\2))", t)
    return out if out != t and "{" not in out.replace("\\{", "") else None


def plain_notation(t: str) -> str | None:
    if re.search(r"\\(?!frac|sqrt|pi|cdot|infty|left|right)[a-zA-Z]+|_|,|[a-zA-Z]{2,}\(", t) or "\\" not in t:
        return None
    out = t.replace("\\left", "").replace("\\right", "").replace("\\cdot", "*").replace("\\infty", "infinity")
    out = re.sub(r"\\sqrt\{([^{}]*)\}", r" sqrt(\1)", out)
    out = re.sub(r"\\sqrt\s*(\d)", r" sqrt(\1)", out)
    out = re.sub(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", r"((\1)/(\2))", out).replace("\\pi", " pi")
    return out if "\\" not in out and "{" not in out else None


def unicode_signs(t: str) -> str | None:
    out = t.replace("\\pi", "π").replace("\\infty", "∞").replace("-", "−").replace("\\cup", "∪").replace("^\\circ", "°").replace("^{\\circ}", "°")
    out = re.sub(r"\\sqrt\{(\d+)\}", r"√\1", out).replace("\\pm", "±").replace("\\cdot", "·").replace("\\times", "×").replace("\\geqslant", "≥")
    out = re.sub(r"\^(?:\{2\}|2(?!\d))", "²", out)
    return out if out != t else None


def loose_blanks(t: str) -> str | None:
    out = re.sub(r"(?<![\\A-Za-z])([=+,(])", r"\1 ", t)
    return out if out != t and not re.search(r"\d, +\d{3}", out) else None


def scaled_brackets(t: str) -> str | None:
    if "(" not in t or "\\left" in t or "\\text" in t or t.count("(") + t.count("[") != t.count(")") + t.count("]") or "\\{" in t:
        return None
    return re.sub(r"([)\]])", r"\\right\1", re.sub(r"([(\[])", r"\\left\1", t))


def doubled_fraction(t: str) -> str | None:
    match = re.search(r"\\frac\{(\d+)\}\{(\d+)\}", t)
    return None if match is None else t.replace(match.group(), f"\\frac{{{2 * int(match[1])}}}{{{2 * int(match[2])}}}", 1)


def decimal_fraction(t: str) -> str | None:
    match = re.fullmatch(r"-?\\d?frac\{(\d+)\}\{(\d+)\}", t)
    if match is None:
        return None
    value = Fraction(int(match[1]), int(match[2]))
    rest = value.denominator
    for p in (2, 5):
        while rest % p == 0:
            rest //= p
    if rest != 1:
        return None
    digits = format(float(value), ".10f").rstrip("0")
    return ("-" if t.startswith("-") else "") + digits if Fraction(digits) == value else None


def mixed_number(t: str) -> str | None:
    match = re.fullmatch(r"(-?)\\d?frac\{(\d+)\}\{(\d+)\}", t)
    if match is None or int(match[2]) <= int(match[3]) or int(match[2]) % int(match[3]) == 0:
        return None
    whole, rest = divmod(int(match[2]), int(match[3]))
    return f"{match[1]}{whole}\\frac{{{rest}}}{{{match[3]}}}"


def factor_under_root(t: str) -> str | None:
    match = re.search(r"(?<![\d\]])(\d+) ?\\sqrt\{(\d+)\}", t)
    return None if match is None else t.replace(match.group(), f"\\sqrt{{{int(match[1]) ** 2 * int(match[2])}}}", 1)


def rational_power(t: str) -> str | None:
    out = re.sub(r"\\sqrt\{(\d+|[a-z])\}", r"{\1}^{1/2}", t)
    return out if out != t else None


def swapped_sum(t: str) -> str | None:
    match = re.fullmatch(r"([\w\\{}^ ]+?) ?\+ ?([\w\\{}^ ]+)", t)
    return f"{match[2]} + {match[1]}" if match and "begin" not in t and match[1].count("{") == match[1].count("}") else None


def swapped_difference(t: str) -> str | None:
    match = re.fullmatch(r"([\w\\{}^ ]+?) ?- ?([\w\\{}^ ]+)", t)
    return f"-{match[2]} + {match[1]}" if match and "begin" not in t and match[1].count("{") == match[1].count("}") else None


def reversed_list(t: str) -> str | None:
    items = top_level(t)
    return (
        ", ".join(reversed(items))
        if len(items) > 1 and not any(re.search(r"[a-zA-Z]{2}|=|\\in", i.replace("\\frac", "").replace("\\sqrt", "")) for i in items)
        else None
    )


def worded_list(t: str) -> str | None:
    items = top_level(t)
    if len(items) < 2 or any("=" in i for i in items):
        return None
    return ", ".join(items[:-1]) + " \\text{ and } " + items[-1]


def braced_list(t: str) -> str | None:
    items = top_level(t)
    return "\\{" + ", ".join(items) + "\\}" if len(items) > 1 and "=" not in t and "\\{" not in t else None


def named(t: str) -> str | None:
    if (
        "\\$" in t
        or re.match(r"[a-z]\(", t)
        or re.search(
            r"=|[<>]|\\le|\\ge|\\in|\\text|\\mbox|x|[A-Z]{2}|[a-zA-Z]{4,}(?![{}])",
            re.sub(r"\\(?:frac|sqrt|left|right|log|lfloor|rfloor|lceil|rceil|pi)", "", t),
        )
    ):
        return None
    return f"x = {t}" if len(top_level(t)) == 1 else None


def unnamed(t: str) -> str | None:
    match = re.fullmatch(r"[a-zA-Z](?:\([a-z]\))? ?= ?([^=]+)", t)
    return match[1] if match and len(top_level(t)) == 1 else None


def inequality(t: str) -> str | None:
    match = re.fullmatch(r"(\(|\[)([^,()\[\]]+),([^,()\[\]]+)(\)|\])", t.replace("\\left", "").replace("\\right", ""))
    if match is None or (match[1] == "(" and match[4] == ")" and "infty" not in t):
        return None
    low, high = match[2].strip(), match[3].strip()
    left = "" if "infty" in low else low + (" < " if match[1] == "(" else " \\le ")
    right = "" if "infty" in high else (" < " if match[4] == ")" else " \\le ") + high
    return f"{left}x{right}" if left or right else None


def both_signs(t: str) -> str | None:
    match = re.fullmatch(r"([^,\\]*) ?\\pm ?(.+)", t)
    return f"{match[1]} + {match[2]}, {match[1]} - {match[2]}" if match else None


def with_units(t: str) -> str | None:
    return f"{t} \\text{{ units}}" if re.fullmatch(r"-?[\d.]+|\\frac\{\d+\}\{\d+\}|\d* ?\\sqrt\{\d+\}", t) else None


def trailing_zero(t: str) -> str | None:
    return f"{t}.0" if re.fullmatch(r"-?\d{1,6}", t) else f"{t}0" if re.fullmatch(r"-?\d*\.\d+", t) else None


def grouped(t: str) -> str | None:
    return f"{int(t):,}" if re.fullmatch(r"\d{4,}", t) else None


def degrees(t: str) -> str | None:
    match = re.fullmatch(r"([\d.]+)\s*\^\{?\\circ\}?", t)
    return f"{match[1]} \\text{{ degrees}}" if match else None


def bold(t: str) -> str | None:
    return f"\\mathbf{{{t}}}" if "\\text" not in t else None


def plain(t: str) -> str | None:
    return t


REWRITES: tuple[Callable[[str], str | None], ...] = (
    plain, display_fractions, slashes, plain_notation, unicode_signs, loose_blanks, scaled_brackets, doubled_fraction, decimal_fraction, mixed_number,
    factor_under_root, rational_power, swapped_sum, swapped_difference, reversed_list, worded_list, braced_list, named,
    unnamed, inequality, both_signs,
    with_units, trailing_zero, grouped, degrees, bold,
)  # fmt: skip


# spoilers: text -> text of another meaning


def other_digit(t: str, rng: random.Random) -> str | None:
    places = [m.start() for m in re.finditer(r"\d", t) if not re.search(r"\\[a-z]*\Z|_\{?\d*\Z", t[: m.start()])]
    if not places:
        return None
    at = rng.choice(places)
    return t[:at] + rng.choice([d for d in "123456789" if d != t[at]]) + t[at + 1 :]


def other_sign(t: str, rng: random.Random) -> str | None:
    places = [m.start() for m in re.finditer(r"[+-]", t)]
    if not places or "\\pm" in t:
        return (
            f"-{t}"
            if re.match(r"[\d\\a-zA-Z]", t) and not re.search(r"[,=<>]|\\text|\\cup|\\in|begin|\\pm|\\ge|\\le", t) and t not in ("0", "0.0")
            else None
        )
    at = rng.choice(places)
    return t[:at] + ("-" if t[at] == "+" else "+") + t[at + 1 :]


def other_bracket(t: str, rng: random.Random) -> str | None:
    if not re.search(r"[\[(][^()\[\]]*,[^()\[\]]*\]|\[[^()\[\]]*,[^()\[\]]*\)", t):
        return None
    at = rng.choice([i for i, c in enumerate(t) if c in "[]"])
    return t[:at] + {"[": "(", "]": ")"}[t[at]] + t[at + 1 :]


def dropped_element(t: str, rng: random.Random) -> str | None:
    items = top_level(t)
    if len(items) < 2 or len(set(items)) < len(items):
        return None
    items.pop(rng.randrange(len(items)))
    return ", ".join(items)


def added_element(t: str, rng: random.Random) -> str | None:
    items = top_level(t)
    if re.search(r"\\text|[=<>]|\\in|\\cup|\(|begin|\\ge|\\le|\\pm", t) or len(items) > 12:
        return None
    return ", ".join([*items, str(rng.randrange(1000, 2000))])


def swapped_entries(t: str, rng: random.Random) -> str | None:
    match = re.fullmatch(r"(\\left)?\((.+?)(\\right)?\)", t)
    if match is None:
        return None
    cells = top_level(match[2])
    if len(cells) < 2 or cells[0] == cells[-1] or any(c.count("(") != c.count(")") for c in cells):
        return None
    cells[0], cells[-1] = cells[-1], cells[0]
    return "(" + ", ".join(cells) + ")"


def no_root(t: str, rng: random.Random) -> str | None:
    out = re.sub(r"\\sqrt\{(\d+)\}", r"\\cdot \1", t, count=1)
    return out if out != t and "\\sqrt{1}" not in t and not re.match(r"\\cdot|.*[({=,+-] ?\\cdot", out) else None


def no_pi(t: str, rng: random.Random) -> str | None:
    return t.replace("\\pi", "", 1) if re.search(r"\d ?\\pi", t) else None


def upside_down(t: str, rng: random.Random) -> str | None:
    match = re.fullmatch(r"-?\\d?frac\{(\d+)\}\{(\d+)\}", t)
    return f"\\frac{{{match[2]}}}{{{match[1]}}}" if match and match[1] not in ("0", match[2]) else None


def truncated(t: str, rng: random.Random) -> str | None:
    return t[:-1] if re.fullmatch(r"\d{2,}", t) and int(t) != 0 else None


def rounded(t: str, rng: random.Random) -> str | None:
    match = re.fullmatch(r"\\d?frac\{(\d+)\}\{(\d+)\}", t)
    if match is None:
        return None
    digits = f"{int(match[1]) / int(match[2]):.3f}"
    return digits if Fraction(digits) != Fraction(int(match[1]), int(match[2])) else None


def other_exponent(t: str, rng: random.Random) -> str | None:
    match = re.search(r"[A-Za-z)}]\^\{?(\d)\}?", t)
    return t[: match.start(1)] + str(int(match[1]) + 1) + t[match.end(1) :] if match else None


def other_letter(t: str, rng: random.Random) -> str | None:
    match = re.search(r"(?<![A-Za-z\\{])([nkmxNRp])(?![A-Za-z}])", t)
    if re.search(r"[a-zA-Z]\(", t):
        return None  # f(w) = 1 is f(x) = 1
    return t[: match.start()] + "w" + t[match.end() :] if match and "\\text" not in t else None


def doubled(t: str, rng: random.Random) -> str | None:
    return f"2({t})" if not re.search(r"[,=<>]|\\text|\\mbox|\\cup|\\in|begin|\\pm|\\ge|\\le|_|%", t) and t not in ("0", "0.0") else None


def one_more(t: str, rng: random.Random) -> str | None:
    return f"{t} + 1" if not re.search(r"[,=<>$%]|\\text|\\mbox|\\cup|\\in|begin|\\pm|\\ge|\\le|circ|_\{?\d", t) else None


SPOILERS: tuple[Callable[[str, random.Random], str | None], ...] = (
    other_digit, other_sign, other_bracket, dropped_element, added_element, swapped_entries, no_root, no_pi, upside_down, truncated, rounded,
    other_exponent, other_letter, doubled, one_more,
)  # fmt: skip

FORMS = (
    "\\boxed{{{}}}",
    "The answer is ${}$.",
    "So we get \\[ \\boxed{{{}}} \\] as claimed.",
    "{}",
    "**Final Answer:** ${}$",
    "<answer>{}</answer>",
    "#### {}",
)


def pairs(spoils: int = 4, files: tuple[str, ...] = FILES) -> Iterator[Pair]:
    """Every rewrite and up to `spoils` draws of every spoiler of every reference, each stated in one of several forms; no pair twice."""
    seen: set[tuple[str, str]] = set()
    for number, reference in enumerate(dict.fromkeys(references(files))):
        rng = random.Random(f"{number}:{reference}")
        text = undressed(reference)
        for rewrite in REWRITES:
            other = rewrite(text)
            if other is not None and (reference, other) not in seen:
                seen.add((reference, other))
                yield rewrite.__name__, reference, stated(other, rng), True
        for spoiler in SPOILERS:
            for _ in range(spoils):
                other = spoiler(text, rng)
                if other is not None and (reference, other) not in seen and other.strip() != text:
                    seen.add((reference, other))
                    yield spoiler.__name__, reference, stated(other, rng), False


def stated(text: str, rng: random.Random) -> str:
    form = rng.choice(FORMS)
    return form.format(text)


def top_level(text: str) -> list[str]:
    """The items between commas outside brackets; "10,080" is one."""
    items, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in "([{") - (c in ")]}")
        if c == "," and depth == 0 and not re.match(r",(?:\\!)?\s?\d{3}(?!\d)", text[i:]):
            items.append(text[start:i].strip())
            start = i + 1
    return [*items, text[start:].strip()]
