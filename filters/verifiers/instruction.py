"""The `instruction` verifier: constraints on the form of a response that a program can check (all IFEval kinds, nearly all of IFBench).

spec: {"instructions": [{"id": "punctuation:no_comma", "kwargs": {…}}, …]}, or the two lists of the benchmarks' files
(`instruction_id_list`, `kwargs`; None values are left out). strict judges the response; loose passes an instruction that one of eight
variants follows (without the first line, the last, both, each also without asterisks), which forgives an introduction or a farewell.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, get_origin, get_type_hints

from pydantic import BaseModel, Field, ValidationError, create_model, model_validator

from data.records import Problem
from filters.verifiers import constraints_counts, constraints_form, constraints_ifeval
from filters.verifiers.base import register_verifier
from filters.verifiers.spec import Judgement, Spec, TypedVerifier

MAX_RESPONSE = 60_000  # characters
KINDS: Mapping[str, Callable[..., bool | None]] = {**constraints_ifeval.KINDS, **constraints_counts.KINDS, **constraints_form.KINDS}
WITHOUT = {"words:start_verb": "needs a part-of-speech tagger, which is no program that can be exact"}


class Instruction(Spec):
    id: str
    kwargs: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _known(self) -> Instruction:
        if self.id in WITHOUT:
            raise ValueError(f"instruction {self.id!r} {WITHOUT[self.id]}")
        if self.id not in KINDS:
            raise ValueError(f"no instruction kind {self.id!r}; e.g. {', '.join(sorted(KINDS)[:3])}")
        try:
            arguments(self.id).model_validate(self.kwargs)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise ValueError(f"instruction {self.id!r}: kwargs.{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}") from None
        return self

    def followed(self, text: str) -> bool | None:
        """None where it cannot be told."""
        if not text.strip():
            return False
        given = arguments(self.id).model_validate(self.kwargs)
        told: bool | None = KINDS[self.id](text, **{name: getattr(given, name) for name in type(given).model_fields})
        return told


class InstructionSpec(Spec):
    instructions: tuple[Instruction, ...] = Field(min_length=1)
    loose: bool = False
    reward: Literal["all", "share"] = "all"
    """`share` rewards a response that follows some of its instructions with their share; the verdict is pass only for all."""

    @model_validator(mode="before")
    @classmethod
    def _two_lists(cls, value: Any) -> Any:
        if not isinstance(value, Mapping) or "instruction_id_list" not in value:
            return value
        rest = {k: v for k, v in value.items() if k not in ("instruction_id_list", "kwargs")}
        ids, kwargs = value["instruction_id_list"], value.get("kwargs") or [{}] * len(value["instruction_id_list"])
        if not isinstance(ids, (list, tuple)) or not isinstance(kwargs, (list, tuple)) or len(ids) != len(kwargs):
            raise ValueError("instruction_id_list and kwargs must be lists of one length")
        given = [{k: v for k, v in (one or {}).items() if v is not None} for one in kwargs]
        return {**rest, "instructions": [{"id": i, "kwargs": one} for i, one in zip(ids, given, strict=True)]}


@lru_cache(maxsize=256)
def arguments(kind: str) -> type[BaseModel]:
    """The typed arguments of an instruction kind, made from its function's signature; others that a benchmark's row carries are left aside."""
    hints = get_type_hints(KINDS[kind])
    names = [p.name for p in inspect.signature(KINDS[kind]).parameters.values() if p.kind is p.KEYWORD_ONLY]
    fields: dict[str, Any] = {name: (tuple[str, ...] if get_origin(hints[name]) is Sequence else hints[name], ...) for name in names}
    return create_model(kind, **fields)


def variants(response: str) -> list[str]:
    """The response and its seven forgiving readings, in the official order."""
    lines = response.split("\n")
    cut = ["\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1])]
    plain = [text.replace("*", "") for text in (response, *cut)]
    return [response, plain[0], *cut, *plain[1:]]


class InstructionVerifier(TypedVerifier[InstructionSpec]):
    """Checkable constraints."""

    name = "instruction"
    Spec = InstructionSpec
    needs_reference = False
    form_only = True

    def judge(self, problem: Problem, spec: InstructionSpec, response: str) -> Judgement:
        if len(response) > MAX_RESPONSE:
            return "fail", 0.0, f"the response is longer than {MAX_RESPONSE:,} characters"
        told = [followed(instruction, response, loose=spec.loose) for instruction in spec.instructions]
        missed = [i.id for i, t in zip(spec.instructions, told, strict=True) if t is False]
        share = told.count(True) / len(told)
        if missed:
            return "fail", share if spec.reward == "share" else 0.0, f"not followed: {', '.join(missed)}"
        open_ones = [i.id for i, t in zip(spec.instructions, told, strict=True) if t is None]
        if open_ones:
            return "unknown", 0.0, f"cannot be told: {', '.join(open_ones)}"
        return "pass", 1.0, f"all {len(told)} followed"


def followed(instruction: Instruction, response: str, *, loose: bool) -> bool | None:
    """Whether the response follows one instruction; None where it cannot be told."""
    unsure = False
    for text in dict.fromkeys(variants(response)) if loose else [response]:
        told = instruction.followed(text)
        if told:
            return True
        unsure |= told is None
    return None if unsure else False


register_verifier("instruction", InstructionVerifier)
