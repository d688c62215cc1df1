"""The child process that asks sympy. Runs as a script and imports nothing of ours: trees come in as JSON, a whitelist makes them sympy's.

One request a line, `{"id", "ask": "curve" | "value", "left", "right"}`; one reply a line, `{"id", "told": true | false | null, "why"}`.
Nothing is parsed from text and nothing is evaluated: the only way in is `build`. Memory is capped by RLIMIT_AS; work is capped by a
count of Python calls, not by time, so that the same question has the same answer on a loaded machine.
"""

from __future__ import annotations

import json
import sys
from typing import Any

MEMORY = 300 * 2**20  # bytes of address space
CALLS = 150_000  # Python calls and returns of one request


class OutOfBudget(BaseException):
    """Not an `Exception`: no handler inside sympy may swallow it."""


def build(tree: list[Any]) -> Any:
    """A sympy expression of a tree of lists. Raises ValueError on what is not on the list."""
    import sympy

    op, args = tree[0], tree[1:]
    if op == "num":
        over, _, under = str(args[0]).partition("/")
        return sympy.Rational(int(over), int(under or 1))
    if op == "sym":
        return sympy.E if args[0] == "e" else sympy.I if args[0] == "i" else sympy.Symbol(str(args[0]))
    if op == "const":
        return sympy.pi if args[0] == "pi" else sympy.oo
    if op in ("sum", "prod"):
        index = sympy.Symbol(str(args[0]))
        return (sympy.Sum if op == "sum" else sympy.Product)(build(args[3]), (index, build(args[1]), build(args[2])))
    if op == "fn":
        functions = {"sin", "cos", "tan", "cot", "sec", "csc", "exp", "log", "sinh", "cosh", "tanh"}
        names = {"ln": "log", "arcsin": "asin", "arccos": "acos", "arctan": "atan", "abs": "Abs", "fact": "factorial"}
        if args[0] not in functions | set(names):
            raise ValueError(f"no function {args[0]}")
        return getattr(sympy, names.get(args[0], args[0]))(*map(build, args[1:]))
    parts = [build(a) for a in args]
    if op == "add":
        return parts[0] + parts[1]
    if op == "mul":
        return parts[0] * parts[1]
    if op == "div":
        return parts[0] / parts[1]
    if op == "neg":
        return -parts[0]
    if op == "pow":
        if parts[1].is_number and abs(parts[1]) > 64:
            raise ValueError("a large power")
        return parts[0] ** parts[1]
    if op == "root":
        return parts[1] ** (1 / parts[0])
    raise ValueError(f"no operator {op}")


def same_curve(left: Any, right: Any) -> bool | None:
    """Have left = 0 and right = 0 the same irreducible factors, denominators cleared? None where sympy makes no polynomials of them."""
    import sympy

    def factors(expression: Any) -> set[Any]:
        over, _ = sympy.fraction(sympy.together(sympy.expand_log(expression)))
        found = set()
        for factor, _ in sympy.factor_list(sympy.expand(over))[1]:
            monic = sympy.Poly(factor, *sorted(factor.free_symbols, key=str)).monic().as_expr()
            found.add(monic)
        return found

    try:
        return factors(left) == factors(right)
    except (sympy.PolynomialError, ValueError, TypeError):
        return None


def same_value(left: Any, right: Any) -> bool | None:
    """Two constants with infinite sums or products: equal to 40 digits after sympy has summed them."""
    gap = (left.doit() - right.doit()).evalf(60)
    if not gap.is_number or gap.has("Sum"):
        return None
    return bool(abs(gap) < 1e-40)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    count = 0

    def tick(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += 1
        if count > CALLS:
            sys.setprofile(None)
            raise OutOfBudget

    told: bool | None = None
    try:
        left, right = build(request["left"]), build(request["right"])
        sys.setprofile(tick)
        told = same_curve(left, right) if request["ask"] == "curve" else same_value(left, right)
        why = "" if told is not None else "sympy cannot tell"
    except OutOfBudget:
        why = "sympy took too many steps"
    except MemoryError:
        why = "sympy took too much memory"
    except Exception as error:  # noqa: BLE001 - whatever sympy raises means that it cannot tell
        why = f"sympy cannot tell ({type(error).__name__})"
    finally:
        sys.setprofile(None)
    return {"id": request["id"], "told": told, "why": why}


def main() -> None:
    import resource
    from contextlib import suppress

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, AttributeError):  # Linux: die with the parent, however it died
        import ctypes
        import signal

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    import sympy

    sys.setrecursionlimit(2_000)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    print(json.dumps({"ready": sympy.__version__}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
