"""The `logic` verifier: puzzles whose every answer can be checked outright, so no reference is needed.

countdown: an expression with the given numbers, each used once (or at most once), that equals the target;
  arithmetic on a tree of five node kinds (`filters.verifiers.arithmetic`), nothing is evaluated by Python.
knights: knights tell the truth, knaves lie; the answer says what each person is and must be the one assignment that fits.
propositional: an assignment that satisfies a formula, "unsatisfiable", or whether premises entail a conclusion, decided by enumeration.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import Field, model_validator

from data.records import Problem
from filters.verifiers.arithmetic import evaluate
from filters.verifiers.base import register_verifier
from filters.verifiers.proposition import MAX_ATOMS, Formula, atoms_of, models, parse_formula, truth
from filters.verifiers.spec import Judgement, Spec, TypedVerifier, passed
from filters.verifiers.stated import stated_answer

MAX_ANSWER = 2_000  # characters


class LogicSpec(Spec):
    kind: Literal["countdown", "knights", "propositional"]
    numbers: tuple[int, ...] = ()
    """countdown: the numbers at hand."""
    target: int | None = None
    use_all: bool = True
    """countdown: every number exactly once; else at most once."""
    statements: dict[str, str] = Field(default_factory=dict)
    """knights: what each person says, a formula over persons' names ("Ann" means: Ann is a knight)."""
    formula: str = ""
    """propositional: what is to be satisfied, or the conclusion where there are premises."""
    premises: tuple[str, ...] = ()
    names: Annotated[tuple[str, str], Field(min_length=2)] = ("knight", "knave")
    """knights: the words for those who tell the truth and those who lie."""

    @model_validator(mode="after")
    def _complete(self) -> LogicSpec:
        if self.kind == "countdown" and (not self.numbers or self.target is None):
            raise ValueError("countdown needs numbers and target")
        if self.kind == "countdown" and len(self.numbers) > 20:
            raise ValueError("countdown takes at most 20 numbers")
        if self.kind == "knights" and len(self.statements) < 1:
            raise ValueError("knights needs statements, a formula for each person who speaks")
        if self.kind == "propositional" and not self.formula:
            raise ValueError("propositional needs a formula")
        wrong = next((f for f in map(_formula, self.texts()) if isinstance(f, str)), "")
        if wrong:
            raise ValueError(wrong)
        if len(self.atoms()) > MAX_ATOMS:
            raise ValueError(f"at most {MAX_ATOMS} different letters or persons")
        return self

    def texts(self) -> tuple[str, ...]:
        return (*self.statements.values(), *self.premises, *([self.formula] if self.formula else []))

    def atoms(self) -> tuple[str, ...]:
        """Persons or letters, in order of appearance."""
        persons = {name.casefold(): name for name in self.statements}
        for text in self.texts():
            read = _formula(text)
            for atom in atoms_of(read) if not isinstance(read, str) else ():
                persons.setdefault(atom.casefold(), atom)
        return tuple(persons)


@lru_cache(maxsize=4_096)
def _formula(text: str) -> Formula | str:
    return parse_formula(text)


class LogicVerifier(TypedVerifier[LogicSpec]):
    """Puzzles that are checked outright."""

    name = "logic"
    Spec = LogicSpec
    needs_reference = False
    outright = True

    def refuse(self, problem: Problem, spec: LogicSpec) -> str:
        if spec.kind == "knights":
            found = len(_assignments(spec))
            return "" if found == 1 else f"{found} assignments fit the statements, there must be exactly one"
        return ""

    def judge(self, problem: Problem, spec: LogicSpec, response: str) -> Judgement:
        agree = {"countdown": _same_expression, "knights": lambda a, b: _people(a, spec) == _people(b, spec), "propositional": _same_words}
        answer, why = stated_answer(response, agree[spec.kind])
        if answer is None:
            return "fail", 0.0, why
        if len(answer) > MAX_ANSWER:
            return "fail", 0.0, f"the answer is longer than {MAX_ANSWER} characters"
        return {"countdown": countdown, "knights": knights, "propositional": propositional}[spec.kind](spec, answer)

    def oracle(self, problem: Problem) -> str:
        """A right response, found by search where the reference gives none."""
        spec = self.settings(problem)
        if problem.reference.strip() or isinstance(spec, str):
            return f"<answer>{problem.reference}</answer>"
        if spec.kind == "knights":
            (fit,) = _assignments(spec)
            return "<answer>" + ", ".join(f"{name} is a {spec.names[not good]}" for name, good in fit.items()) + "</answer>"
        if spec.kind == "propositional":
            return f"<answer>{_right_word(spec)}</answer>"
        from filters.verifiers.countdown import solve

        return f"<answer>{solve(spec.numbers, spec.target or 0, use_all=spec.use_all) or ''}</answer>"


def _same_expression(one: str, other: str) -> bool:
    return re.sub(r"\s|=.*", "", one) == re.sub(r"\s|=.*", "", other)


def _same_words(one: str, other: str) -> bool:
    return re.sub(r"\W+", " ", one.casefold()).strip() == re.sub(r"\W+", " ", other.casefold()).strip()


def countdown(spec: LogicSpec, answer: str) -> Judgement:
    """The expression's own value decides; a side "= 24" must say the target."""
    expression, equals, said = answer.strip().strip("$").partition("=")
    if equals and said.strip().strip("$. ") != str(spec.target):
        return "fail", 0.0, f"the answer says it equals {said.strip()[:20]!r}, the target is {spec.target}"
    read = evaluate(expression)
    if isinstance(read, str):
        return "fail", 0.0, read
    left = list(spec.numbers)
    for number in read.numbers:
        if number not in left:
            return "fail", 0.0, f"the number {number} is not (or no longer) at hand"
        left.remove(int(number))
    if left and spec.use_all:
        return "fail", 0.0, f"not used: {', '.join(map(str, left))}"
    return passed(read.value == spec.target, f"the expression equals {read.value}"[:120])


def _assignments(spec: LogicSpec) -> list[dict[str, bool]]:
    """Who can be what: each speaker is a knight exactly if the statement is true."""
    return _fitting(tuple(spec.statements.items()), spec.atoms())


@lru_cache(maxsize=1_024)
def _fitting(statements: tuple[tuple[str, str], ...], atoms: tuple[str, ...]) -> list[dict[str, bool]]:
    said = {name.casefold(): _formula(text) for name, text in statements}
    return [m for m in models(atoms) if all(not isinstance(f, str) and m[name] == truth(f, m) for name, f in said.items())]


def _people(answer: str, spec: LogicSpec) -> Mapping[str, bool] | str:
    """What the answer says each person is: "Ann is a knight", "Ann: knave", "(Ann, knight)"; every person exactly once."""
    good, bad = (re.escape(word.casefold()) for word in spec.names)
    persons = "|".join(sorted((re.escape(p) for p in spec.atoms()), key=len, reverse=True))
    said: dict[str, bool] = {}
    text = re.sub(r"\\(?:text|textbf)\s*\{([^{}]*)\}|[*_()]", r" \1 ", answer.casefold())
    for match in re.finditer(rf"\b({persons})\b\s*(?:is|:|=|,|-|–)?\s*(?:a\s+|an\s+)?(not\s+(?:a\s+)?)?({good}|{bad})\b", text):
        value = (match[3] == spec.names[0].casefold()) != bool(match[2])
        if said.get(match[1], value) != value:
            return f"{match[1]} is said to be both"
        said[match[1]] = value
    missing = [p for p in spec.atoms() if p not in said]
    return f"nothing is said of {missing[0]}" if missing else said


def knights(spec: LogicSpec, answer: str) -> Judgement:
    said = _people(answer, spec)
    if isinstance(said, str):
        return "fail", 0.0, said
    (fit,) = _assignments(spec)
    wrong = [name for name, value in fit.items() if said[name] != value]
    return passed(not wrong, f"{wrong[0]} is told wrongly" if wrong else "every person is told rightly")


def _right_word(spec: LogicSpec) -> str:
    return _decided(spec.formula, spec.premises, spec.atoms())


@lru_cache(maxsize=1_024)
def _decided(formula: str, premises: tuple[str, ...], atoms: tuple[str, ...]) -> str:
    goal = _formula(formula)
    given = [_formula(p) for p in premises]
    fits = [m for m in models(atoms) if _holds(given, m)]
    if premises:
        return "yes" if all(_holds([goal], m) for m in fits) else "no"
    true = next((m for m in fits if _holds([goal], m)), None)
    return "unsatisfiable" if true is None else ", ".join(f"{a} = {str(v).lower()}" for a, v in true.items())


def _holds(formulas: Iterable[Formula | str], model: Mapping[str, bool]) -> bool:
    return all(not isinstance(f, str) and truth(f, model) for f in formulas)


_YES = frozenset(["yes", "true", "entailed", "entails", "valid"])
_NO = frozenset(("no", "false", "not entailed", "invalid", "does not entail", "not valid"))


def propositional(spec: LogicSpec, answer: str) -> Judgement:
    said = re.sub(r"\W+", " ", answer.casefold()).strip()
    if spec.premises:
        if said not in _YES | _NO:
            return "fail", 0.0, "the answer is neither yes nor no"
        right = _right_word(spec)
        return passed((said in _YES) == (right == "yes"), f"the premises {'entail' if right == 'yes' else 'do not entail'} the conclusion")
    if said in ("unsatisfiable", "unsat", "no solution"):
        return passed(_right_word(spec) == "unsatisfiable", "unsatisfiable is " + ("right" if _right_word(spec) == "unsatisfiable" else "wrong"))
    model: dict[str, bool] = {}
    for name, value in re.findall(r"\b(\w+)\s*(?::=|=|:|is)\s*(true|false|t|f|1|0)\b", answer.casefold()):
        if model.setdefault(name, value in ("true", "t", "1")) != (value in ("true", "t", "1")):
            return "fail", 0.0, f"{name} is given two values"
    missing = [a for a in spec.atoms() if a not in model]
    if missing:
        return "fail", 0.0, f"no value is given to {missing[0]}"
    goal = _formula(spec.formula)
    return passed(_holds([goal], model), "the assignment " + ("satisfies" if _holds([goal], model) else "does not satisfy") + " the formula")


register_verifier("logic", LogicVerifier)
