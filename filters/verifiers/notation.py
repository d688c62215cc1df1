"""The characters of an answer brought to one alphabet: plain ASCII with LaTeX commands, dress (markdown, `$`, `\\left`) off.

Nothing may change the value on the way: superscripts become powers and vulgar fractions become fractions before NFKC would glue them
to the digits beside them ("10²" is not "102"), and a text with an invisible character between two digits is refused.
"""

from __future__ import annotations

import re
import unicodedata

MAX_ANSWER = 1_000  # characters of one answer that are ever read
MAX_DIGIT_RUN = 300


class Unreadable(Exception):
    """The text is no answer that this grammar reads; the message says why."""


_SYMBOLS = {
    "−": "-", "﹣": "-", "‐": "-", "‑": "-", "‒": "-", "–": "-", "—": "-", "×": "\\times ", "⋅": "\\cdot ", "·": "\\cdot ", "∙": "\\cdot ",
    "•": "\\cdot ", "÷": "/", "∕": "/", "⁄": "/", "π": "\\pi ", "∞": "\\infty ", "≤": "\\le ", "⩽": "\\le ", "≦": "\\le ", "≥": "\\ge ",
    "⩾": "\\ge ", "≧": "\\ge ", "≠": "\\ne ", "≈": "\\approx ", "≃": "\\approx ", "≡": "\\equiv ", "∈": "\\in ", "∉": "\\notin ", "∪": "\\cup ",
    "∩": "\\cap ", "∖": "\\setminus ", "∅": "\\emptyset ", "⌀": "\\emptyset ", "ø": "\\emptyset ", "ℝ": "\\mathbb{R}", "ℤ": "\\mathbb{Z}",
    "ℕ": "\\mathbb{N}", "ℚ": "\\mathbb{Q}", "ℂ": "\\mathbb{C}", "±": "\\pm ", "∓": "\\mp ", "√": "\\sqrt ", "∛": "\\sqrt[3] ", "∜": "\\sqrt[4] ",
    "⌊": "\\lfloor ", "⌋": "\\rfloor ", "⌈": "\\lceil ", "⌉": "\\rceil ", "°": "^\\circ ", "º": "^\\circ ", "∠": "\\angle ", "∑": "\\sum ",
    "∏": "\\prod ", "∫": "\\int ", "…": "\\ldots ", "⋯": "\\ldots ", "′": "'", "’": "'", "‘": "'", "“": '"', "”": '"', "∧": "\\land ",
    "∨": "\\lor ", "→": "\\to ", "∣": "|", "⟨": "\\langle ", "⟩": "\\rangle ", "〈": "\\langle ", "〉": "\\rangle ", "△": "\\triangle ",
    "⊥": "\\perp ", "∥": "\\parallel ", "ℓ": "l", "∀": "\\forall ", "∃": "\\exists ", "⊂": "\\subset ", "⊆": "\\subseteq ", "∼": "\\sim ",
    "ϕ": "\\phi ", "ε": "\\epsilon ", "ϵ": "\\epsilon ", "，": ", ", "；": "; ", "：": ": ", "。": ". ", "、": ", ",
}  # fmt: skip
_GREEK_NAMES = """alpha beta gamma delta zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi omega"""
_GREEK = _GREEK_NAMES.split()
_GREEK_LETTERS = dict(zip("αβγδζηθικλμνξρστυφχψω", _GREEK)) | {
    "Γ": "Gamma",
    "Δ": "Delta",
    "Θ": "Theta",
    "Λ": "Lambda",
    "Ξ": "Xi",
    "Σ": "Sigma",
    "Φ": "Phi",
    "Ψ": "Psi",
    "Ω": "Omega",
}
_SYMBOLS |= {letter: f"\\{name} " for letter, name in _GREEK_LETTERS.items()}
_SUPER = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱˣ", "0123456789+-()nix"))
_SUB = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₙₖₘᵢₓ", "0123456789+-()nkmix"))
_SUPER_RUN = re.compile(f"[{re.escape(''.join(_SUPER))}]+")
_SUB_RUN = re.compile(f"[{re.escape(''.join(_SUB))}]+")
_INVISIBLE = frozenset(("Cf", "Cc", "Cs", "Co", "Cn"))
_EDGES = "\u200b\u200c\u200d\u2060\ufeff*_` \t\r\n"
_GROUPED = re.compile(r"(?<![\d,.])(\d{1,3})((?:(?:\{,\}|,\s?\\!\s?|\\,|\u00a0|\u202f|\u2009)\d{3})+)(?!\d)")


def ascii_math(text: str) -> str:
    """`text` in ASCII and LaTeX, dollars and outer braces off. Raises `Unreadable`; bounded by `MAX_ANSWER` characters."""
    text = text.strip(_EDGES)
    if len(text) > MAX_ANSWER:
        raise Unreadable(f"the answer is longer than {MAX_ANSWER} characters")
    if not text.isascii():
        text = _to_ascii(text)
    if "," in text or "\\" in text:
        text = _GROUPED.sub(_join_groups, text)
    if re.search(rf"\d{{{MAX_DIGIT_RUN + 1},}}", text):
        raise Unreadable(f"the answer holds a run of more than {MAX_DIGIT_RUN} digits")
    if "$" in text:
        text = _without_dollars(text)
    if "color" in text or "space" in text or "phantom" in text:
        text = _TYPESETTING.sub(" ", text)
    if "\\begin" in text:
        text = _CASES.sub(r"\\begin{cases}\1\\end{cases}", text)
        text = _SYSTEM.sub(_rows, text)
    text = _unwrapped(text.replace("**", "^").replace("{,}", ",")).strip()
    return text if text.endswith("...") else text.rstrip(".,;: ").strip()


_SYSTEM = re.compile(
    r"(?:\\left\s*)?(?:\\\{|\\lbrace)?\s*\\begin\{(?:array\}\s*\{[lcr]\}|cases\}|aligned\})([^&]*?)\\end\{(?:array|cases|aligned)\}\s*(?:\\right\s*\.)?",
    re.DOTALL,
)


_TYPESETTING = re.compile(r"\\(?:text)?color\s*\{[^{}]*\}|\\[hv]space\*?\s*\{[^{}]*\}|\\[hv]?phantom\s*\{[^{}]*\}")
_CASES = re.compile(
    r"(?:\\left\s*)?(?:\\\{|\\lbrace)\s*\\begin\{(?:array|aligned|matrix)\}(?:\s*\{[lcr ]+\})?"
    r"((?:(?!\\end\{).)*?&(?:(?!\\end\{).)*?)\\end\{(?:array|aligned|matrix)\}\s*\\right\s*\.",
    re.DOTALL,
)


def _rows(match: re.Match[str]) -> str:
    """A system of equations in one column is a list: its rows hold at the same time."""
    rows = [r.strip().rstrip(",;") for r in re.split(r"\\\\(?:\[[^\]]*\])?", match[1])]
    if "=" not in match[1] and match.group().lstrip().startswith("\\begin{array}"):
        return match.group()  # a column of an array is a vector
    return ", ".join(r for r in rows if r)


def _to_ascii(text: str) -> str:
    text = _SUPER_RUN.sub(lambda m: "^{" + "".join(_SUPER[c] for c in m.group()) + "}", text)
    text = _SUB_RUN.sub(lambda m: "_{" + "".join(_SUB[c] for c in m.group()) + "}", text)
    out: list[str] = []
    for i, c in enumerate(text):
        if c.isascii():
            out.append(c)
            continue
        category = unicodedata.category(c)
        if c in _SYMBOLS:
            c = _SYMBOLS[c]
        elif category in _INVISIBLE:
            if i and text[i - 1].isalnum() and text[i + 1 : i + 2].isalnum():
                raise Unreadable("the answer holds an invisible character")
            c = ""
        elif category == "Nd":
            c = str(unicodedata.digit(c))
        elif category == "No":
            parts = unicodedata.normalize("NFKC", c).split("⁄")
            if len(parts) != 2 or not parts[1]:
                raise Unreadable(f"the answer holds {c!r}, which is not a plain digit")
            c = f"\\frac{{{parts[0]}}}{{{parts[1]}}}"
        elif c in "\u00a0\u202f\u2009":
            pass  # may set thousands apart: `_GROUPED` decides
        elif c == "٫":
            c = "."
        else:
            c = unicodedata.normalize("NFKC", c)
            c = "".join(_SYMBOLS.get(d, d) for d in c)
        out.append(c)
    return "".join(out)


def _join_groups(match: re.Match[str]) -> str:
    return re.sub(r"\D", "", match.group())


def _without_dollars(text: str) -> str:
    """Math delimiters off; "\\$" and a single "$" before or behind a digit are money."""
    if text.count("$") == 1 or (re.match(r"-?\$\d[\d,.]*\Z", text)):
        return text if re.search(r"\$\s*-?[\d.]|\d\s*\$", text) else text.replace("$", " ")
    return re.sub(r"(?<!\\)\$", " ", text)


def _unwrapped(text: str) -> str:
    """Outer `\\boxed{…}`, `\\text{…}`-free wrappers and single outer braces off; inner ones stay for the grammar."""
    text = text.strip()
    for _ in range(4):
        match = re.match(r"(?:\\(?:boxed|fbox|mathbf|boldsymbol|bold|mathrm|displaystyle|ensuremath)\s*)?\{", text)
        if match is None or closing(text, match.end() - 1) != len(text) - 1:
            break
        inner = text[match.end() : -1].strip()
        if match.group() == "{" and re.match(r"[^{}]{1,20}(?:\||\\mid|:)", inner):
            return "\\{" + inner + "\\}"  # {x | x > 2}
        text = inner
    return text


def closing(text: str, start: int) -> int:
    """Index of the brace that closes the one at `start`, or -1; escaped braces do not count."""
    depth = 0
    for i in range(start, len(text)):
        if text[i] in "{}" and (i == 0 or text[i - 1] != "\\"):
            depth += 1 if text[i] == "{" else -1
            if depth == 0:
                return i
    return -1
