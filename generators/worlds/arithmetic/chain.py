"""Is the chain of a response right, not only its answer? Every equation is recomputed exactly, and every operand must come from somewhere.

A chain is right when each `a op b = c` holds, each operand is a number that the problem told, a result of an earlier equation, or a
constant of the problem's own solution (100 for percent, 2 for "twice"), and the last result is the answer stated. A response that
guesses, or whose wrong steps cancel out, fails although its answer passes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from fractions import Fraction

from generators.worlds.arithmetic.steps import Number, Step

_NUMBER = r"-?[0-9]{1,12}(?:\.[0-9]{1,9})?"
_EQUATION = re.compile(rf"({_NUMBER}) ?([-+*/×÷]) ?({_NUMBER}) ?= ?({_NUMBER})")
MAX_EQUATIONS = 64


def equations_of(chain: str) -> list[tuple[Fraction, str, Fraction, Fraction]]:
    """(left, operation, right, claimed result) of each equation written in the text before `####`, in order."""
    found = []
    for match in _EQUATION.finditer(chain):
        left, op, right, result = match.groups()
        found.append((Fraction(left), {"×": "*", "÷": "/"}.get(op, op), Fraction(right), Fraction(result)))
        if len(found) > MAX_EQUATIONS:
            break
    return found


def holds(left: Fraction, op: str, right: Fraction, result: Fraction) -> bool:
    if op == "/":
        return right != 0 and left / right == result
    return {"+": left + right, "-": left - right, "*": left * right}[op] == result


def constants_of(steps: Sequence[Step]) -> set[Fraction]:
    """Whole numbers that the solution uses and the problem does not tell."""
    return {Fraction(operand) for left, _, right in steps for operand in (left, right) if operand.isdigit()}


def chain_is_right(response: str, told: Collection[Number], steps: Sequence[Step]) -> bool:
    """Whether the response's equations lead from the told numbers to the answer it states behind `####`."""
    chain, mark, stated = response.partition("####")
    stated = stated.strip()
    equations = equations_of(chain)
    if not mark or not equations or len(equations) > MAX_EQUATIONS or not re.fullmatch(_NUMBER, stated):
        return False
    known = {Fraction(number) for number in told} | constants_of(steps)
    for left, op, right, result in equations:
        if left not in known or right not in known or not holds(left, op, right, result):
            return False
        known.add(result)
    return equations[-1][3] == Fraction(stated)
