"""The `science` verifier: quantities with units, significant figures, constants, options and parts (CoSineVerifier's rules, without a model).

Rules (README and model card of CoSineVerifier, arXiv 2512.01224 family): equal after conversion and rounding; a unit may be missing, a
wrong one never passes as a missing one; options by letter or content; all parts must match, in any order; truncated, repetitive or
negated answers are wrong; expressions are compared as the `math` verifier does. Differs on purpose: rounding is relative (significant
figures), because "two decimals" accepts 2e-5 for 1e-5.
Settings (`spec`): {"extract", "rel_tol": relative tolerance (default 0: significant figures only), "unit": the unit asked for where the
reference has none, "options": {"A": text, …}}.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from data.records import Outcome, Problem
from data.text import storable
from filters.verifiers import choices
from filters.verifiers.base import PlainVerifier, register_verifier
from filters.verifiers.extraction import POLICIES, find_answer
from filters.verifiers.math import compare_answers
from filters.verifiers.notation import MAX_ANSWER
from filters.verifiers.quantities import EXACT, Quantity, convert, equal_values, parse_quantity, registry, unit_of

Judged = tuple[Outcome, str]

CONSTANTS: dict[str, str] = {
    "c": "speed_of_light", "g": "standard_gravity", "h": "planck_constant", "\\hbar": "hbar", "k_B": "boltzmann_constant",
    "k_{B}": "boltzmann_constant",
    "e": "elementary_charge", "N_A": "avogadro_constant", "N_{A}": "avogadro_constant", "R": "molar_gas_constant",
    "G": "newtonian_constant_of_gravitation",
    "m_e": "electron_mass", "m_{e}": "electron_mass", "m_p": "proton_mass", "m_{p}": "proton_mass", "\\epsilon_0": "vacuum_permittivity",
    "\\varepsilon_0": "vacuum_permittivity", "\\mu_0": "vacuum_permeability", "F": "faraday_constant", "\\sigma": "stefan_boltzmann_constant",
}  # fmt: skip
"""Symbols of physical constants, read as such where the reference is a quantity of their dimension ("0.6c" for 1.8e8 m/s)."""

_PARTS = re.compile(r"\s*(?:;|,(?!\d{3}(?!\d))|\band\b|\\text\{\s*and\s*\}|\n)\s*")
_LABEL = re.compile(r"\(?\s*([a-hA-H]|i{1,3}|iv|v)\s*\)\s*|([a-h])\.\s+")
_NEGATED = re.compile(r"\b(?:not|isn't|cannot be|never)\b", re.IGNORECASE)


def degenerate_answer(answer: str) -> str:
    """Why an answer is no answer: cut off, or one piece again and again; "" otherwise."""
    text = answer.strip()
    if re.search(r"(?:[=+*/^(\[{<,]|\\times|\\cdot|\\frac|\bis|\band)\Z", text):
        return "the answer is cut off"
    if len(text) > 60 and (match := re.search(r"(.{4,40}?)\1{4,}", text[:1_000], re.DOTALL)):
        return f"the answer repeats {match[1][:20]!r}"
    return ""


def _with_constant(text: str) -> Quantity | str:
    """ "0.6c", "2 m_e c^2": a number times constants and their powers."""
    if len(text) > 80:
        return "no constant"
    match = re.match(r"\s*\$?(-?\d*\.?\d*)\s*((?:\\?[A-Za-z]++(?:_\{?[A-Za-z0]\}?)?(?:\^\{?-?\d\}?)?[\s*]*|\\cdot\s*)+)\$?\Z", text)
    if match is None:
        return "no constant"
    product = registry().Quantity(float(match[1]) if match[1] not in ("", "-") else -1.0 if match[1] == "-" else 1.0)
    for name, power in re.findall(r"(\\?[A-Za-z]+(?:_\{?[A-Za-z0]\}?)?)(?:\^\{?(-?\d)\}?)?", match[2].replace("\\cdot", " ")):
        if name not in CONSTANTS:
            return "no constant"
        product = product * registry().Quantity(1.0, CONSTANTS[name]) ** int(power or 1)
    base = product.to_base_units()
    return Quantity(float(base.magnitude), 3, base.units, text)


def compare_quantities(want: Quantity, got: Quantity, rel_tol: float = 0.0, asked: Any = None) -> Judged:
    """One quantity against another; `asked`: the unit that a reference without one is in."""
    unit = want.unit if want.unit is not None else asked
    if got.unit is None and unit is not None and unit.dimensionless and not equal_values(want.value, got.value, want.figures, got.figures, rel_tol):
        got = Quantity(got.value, got.figures, registry().Unit("dimensionless"), got.text)  # 0.125 is 12.5 %
    if got.unit is None or unit is None or got.unit == unit:
        same = equal_values(want.value, got.value, want.figures, got.figures, rel_tol)
        missing = "; the unit is missing" if got.unit is None and unit is not None else ""
        return ("pass", f"equal to the significant figures{missing}") if same else ("fail", "another value")
    value = convert(got, unit)
    if value is None:
        return "fail", f"the unit is {got.unit:~}, not {unit:~}"
    back = convert(Quantity(want.value, want.figures, unit), got.unit)
    figures = got.figures if got.figures != EXACT or want.figures == EXACT else max(want.figures, 3)
    rounded = back is not None and got.figures not in (EXACT, 1) and equal_values(back, got.value, max(got.figures, 3), got.figures, rel_tol)
    if rounded or equal_values(want.value, value, want.figures, figures, rel_tol):
        return "pass", f"equal after conversion from {got.unit:~} to {unit:~}"
    return "fail", f"another value: {value:.6g} {unit:~}"


def compare_part(reference: str, answer: str, spec: Mapping[str, Any]) -> Judged:
    """One part: a quantity where both are, else what the `math` verifier says."""
    rel_tol = float(spec.get("rel_tol", 0.0))
    want, got = parse_quantity(reference), parse_quantity(answer)
    asked = unit_of(str(spec["unit"])) if spec.get("unit") else None
    if isinstance(want, Quantity) and (want.unit is not None or asked is not None or want.figures != EXACT or want.value % 1 or rel_tol):
        unit = want.unit if want.unit is not None else asked
        if isinstance(got, Quantity):
            verdict = compare_quantities(want, got, rel_tol, asked)
            if verdict[0] == "pass" or unit is None:
                return verdict
        if unit is not None and isinstance(constant := _with_constant(answer), Quantity) and convert(constant, unit) is not None:
            return compare_quantities(want, constant, max(rel_tol, 2e-3), asked)
        if isinstance(got, Quantity):
            return verdict
    elif isinstance(want, Quantity) and isinstance(got, Quantity) and got.unit is None and want.value == got.value:
        return "pass", "equal"
    return compare_answers(reference, answer)


def compare(reference: str, answer: str, spec: Mapping[str, Any]) -> Judged:
    """(outcome, reason) of an extracted answer: options, then parts, then one value."""
    if why := degenerate_answer(answer):
        return "fail", why
    if _NEGATED.search(answer) and not _NEGATED.search(reference):
        return "fail", "the answer is negated"
    options = spec.get("options")
    letter, _ = choices.choice(reference)
    if isinstance(options, Mapping) and letter in options:
        said, rest = choices.choice(answer)
        if said:
            if said == letter and rest and compare_part(str(options[letter]), rest, spec)[0] == "fail":
                return "fail", "the letter of the right option with the content of another"
            return ("pass", "the right option") if said == letter else ("fail", "another option")
        told = {name: compare_part(str(text), answer, spec)[0] for name, text in options.items()}
        if told[letter] == "pass" and sum(o == "pass" for o in told.values()) == 1:
            return "pass", "the content of the right option"
        return ("fail", "the content of another option") if "pass" in told.values() else ("unknown", "none of the options")
    want, got = _split(reference), _split(answer)
    if len(want) > 1 and all(label for label, _ in want):
        return _all_parts(want, got, spec) if len(want) == len(got) else ("fail", f"{len(got)} parts where the reference has {len(want)}")
    whole = compare_part(reference, answer, spec)
    if whole[0] == "pass":
        return whole
    if len(want) < 2 or not any(isinstance(parse_quantity(w), Quantity) for _, w in want):
        return whole
    if len(want) != len(got):
        return "fail", f"{len(got)} parts where the reference has {len(want)}"
    return _all_parts(want, got, spec)


def _split(text: str) -> list[tuple[str, str]]:
    """(label, part) of "(a) 5 m; (b) 3 s", "5 m and 3 s"; one part without a label where nothing splits it."""
    out = []
    text = re.sub(r"(?<=\S)\s+(?=\([a-h]\)\s)", "; ", text)
    for part in _PARTS.split(text.strip().strip("$")):
        if part.strip():
            label = _LABEL.match(part.strip())
            out.append(((label[1] or label[2]).lower() if label else "", part.strip()[label.end() :] if label else part.strip()))
    return out[:20]


def _all_parts(want: list[tuple[str, str]], got: list[tuple[str, str]], spec: Mapping[str, Any]) -> Judged:
    labels = {label for label, _ in want}
    by_label = "" not in labels and labels == {label for label, _ in got}
    rest, unsure = list(got), False
    for label, part in want:
        for other in rest:
            if by_label and other[0] != label:
                continue
            outcome = compare_part(part, other[1], spec)[0]
            if outcome == "pass":
                rest.remove(other)
                break
            unsure |= outcome == "unknown"
        else:
            return ("unknown", f"part {part[:30]!r} cannot be told") if unsure else ("fail", f"part {part[:30]!r} has no match")
    return "pass", f"all {len(want)} parts match"


def judge(reference: str, response: str, spec: Mapping[str, Any] | None = None) -> Judged:
    """(outcome, reason) of one response; pure and total."""
    spec = spec or {}
    response = storable(response)

    def agree(one: str, other: str) -> bool:
        return one.strip() == other.strip() or compare(one[:MAX_ANSWER], other[:MAX_ANSWER], {})[0] == "pass"

    answer, why = find_answer(response, str(spec.get("extract", "strict")), agree, plausible=lambda mark: True, several=len(_split(reference)) > 1)
    if answer is None:
        return "fail", why
    if len(answer) > MAX_ANSWER:
        return "fail", f"the answer is longer than {MAX_ANSWER} characters"
    verdict = compare(reference, answer, spec)
    if why == "bare" and verdict[0] != "pass" and not isinstance(parse_quantity(answer), Quantity):
        return "fail", "no final answer"
    return verdict


class ScienceVerifier(PlainVerifier):
    """Answers of physics, chemistry and engineering problems."""

    name = "science"

    def decide(self, problem: Problem, response: str) -> tuple[Outcome, str]:
        return judge(problem.reference, response, problem.spec)

    def check_problem(self, problem: Problem) -> str:
        if not problem.reference.strip():
            return "the problem has no reference answer"
        if len(problem.reference) > MAX_ANSWER:
            return f"the reference answer is longer than {MAX_ANSWER} characters"
        extract, rel_tol, unit = problem.spec.get("extract", "strict"), problem.spec.get("rel_tol", 0.0), problem.spec.get("unit", "")
        if extract not in POLICIES:
            return f"spec extract={extract!r} is none of {', '.join(POLICIES)}"
        if not isinstance(rel_tol, int | float) or not 0 <= rel_tol < 0.5:
            return f"spec rel_tol={rel_tol!r} is no number from 0 to 0.5"
        if unit and unit_of(str(unit)) is None:
            return f"spec unit={unit!r} is no unit that pint knows"
        return ""


register_verifier("science", ScienceVerifier)
