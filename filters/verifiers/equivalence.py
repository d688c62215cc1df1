"""Do two answers, each read into a tree, state the same? pass / fail / unknown with a reason.

The reference decides what is compared: values (one or several, in any order unless they stand in a tuple), sets of real numbers,
equations up to a constant factor, matrices, congruences. What cannot be decided is `unknown`; nothing passes by default.
"""

from __future__ import annotations

import re

from filters.verifiers.evaluation import free_symbols
from filters.verifiers.expressions import INFINITY, Node, has_sign, is_decimal, is_expression, substitute, sym, walk, with_sign
from filters.verifiers.families import same_family
from filters.verifiers.measures import DIFFERENT, EQUAL, Judged, every, same_base, same_quantity, same_ratio
from filters.verifiers.qualifiers import idle, same_qualifiers
from filters.verifiers.realsets import RealSet, real_set, same_set
from filters.verifiers.relations import as_congruences, as_equations
from filters.verifiers.sameness import approximates, constant, same
from filters.verifiers.symbolic import same_series


def compare(reference: Node, answer: Node) -> Judged:
    """(outcome, reason) of `answer` against `reference`."""
    if reference == answer:
        return EQUAL
    reference, answer = _built(reference), _built(answer)
    want, want_rules = _unqualified(reference)
    got, got_rules = _unqualified(answer)
    if bool(want_rules) != bool(got_rules):
        want, want_rules = _conditioned(want, want_rules)
        got, got_rules = _conditioned(got, got_rules)
    verdict = _compare(want, got)
    if verdict[0] != "pass" and (want_rules or got_rules or _families(want, got)):
        verdict = max(verdict, same_family(want, want_rules, got, got_rules), key=lambda v: v[0] == "pass")
    if verdict[0] != "pass" and (want_rules or got_rules):
        verdict = _renamed(want, want_rules, got, got_rules) or verdict
    if verdict[0] == "pass":
        told = same_qualifiers(want_rules, got_rules, _arguments(want) | _arguments(got))
        if told is not True:
            return "unknown", str(told)
    return verdict


def _arguments(node: Node) -> frozenset[str]:
    """x of "f(x) = …": a condition on it alone says where the function lives."""
    return frozenset(a for n in walk(node) if n.op == "name" for a in n.args[1:])


def _renamed(want: Node, want_rules: tuple[Node, ...], got: Node, got_rules: tuple[Node, ...]) -> Judged | None:
    """A declared constant or parameter may have another name: f(x) = cx, c ∈ ℝ, against f(x) = kx."""
    mine, yours = free_symbols(want) - free_symbols(got), free_symbols(got) - free_symbols(want)
    if len(mine) != 1 or len(yours) != 1 or not (all(map(idle, want_rules)) and all(map(idle, got_rules))):
        return None
    (one,), (other,) = mine, yours
    declared = {n for r in (*want_rules, *got_rules) for n in (re.findall(r"\b[A-Za-z]\b", str(r.args[0])) if r.op == "text" else free_symbols(r))}
    if not declared & {one, other}:
        return None
    verdict = _compare(want, substitute(got, {other: sym(one)}))
    return verdict if verdict[0] == "pass" else None


def _families(left: Node, right: Node) -> bool:
    return any("k" in s or "n" in s or "m" in s for s in (free_symbols(left), free_symbols(right)))


def _unqualified(node: Node) -> tuple[Node, tuple[Node, ...]]:
    """The answer and its qualifiers: "where …" clauses and listed memberships such as "k ∈ ℤ"."""
    rules: list[Node] = []
    if node.op == "where":
        rules += node.args[1:]
        node = node.args[0]
    if node.op == "list":
        main = [a for a in node.args[1:] if not _membership(a)]
        if main and len(main) < len(node.args) - 1:
            rules += [a for a in node.args[1:] if _membership(a)]
            node = main[0] if len(main) == 1 else Node("list", (node.args[0], *main))
    return node, tuple(rules)


def _conditioned(node: Node, rules: tuple[Node, ...]) -> tuple[Node, tuple[Node, ...]]:
    """ "x² + y² = 1, y ≠ 0": where the other side has conditions, what is listed behind an equation may be one."""
    if rules or node.op != "list" or any(a.op != "rel" for a in node.args[1:]):
        return node, rules
    main = [a for a in node.args[1:] if a.args[0] == ("=",)]
    if len(main) != 1:
        return node, rules
    return main[0], tuple(a for a in node.args[1:] if a is not main[0])


def _membership(node: Node) -> bool:
    return node.op == "rel" and node.args[0] == ("in",) and node.args[2].op == "reals" and node.args[2].args[0][0] in "ZNQCR"


def _compare(reference: Node, answer: Node) -> Judged:
    reference, answer = _built(reference), _built(answer)
    readings = [_as_sets, as_congruences, _as_values]
    if not _both_explicit(reference, answer):
        readings.append(as_equations)
    verdicts: list[Judged | None] = []
    for reading in readings:
        verdict = reading(reference, answer)
        if verdict is not None and verdict[0] == "pass":
            return verdict
        verdicts.append(verdict)
    told = [v for v in verdicts if v is not None]
    if not told:
        return "unknown", "the two answers are of different kinds"
    unknown = [v for v in told if v[0] == "unknown"]
    return unknown[0] if unknown else told[0]


def _both_explicit(reference: Node, answer: Node) -> bool:
    """y = … on either side, solved for the same symbol: the right sides decide."""
    if not all(n.op == "rel" and n.args[0] == ("=",) and n.args[1].op == "sym" for n in (reference, answer)):
        return False
    name = reference.args[1]
    return bool(name == answer.args[1]) and not any(name in walk(n.args[2]) for n in (reference, answer))


def _built(node: Node) -> Node:
    """{(x, y) | …} stays; {x | x = 1} and {x ∈ ℝ : …} are what they say of x; t(0, 4] is t ∈ (0, 4]."""
    if node.op == "mul" and node.args[0].op == "sym" and node.args[1].op == "tuple" and "]" in node.args[1].args[0:2]:
        return Node("rel", (("in",), *node.args))
    return node.args[1] if node.op == "builder" and node.args[0].op in ("sym", "rel") else node


# sets of reals


def _as_sets(reference: Node, answer: Node) -> Judged | None:
    kinds = ("tuple", "reals", "empty", "union", "inter", "minus", "rel", "list", "set")
    if reference.op not in kinds or answer.op not in kinds:
        return None
    want, got = real_set(reference), real_set(answer)
    if want is None or got is None or (reference.op == answer.op == "tuple" and reference.args[:2] == answer.args[:2]):
        return None
    if not (_proper(reference, want) or _proper(answer, got)):
        return None  # two lists of points: values, which know about names and order
    if want.variable and got.variable and want.variable != got.variable:
        return "unknown", f"about {got.variable}, not {want.variable}"
    told = same_set(want, got)
    if told is True:
        return EQUAL
    return ("fail", "another set") if told is False else ("unknown", told)


def _proper(node: Node, found: RealSet) -> bool:
    return node.op in ("reals", "empty", "union", "inter", "minus") or any(p.low != p.high for p in found.pieces)


# values


def _as_values(reference: Node, answer: Node) -> Judged | None:
    lone = not (_holds_relation(reference) and _holds_relation(answer))
    want, got = _values(reference, lone=lone), _values(answer, lone=lone)
    if isinstance(want, str) or isinstance(got, str):
        return "unknown", want if isinstance(want, str) else str(got)
    one, other = _shaped(want), _shaped(got)
    if one != want or other != got:
        shaped = _match(one, other, reference, answer)
        if shaped[0] == "pass":
            return shaped
    verdict = _match(want, got, reference, answer)
    if verdict[0] != "pass" and (_free_signs(reference) or _free_signs(answer)):
        every = _match(_every_sign(reference), _every_sign(answer), reference, answer)
        return every if every[0] == "pass" else verdict
    return verdict


def _holds_relation(node: Node) -> bool:
    return any(n.op == "rel" for n in walk(node))


def _free_signs(node: Node) -> bool:
    """Several ± in one tuple: they may go together or each for itself."""
    return any(n.op == "tuple" and sum(m.op == "pm" for m in walk(n)) > 1 and not any(m.op == "mp" for m in walk(n)) for n in walk(node))


def _every_sign(node: Node) -> list[tuple[str, Node]]:
    """(±3, ±2) as all four; what holds no ± stays."""
    if node.op in ("list", "set"):
        return [v for item in (node.args[1:] if node.op == "list" else node.args) for v in _every_sign(item)]
    if node.op == "rel" and node.args[0] == ("=",):
        return _every_sign(node.args[2])
    if node.op != "tuple":
        return [("", node)]
    cells: list[tuple[Node, ...]] = [()]
    for cell in node.args[2:]:
        cells = [(*c, s) for c in cells for s in dict.fromkeys((with_sign(cell, 1), with_sign(cell, -1)))][:64]
    return [("", Node("tuple", (*node.args[:2], *c))) for c in cells]


def _values(node: Node, name: str = "", *, lone: bool = True) -> list[tuple[str, Node]] | str:
    """The values an answer states, each with its name; ± taken apart; a sentence where the answer contradicts itself."""
    if node.op == "list" or node.op == "set":
        out: list[tuple[str, Node]] = []
        for item in node.args[1:] if node.op == "list" else node.args:
            part = _values(item, name, lone=False)
            if isinstance(part, str):
                return part
            out += part
            if node.op == "list" and part and part[0][0] and item.op == "rel":
                name = part[0][0]  # "x = 1, 2": the second value has the name of the first
        return out
    if node.op == "rel" and set(node.args[0]) <= {"=", "~"}:
        return _named(node, lone)
    if node.op == "rel" and node.args[0] == ("in",) and node.args[2].op in ("set", "tuple", "list"):
        return _values(node.args[2], _name_of(node.args[1])[0])
    if (is_expression(node) or node.op in ("tuple", "matrix", "quantity")) and has_sign(node):
        return [(name, with_sign(node, 1)), (name, with_sign(node, -1))]
    return [(name, node)]


def _name_of(node: Node) -> tuple[str, tuple[str, ...]]:
    """A name and its arguments; "" for what is no name."""
    if node.op == "sym":
        return node.args[0], ()
    if node.op == "name":
        return node.args[0], tuple(node.args[1:])
    if node.op == "tuple" and all(a.op == "sym" for a in node.args[2:]):
        return "(" + ",".join(a.args[0] for a in node.args[2:]) + ")", ()
    if node.op == "fn" and node.args[0] in ("max", "min", "abs") and is_expression(node):
        return str(node.args[0]), ()
    return "", ()


def _named(node: Node, lone: bool) -> list[tuple[str, Node]] | str:
    """ "x = 3/4 = 0.75": one value under one name, the sides agreeing; "a + b = 5" is 5, unless it is compared with another equation."""
    ops, sides = list(node.args[0]), list(node.args[1:])
    name, arguments = _name_of(sides[0])
    if name:
        sides, first = sides[1:], ops.pop(0)
        if first == "~" and len(sides) == 1 and not is_decimal(sides[0]):
            return "an approximate equality"
    elif len(sides) == 2 and constant(sides[1]) is not None and constant(sides[0]) is None and is_expression(sides[0]):
        if len(free_symbols(sides[0])) < 2 or not lone:
            return [("", node)]  # "2x = 10" states no value
        return [("", sides[1])]
    elif len(free_symbols(node)) > 0:
        return [("", node)]
    for op, left, right in zip(ops, sides, sides[1:]):
        if op == "=" and same(left, right) is False and not approximates(left, right):
            return f"{'its own sides differ' if constant(left) is not None else 'an equation'}"
    value = sides[0] if name else sides[-1] if ops and ops[-1] == "=" else sides[0]
    out = _values(value, name + (f"({','.join(arguments)})" if arguments else ""))
    return out


def _shaped(values: list[tuple[str, Node]]) -> list[tuple[str, Node]]:
    """x = 1, y = 2 as the pair (1, 2): names in alphabetical order; x = 1, y = 2, x = 3, y = 4 as two pairs."""
    names = [n for n, _ in values]
    width = len(dict.fromkeys(names))
    if width < 2 or len(names) % width or "" in names or any(len(n) > 3 for n in names):
        return values
    rows = [values[i : i + width] for i in range(0, len(values), width)]
    if any(sorted(n for n, _ in row) != sorted(names[:width]) for row in rows):
        return values
    return [("", Node("tuple", ("(", ")", *(v for _, v in sorted(row, key=lambda r: r[0]))))) for row in rows]


def _bound(name: str, value: Node) -> Node:
    """f(t) = 2t is f(x) = 2x: the arguments renamed by their place."""
    _, _, inner = name.rstrip(")").partition("(")
    return substitute(value, {a: sym(f"#{i}") for i, a in enumerate(inner.split(",")) if a.isalpha()}) if inner else value


def _match(want: list[tuple[str, Node]], got: list[tuple[str, Node]], reference: Node, answer: Node) -> Judged:
    if len(want) > 130 or len(got) > 130:
        return ("unknown", "too many values") if len(want) == len(got) else DIFFERENT
    if len(want) > 1 and "" in {n for n, _ in want} | {n for n, _ in got}:  # x_1 = 2, x_2 = 3 are two roots
        want, got = _rootless(want), _rootless(got)
    names, others = {n for n, _ in want}, {n for n, _ in got}
    strict = len(names) > 1 and len(others) > 1
    if not strict and not _compatible(names, others):
        return "unknown", f"named {', '.join(sorted(others))}, not {', '.join(sorted(names))}"
    if len(names) > 1 and not strict and len(want) > 1:  # several named values answered without names: in order only
        if len(want) != len(got):
            return DIFFERENT
        return every([same_value(w, g) for (_, w), (_, g) in zip(want, got)])
    if any("(" in n for n in names) and any("(" in n for n in others):
        want, got = [(n, _bound(n, v)) for n, v in want], [(n, _bound(n, v)) for n, v in got]
    want, got = _distinct(want), _distinct(got)
    if len(want) == 1 and len(got) > 1 and want[0][1].op == "tuple" and all(g.op != "tuple" for _, g in got) and answer.op == "list":
        return same_value(want[0][1], Node("tuple", ("(", ")", *(g for _, g in got))))  # (2, 3) answered as "2, 3"
    if len(got) == 1 and len(want) > 1 and got[0][1].op == "tuple" and all(w.op != "tuple" for _, w in want) and reference.op == "list":
        return same_value(Node("tuple", ("(", ")", *(w for _, w in want))), got[0][1])  # 2, 3 answered as (2, 3), in the same order
    if len(want) != len(got):
        return "fail", f"{len(got)} values where the reference has {len(want)}"
    rest, unsure = list(got), ""
    for name, value in want:
        for other in rest:
            if strict and other[0].split("(")[0] != name.split("(")[0]:
                continue
            outcome, why = same_value(value, other[1])
            if outcome == "pass":
                rest.remove(other)
                break
            unsure = unsure or (why if outcome == "unknown" else "")
        else:
            return ("unknown", unsure) if unsure else DIFFERENT
    return EQUAL


def _rootless(values: list[tuple[str, Node]]) -> list[tuple[str, Node]]:
    return [("x", v) for _, v in values] if values and all(re.fullmatch(r"[xz]_\d", n) for n, _ in values) else values


def _compatible(names: set[str], others: set[str]) -> bool:
    """One name against another: the same but for case, index or wording; no name is any name."""
    if "" in names or "" in others or len(names) != len(others) or len(names) != 1:
        return True
    one, other = next(iter(names)), next(iter(others))
    if "y" in (one, other) and "(" in one + other:
        return True  # y = 2x is f(x) = 2x
    one, other = one.split("(")[0], other.split("(")[0]
    short = len(one.split("_")[0]) == 1 and len(other.split("_")[0]) == 1
    return one == other or not short or one.split("_")[0].lower() == other.split("_")[0].lower()


def _distinct(values: list[tuple[str, Node]]) -> list[tuple[str, Node]]:
    """One value written in two ways ("1/2 or 0.5") once; a value that is written twice stands twice."""
    out: list[tuple[str, Node]] = []
    for name, value in values:
        if not any(n == name and v != value and same_value(v, value)[0] == "pass" for n, v in out):
            out.append((name, value))
    return out


def same_value(want: Node, got: Node) -> Judged:
    """One value against another."""
    if want == got:
        return EQUAL
    if want.op == "rel" and got.op == "rel":
        return as_equations(want, got) or ("unknown", "relations of different kinds")
    one, other = _cells(want), _cells(got)
    if one is not None and other is not None:
        return _same_cells(one, other)
    if (one is None) != (other is None):
        return "fail", "one value where the other is several"
    if want.op == got.op == "cases":
        return _same_cases(want, got)
    if "quantity" in (want.op, got.op) or "deg" in (want.op, got.op):
        return same_quantity(want, got, same_value)
    if want.op == "base" or got.op == "base":
        return same_base(want, got)
    if want.op == "ratio" or got.op == "ratio":
        return same_ratio(want, got, same_value)
    if not (is_expression(want) and is_expression(got)):
        return ("fail", "another kind of value") if want.op != got.op else ("unknown", "values that cannot be compared")
    told = same(want, got)
    if told is True:
        return EQUAL
    if isinstance(told, str) and _endless(want, got):
        told = same_series(want, got)
        return EQUAL if told is True else DIFFERENT if told is False else ("unknown", told)
    if approximates(want, got) or approximates(got, want):
        return "unknown", "equal only after rounding"
    if told is False:
        return DIFFERENT
    return "unknown", told


def _endless(want: Node, got: Node) -> bool:
    """A sum to infinity in the reference; one in the answer alone is a value left undone."""
    return any(n.op in ("sum", "prod") and n.args[2] == INFINITY for n in walk(want)) and not free_symbols(want) and not free_symbols(got)


def _cells(node: Node) -> tuple[str, tuple[int, int], tuple[Node, ...]] | None:
    """(brackets, shape, cells) of a tuple or matrix."""
    if node.op == "tuple":
        return node.args[0] + node.args[1], (1, len(node.args) - 2), node.args[2:]
    if node.op == "matrix":
        return "", (node.args[0], (len(node.args) - 1) // node.args[0]), node.args[1:]
    return None


def _same_cells(one: tuple[str, tuple[int, int], tuple[Node, ...]], other: tuple[str, tuple[int, int], tuple[Node, ...]]) -> Judged:
    if len(one[2]) != len(other[2]) or (1 not in one[1] and one[1] != other[1]) or (1 not in other[1] and one[1] != other[1]):
        return "fail", "another number of entries"
    verdict = every([same_value(a, b) for a, b in zip(one[2], other[2])])
    if verdict[0] == "pass" and one[0] != other[0] and len(one[2]) == 2 and one[0] and other[0]:
        return "fail", "the same ends, but open where the reference is closed or the reverse"
    return verdict


def _same_cases(want: Node, got: Node) -> Judged:
    """The same value under the same condition, row for row in any order."""
    if len(want.args) != len(got.args):
        return "unknown", "another number of cases"
    rest = [(got.args[i], got.args[i + 1]) for i in range(0, len(got.args), 2)]
    for value, condition in zip(want.args[::2], want.args[1::2]):
        match = next((r for r in rest if (condition == r[1] or compare(condition, r[1])[0] == "pass") and same_value(value, r[0])[0] == "pass"), None)
        if match is None:
            return "unknown", "other cases"
        rest.remove(match)
    return EQUAL
