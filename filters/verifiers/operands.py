"""Sums, products, powers and primaries of the answer grammar, and the unit behind a value."""

from __future__ import annotations

from fractions import Fraction

from filters.verifiers.commands import BINOMIALS, DOTS, FRACTIONS, Commands, number
from filters.verifiers.expressions import Node, num, words
from filters.verifiers.notation import Unreadable
from filters.verifiers.numbers import NO_UNIT
from filters.verifiers.tokens import FUNCTIONS, GREEK, Token

_MULTIPLY = frozenset(("*", "times", "cdot", "ast"))
_DIVIDE = frozenset(("/", "div", ":"))
_OPENERS = {"(": ")", "[": "]", "{": "}", "\\{": "\\}", "langle": "rangle"}
_STARTS = words("( [ { | pi infty sqrt cbrt lfloor lceil lvert vert mathbb emptyset varnothing begin sum prod overline infinity inf") | GREEK
_STARTS_ALL = _STARTS | FRACTIONS | BINOMIALS | FUNCTIONS
_NO_UNIT = words("and or where for with if when such given provided while whenever assuming as is are not mod")
_REMARKS = words("= < > <= >= in ge geq le leq geqslant leqslant ne neq where for with if any all integer integers")


class Operands(Commands):
    """Everything from a value with its unit down to a bracket; `listed` is given by the subclass (brackets hold lists)."""

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
            if token.value in _MULTIPLY or (
                token.value == "x" and token.spaced and node.op == "num" and self.value(1) == "10" and self.value(2) == "^"
            ):
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
        return (token.kind == "cmd" or token.kind == "op" or token.kind == "begin") and (
            token.value in _STARTS_ALL or token.value == "\\{" or token.kind == "begin"
        )

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
                right = Node("div", (right, number(below.value)))
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
                if self.value() == "{" and self.value(1) in ("st", "nd", "rd", "th") and self.value(2) == "}":
                    self.at += 3  # 5^{\\text{th}}
                    continue
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
            node = Node("add", (node, Node("div", (number(token.value), num(60)))))
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
        if value in DOTS:
            return Node("text", ("...",))
        if token.kind in ("word", "text"):
            raise Unreadable(f"the answer holds words ({value[:20]!r})")
        raise Unreadable(f"the answer is not well-formed near {value!r}")

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
