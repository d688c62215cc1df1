"""Structured outputs of the embedded engine: whatever the model knows, every reply has the form asked for, also where its tokens run out."""

import json
import re
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_generators_engine_local import asked, model_into, reference, same

from data.records import Completion, Request, Sampling
from generators.engines.grammar_masks import Grammar, Grammars, Masks
from generators.engines.local import LocalEngine
from generators.engines.sampling import DrawRule, draw
from tests.benchmarks.bench_engine import SCHEMA

SEED_POLICY = Path(__file__).parents[2] / "data" / "policies" / "arithmetic"  # knows no JSON


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> LocalEngine:
    torch.set_num_threads(1)
    return LocalEngine(model_into(tmp_path_factory.mktemp("policy"), context=256, eos=(0, 1)), policy_id="p", threads=1)


@pytest.fixture(scope="module")
def seed_policy() -> LocalEngine:
    torch.set_num_threads(1)
    return LocalEngine(SEED_POLICY, policy_id="p", threads=1)


def replies(engine: LocalEngine, structured: dict, n: int = 12, **sampling) -> list[Completion]:
    rule = Sampling(**{"max_tokens": 60, **sampling})
    return list(engine.generate([Request("p", rule, seed=i, index=i, prompt="3+4=", structured=structured) for i in range(n)]))


def shortest(engine: LocalEngine, structured: dict) -> int:
    grammar = engine._grammars().compiled(structured)
    assert isinstance(grammar, Grammar) and grammar.shortest
    return len(grammar.shortest)


def valid(reply: Completion, schema: dict) -> bool:
    assert reply.finish == "stop", (reply.finish, reply.text, reply.error)
    jsonschema.validate(json.loads(reply.text), schema)
    return True


@pytest.mark.parametrize("kind, value, form", [
    ("regex", "[a-z]{2,4}(-[0-9]{3}){1,2}", "[a-z]{2,4}(-[0-9]{3}){1,2}"),
    ("choice", ["yes", "no", 'a "quoted" + text', "né"], 'yes|no|a "quoted" \\+ text|né'),
    ("grammar", 'start: "<" INNER ">"\nINNER: /[0-9]{1,3}/', "<[0-9]{1,3}>"),  # Lark
    ("grammar", 'root ::= "<" [0-9] ("," [0-9])* ">"', "<[0-9](,[0-9])*>"),  # GBNF
])
@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_each_kind_of_structure_is_kept(engine, kind, value, form, temperature):
    got = replies(engine, {kind: value}, temperature=temperature)
    assert all(c.finish == "stop" and re.fullmatch(form, c.text) for c in got), [c.text for c in got]
    assert temperature == 0 or len({c.text for c in got}) > 1


def test_log_probs_are_those_of_the_masked_distribution(engine):
    """Oracle: transformers' logits over the ten digits; the second digit of a pattern that fixes it is certain, and so is the end."""
    model, digits = reference(engine.path), [engine.encode(d)[0] for d in "0123456789"]
    for c in replies(engine, {"regex": "[0-9]x"}, temperature=0.7):
        with torch.no_grad():
            logits = model(torch.tensor(c.prompt_tokens[None]).long()).logits[0, -1, digits]
        want = (logits / 0.7).log_softmax(-1)[digits.index(c.tokens[0])]
        assert c.logp[0] == pytest.approx(float(want), abs=1e-4)
        assert not c.logp[1] and len(c.tokens) == 3
        assert c.tokens[2] in (0, 1) and c.logp[2] < 0  # either of the model's ends may be drawn


def test_rows_without_a_structure_keep_their_bits(engine):
    logits = torch.randn(6, engine.decoder.vocab, generator=torch.Generator().manual_seed(0))
    rule, uniform = DrawRule.of([Sampling()] * 6, engine.decoder.vocab), torch.rand(6, dtype=torch.float64)
    requests = [replace(r, structured={"choice": ["a", "b"]} if i % 2 else None) for i, r in enumerate(asked(n=1)[:6])]
    masked, odd = logits.clone(), np.array([1, 3, 5])
    Masks(engine._grammars(), requests).forbid(masked, odd, odd, np.array([9, 9, 9]))
    (want, want_logp), (got, got_logp) = draw(logits, uniform, rule), draw(masked, uniform, rule)
    assert torch.equal(want[::2], got[::2]) and torch.equal(want_logp[::2], got_logp[::2])
    assert torch.isinf(masked[1::2]).sum() == 3 * (engine.decoder.vocab - 2) and {engine.decode([int(t)]) for t in got[1::2]} <= {"a", "b"}


def test_structured_and_free_rows_share_a_batch_and_repeat_bit_by_bit(engine):
    requests = asked(n=2, max_tokens=30)
    mixed = requests + [replace(r, structured={"json_schema": SCHEMA}, sampling=Sampling(max_tokens=70)) for r in requests]
    assert len(engine.batches(mixed)) == 1
    first = {c.key: c for c in engine.generate(mixed)}
    assert all(same(c, first[c.key]) for c in engine.generate(mixed[::-1]))
    alone = {c.key: c for c in engine.generate(requests)}
    assert all(first[k].tokens.tolist() == c.tokens.tolist() for k, c in alone.items())
    assert all(valid(first[r.key], SCHEMA) for r in mixed[len(requests) :])


def test_a_reply_ends_in_time_however_few_tokens_it_has(engine):
    least = shortest(engine, {"json_schema": SCHEMA})
    for most in (least, least + 1, least + 2, least + 9):
        got = replies(engine, {"json_schema": SCHEMA}, max_tokens=most)
        assert all(valid(c, SCHEMA) and len(c.tokens) <= most for c in got)
    cut = replies(engine, {"json_schema": SCHEMA}, max_tokens=least // 2)  # no room for any: cut off, and it says so
    assert {c.finish for c in cut} == {"length"}


def test_a_branch_that_leaves_no_room_is_not_entered(engine):
    """A hot random model enters both branches; the long one takes more tokens than there are."""
    long = {"type": "object", "properties": {f"key{i}": {"type": "integer"} for i in range(12)}, "required": [f"key{i}" for i in range(12)]}
    schema = {"anyOf": [{"type": "integer"}, long]}
    roomy = replies(engine, {"json_schema": schema}, n=40, max_tokens=200, temperature=5.0)
    tight = replies(engine, {"json_schema": schema}, n=40, max_tokens=20, temperature=5.0)
    assert all(valid(c, schema) for c in roomy + tight)
    assert any(c.text[0] == "{" for c in roomy) and not any(c.text[0] == "{" for c in tight)


_leaves = st.sampled_from([
    {"type": "integer"}, {"type": "number"}, {"type": "boolean"}, {"type": "null"}, {"type": "string"},
    {"type": "string", "minLength": 3, "maxLength": 5}, {"type": "string", "pattern": "^[A-Z]{2}-[0-9]+$"},
    {"enum": ["x", "long word", 3]}, {"const": "k"}, {"type": "integer", "minimum": 120, "maximum": 990},
])


def _wider(inner):
    arrays = st.builds(lambda i, a, b: {"type": "array", "items": i, "minItems": a, "maxItems": a + b}, inner, st.integers(0, 2), st.integers(0, 2))
    objects = st.builds(
        lambda fields, n: {"type": "object", "properties": fields, "required": sorted(fields)[:n], "additionalProperties": False},
        st.dictionaries(st.sampled_from(["a", "b", "other"]), inner, min_size=1), st.integers(0, 3))
    return arrays | objects | st.builds(lambda a, b: {"anyOf": [a, b]}, inner, inner)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.recursive(_leaves, _wider, max_leaves=5), st.integers(0, 40))
def test_any_schema_is_kept_in_any_room(engine, schema, spare):
    most = shortest(engine, {"json_schema": schema}) + spare
    assert all(valid(c, schema) for c in replies(engine, {"json_schema": schema}, n=4, max_tokens=most))


@pytest.mark.parametrize("structured, reason", [
    ({"type": "object"}, "exactly one of json_schema, regex, choice, grammar, got type"),
    ({"regex": "a", "choice": ["b"]}, "got regex, choice"),
    ({}, "got nothing"),
    ({"json_schema": {"type": "strin"}}, "strin"),
    ({"json_schema": 3}, "json_schema is a int"),
    ({"regex": "a(b"}, "unclosed group"),
    ({"regex": ["a"]}, "regex is a list"),
    ({"choice": []}, "one or more texts"),
    ({"choice": "yes"}, "one or more texts"),
    ({"grammar": "start: missing"}, "missing"),
])
def test_a_structure_that_cannot_be_followed_is_an_error_that_says_why(engine, structured, reason):
    (good,) = asked(["fine"], n=1)
    wrong = replace(good, structured=structured)
    got = {c.key: c for c in engine.generate([wrong, good])}
    assert got[wrong.key].finish == "error" and reason in got[wrong.key].error and "\n" not in got[wrong.key].error
    assert got[good.key].finish in ("stop", "length")


def test_a_walk_to_the_end_leaves_loops(seed_policy):
    """`(abc)*d`: greedy by rank it would turn in the loop for ever."""
    grammars: Grammars = seed_policy._grammars()
    for pattern in ("(abc)*d", "(a|b)*z", "[a-z]+@[a-z]+[.]com", "[0-9]{10}"):
        grammar = grammars.compiled({"regex": pattern})
        assert isinstance(grammar, Grammar) and grammar.shortest is not None
        assert re.fullmatch(pattern, seed_policy.decode(grammar.shortest)) and grammar.shortest[-1] in seed_policy.eos


def structured_replies(engine: LocalEngine, n: int) -> tuple[list[Completion], dict]:
    room = np.random.default_rng(0).integers(shortest(engine, {"json_schema": SCHEMA}), 97, n)
    form = {"json_schema": SCHEMA}
    asking = [({"role": "user", "content": f"{i // 8} + 4 = ?"},) for i in range(n)]
    requests = [Request("p", Sampling(max_tokens=int(room[i])), seed=i, index=i % 8, messages=asking[i], structured=form) for i in range(n)]
    return list(engine.generate(requests)), SCHEMA


def test_the_seed_policy_writes_valid_json(seed_policy):
    got, schema = structured_replies(seed_policy, 48)
    assert sum(valid(c, schema) for c in got) == 48


@pytest.mark.slow
def test_a_thousand_replies_of_the_seed_policy_are_valid_json(seed_policy):
    got, schema = structured_replies(seed_policy, 1000)
    assert sum(valid(c, schema) for c in got) == 1000
