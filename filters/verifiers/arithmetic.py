"""Plain arithmetic evaluated exactly on a tree of our own choosing: whole numbers, + - * / and brackets, nothing else.

Python's parser makes the tree, after guards on length, alphabet, digits and nesting; the walk knows five kinds of node. No `eval`.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

MAX_LENGTH = 400  # characters
MAX_DIGITS = 18
MAX_DEPTH = 40  # brackets and signs inside one another

_ALPHABET = re.compile(r"[0-9+\-*/(). ]+\Z")
_DRESS: Mapping[int, str] = str.maketrans({"×": "*", "·": "*", "⋅": "*", "÷": "/", "−": "-", "–": "-", "[": "(", "]": ")", "\t": " ", "\n": " "})
_OPERATORS: Mapping[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


@dataclass(frozen=True)
class Evaluated:
    """The exact value, the numbers written in the expression in order, and whether a minus sign stands before an operand."""

    value: Fraction
    numbers: tuple[Fraction, ...]
    signs: bool = False


def evaluate(text: str) -> Evaluated | str:
    """The value of `text`, or why it has none. Bounded in time and memory."""
    if len(text) > MAX_LENGTH:
        return f"the expression is longer than {MAX_LENGTH} characters"
    plain = text.replace("\\times", "*").replace("\\cdot", "*").replace("\\div", "/").replace("\\left", "").replace("\\right", "")
    plain = re.sub(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", r"((\1)/(\2))", plain).translate(_DRESS).strip().strip("$").strip()
    if not plain:
        return "the expression is empty"
    if not plain.isascii() or not _ALPHABET.match(plain):
        return "the expression holds more than numbers, + - * / and brackets"
    if re.search(rf"[0-9.]{{{MAX_DIGITS + 1},}}", plain):
        return f"a number has more than {MAX_DIGITS} digits"
    depth = deepest = 0
    for c in plain:
        depth += (c == "(") - (c == ")")
        deepest = max(deepest, depth)
    if depth or deepest > MAX_DEPTH or re.search(rf"[-+ ]{{{MAX_DEPTH},}}", plain):
        return "brackets do not match" if depth else "the expression is nested too deep"
    try:
        tree = ast.parse(plain, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "the expression is not well-formed"
    numbers: list[Fraction] = []
    try:
        value, signs = _walk(tree.body, numbers)
    except ZeroDivisionError:
        return "the expression divides by zero"
    except _Forbidden as error:
        return str(error)
    return Evaluated(value, tuple(numbers), signs)


class _Forbidden(Exception):
    pass


def _walk(node: ast.expr, numbers: list[Fraction]) -> tuple[Fraction, bool]:
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, one = _walk(node.left, numbers)
        right, other = _walk(node.right, numbers)
        return _OPERATORS[type(node.op)](left, right), one or other
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        value, _ = _walk(node.operand, numbers)
        return (-value if isinstance(node.op, ast.USub) else value), True
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        value = Fraction(str(node.value))
        numbers.append(value)
        return value, False
    raise _Forbidden("the expression holds more than numbers, + - * / and brackets")


_NUMBER = r"\$?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?|\$?\.[0-9]+"
_SIDE = rf"[-+]?\(*(?:{_NUMBER})\)*(?:\s*[-+*/x×÷]\s*\(*-?(?:{_NUMBER})\)*)*"
_BEFORE = r"\b(?:so|is|are|have|has|get|gets|gives|then|that|total|therefore|of which|makes|paid|spent|costs?|earns?|left) "
_AFTER = r"[\w%^*/+(×÷]| *[-+*/x×÷^] *[\w(\\]|[.,:][0-9]| *%| [0-9]{3}\b| and \$?[0-9]"
_CHAIN = re.compile(rf"(?:<<|^|(?<![0-9]):|[\n;(=]|[,.] |{_BEFORE})\s*(?P<chain>{_SIDE}(?:\s*=\s*{_SIDE}){{1,6}})(?!{_AFTER})", re.I | re.M)
_LINE = 2_000  # characters of a line that are read


@dataclass(frozen=True)
class Claim:
    """One equality found in a text; `holds` is exact, up to rounding where the right side has decimals."""

    text: str
    holds: bool


def claims(line: str) -> list[Claim]:
    """The arithmetic equalities that one line states: calculator notes `<<48/2=24>>` and chains "3 * 4 = 12". Careful rather than complete:
    what stands beside words, units or percent signs that may change its meaning is left alone."""
    found = []
    for match in _CHAIN.finditer(line[:_LINE]):
        sides = [re.sub(r"(?<=[0-9)])\s*x\s*(?=[0-9(])", "*", s).replace("$", "").replace(",", "").strip() for s in match["chain"].split("=")]
        values = [evaluate(side) for side in sides]
        if not any(re.search(r"[0-9)]\s*[-+*/×÷]", s) for s in sides) or any(re.search(r"/[^-+*()]*/", s) for s in sides):
            continue  # nothing computed; or a / b/c, which people write for a divided by the fraction b/c
        for one, other, left, right in zip(values, values[1:], sides, sides[1:]):
            if isinstance(one, Evaluated) and isinstance(other, Evaluated):
                found.append(Claim(f"{left} = {right}", _equal(one.value, other.value, left, right)))
    return found


def _equal(one: Fraction, other: Fraction, left: str, right: str) -> bool:
    if one == other:
        return True
    written = [s for s in (left, right) if re.fullmatch(r"-?[0-9]*\.[0-9]+", s)]
    return any(abs(one - other) <= Fraction(1, 10 ** len(s.partition(".")[2])) for s in written)  # rounded, or cut off
