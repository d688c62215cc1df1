"""Scanner of an answer: LaTeX and plain notation alike become one stream of tokens.

A token is (kind, value): num (as written), cmd (a LaTeX command or a function name, without its backslash), sym (one letter),
word and text (prose outside and inside `\\text{}`), op (an operator or bracket), row (`\\\\`).
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import NamedTuple

from filters.verifiers.expressions import words
from filters.verifiers.notation import Unreadable, closing

MAX_TOKENS = 600


class Token(NamedTuple):
    kind: str
    value: str
    spaced: bool = False  # a blank stood before it


GREEK = words(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau upsilon phi varphi chi "
    "psi omega Gamma Delta Theta Lambda Xi Sigma Upsilon Phi Psi Omega ell hbar"
)
FUNCTIONS = words(
    "sin cos tan cot sec csc arcsin arccos arctan arccot arcsec arccsc sinh cosh tanh coth asin acos atan log ln lg exp sqrt cbrt gcd "
    "lcm max min abs floor ceil det Re Im arg sgn sign cis tg ctg arctg arcctg cosec"
)
_WORD_COMMANDS = FUNCTIONS | words("pi infinity inf infty binom frac union cup in mod pm")
_TEXT = words("text textbf textit textrm textsf texttt mbox hbox operatorname emph textnormal mathit textup")
_FONT = words("mathrm mathbf mathsf mathit boldsymbol bm mathcal vec hat bar tilde overrightarrow widehat underline mathop mathbin")
_SKIP = words(
    "left right big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr displaystyle textstyle limits nolimits quad qquad enspace thinspace "
    "space hfill mathstrut strut rm bf it therefore small large Large huge tiny checkmark"
)
_PRODUCTS = words("any how not for box fly guy hot lot the are aim air act add ago all art ask bit boy buy cop cost cow cry fit fix fry get him")
_SHORT_WORDS = words("is of to in if no at by cm mm km kg mg ml ft lb oz hr am pm be we or an as so do it us up on he yd dm mi")

_LETTER_UNITS = frozenset("mgshLlNJWVAKt")

_TOKEN = re.compile(
    r"(?P<row>\\\\(?:\s*\[-?[\d.]+\s*(?:em|ex|pt|mm|cm)\])?)"
    r"|(?P<skip>\s+|~|\\[,;:!>()\[\] ]|&)"
    r"|(?P<cmd>\\[A-Za-z]+)"
    r"|(?P<esc>\\[{}%$\#&_|])"
    r"|(?P<num>(?:\d{1,3}(?:,\d{3}){1,4}(?![\d,]|\s*,\s*\d{3},)|\d+)(?:\.\d+|\.(?![\d.]))?|\.\d+)"
    r"|(?P<word>[A-Za-z]+)"
    r"|(?P<op><=|>=|!=|==|=>|->|\.\.\.|.)",
    re.DOTALL,
)


def tokens_of(text: str) -> list[Token]:
    """The tokens of `text` (as `notation.ascii_math` leaves it). Raises `Unreadable`."""
    out: list[Token] = []
    at, spaced, depth, end = 0, False, 0, len(text)
    while at < end:
        match = _TOKEN.match(text, at)
        assert match is not None  # the last alternative takes any character
        kind, value = str(match.lastgroup), match.group()
        at = match.end()
        if kind == "skip":
            if value == "&":
                out.append(Token("op", "&", True))
            spaced = True
            continue
        if kind == "cmd":
            name = value[1:]
            if name in _SKIP:
                if name in ("left", "right") and text[at : at + 1] == ".":
                    at += 1
                continue
            if name in _TEXT or name in _FONT:
                at = _styled(text, at, name, out, spaced)
            elif name == "begin" or name == "end":
                at = _environment(text, at, name, out)
            else:
                out.append(Token("cmd", name, spaced))
        elif kind == "esc":
            out.append(Token("op", value if value in ("\\{", "\\}") else value[1:], spaced))
            depth += 1 if value == "\\{" else -1 if value == "\\}" else 0
        elif kind == "num":
            if "," in value and (depth or (out and out[-1].value == ",")):
                value = value.split(",", 1)[0]
                at = match.start() + len(value)
            out.append(Token("num", value, spaced))
        elif kind == "word":
            _letters(value, out, spaced)
        else:
            depth += 1 if value in "([{" else -1 if value in ")]}" else 0
            out.append(Token(kind, value, spaced))
        spaced = False
        if len(out) > MAX_TOKENS:
            raise Unreadable("the answer is too long an expression")
    return out


def _letters(run: str, out: list[Token], spaced: bool) -> None:
    """A run of letters: a known name, a word of prose, or a product of one-letter symbols."""
    if run == "in" and out and out[-1].kind == "num":
        out.append(Token("word", run, spaced))  # inches
    elif run in _WORD_COMMANDS or run in GREEK:
        out.append(Token("cmd", run, spaced))
    elif len(run) == 1 or is_product(run):
        out += [Token("sym", letter, spaced and i == 0) for i, letter in enumerate(run)]
    else:
        for name in ("pi", "sqrt", "sin", "cos", "tan", "log", "ln"):
            if run.startswith(name) and len(run) == len(name) + 1 and name != "pi":  # "sinx", "lnx"
                out += [Token("cmd", name, spaced), Token("sym", run[-1])]
                return
        out.append(Token("word", run, spaced))


def is_product(run: str) -> bool:
    """ "ab", "xyz", "ABC", "2RC" are products of letters; "is", "cm", "any", "even" are words."""
    if len(run) <= 2:
        return run.lower() not in _SHORT_WORDS
    if len(run) == 3 and run.isupper():
        return True
    return len(run) <= 6 and run not in _PRODUCTS and all(a < b for a, b in pairwise(run)) and (len(run) == 3 or run.startswith(("abc", "wxy")))


def _styled(text: str, at: int, name: str, out: list[Token], spaced: bool) -> int:
    """`\\text{…}` becomes text; `\\mathrm{…}` and its like become what is inside them. Returns where to go on."""
    while at < len(text) and text[at] == " ":
        at += 1
    if text[at : at + 1] != "{":
        if name in _TEXT:
            raise Unreadable(f"\\{name} without its braces")
        return at  # \vec v, \mathbf x: the next token stands for itself
    end = closing(text, at)
    if end < 0:
        raise Unreadable("the answer is not well-formed")
    inner = text[at + 1 : end]
    plain = inner.replace("~", " ").replace("\\,", " ").replace("\\ ", " ").strip()
    if name == "mathrm" and len(plain) == 1 and plain in _LETTER_UNITS and out and (plain != inner or out[-1].kind == "num" or out[-1].value == "/"):
        out.append(Token("text", plain, spaced))
        return end + 1
    if name in _TEXT or (name in ("mathrm", "mathsf", "mathit", "mathbf") and re.fullmatch(r"[A-Za-z ]{2,}", plain)):
        if (plain in _WORD_COMMANDS and plain not in ("in", "mod")) or plain in GREEK:
            out.append(Token("cmd", plain, spaced))
        elif len(plain) == 1 and plain.isalpha() and (name not in ("text", "mbox") or plain in "ie"):
            out.append(Token("sym", plain, spaced))
        elif name in ("text", "mbox", "textbf", "mathrm") and re.search(r"\d", plain):
            out += tokens_of(plain)
        elif plain:
            out.append(Token("text", plain, spaced))
    elif name in ("vec", "hat", "bar", "tilde", "overrightarrow", "widehat", "underline") and len(plain) == 1:
        out.append(Token("sym", plain, spaced))
    else:
        out.append(Token("op", "{", spaced))
        out += tokens_of(inner)
        out.append(Token("op", "}"))
    return end + 1


def _environment(text: str, at: int, name: str, out: list[Token]) -> int:
    """`\\begin{pmatrix}` … `\\end{pmatrix}` become the tokens begin and end; the column letters of an array are dropped."""
    match = re.compile(r"\s*\{([a-zA-Z]+)\*?\}(?:\s*\{[lcr| ]+\})?").match(text, at)
    if match is None:
        raise Unreadable("the answer is not well-formed")
    if match[1] in ("aligned", "align", "gathered", "equation", "split", "gather"):
        return match.end()
    out.append(Token(name, match[1]))
    return match.end()
