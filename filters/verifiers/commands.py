"""The token cursor, and what LaTeX commands and function names read: fractions, roots, functions, sums, matrices, cases."""

from __future__ import annotations

import re
from fractions import Fraction

from filters.verifiers.expressions import INFINITY, Node, num, sym, words
from filters.verifiers.notation import Unreadable
from filters.verifiers.tokens import FUNCTIONS, GREEK, Token

MAX_DEPTH = 60
FRACTIONS = words("frac dfrac tfrac cfrac sfrac nicefrac")
BINOMIALS = words("binom dbinom tbinom")
_ALIASES = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "tg": "tan", "ctg": "cot", "arctg": "arctan", "arcctg": "arccot", "cosec": "csc"}
_FIELDS = {"R": "R", "Z": "Z", "N": "N", "Q": "Q", "C": "C"}
_MARKS = {"ast": "*", "*": "*", "times": "*", "+": "+", "-": "-", ">0": "+", "<0": "-", "0": "0", "ge0": "0+", "geq0": "0+", "2": "2", "3": "3"}
DOTS = frozenset(("...", "ldots", "dots", "cdots", "dotsc", "dotsb"))


class Commands:
    """Everything that begins with a name. The subclass reads what stands between: sums, powers, primaries, brackets."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens, self.at, self.depth, self.bars, self.mid, self.outward = tokens, 0, 0, 0, False, False

    def listed(self, closers: frozenset[str] = frozenset(), *, top: bool = False) -> Node:
        raise NotImplementedError

    def sum(self) -> Node:
        raise NotImplementedError

    def product(self) -> Node:
        raise NotImplementedError

    def power(self) -> Node:
        raise NotImplementedError

    def primary(self) -> Node:
        raise NotImplementedError

    def exponent(self) -> Node:
        raise NotImplementedError

    def bracketed(self, opener: str) -> Node:
        raise NotImplementedError

    def implicit(self, token: Token) -> bool:
        raise NotImplementedError

    def juxtaposed(self, left: Node) -> Node:
        raise NotImplementedError

    def peek(self, ahead: int = 0) -> Token | None:
        i = self.at + ahead
        return self.tokens[i] if i < len(self.tokens) else None

    def value(self, ahead: int = 0) -> str:
        token = self.peek(ahead)
        return token.value if token is not None else ""

    def take(self, value: str) -> None:
        if self.value() != value:
            raise Unreadable("the answer is not well-formed")
        self.at += 1

    def descend(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("the answer is nested too deeply")

    # values with units

    def command(self, name: str) -> Node:
        if name in FRACTIONS:
            if self.value() == "(":
                raise Unreadable("the answer is not well-formed")
            return Node("div", (self.argument(), self.argument()))
        if name in BINOMIALS:
            return Node("fn", ("binom", self.argument(), self.argument()))
        if name in ("sqrt", "cbrt"):
            return self.root(3 if name == "cbrt" else 2)
        if name == "pi":
            return Node("const", ("pi",))
        if name in ("infty", "infinity", "inf"):
            return INFINITY
        if name in FUNCTIONS:
            return self.function(_ALIASES.get(name, name))
        if name in GREEK:
            return self.subscripted(name.removeprefix("var"))
        if name in ("lfloor", "lceil"):
            node = self.sum()
            self.take("r" + name[1:])
            return Node("fn", ("floor" if name == "lfloor" else "ceil", node))
        if name in ("sum", "prod"):
            return self.series(name)
        if name == "mathbb":
            token = self.argument()
            if token.op != "sym" or token.args[0] not in _FIELDS:
                raise Unreadable("the answer is not well-formed")
            return self.field(token.args[0])
        if name in ("emptyset", "varnothing"):
            return Node("empty", ())
        if name == "overline":
            return self.argument()
        if name == "angle":
            return self.primary()
        if name in DOTS:
            return Node("text", ("...",))
        if name == "pm":
            return Node("pm", (self.product(),))
        raise Unreadable(f"the answer holds \\{name}, which this verifier does not read")

    def field(self, name: str) -> Node:
        """ℝ, ℤ, … with what restricts it: ^+, ^*, _{>0}, _0."""
        marks = ""
        while self.value() in ("^", "_"):
            self.at += 1
            braced = self.value() == "{"
            self.at += braced
            start = self.at
            self.at += 1
            while braced and self.value() not in ("}", ""):
                self.at += 1
            written = "".join(t.value for t in self.tokens[start : self.at])
            self.at += braced
            marks += _MARKS.get(written, "?" + written)
        return Node("reals", (name + marks,))

    def root(self, index: int) -> Node:
        degree = num(index)
        if self.value() == "[":
            self.at += 1
            degree = self.sum()
            self.take("]")
        token = self.peek()
        if token is not None and token.kind == "num":
            self.at += 1
            node = number(token.value)
        else:
            node = self.argument()
        return Node("root", (degree, node))

    def function(self, name: str) -> Node:
        power: Node | None = None
        base: Node | None = None
        for _ in range(2):
            if self.value() == "^" and self.value(1) not in ("circ",) and power is None:
                self.at += 1
                power = self.exponent()
            elif self.value() == "_" and base is None:
                self.at += 1
                base = self.argument()
        if name in ("max", "min", "gcd", "lcm"):
            return Node("fn", (name, *self.arguments()))
        if power is not None and power == Node("neg", (num(1),)) and ("arc" + name) in FUNCTIONS:
            name, power = "arc" + name, None
        inner = self.function_argument()
        node = Node("fn", (name, inner)) if base is None else Node("fn", ("logb", base, inner))
        if base is not None and name not in ("log", "ln", "lg"):
            raise Unreadable("the answer is not well-formed")
        return node if power is None else Node("pow", (node, power))

    def arguments(self) -> tuple[Node, ...]:
        node = self.primary()
        items = node.args[2:] if node.op == "tuple" else node.args if node.op == "set" else node.args[1:] if node.op == "list" else ()
        if not items:
            raise Unreadable("the answer is not well-formed")
        return tuple(items)

    def function_argument(self) -> Node:
        """ "\\sin(x)" takes the bracket; "\\sin 2x" a product, up to the next function."""
        if self.value() in ("(", "[", "{"):
            opener = self.value()
            self.at += 1
            node = self.bracketed(opener)
            if self.value() == "^" and opener == "{":
                self.at += 1
                node = Node("pow", (node, self.exponent()))
            return node
        self.descend()
        negative = self.value() == "-"
        self.at += negative
        node = self.power()
        while (token := self.peek()) is not None:
            if token.value == "/" and (after := self.peek(1)) is not None and after.kind == "num" and node.op in ("const", "num", "mul", "sym"):
                self.at += 1
                node = Node("div", (node, self.power()))
            elif self.implicit(token) and token.value not in FUNCTIONS - {"sqrt"} and token.value not in ("(", "[", "|") and token.kind != "num":
                node = self.juxtaposed(node)
            else:
                break
        self.depth -= 1
        return Node("neg", (node,)) if negative else node

    def series(self, name: str) -> Node:
        self.take("_")
        self.take("{")
        index = self.peek()
        self.at += 1
        if index is None or index.kind != "sym":
            raise Unreadable("the answer is not well-formed")
        self.take("=")
        low = self.sum()
        self.take("}")
        self.take("^")
        high = self.argument()
        return Node(name, (index.value, low, high, self.product()))

    def matrix(self, kind: str) -> Node:
        """Rows of a matrix environment; the cells are expressions. Determinants are refused."""
        if kind == "cases":
            return self.cases()
        if kind not in ("pmatrix", "bmatrix", "matrix", "array", "smallmatrix", "Bmatrix"):
            raise Unreadable(f"the answer holds a {kind}, which this verifier does not read")
        rows: list[list[Node]] = [[]]
        while (token := self.peek()) is not None:
            if token.kind == "end":
                self.at += 1
                rows = [r for r in rows if r]
                if not rows or len({len(r) for r in rows}) != 1:
                    raise Unreadable("the answer is not well-formed")
                return Node("matrix", (len(rows), *(cell for row in rows for cell in row)))
            if token.kind == "row":
                self.at += 1
                rows.append([])
            elif token.value == "&":
                self.at += 1
            else:
                rows[-1].append(self.sum())
        raise Unreadable("the answer is not well-formed")

    def cases(self) -> Node:
        """Rows of value and condition; "otherwise" is a condition of its own."""
        rows: list[Node] = []
        while (token := self.peek()) is not None:
            if token.kind == "end":
                self.at += 1
                return Node("cases", tuple(rows))
            if token.kind == "row":
                self.at += 1
                continue
            value = self.sum()
            while self.value() in ("&", ",") or self.value().lower().strip(" ,") in ("if", "for", "when", "where"):
                self.at += 1
            end = self.at
            while end < len(self.tokens) and self.tokens[end].kind not in ("row", "end"):
                end += 1
            words = [t for t in self.tokens[self.at : end] if t.value not in (",", ".", ";")]
            if len(words) == 1 and words[0].value.lower().strip(" ,.") in ("otherwise", "else", "elsewhere"):
                condition = Node("text", ("otherwise",))
            else:
                condition = type(self)(words if len(words) < 4 else self.tokens[self.at : end]).listed()
            self.at = end
            rows += [value, condition]
        raise Unreadable("the answer is not well-formed")

    def chosen(self, name: str) -> Node | None:
        """C_{10}^{3}, the binomial coefficient, and A_{10}^{3}, the number of arrangements; None where it is a power of an indexed symbol."""
        start = self.at
        self.at += 1
        try:
            below = self.argument()
            if self.value() == "^":
                self.at += 1
                above = self.argument()
                if (below.op == above.op == "num" and 2 < below.args[0] >= above.args[0]) or below.op != "num":
                    coefficient = Node("fn", ("binom", below, above))
                    return coefficient if name == "C" else Node("mul", (coefficient, Node("fn", ("fact", above))))
        except Unreadable:
            pass
        self.at = start
        return None

    def argument(self) -> Node:
        """The argument of a command: a braced group, or the one next token (one digit of a number)."""
        token = self.peek()
        if token is None:
            raise Unreadable("the answer is not well-formed")
        if token.value == "{":
            self.at += 1
            inner = self.peek()
            if inner is not None and inner.kind == "text" and self.value(1) == "}":
                self.at += 2
                return Node("text", (inner.value,))
            return self.bracketed("{")
        if token.kind == "num" and len(token.value) > 1 and token.value[0].isdigit():
            self.tokens[self.at] = Token("num", token.value[1:])
            return number(token.value[0])
        self.descend()
        node = self.primary()
        self.depth -= 1
        return node

    def subscripted(self, name: str) -> Node:
        if name in "CA" and self.value() == "_" and (chosen := self.chosen(name)) is not None:
            return chosen
        if self.value() == "_":
            self.at += 1
            if self.value() == "{":
                self.at += 1
                depth, parts = 1, []
                while depth:
                    token = self.peek()
                    if token is None:
                        raise Unreadable("the answer is not well-formed")
                    self.at += 1
                    depth += (token.value == "{") - (token.value == "}")
                    parts.append(token.value)
                name += "_" + "".join(parts[:-1])
            else:
                token = self.peek()
                if token is None:
                    raise Unreadable("the answer is not well-formed")
                self.at += 1
                name += "_" + token.value
        while self.value() == "'":
            self.at += 1
            name += "'"
        return sym(name)

    def repeating(self, text: str) -> Node:
        """A number as written; "0.\\overline{3}", "0.\\dot{3}" and "0.333…" repeat for ever."""
        if self.value() in ("overline", "dot", "bar") and "." in text:
            self.at += 1
            block = self.digits_in_braces()
            while self.value() == "dot" or (self.value(1) == "dot" and self.value().isdigit()):
                block += self.value() if self.value() != "dot" else ""
                self.at += 1 if self.value() == "dot" else 2
                block += self.digits_in_braces()
            return num(_repeat(text, block))
        if self.value() in DOTS and "." in text and (match := re.search(r"(?:(\d)\1{2,}|(\d{2,6}?)\2+)\Z", text)):
            self.at += 1
            return num(_repeat(text[: match.start()], match[1] or match[2]))
        return number(text)

    def digits_in_braces(self) -> str:
        self.take("{") if self.value() == "{" else None
        token = self.peek()
        if token is None or not token.value.isdigit():
            raise Unreadable("the answer is not well-formed")
        self.at += 1
        self.take("}") if self.value() == "}" else None
        return token.value


def number(text: str) -> Node:
    text = text.replace(",", "")
    _, point, rest = text.partition(".")
    if not any(c.isdigit() for c in text):
        raise Unreadable("the answer is not well-formed")
    return num(Fraction(text.rstrip(".")), len(rest) if point and rest else -1)


def _repeat(head: str, block: str) -> Fraction:
    whole, _, fixed = head.partition(".")
    scale = 10 ** len(fixed)
    return Fraction(int(whole + fixed or "0"), scale) + Fraction(int(block), scale * (10 ** len(block) - 1))
