"""The tests of a program in the one form that everything here works with, read from a problem's `tests`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from data.errors import UserError
from filters.sandbox.compare import ATOL, RTOL


@dataclass(frozen=True)
class Check:
    """One test. `call`: the value of `text` (an expression in the program's namespace) must stand in relation `op` to `expected`.

    `stdin`: the program reads `text` and must print `expected`. `judge` and `beside`: the script `text` must run to its end, in a process of
    its own, or in the program's, where its word is weaker.
    """

    kind: Literal["call", "stdin", "judge", "beside"]
    text: str
    op: str = "=="
    expected: Any = None
    rtol: float = RTOL
    atol: float = ATOL
    from_json: bool = False
    setup: str = ""  # imports of the script that the call came from
    names: tuple[str, ...] = ()  # functions of the program that a judge's script calls


def read_checks(tests: Sequence[Mapping[str, Any]], *, entry: str = "", rtol: float = RTOL, atol: float = ATOL) -> list[list[Check]]:
    """The checks of each test, in order (a script may become several). Raises `UserError` that names the test and what is wrong with it."""
    from filters.sandbox.asserts import split_script

    read = []
    for i, test in enumerate(tests):
        if not isinstance(test, Mapping):
            raise UserError(f'tests[{i}] is {type(test).__name__}, not an object such as {{"call": "f(1)", "expected": 2}}')
        here = float(test.get("rtol", rtol)), float(test.get("atol", test.get("tolerance", atol)))
        if "call" in test:
            read.append([_call(i, test, *here)])
        elif "input" in test:
            if "expected" not in test:
                raise UserError(f'tests[{i}] has an "input" but no "expected" output')
            read.append([Check("stdin", _text(test["input"]), "==", _text(test["expected"]), *here)])
        elif "script" in test:
            how = {"rtol": here[0], "atol": here[1]}
            read.append(split_script(str(test["script"]), entry=entry, where=f"tests[{i}]", beside=bool(test.get("beside")), **how))
        else:
            raise UserError(f'tests[{i}] has none of "call", "input", "script" (it has {", ".join(map(repr, test)) or "nothing"})')
    return read


def _call(i: int, test: Mapping[str, Any], rtol: float, atol: float) -> Check:
    import ast

    from filters.sandbox.constants import NotConstant, fold

    if "raises" in test:
        return Check("call", str(test["call"]), "raises", str(test["raises"]))
    if "expected" not in test:
        raise UserError(f'tests[{i}] has a "call" but neither "expected" nor "raises"')
    expected = test["expected"]
    if isinstance(expected, Mapping) and set(expected) == {"$py"}:  # a Python literal as text: tuples, sets and keys that JSON has not
        try:
            return Check("call", str(test["call"]), "==", fold(ast.parse(str(expected["$py"]), mode="eval").body), rtol, atol)
        except (NotConstant, SyntaxError, ValueError) as error:
            raise UserError(f'tests[{i}]: "$py" must be a Python literal, got {str(expected["$py"])[:60]!r} ({error})') from None
    return Check("call", str(test["call"]), "==", expected, rtol, atol, from_json=True)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "\n".join(map(str, value)) + "\n" if isinstance(value, list) else str(value)
