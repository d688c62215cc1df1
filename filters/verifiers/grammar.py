"""Recursive descent from tokens to the tree of `filters.verifiers.expressions`; the answer as a whole: lists, relations, sets, qualifiers.

Precedence: list < qualifier < union < relation < sum < product (implicit products bind as explicit ones, left to right) < sign < power.
Depth is bounded, every loop consumes a token: time is linear in the answer.
"""

from __future__ import annotations

import re
from functools import lru_cache

from filters.verifiers.expressions import Node, words
from filters.verifiers.notation import Unreadable, ascii_math
from filters.verifiers.operands import Operands
from filters.verifiers.permutations import PERMUTED, permuted
from filters.verifiers.tokens import Token, tokens_of

RELATIONS = {
    "=": "=", "==": "=", "<": "<", ">": ">", "<=": "<=", ">=": ">=", "!=": "!=", "le": "<=", "leq": "<=", "leqslant": "<=", "ge": ">=",
    "geq": ">=", "geqslant": ">=", "lt": "<", "gt": ">", "ne": "!=", "neq": "!=", "in": "in", "approx": "~", "simeq": "~", "equiv": "===",
    "cong": "===", "notin": "notin", "sim": "~", "perp": "perp", "parallel": "parallel", "iff": "iff", "to": "to", "->": "to", "rightarrow": "to",
    "Rightarrow": "to", "mapsto": "to", "implies": "to", "=>": "to", "propto": "propto", "doteq": "~", "subset": "sub", "subseteq": "sub",
    "leqq": "<=", "geqq": ">=",
}  # fmt: skip
_SET_OPERATORS = {"cup": "union", "cap": "inter", "setminus": "minus", "backslash": "minus", "bigcup": "union", "union": "union"}
_AND, _OR = frozenset(("and", "land", "wedge")), frozenset(("or", "lor", "vee"))
_QUALIFIERS = words("where for with if when such given provided while whenever assuming as")
_QUANTIFIERS = words("all any every each some real reals number numbers integer integers positive value values of the a an nonnegative natural")
_HEDGES = words("about approximately exactly roughly only just")
_NAME = re.compile(r"([A-Za-z]|\\[a-z]+)(_\{?\w+\}?)?'*\(([^()=]*)\)\Z")
_GEOMETRY = words("angle triangle measuredangle overline max min mathop lim operatorname square odot sup inf Delta")


@lru_cache(maxsize=65_536)
def read(text: str) -> Node | str:
    """The tree of an answer, or why there is none (a sentence)."""
    try:
        match = PERMUTED.search(text) if "ermut" in text else None
        if match is not None:
            return permuted(Grammar(tokens_of(ascii_math(text[: match.start()] + text[match.end() :]))).answer(), cyclic="cyclic" in match.group())
        return Grammar(tokens_of(ascii_math(text))).answer()
    except Unreadable as error:
        return str(error)
    except RecursionError:
        return "the answer is nested too deeply"


class Grammar(Operands):
    """`Operands` reads sums and what is below them; this class what stands around them."""

    def answer(self) -> Node:
        if not self.tokens:
            raise Unreadable("the answer is empty")
        node = self.listed(top=True)
        if self.at < len(self.tokens):
            raise Unreadable(f"the answer is not well-formed near {self.tokens[self.at].value!r}")
        return node

    def listed(self, closers: frozenset[str] = frozenset(), *, top: bool = False) -> Node:
        """Items apart by commas, semicolons, "and", "or"; one item stays itself. Qualifiers ("where k is …") end the list."""
        items, kinds = [self.item(top)], set()
        qualifiers: list[Node] = []
        while (token := self.peek()) is not None and token.value not in closers:
            kind = self.separator()
            if kind:
                kinds.add(kind)
                if (after := self.peek()) is None or after.value in closers:
                    break
                if self.qualifier_ahead():
                    continue
                items.append(self.item(top))
            elif top and self.qualifier_ahead():
                self.at += 1
                qualifiers.append(self.qualifier())
            elif top and token.value == "(" and self.parenthesised_qualifier():
                qualifiers.append(self.qualifier(frozenset((")",))))
                self.take(")")
            else:
                break
        kind = "or" if "or" in kinds else "and" if "and" in kinds else ","
        node = items[0] if len(items) == 1 else Node("list", (kind, *items))
        return Node("where", (node, *qualifiers)) if qualifiers else node

    def separator(self) -> str:
        """Consumes separators; their kind, "" where there is none."""
        kind = ""
        while (token := self.peek()) is not None:
            word = token.value.lower().strip(" ,;")
            if token.value in (",", ";") or token.kind == "row" or (token.kind == "text" and not word):
                kind = kind or ","
            elif word in _AND and token.kind in ("word", "text", "cmd", "op"):
                kind = "and"
            elif word in _OR and token.kind in ("word", "text", "cmd"):
                kind = "or"
            else:
                break
            self.at += 1
        return kind

    def qualifier_ahead(self) -> bool:
        token = self.peek()
        return token is not None and token.kind in ("word", "text") and token.value.lower().strip(" ,(").split(" ")[0] in _QUALIFIERS

    def parenthesised_qualifier(self) -> bool:
        """At "(" of "x = kπ (k ∈ ℤ)": a relation in brackets behind a finished item."""
        depth = 0
        for token in self.tokens[self.at :]:
            depth += token.value in ("(", "[", "\\{")
            depth -= token.value in (")", "]", "\\}")
            if depth == 0:
                return False
            if depth == 1 and (
                token.value in RELATIONS or (token.kind in ("word", "text") and token.value.lower().strip() in _QUALIFIERS | {"integer"})
            ):
                self.at += 1
                if self.qualifier_ahead():
                    self.at += 1
                return True
        return False

    def qualifier(self, closers: frozenset[str] = frozenset()) -> Node:
        """What a qualifier says: a relation where it can be read as one, else its words."""
        start = self.at
        first = self.tokens[start - 1].value.strip(" ,(").split(" ", 1) if start else [""]
        while (token := self.peek()) is not None and token.kind in ("word", "text") and all(w in _QUANTIFIERS for w in token.value.lower().split()):
            self.at += 1
        try:
            if len(first) == 1 or all(w in _QUANTIFIERS for w in first[1].lower().split()):
                node = self.item()
                if (self.peek() is None or self.tokens[self.at].value in {",", *closers}) and node.op in ("rel", "list"):
                    return node
        except Unreadable:
            pass
        self.at = start
        words = first[1:]
        while (token := self.peek()) is not None and token.value not in closers:
            words.append(token.value)
            self.at += 1
        return Node("text", (" ".join(words),))

    def item(self, top: bool = False) -> Node:
        """A union of sets, a relation, or an expression with its unit."""
        self.descend()
        node = self.relation(top)
        while (token := self.peek()) is not None and (op := _SET_OPERATORS.get(token.value)) is not None and token.kind != "sym":
            self.at += 1
            node = Node(op, (node, self.relation()))
        self.depth -= 1
        return node

    def relation(self, top: bool = False) -> Node:
        name = self.name_ahead() if top or self.at == 0 else None
        parts = [name if name is not None else self.sided()]
        ops: list[str] = []
        while (token := self.peek()) is not None and token.value in RELATIONS and token.kind in ("op", "cmd"):
            self.at += 1
            ops.append(RELATIONS[token.value])
            parts.append(self.sided())
        if ops and ops[-1] == "===" and (modulus := self.modulus()) is not None:
            return Node("cong", (*parts, modulus))
        return Node("rel", (tuple("=" if op == "===" else op for op in ops), *parts)) if ops else parts[0]

    def modulus(self) -> Node | None:
        token = self.peek()
        if token is not None and token.value == "(" and self.peek(1) is not None and self.tokens[self.at + 1].value in ("mod", "bmod"):
            self.at += 2
            node = self.sum()
            self.take(")")
            return node
        if token is not None and token.value in ("pmod", "mod", "bmod"):
            self.at += 1
            return self.sum()
        return None

    def sided(self) -> Node:
        """One side of a relation: hedges off, money before it and a unit behind it kept."""
        if self.at == 0 and self.value() in ("approx", "=", "simeq"):
            self.at += 1
        while (token := self.peek()) is not None and token.kind in ("word", "text") and token.value.lower() in _HEDGES:
            self.at += 1
        return self.quantity()

    def name_ahead(self) -> Node | None:
        """What stands before a first "=" and is a name: "f(x)", "\\angle ABC", "AB", "Area", "m_{\\max}"; consumed up to the "="."""
        depth, end = 0, -1
        for i in range(self.at, min(len(self.tokens), self.at + 24)):
            token = self.tokens[i]
            depth += token.value in ("(", "[", "{", "\\{")
            depth -= token.value in (")", "]", "}", "\\}")
            if depth == 0 and (
                token.value in ("=", "approx", "to", "->", "equiv") or (token.value in (":", "is", "are") and token.kind in ("op", "word"))
            ):
                end = i
                break
            if depth == 0 and token.value.lower().strip() in _AND | _OR:
                return None
            if depth == 0 and (token.value in RELATIONS or token.value in (",", ";", "pm")):
                return None
        if end <= self.at:
            return None
        front = self.tokens[self.at : end]
        written = "".join(t.value for t in front)
        call = _NAME.match("".join("\\" + t.value if t.kind == "cmd" else t.value for t in front))
        if call is not None:
            node = Node("name", (call[1] + (call[2] or ""), *(a.strip() for a in call[3].split(","))))
        elif any(t.kind in ("word", "text") for t in front) and not any(t.kind == "num" for t in front):
            node = Node("name", (" ".join(t.value for t in front).lower(),))
        elif any(t.value in _GEOMETRY for t in front) or (len(front) > 1 and all(t.kind == "sym" and t.value.isupper() for t in front)):
            node = Node("name", (written,))
        elif len(front) > 2 and front[0].value == front[-1].value == "|" and written[1:-1].isupper():
            node = Node("name", (written.strip("|"),))
        elif self.tokens[end].value in (":", "is", "are") and len(front) == 1 and front[0].kind == "sym":
            node = Node("sym", (front[0].value,))
        else:
            return None
        if self.tokens[end].value == "equiv" and call is None:
            return None
        self.at = end
        if self.tokens[end].value in (":", "is", "are", "to", "->", "equiv"):
            self.tokens[end] = Token("op", "=")
        return node
