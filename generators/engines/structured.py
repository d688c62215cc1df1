"""Answers of a given form: what the server is asked to guarantee, what is checked here whatever it guarantees, and how a wrong one is asked again.

`Request.structured` is a table with one of: `json_schema` (a schema), `regex` (the whole answer matches), `choice` (one of a list), `grammar` (EBNF),
and `tools` (OpenAI tool definitions, with `tool_choice` if wanted). A server that is not known to constrain its output is told in words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from data.ids import canonical_json
from data.keyed import keyed_seed
from data.records import Completion, Request
from generators.engines.sending import Failed
from generators.engines.wire import Dialect

KINDS = ("json_schema", "regex", "choice", "grammar", "tools")
_MATCH_S = 1.0  # a pattern that takes longer on one answer is a wrong pattern


def kind_of(structured: Mapping[str, Any]) -> str:
    """The one kind asked for. Failed where there is none, or two."""
    kinds = [k for k in KINDS if structured.get(k) is not None]
    if len(kinds) != 1:
        raise Failed(f"structured takes exactly one of {', '.join(KINDS)}, got {', '.join(kinds) or ', '.join(structured) or 'nothing'}")
    return kinds[0]


def check(structured: Mapping[str, Any]) -> None:
    """Raises Failed for a form that no answer could be checked against."""
    kind = kind_of(structured)
    if kind == "json_schema":
        _validator(canonical_json(structured[kind]))
    elif kind == "regex":
        import regex

        try:
            regex.compile(structured[kind])
        except (regex.error, TypeError) as error:
            raise Failed(f"the regular expression {structured[kind]!r} is wrong: {error}") from None


def fields(structured: Mapping[str, Any], dialect: Dialect) -> dict[str, Any]:
    """What of the body asks the server to constrain the answer; nothing where it can't."""
    kind = kind_of(structured)
    wanted = structured[kind]
    if kind == "tools":
        return {"tools": list(wanted)} | ({"tool_choice": structured["tool_choice"]} if "tool_choice" in structured else {})
    if dialect.vllm and "structured_outputs" not in dialect.omit:
        # disable_any_whitespace: a weak model otherwise writes newlines until its tokens are spent
        return {"structured_outputs": {"json" if kind == "json_schema" else kind: wanted}}
    if kind == "json_schema" and dialect.json_schema:
        named = {"name": str(wanted.get("title", "answer")), "schema": wanted, "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": named}}
    if kind == "grammar":
        raise Failed("this endpoint can't constrain its output to a grammar, nor can one be checked here; use a vLLM server, json_schema or regex")
    return {}


def in_words(structured: Mapping[str, Any]) -> str:
    """The form as an instruction."""
    kind = kind_of(structured)
    if kind == "json_schema":
        return f"Answer with one JSON value and nothing else. It must be valid under this JSON schema: {canonical_json(structured[kind])}"
    if kind == "regex":
        return f"Answer with nothing but a text that matches this regular expression as a whole: {structured[kind]}"
    if kind == "choice":
        return f"Answer with exactly one of these and nothing else: {', '.join(json.dumps(c, ensure_ascii=False) for c in structured[kind])}"
    return ""


def wrong(structured: Mapping[str, Any], text: str) -> str:
    """What is wrong with an answer, as a sentence for the model; "" where nothing is, or only the server can tell (grammar, tools)."""
    kind = kind_of(structured)
    if kind == "json_schema":
        try:
            value = json.loads(text, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            return f"it is not JSON: {error}"
        from jsonschema.exceptions import best_match

        found = best_match(_validator(canonical_json(structured[kind])).iter_errors(value))
        return "" if found is None else f"at {found.json_path}: {found.message[:200]}"
    if kind == "regex":
        import regex

        try:
            return "" if regex.fullmatch(structured[kind], text, timeout=_MATCH_S) else f"it does not match {structured[kind]}"
        except TimeoutError:
            return f"matching it against {structured[kind]} takes too long"
    if kind == "choice":
        return "" if text in structured[kind] else f"it is none of {', '.join(map(str, structured[kind]))}"
    return ""


def tidied(structured: Mapping[str, Any], text: str) -> str:
    """The answer without what models put around one: blanks, and a code fence around JSON."""
    kind = kind_of(structured)
    if kind in ("grammar", "tools"):
        return text
    bare = text.strip()
    if kind == "json_schema" and bare.startswith("```") and bare.endswith("```") and "\n" in bare:
        bare = bare[bare.index("\n") + 1 : -3].strip()
    return bare


def told(request: Request) -> Request:
    """The request with its form put into words, for a server that does not constrain."""
    words = in_words(request.structured or {})
    if request.messages:
        messages = [dict(m) for m in request.messages]
        last = messages[-1]
        if last.get("role") == "user" and isinstance(last.get("content"), str):
            messages[-1] = {**last, "content": f"{last['content']}\n\n{words}"}
        else:
            messages.append({"role": "user", "content": words})
        return replace(request, messages=tuple(messages))
    return request if request.prompt is None else replace(request, prompt=f"{request.prompt}\n\n{words}\n")


def asked_again(request: Request, answer: Completion, error: str, time: int) -> Request:
    """The next try: the wrong answer and what is wrong with it appended; a seed of its own. Input as token ids can only be drawn again."""
    complaint = f"That answer is not valid: {error}. {in_words(request.structured or {})}"
    seed = keyed_seed(request.seed, "asked again", time)
    if request.messages:
        more = ({"role": "assistant", "content": answer.text}, {"role": "user", "content": complaint})
        return replace(request, messages=(*request.messages, *more), seed=seed)
    if request.prompt is not None:
        return replace(request, prompt=f"{request.prompt}{answer.text}\n\n{complaint}\n", seed=seed)
    return replace(request, seed=seed)


def worded(request: Request, dialect: Dialect) -> tuple[Request, dict[str, Any]]:
    """How a request for a form is first asked: with what of the body constrains the answer, else with the form put into words.

    Raises Failed for a form that can neither be asked for nor checked.
    """
    wanted = request.structured or {}
    check(wanted)
    constrained = fields(wanted, dialect)
    return (request if constrained else told(request)), constrained


def judged(request: Request, asked: Request, answer: Completion, time: int, tries: int) -> Completion | Request:
    """What becomes of the answer to `asked`, which is how `request` was put the `time`-th time (0 = first): the answer in its form, or the request
    to ask next, or, after the last of `tries`, the answer as an error. The one rule for every engine that asks elsewhere."""
    wanted = request.structured
    if wanted is None:
        return replace(answer, key=request.key)
    text = tidied(wanted, answer.text)
    error = wrong(wanted, text)
    if not error:
        return replace(answer, key=request.key, text=text)
    if answer.finish == "length":
        error += f" (cut off at max_tokens = {request.sampling.max_tokens})"
    if time + 1 < tries:
        return asked_again(asked, answer, error, time)
    reason = f"the answer still has not the wanted form after {tries} tries: {error}"
    return replace(answer, key=request.key, finish="error", error=reason)


@lru_cache(maxsize=256)
def _validator(schema: str) -> Any:
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for

    loaded = json.loads(schema)
    kind = validator_for(loaded)
    try:
        kind.check_schema(loaded)
    except SchemaError as error:
        raise Failed(f"the JSON schema is wrong: {error.message}") from None
    return kind(loaded)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value")
