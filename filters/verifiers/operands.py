"""Sums, products, powers and primaries of the answer grammar, and the unit behind a value."""

from __future__ import annotations

import re
from fractions import Fraction

from filters.verifiers.expressions import INFINITY, MINUS_INFINITY, Node, num, sym
from filters.verifiers.notation import Unreadable
from filters.verifiers.numbers import NO_UNIT
from filters.verifiers.tokens import FUNCTIONS, GREEK, Token

MAX_DEPTH = 60
_MULTIPLY = frozenset(("*", "times", "cdot", "ast"))
_DIVIDE = frozenset(("/", "div", ":"))
_FRACTIONS = frozenset(["frac", "dfrac", "tfrac", "cfrac", "sfrac", "nicefrac"])
_BINOMIALS = frozenset(["binom", "dbinom", "tbinom"])
_ALIASES = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "tg": "tan", "ctg": "cot", "arctg": "arctan", "arcctg": "arccot", "cosec": "csc"}
_OPENERS = {"(": ")", "[": "]", "{": "}", "\\{": "\\}", "langle": "rangle"}
_STARTS = frozenset(["(", "[", "{", "|", "pi", "infty", "sqrt", "cbrt", "lfloor", "lceil", "lvert", "vert", "mathbb", "emptyset", "varnothing", "begin", "sum", "prod", "overline", "infinity", "inf"]) | GREEK
_STARTS_ALL = _STARTS | _FRACTIONS | _BINOMIALS | FUNCTIONS
_FIELDS = {"R": "R", "Z": "Z", "N": "N", "Q": "Q", "C": "C"}
_NO_UNIT = frozenset(["and", "or", "where", "for", "with", "if", "when", "such", "given", "provided", "while", "whenever", "assuming", "as", "is", "are", "not", "mod"])
_REMARKS = frozenset(["=", "<", ">", "<=", ">=", "in", "ge", "geq", "le", "leq", "geqslant", "leqslant", "ne", "neq", "where", "for", "with", "if", "any", "all", "integer", "integers"])
_DOTS = frozenset(("...", "ldots", "dots", "cdots", "dotsc", "dotsb"))


class Operands:
    """Token cursor and everything from a sum down; `listed` is given by the subclass (brackets hold lists)."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens, self.at, self.depth, self.bars, self.mid, self.outward = tokens, 0, 0, 0, False, False

    def listed(self, closers: frozenset[str] = frozenset(), *, top: bool = False) -> Node:
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

    def quantity(self) -> Node:
        money = self.value() if self.value() in ("$", "€", "£", "¥") else ""
        if not money and self.value() == "-" and self.value(1) == "$":
            self.tokens[self.at], self.tokens[self.at + 1] = self.tokens[self.at + 1], self.tokens[self.at]
            money = "$"
        self.at += bool(money)
        node = self.sum()
        unit = money or self.unit()
        if node.op in ("deg", "pct") and not unit:
            return Node("quantity", (node.args[0], "°" if node.op == "deg" else "%"))
        return Node("quantity", (node, unit)) if unit else node

    def unit(self) -> str:
        """Words behind a value, with the powers and slashes among them."""
        out = ""
        while (token := self.peek()) is not None:
            if token.kind in ("word", "text") and token.value.lower().strip(" ,(").split(" ")[0] not in _NO_UNIT:
                out += (" " if out and not out.endswith("/") else "") + token.value.strip()
            elif out and token.value == "^":
                self.at += 1
                node = self.exponent()
                out += "^" + (str(node.args[0]) if node.op == "num" else "?")
                continue
            elif token.value == "/" and (after := self.peek(1)) is not None and after.kind in ("word", "text"):
                out += "/"
            elif token.value == "/" and out and (after := self.peek(1)) is not None and after.kind == "sym" and after.value in "hsm":
                out += "/" + after.value
                self.at += 1
            elif token.value in ("$", "%", "€", "£") and not out:
                out = token.value
            else:
                break
            self.at += 1
        words = out.lower().replace("/", " ").replace("-", " ").split()
        if len(words) > 5 or any(w.strip(".,()") in NO_UNIT for w in words):
            raise Unreadable(f"the answer says {out[:30]!r} of its value")  # "12 dozen" is not 12
        return out

    # sums and products

    def sum(self) -> Node:
        self.descend()
        node: Node | None = None
        if self.value() in ("pm", "mp", "-", "+", "+-"):
            node = self.signed(None)
        else:
            node = self.product()
        while self.value() in ("+", "-", "pm", "mp"):
            node = self.signed(node)
        self.depth -= 1
        return node

    def signed(self, left: Node | None) -> Node:
        op = self.value()
        self.at += 1
        if op == "+" and self.value() == "/" and self.value(1) == "-":
            self.at += 2
            op = "pm"
        right = self.product()
        if op in ("pm", "mp"):
            return Node(op, (right,) if left is None else (left, right))
        if op == "-":
            right = Node("neg", (right,))
        return right if left is None else Node("add", (left, right))

    def product(self) -> Node:
        node = self.power()
        while (token := self.peek()) is not None:
            if token.value in _MULTIPLY or (token.value == "x" and token.spaced and node.op == "num" and self.value(1) == "10" and self.value(2) == "^"):
                self.at += 1
                node = Node("mul", (node, self.factor()))
            elif token.value in _DIVIDE and not (token.value == ":" and self.mid) and not self.unit_slash():
                self.at += 1
                node = Node("ratio" if token.value == ":" else "div", (node, self.factor()))
            elif token.value in ("bmod", "mod") and token.kind == "cmd":
                self.at += 1
                node = Node("fn", ("mod", node, self.factor()))
            elif self.implicit(token):
                node = self.juxtaposed(node)
            else:
                break
        return node

    def unit_slash(self) -> bool:
        token = self.peek(1)
        return token is not None and token.kind in ("word", "text")

    def factor(self) -> Node:
        """A power with its own sign: "3·-2"."""
        if self.value() in ("-", "+"):
            negative = self.value() == "-"
            self.at += 1
            self.descend()
            node = self.factor()
            self.depth -= 1
            return Node("neg", (node,)) if negative else node
        return self.power()

    def implicit(self, token: Token) -> bool:
        """Does this token begin a factor without a sign of multiplication?"""
        if token.kind == "sym" or token.kind == "num":
            return True
        if token.value == "[" and self.outward:
            return False
        if token.value == "|":
            return self.bars == 0 and not self.mid
        if token.value == "(" and (self.value(1) in ("mod", "pmod", "bmod") or self.remark_ahead()):
            return False
        return (token.kind == "cmd" or token.kind == "op" or token.kind == "begin") and (token.value in _STARTS_ALL or token.value == "\\{" or token.kind == "begin")

    def remark_ahead(self) -> bool:
        """At a bracket that holds a relation: "(k ∈ ℤ)" behind a value is no factor."""
        depth = 0
        for token in self.tokens[self.at :]:
            depth += token.value in _OPENERS
            depth -= token.value in (")", "]", "}", "\\}")
            if depth == 0:
                return False
            if token.value in _REMARKS:
                return True
        return False

    def juxtaposed(self, left: Node) -> Node:
        start, here = self.tokens[self.at - 1], self.tokens[self.at]
        right = self.power()
        if left.op == "num" and right.op in ("div", "num") and start.kind == "num":
            whole = left.args[0].denominator == 1 and left.args[1] < 0
            if here.kind == "num" and right.op == "num" and self.value() == "/" and (below := self.peek(1)) is not None and below.kind == "num":
                self.at += 2
                right = Node("div", (right, _number(below.value)))
            if whole and right.op == "div" and all(a.op == "num" and a.args[0].denominator == 1 for a in right.args):
                over, under = (a.args[0] for a in right.args)
                if 0 < over < under:
                    return Node("add", (left, right))  # a mixed number
            raise Unreadable("the answer holds two numbers side by side")
        if right.op == "num" and here.kind == "num" and left.op == "num":
            raise Unreadable("the answer holds two numbers side by side")
        return Node("mul", (left, right))

    # powers and primaries

    def power(self) -> Node:
        self.descend()
        node = self.primary()
        while (token := self.peek()) is not None:
            if token.value == "^":
                if self.value(1) in ("circ", "degree") or (self.value(1) == "{" and self.value(2) in ("circ", "degree") and self.value(3) == "}"):
                    self.at += 2 if self.value(1) != "{" else 4
                    node = self.degrees(node)
                    continue
                self.at += 1
                if self.value() in ("prime", "'"):
                    self.at += 1
                    continue
                node = Node("pow", (node, self.exponent()))
            elif token.value == "!" and self.value(1) != "=":
                self.at += 1
                if self.value() == "!":
                    raise Unreadable("the answer holds a double factorial")
                node = Node("fn", ("fact", node))
            elif token.value in ("degree", "degrees", "circ") and token.kind in ("cmd", "word"):
                self.at += 1
                node = self.degrees(node)
            elif token.value == "%" and token.kind == "op":
                self.at += 1
                node = Node("pct", (node,))
            elif token.value == "_" and node.op == "num":
                self.at += 1
                node = self.based(node)
            else:
                break
        self.depth -= 1
        return node

    def degrees(self, node: Node) -> Node:
        token = self.peek()
        if token is not None and token.kind == "num" and self.value(1) == "'":
            node = Node("add", (node, Node("div", (_number(token.value), num(60)))))
            self.at += 2
        return Node("deg", (node,))

    def exponent(self) -> Node:
        if self.value() in ("-", "+"):
            negative = self.value() == "-"
            self.at += 1
            node = self.exponent()
            return Node("neg", (node,)) if negative else node
        token = self.peek()
        if token is not None and token.kind == "text":
            raise Unreadable("the answer has words in an exponent")
        self.descend()
        node = self.primary()
        if self.value() == "^":
            self.at += 1
            node = Node("pow", (node, self.exponent()))
        self.depth -= 1
        return node

    def based(self, node: Node) -> Node:
        """Digits with the base below them: 1011_2."""
        under = self.argument()
        words = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "sixteen": 16}
        base = under.args[0] if under.op == "num" else Fraction(words.get(str(under.args[0]), 0)) if under.op == "text" else Fraction(0)
        digits = str(node.args[0])
        if node.args[1] >= 0 or not digits.isdigit() or base.denominator != 1 or not 2 <= base <= 36 or any(int(d) >= base for d in digits):
            raise Unreadable("the answer has an index below a number that is no base")
        return Node("base", (digits, int(base)))

    def primary(self) -> Node:
        token = self.peek()
        if token is None:
            raise Unreadable("the answer is not well-formed")
        self.at += 1
        value = token.value
        if token.kind == "num":
            return self.repeating(value)
        if token.kind == "sym":
            return self.subscripted(value)
        if token.kind == "begin":
            return self.matrix(value)
        if value in _OPENERS or value == "]":
            return self.bracketed(value)
        if value == "|" or value in ("lvert", "vert", "lVert"):
            self.bars += value in ("|", "vert")
            node = self.sum()
            self.bars -= value in ("|", "vert")
            self.take({"lvert": "rvert", "lVert": "rVert"}.get(value, value))
            return Node("fn", ("abs", node))
        if token.kind == "cmd":
            return self.command(value)
        if value in _DOTS:
            return Node("text", ("...",))
        if token.kind in ("word", "text"):
            raise Unreadable(f"the answer holds words ({value[:20]!r})")
        raise Unreadable(f"the answer is not well-formed near {value!r}")

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
        if self.value() in _DOTS and "." in text and (match := re.search(r"(?:(\d)\1{2,}|(\d{2,6}?)\2+)\Z", text)):
            self.at += 1
            return num(_repeat(text[: match.start()], match[1] or match[2]))
        return _number(text)

    def digits_in_braces(self) -> str:
        self.take("{") if self.value() == "{" else None
        token = self.peek()
        if token is None or not token.value.isdigit():
            raise Unreadable("the answer is not well-formed")
        self.at += 1
        self.take("}") if self.value() == "}" else None
        return token.value

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

    def bracketed(self, opener: str) -> Node:
        """A bracket and what it holds: one expression is itself, several a tuple or interval, braces with commas a set."""
        self.descend()
        bars, mid, outward = self.bars, self.mid, self.outward
        self.bars, self.mid, self.outward = 0, opener == "\\{", opener == "]"
        closers = frozenset((")", "]", "[", "\\}", "}", "|", "mid", ":", "rangle"))
        if opener == "\\{" and self.value() == "\\}":
            self.at += 1
            self.bars, self.mid, self.outward, self.depth = bars, mid, outward, self.depth - 1
            return Node("empty", ())
        if opener == "{" and self.value() == "}":
            raise Unreadable("the answer is not well-formed")
        node = self.listed(closers)
        if opener == "\\{" and self.value() in ("|", "mid", ":"):
            self.at += 1
            self.mid = False
            node = Node("builder", (node, self.listed(closers)))
        if opener == "{" and self.value() == "choose":
            self.at += 1
            node = Node("fn", ("binom", node, self.sum()))
        closer = self.value()
        self.at += 1
        self.bars, self.mid, self.outward, self.depth = bars, mid, outward, self.depth - 1
        items = node.args[1:] if node.op == "list" else (node,)
        if opener in ("\\{", "{"):
            if closer != _OPENERS[opener]:
                raise Unreadable("the answer is not well-formed")
            if opener == "{":
                return node if node.op != "list" else Node("set", items)
            return node if node.op == "builder" else Node("set", items)
        if opener == "langle" and closer == "rangle":
            return Node("tuple", ("(", ")", *items))
        if closer not in (")", "]", "["):
            raise Unreadable("the answer is not well-formed")
        if opener == "]" or closer == "[":
            if len(items) != 2:
                raise Unreadable("the answer is not well-formed")
            return Node("tuple", ("(" if opener == "]" else opener, ")" if closer == "[" else closer, *items))
        if len(items) == 1:
            if closer != _OPENERS[opener] or (node.op == "rel" and opener == "["):
                raise Unreadable("the answer is not well-formed")
            return node
        return Node("tuple", (opener, closer, *items))

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
            return _number(token.value[0])
        self.descend()
        node = self.primary()
        self.depth -= 1
        return node

    def command(self, name: str) -> Node:
        if name in _FRACTIONS:
            if self.value() == "(":
                raise Unreadable("the answer is not well-formed")
            return Node("div", (self.argument(), self.argument()))
        if name in _BINOMIALS:
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
        if name in _DOTS:
            return Node("text", ("...",))
        if name == "pm":
            return Node("pm", (self.product(),))
        raise Unreadable(f"the answer holds \\{name}, which this verifier does not read")

    def field(self, name: str) -> Node:
        marks = ""
        while self.value() in ("^", "_"):
            self.at += 1
            braced = self.value() == "{"
            self.at += braced
            marks += {"*": "*", "ast": "*", "times": "*", "+": "+", "-": "-", "0": "0", "2": "2", "3": "3", "ge": "+", "geq": "+"}.get(self.value(), "?")
            self.at += 1
            while braced and self.value() not in ("}", ""):
                marks += self.value()
                self.at += 1
            self.at += braced
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
            node = _number(token.value)
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
        """"\\sin(x)" takes the bracket; "\\sin 2x" a product, up to the next function."""
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


def _number(text: str) -> Node:
    text = text.replace(",", "")
    _, point, rest = text.partition(".")
    if not any(c.isdigit() for c in text):
        raise Unreadable("the answer is not well-formed")
    return num(Fraction(text.rstrip(".")), len(rest) if point and rest else -1)


def _repeat(head: str, block: str) -> Fraction:
    whole, _, fixed = head.partition(".")
    scale = 10 ** len(fixed)
    return Fraction(int(whole + fixed or "0"), scale) + Fraction(int(block), scale * (10 ** len(block) - 1))


__all__ = ["MINUS_INFINITY", "Operands"]
