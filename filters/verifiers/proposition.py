"""Propositional formulas: our own small grammar, parsed with bounded depth; truth by a walk, models by enumeration.

formula = iff; iff = implies ("<->" implies)*; implies = or ("->" implies)?; or = and ("|" and)*; and = not ("&" not)*; not = "~" not | atom
| "(" formula ")" | "true" | "false". Words ("and", "or", "not", "xor", "if and only if") and the usual signs are read too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

MAX_TEXT = 2_000  # characters
MAX_DEPTH = 60
MAX_ATOMS = 16  # enumeration is 2^n


@dataclass(frozen=True)
class Formula:
    """`op` is atom, const, not, and, or, xor, implies or iff; an atom's `name` is case-folded, for const it is "true" or "false"."""

    op: str
    name: str = ""
    parts: tuple[Formula, ...] = ()


_SIGNS = (
    (r"<->|<=>|↔|⇔|≡|\\(?:leftrightarrow|iff)\b|\bif and only if\b|\biff\b", "iff"),
    (r"->|=>|→|⇒|⊃|\\(?:to|rightarrow|implies)\b|\bimplies\b", "implies"),
    (r"⊕|\bxor\b", "xor"),
    (r"\|\|?|∨|\\(?:lor|vee)\b|\bor\b", "or"),
    (r"&&?|∧|\\(?:land|wedge)\b|\band\b", "and"),
    (r"~|!|¬|\\(?:lnot|neg)\b|\bnot\b", "not"),
    (r"\(|\[", "("),
    (r"\)|\]", ")"),
    (r"\w+", "atom"),
)
_TOKEN = re.compile("|".join(f"(?P<t{i}>{form})" for i, (form, _) in enumerate(_SIGNS)) + r"|(?P<blank>\s+)|(?P<other>.)", re.I)
_BINARY = ("iff", "implies", "xor", "or", "and")  # loosest first


class _Wrong(Exception):
    pass


def parse_formula(text: str) -> Formula | str:
    """The formula, or why it is none."""
    if len(text) > MAX_TEXT:
        return f"a formula is longer than {MAX_TEXT} characters"
    tokens: list[tuple[str, str]] = []
    for match in _TOKEN.finditer(text):
        if match.lastgroup == "other":
            return f"formula {text[:40]!r}: {match.group()!r} is no sign of logic"
        if match.lastgroup != "blank":
            tokens.append((_SIGNS[int(str(match.lastgroup)[1:])][1], match.group()))
    try:
        formula, rest = _binary(tokens, 0, 0, 0)
        if rest != len(tokens):
            raise _Wrong(f"{tokens[rest][1]!r} is not expected")
    except _Wrong as error:
        return f"formula {text[:40]!r}: {error}"
    return formula


def _binary(tokens: Sequence[tuple[str, str]], at: int, level: int, depth: int) -> tuple[Formula, int]:
    if depth > MAX_DEPTH:
        raise _Wrong("nested too deep")
    if level == len(_BINARY):
        return _unary(tokens, at, depth)
    left, at = _binary(tokens, at, level + 1, depth)
    op = _BINARY[level]
    while at < len(tokens) and tokens[at][0] == op:
        right, at = _binary(tokens, at + 1, level if op == "implies" else level + 1, depth + 1)
        left = Formula(op, parts=(left, right))
    return left, at


def _unary(tokens: Sequence[tuple[str, str]], at: int, depth: int) -> tuple[Formula, int]:
    if depth > MAX_DEPTH:
        raise _Wrong("nested too deep")
    if at >= len(tokens):
        raise _Wrong("it ends too early")
    kind, word = tokens[at]
    if kind == "not":
        inner, at = _unary(tokens, at + 1, depth + 1)
        return Formula("not", parts=(inner,)), at
    if kind == "(":
        inner, at = _binary(tokens, at + 1, 0, depth + 1)
        if at >= len(tokens) or tokens[at][0] != ")":
            raise _Wrong("a bracket is not closed")
        return inner, at + 1
    if kind == "atom":
        name = word.casefold()
        return Formula("const" if name in ("true", "false") else "atom", name), at + 1
    raise _Wrong(f"{word!r} is not expected")


def truth(formula: Formula, model: Mapping[str, bool]) -> bool:
    if formula.op == "atom":
        return model[formula.name]
    if formula.op == "const":
        return formula.name == "true"
    values = [truth(part, model) for part in formula.parts]
    if formula.op == "not":
        return not values[0]
    left, right = values
    return {"and": left and right, "or": left or right, "xor": left != right, "implies": not left or right, "iff": left == right}[formula.op]


def atoms_of(formula: Formula) -> tuple[str, ...]:
    """Names of atoms in order of appearance, each once."""
    if formula.op == "atom":
        return (formula.name,)
    return tuple(dict.fromkeys(name for part in formula.parts for name in atoms_of(part)))


def models(atoms: Sequence[str]) -> Iterator[dict[str, bool]]:
    """Every assignment of truth values to `atoms`."""
    for bits in range(1 << len(atoms)):
        yield {atom: bool(bits >> i & 1) for i, atom in enumerate(atoms)}
