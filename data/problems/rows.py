"""What one row means: the problem in it, with its types checked; `where` (file and line) begins every error."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from data.errors import UserError
from data.ids import canonical_json
from data.problems.choices import Choices, read_choices
from data.problems.json_rows import show
from data.problems.mapping import field, required
from data.problems.source import Source
from data.records import Problem

Choose = Callable[[Problem, bool, str], Problem]
"""(problem, whether its row names the verifier, where) -> the problem with its verifier and meta["verifier_reason"]; comes from the room above."""

ANYWHERE = Source("")


def problem_from_row(
    row: Mapping[str, Any],
    where: str,
    *,
    split: str = "train",
    source: Source = ANYWHERE,
    choose: Choose | None = None,
    needs_answer: bool | None = None,
) -> Problem:
    """One problem. Without `choose` a row that names no verifier gets `math`.

    `needs_answer` None: a row with tests or instructions, or one that names a verifier other than `math`, needs no answer.
    """
    fields = source.map
    prompt = prompt_of(row, where, fields)
    meta: dict[str, Any] = {}
    named = _typed(row, "verifier", str, "a text", None, fields, where)
    spec = _json(row, "spec", dict, "an object", fields, where) or {}
    tests = _tests(row, fields, where)
    if tests is not None:
        spec = {**spec, "tests": tests}
    spec |= _instructions(row, fields, where)
    self_contained = tests is not None or "instruction_id_list" in spec or named not in (None, "math")
    choices = read_choices(*field(row, "choices", fields, where), where)
    reference = _answer(row, fields, where, meta, choices, needed=not self_contained if needs_answer is None else needs_answer)
    if choices is not None:
        prompt, meta["choices"] = choices.shown_in(prompt), list(choices.texts)
    meta |= _origin(row, fields, where)
    problem = Problem(
        prompt=prompt,
        reference=reference,
        verifier=named or "math",
        spec=spec,
        domain=_typed(row, "domain", str, "a text", "", fields, where) or source.domain,
        level=_level(*field(row, "level", fields, where), where),
        concepts=_concepts(row, fields, where),
        source="user",
        split="heldout" if split == "heldout" else "train",
        meta=meta,
    )
    return problem if choose is None else choose(problem, named is not None, where)


def prompt_of(row: Mapping[str, Any], where: str, fields: Mapping[str, str]) -> str:
    """The problem's text alone: what deduplication and decontamination look at."""
    column, prompt = required(row, "prompt", fields, where)
    if not isinstance(prompt, str) or not prompt.strip():
        raise UserError(f"{where}: field {column!r} must be a text that is not empty, got {show(prompt)}")
    _no_nul(prompt, column, where)
    return prompt.strip()


def _answer(row: Mapping[str, Any], fields: Mapping[str, str], where: str, meta: dict[str, Any], choices: Choices | None, *, needed: bool) -> str:
    """The reference; a worked solution beside it goes into `meta`."""
    column, answer = (required if needed else field)(row, "answer", fields, where)
    if answer is None:
        return ""
    place = f"{where}: field {column!r}"
    _, solution = field(row, "solution", fields, where)
    if choices is not None:
        reference, how = choices.letter_of(answer, place)
        meta["answer_given_as"] = how
    elif isinstance(answer, (list, dict)) and answer:
        inner = next(iter(answer)) if isinstance(answer, dict) else 0
        raise UserError(f"{place} must be a text or a number, got {show(answer)}; take what is inside with --map answer={column}.{inner}")
    else:
        reference = reference_text(answer, place)
    _no_nul(reference, column, where)
    if "####" in reference and choices is None:
        worked, _, reference = reference.rpartition("####")
        meta["solution"], reference = worked.strip(), reference.strip()
        if not reference:
            raise UserError(f"{place} has nothing after its '####'")
    elif isinstance(solution, str) and column != "reference":
        meta["solution"] = solution
    return reference


def reference_text(answer: Any, where: str) -> str:
    """A reference as text; numbers as a person writes them (3.0 is "3")."""
    if isinstance(answer, bool) or not isinstance(answer, (str, int, float)):
        raise UserError(f"{where} must be a text or a number, got {show(answer)}")
    if isinstance(answer, float):
        if not math.isfinite(answer):
            raise UserError(f"{where} must be a finite number, got {answer}")
        return str(int(answer)) if answer.is_integer() and abs(answer) < 1e15 else repr(answer)
    if not str(answer).strip():
        raise UserError(f"{where} is empty; give the final answer")
    return str(answer).strip()


def _origin(row: Mapping[str, Any], fields: Mapping[str, str], where: str) -> dict[str, Any]:
    """Where the row comes from and what may be done with it: id, source and licence, kept as they are given."""
    found: dict[str, Any] = {}
    for name, key in (("id", "user_id"), ("source", "source"), ("licence", "licence")):
        column, value = field(row, name, fields, where)
        if value is None:
            continue
        if isinstance(value, (list, dict, bytes)):
            raise UserError(f"{where}: field {column!r} must be a text or a number, got {show(value)}")
        found[key] = str(value)
        _no_nul(found[key], column, where)
    return found


def _tests(row: Mapping[str, Any], fields: Mapping[str, str], where: str) -> list[dict[str, Any]] | None:
    """Tests of a program as `synth verify` takes them; a text, or one of a list, is a script of asserts."""
    column, value = field(row, "tests", fields, where)
    value = _unpacked(value, column, where, "[{")
    if value is None or value == []:
        return None
    listed = [value] if isinstance(value, str) else value
    tests = [{"script": t} if isinstance(t, str) else t for t in listed] if isinstance(listed, list) else []
    if not tests or not all(isinstance(t, dict) for t in tests):
        raise UserError(f'{where}: field {column!r} must be a list of tests like {{"call": "f(1)", "expected": 2}} or of asserts, got {show(value)}')
    _storable(tests, column, where)
    return [{k: v for k, v in t.items() if v is not None} for t in tests]


def _instructions(row: Mapping[str, Any], fields: Mapping[str, str], where: str) -> dict[str, Any]:
    """IFEval's two columns: the kinds of instruction and the arguments of each, nulls left out; {} where the row has none."""
    column, kinds = field(row, "instructions", fields, where)
    kinds = _unpacked(kinds, column, where, "[")
    if kinds is None or kinds == []:
        return {}
    beside, given = field(row, "kwargs", fields, where)
    given = _unpacked(given, beside, where, "[")
    listed = [{}] * len(kinds) if given is None and isinstance(kinds, list) else given
    if not isinstance(kinds, list) or not all(isinstance(k, str) for k in kinds):
        raise UserError(f"{where}: field {column!r} must be a list of kinds of instruction, got {show(kinds)}")
    if not isinstance(listed, list) or len(listed) != len(kinds) or not all(one is None or isinstance(one, dict) for one in listed):
        raise UserError(f"{where}: field {beside!r} must be a list of objects, one for each of the {len(kinds)} instructions, got {show(given)}")
    _storable(listed, beside, where)
    arguments = [{k: v for k, v in (one or {}).items() if v is not None} for one in listed]
    return {"instruction_id_list": kinds, "kwargs": arguments}


def _json(row: Mapping[str, Any], name: str, kind: type, wanted: str, fields: Mapping[str, str], where: str) -> Any:
    """A value of a kind; CSV and Parquet may hold it as JSON text. Columns that Arrow filled with null are left out of an object."""
    column, value = field(row, name, fields, where)
    value = _unpacked(value, column, where, "{[")
    if value is None:
        return None
    if not isinstance(value, kind):
        raise UserError(f"{where}: field {column!r} must be {wanted}, got {show(value)}")
    _storable(value, column, where)
    return {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value


def _unpacked(value: Any, column: str, where: str, beginnings: str) -> Any:
    if isinstance(value, str) and value.strip()[:1] and value.strip()[0] in beginnings:
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where}: field {column!r} looks like JSON and is not, got {show(value)}") from error
    return value


def _storable(value: Any, column: str, where: str) -> None:
    """What goes into an id must have one canonical form: no NaN, no dates, no bytes."""
    try:
        canonical_json(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{where}: field {column!r} holds what JSON cannot ({error}); use texts, numbers, lists and objects") from error


def _typed(row: Mapping[str, Any], name: str, kind: type, wanted: str, default: Any, fields: Mapping[str, str], where: str) -> Any:
    column, value = field(row, name, fields, where)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise UserError(f"{where}: field {column!r} must be {wanted}, got {show(value)}")
    if isinstance(value, str):
        _no_nul(value, column, where)
    return value


def _level(column: str, value: Any, where: str) -> int:
    """3, 3.0, "3" and MATH's "Level 3" alike; 0 where none is given."""
    if value is None:
        return 0
    text = str(int(value) if isinstance(value, float) and value.is_integer() else value).removeprefix("Level ").strip()
    if isinstance(value, bool) or not text.isascii() or not text.isdigit() or len(text) > 6:
        raise UserError(f"{where}: field {column!r} must be a whole number from 0, got {show(value)}; or leave it out with --map level=")
    return int(text)


def _concepts(row: Mapping[str, Any], fields: Mapping[str, str], where: str) -> tuple[str, ...]:
    column, value = field(row, "concepts", fields, where)
    value = _unpacked(value, column, where, "[")
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise UserError(f"{where}: field {column!r} must be a list of texts, got {show(value)}")
    return tuple(value)


def _no_nul(text: str, column: str, where: str) -> None:
    if "\x00" in text:
        raise UserError(f"{where}: field {column!r} holds a NUL character, which no table can store; leave it out")
