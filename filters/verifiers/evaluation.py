"""Values of an expression tree: exact `Fraction`s as far as they reach, 50 digits beyond; every step counted, nothing unbounded.

Exact and bounded arithmetic decide nearly every comparison, so that no `simplify` is needed: two trees over the same symbols that
agree to 40 digits at several fixed points are the same expression (Schwartz-Zippel for the polynomial parts; for the rest a coincidence
of 40 digits is beyond what a model writes). Points depend on the symbol's name alone: verdicts are the same on every replay.
Sizes are estimated before they are computed: a tower of powers, (10^7)! or C(10^7, 5·10^6) is refused in microseconds.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from filters.verifiers.expressions import Node, symbols, walk, words

MAX_BITS = 60_000  # of an exact number
MAX_FACTORIAL = 2_500
MAX_STEPS = 4_000  # tree nodes visited in one evaluation, large numbers and special functions counted by what they cost
MAX_TERMS = 500  # of a sum or product
TOO_LONG = "the value takes too many steps"
DIGITS = 50

Value = Any  # Fraction, mpf or mpc


class Refused(Exception):
    """The value cannot be told within bounds, or does not exist at this point; the message says why."""


@lru_cache(maxsize=1)
def context() -> Any:
    """An mpmath context of our own: its precision is nobody else's business."""
    import mpmath

    ctx = mpmath.MPContext()
    ctx.dps = DIGITS
    return ctx


class Evaluator:
    """Evaluates trees at one point. `log_base`: what an undecorated log means, 0 for natural."""

    def __init__(self, point: dict[str, Value], log_base: int = 0, steps: int = MAX_STEPS) -> None:
        self.point, self.log_base, self.steps, self.ctx = point, log_base, steps, context()
        self.off_domain = False  # a root or logarithm of a negative number was taken on the way

    def __call__(self, node: Node) -> Value:
        self.spend(1)
        op, args = node
        if op == "num":
            return args[0]
        if op == "sym":
            return self.symbol(args[0])
        if op == "const":
            if args[0] == "pi":
                return self.ctx.pi + 0
            raise Refused("infinity is no number")
        if op == "add":
            return self.plus(self(args[0]), self(args[1]))
        if op == "mul":
            return self.times(self(args[0]), self(args[1]))
        if op in ("div", "ratio"):
            over, under = self(args[0]), self(args[1])
            if self.vanishes(under):
                raise Refused("it divides by zero")
            return self.times(over, 1 / under)
        if op == "neg":
            return -self(args[0])
        if op == "pow":
            return self.power(self(args[0]), self(args[1]))
        if op == "root":
            return self.root(self(args[0]), self(args[1]))
        if op == "fn":
            return self.function(args[0], [self(a) for a in args[1:]])
        if op in ("sum", "prod"):
            return self.series(op, *args)
        if op == "deg":
            return self.times(self(args[0]), self.ctx.pi / 180)
        if op == "pct":
            return self.times(self(args[0]), Fraction(1, 100))
        if op == "base":
            return Fraction(int(args[0], args[1]))
        raise Refused(f"{op} has no value")

    def spend(self, steps: int) -> None:
        self.steps -= steps
        if self.steps < 0:
            raise Refused(TOO_LONG)

    def symbol(self, name: str) -> Value:
        if name in self.point:
            return self.point[name]
        if name == "e":
            return self.ctx.e + 0
        if name == "i":
            return self.ctx.mpc(0, 1)
        raise Refused(f"{name} is free")

    def number(self, value: Value) -> Value:
        return self.ctx.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value

    def vanishes(self, value: Value) -> bool:
        return value == 0 or (not isinstance(value, Fraction) and abs(value) < self.ctx.mpf(10) ** -42)

    def bounded(self, value: Value) -> Value:
        if isinstance(value, Fraction):
            bits = value.numerator.bit_length() + value.denominator.bit_length()
            if bits > 2 * MAX_BITS:
                raise Refused("the number is too large")
            if bits > 2_000:
                self.spend((bits // 600) ** 2 // 50)
            return value
        return value

    def plus(self, left: Value, right: Value) -> Value:
        if isinstance(left, Fraction) is isinstance(right, Fraction):
            return self.bounded(left + right)
        return self.number(left) + self.number(right)

    def times(self, left: Value, right: Value) -> Value:
        if isinstance(left, Fraction) is isinstance(right, Fraction):
            return self.bounded(left * right)
        return self.number(left) * self.number(right)

    def power(self, base: Value, exponent: Value) -> Value:
        if isinstance(exponent, Fraction) and exponent.denominator == 1:
            if isinstance(base, Fraction):
                bits = max(base.numerator.bit_length(), base.denominator.bit_length())
                if abs(exponent) * bits > MAX_BITS and abs(base) != 1 and base != 0:
                    raise Refused("the power is too large")
                if base == 0 and exponent < 0:
                    raise Refused("it divides by zero")
                return base ** int(exponent)
            self.sized(base, exponent)
            if exponent < 0 and self.vanishes(base):
                raise Refused("it divides by zero")
            return base ** int(exponent)
        if base == 0:
            if self.ctx.re(self.number(exponent)) > 0:
                return Fraction(0)
            raise Refused("it divides by zero")
        if (
            isinstance(base, Fraction)
            and isinstance(exponent, Fraction)
            and base > 0
            and (root := _exact_root(base, exponent.denominator)) is not None
        ):
            return self.power(root, Fraction(exponent.numerator))
        self.sized(base, exponent)
        self.off_domain |= self.negative(base)
        return self.number(base) ** self.number(exponent)

    def negative(self, value: Value) -> bool:
        return bool(value < 0) if isinstance(value, Fraction) else bool(self.ctx.im(value) == 0 and self.ctx.re(value) < 0)

    def sized(self, base: Value, exponent: Value) -> None:
        size = abs(self.ctx.log(abs(self.number(base)))) if base != 0 else 0
        if abs(self.number(exponent)) * size > MAX_BITS:
            raise Refused("the power is too large")

    def root(self, degree: Value, value: Value) -> Value:
        if not isinstance(degree, Fraction) or degree.denominator != 1 or not 2 <= degree <= 1000:
            if self.vanishes(degree):
                raise Refused("it divides by zero")
            return self.power(value, 1 / degree)
        n = int(degree)
        if isinstance(value, Fraction):
            if value < 0 and n % 2:
                return -self.root(degree, -value)
            if value >= 0 and (exact := _exact_root(value, n)) is not None:
                return exact
        value = self.number(value)
        if n % 2 and self.ctx.im(value) == 0 and self.ctx.re(value) < 0:
            return -self.ctx.root(-value, n)
        self.off_domain |= self.negative(value)
        return self.ctx.sqrt(value) if n == 2 else self.ctx.root(value, n)

    def function(self, name: str, args: list[Value]) -> Value:
        if name in _EXACT:
            if name in ("max", "min"):
                args = args if all(isinstance(a, Fraction) for a in args) else [self.number(a) for a in args]
            return _EXACT[name](self, *args)
        if len(args) != 1:
            raise Refused("a function with the wrong number of arguments")
        value = self.number(args[0])
        if abs(value) > 10**6:
            raise Refused("an argument is too large")
        ctx = self.ctx
        if name in ("log", "lg", "ln"):
            if value == 0:
                raise Refused("the logarithm of zero")
            self.off_domain |= self.negative(value)
            base = 10 if name == "lg" else self.log_base if name == "log" else 0
            return ctx.log(value) / ctx.log(base) if base else ctx.log(value)
        if name in _PLAIN:
            try:
                return getattr(ctx, _PLAIN[name])(value)
            except (ValueError, ZeroDivisionError, OverflowError) as error:
                raise Refused(f"{name} does not exist there") from error
        if name == "cis":
            return ctx.cos(value) + ctx.mpc(0, 1) * ctx.sin(value)
        raise Refused(f"{name} is no function this verifier evaluates")

    def series(self, op: str, index: str, low: Node, high: Node, body: Node) -> Value:
        first, last = self(low), self(high)
        if not (isinstance(first, Fraction) and isinstance(last, Fraction) and first.denominator == last.denominator == 1):
            raise Refused("the bounds of a sum are no integers")
        if last - first > MAX_TERMS:
            raise Refused("a sum of too many terms")
        total: Value = Fraction(op == "prod")
        saved = self.point
        for k in range(int(first), int(last) + 1):
            self.point = {**saved, index: Fraction(k)}
            term = self(body)
            total = self.times(total, term) if op == "prod" else self.plus(total, term)
        self.point = saved
        return total


_PLAIN = {n: n for n in words("sin cos tan cot sec csc sinh cosh tanh coth exp")} | {
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arccot": "acot", "arcsec": "asec", "arccsc": "acsc", "arg": "arg",
}  # fmt: skip


def _whole(value: Value, what: str) -> int:
    if isinstance(value, Fraction) and value.denominator == 1 and abs(value) < 10**40:
        return int(value)
    raise Refused(f"{what} of something that is no integer")


def _real(self: Evaluator, value: Value) -> Value:
    if isinstance(value, Fraction):
        return value
    if not self.vanishes(self.ctx.im(value)):
        raise Refused("an order among complex numbers")
    return self.ctx.re(value)


def _floor(self: Evaluator, value: Value) -> Value:
    value = _real(self, value)
    if isinstance(value, Fraction):
        return Fraction(value.numerator // value.denominator)
    if abs(value) > 10**30:
        raise Refused("the floor of too large a number")
    near = self.ctx.nint(value)
    if abs(value - near) < self.ctx.mpf(10) ** -18:
        return Fraction(int(near))  # an exact integer written with roots or logarithms
    return Fraction(int(self.ctx.floor(value)))


def _factorial(self: Evaluator, value: Value) -> Value:
    if isinstance(value, Fraction) and value.denominator == 1:
        if not 0 <= value <= MAX_FACTORIAL:
            raise Refused("the factorial is too large" if value > 0 else "the factorial of a negative number")
        from math import factorial

        return Fraction(factorial(int(value)))
    value = self.number(value)
    if abs(value) > 100:
        raise Refused("the factorial is too large")
    self.spend(20)
    return self.ctx.gamma(value + 1)


def _binomial(self: Evaluator, n: Value, k: Value) -> Value:
    if isinstance(n, Fraction) and isinstance(k, Fraction) and n.denominator == k.denominator == 1:
        if n < 0 or k < 0 or n > 2 * MAX_FACTORIAL:
            raise Refused("the binomial coefficient is out of bounds")
        from math import comb

        return Fraction(comb(int(n), int(k)))
    n, k = self.number(n), self.number(k)
    if abs(n) > 100 or abs(k) > 100:
        raise Refused("the binomial coefficient is out of bounds")
    self.spend(60)
    try:
        return self.ctx.binomial(n, k)
    except ValueError as error:
        raise Refused("the binomial coefficient does not exist there") from error


def _gcd(self: Evaluator, *args: Value) -> Value:
    from math import gcd

    return Fraction(gcd(*(_whole(a, "gcd") for a in args)))


def _lcm(self: Evaluator, *args: Value) -> Value:
    from math import lcm

    return self.bounded(Fraction(lcm(*(_whole(a, "lcm") for a in args))))


def _log_base(self: Evaluator, base: Value, value: Value) -> Value:
    base, value = self.number(base), self.number(value)
    if base == 0 or base == 1 or value == 0:
        raise Refused("the logarithm does not exist")
    self.off_domain |= self.negative(value)
    return self.ctx.log(value) / self.ctx.log(base)


def _mod(self: Evaluator, left: Value, right: Value) -> Value:
    if right == 0:
        raise Refused("it divides by zero")
    return Fraction(_whole(left, "mod") % _whole(right, "mod"))


def _sign(self: Evaluator, value: Value) -> Value:
    value = _real(self, value)
    return Fraction((value > 0) - (value < 0))


_EXACT: dict[str, Any] = {
    "abs": lambda self, v: abs(v),
    "floor": _floor,
    "ceil": lambda self, v: -_floor(self, -v),
    "fact": _factorial,
    "binom": _binomial,
    "gcd": _gcd,
    "lcm": _lcm,
    "logb": _log_base,
    "mod": _mod,
    "sgn": _sign,
    "sign": _sign,
    "max": lambda self, *v: max(_real(self, x) for x in v),
    "min": lambda self, *v: min(_real(self, x) for x in v),
    "Re": lambda self, v: v if isinstance(v, Fraction) else self.ctx.re(v),
    "Im": lambda self, v: Fraction(0) if isinstance(v, Fraction) else self.ctx.im(v),
}


def _exact_root(value: Fraction, n: int) -> Fraction | None:
    """The rational n-th root of a non-negative rational, if there is one."""
    if n == 1:
        return value
    if n > 64 or max(value.numerator.bit_length(), value.denominator.bit_length()) > 2_000:
        return None
    over, under = _integer_root(value.numerator, n), _integer_root(value.denominator, n)
    return Fraction(over, under) if over**n == value.numerator and under**n == value.denominator else None


def _integer_root(value: int, n: int) -> int:
    if n == 2:
        from math import isqrt

        return isqrt(value)
    low, high = 0, 1 << (value.bit_length() // n + 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**n <= value else (low, middle - 1)
    return low


_INTEGER_FUNCTIONS = frozenset(("floor", "ceil", "fact", "binom", "gcd", "lcm", "mod"))
_INTEGER_NAMES = words("n k m j l p q r N M K t")


def free_symbols(node: Node) -> frozenset[str]:
    """Symbols that are variables: e is Euler's number unless c and d stand beside it, i is the imaginary unit."""
    free = symbols(node)
    return free - {"i"} if {"c", "d"} <= free else free - {"e", "i"}


def integral(node: Node) -> bool:
    """An expression of integers: it floors, counts, or alternates."""
    for here in walk(node):
        if here.op == "fn" and here.args[0] in _INTEGER_FUNCTIONS:
            return True
        if here.op in ("sum", "prod") and symbols(here):
            return True
        if here.op == "pow" and here.args[0] == Node("neg", (Node("num", (Fraction(1), -1)),)) and symbols(here.args[1]):
            return True
    return False


def sample(names: frozenset[str], index: int, whole: bool) -> dict[str, Value]:
    """Point number `index`: integers from 1 up (small and larger ones), else reals of either sign, the first two positive."""
    point: dict[str, Value] = {}
    for name in names:
        draw = int.from_bytes(blake2b(f"{name}/{index}".encode(), digest_size=6).digest(), "big")
        if whole:
            point[name] = Fraction(1 + draw % (4, 6, 9, 12, 16, 25, 30, 40)[index % 8])
        else:
            size = Fraction(draw % 99_991, 99_991) * (1, 2, 1, 4, 3, 9)[index % 6] + Fraction(1, 7) + (index % 2)
            point[name] = -size if index >= 2 and (draw >> 20) % 2 else size
    return point


@lru_cache(maxsize=65_536)
def value_at(node: Node, names: frozenset[str], index: int, whole: bool, log_base: int) -> tuple[Value | str, bool]:
    """(value at a fixed point or why there is none, whether a root or logarithm of a negative number was taken on the way)."""
    evaluator = Evaluator(sample(names, index, whole), log_base)
    try:
        return evaluator(node), evaluator.off_domain
    except Refused as error:
        return str(error), True
    except (OverflowError, ZeroDivisionError, ValueError, TypeError, RecursionError):
        return "the value does not exist or is too large", True


def close(left: Value, right: Value) -> bool:
    """Equal exactly, or to 40 digits."""
    if isinstance(left, Fraction) and isinstance(right, Fraction):
        return left == right
    ctx = context()
    a, b = (ctx.mpf(v.numerator) / v.denominator if isinstance(v, Fraction) else v for v in (left, right))
    gap = abs(a - b)
    size = max(abs(a), abs(b))
    return bool(gap <= ctx.mpf(10) ** -40 * size or (gap < ctx.mpf(10) ** -42 and size < ctx.mpf(10) ** -30))
