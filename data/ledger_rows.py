"""Requests and completions as rows of the ledger, and back; arrays as little-endian bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from data.records import Completion, Request, Sampling
from data.tables import sampling_json
from data.text import storable, storable_json

ANSWER = "key, text, tokens, logp, prompt_tokens, finish, answered_by, error, ms, usage_in, usage_out"
"""Columns that `completion_of` takes, in its order."""

_INT32, _FLOAT32 = np.dtype("<i4"), np.dtype("<f4")


@lru_cache(maxsize=64)
def _sampling(sampling: Sampling) -> str:
    return sampling_json(sampling)


def request_json(request: Request) -> str:
    """What a human wants to see of a request: its one input, the sampling, seed and index; canonical JSON."""
    given: dict[str, Any] = {"seed": request.seed, "index": request.index}
    if request.prompt is not None:
        given["prompt"] = request.prompt
    if request.messages:
        given["messages"] = [dict(m) for m in request.messages]
    if request.tokens:
        given["tokens"] = list(request.tokens)
    if request.media:
        given["media"] = list(request.media)
    if request.structured is not None:
        given["structured"] = dict(request.structured)
    # "sampling" sorts between all of these and the rest: of a run's many requests it is one and the same text, made once.
    before = {k: v for k, v in given.items() if k < "sampling"}
    after = {k: v for k, v in given.items() if k > "sampling"}
    return f'{storable_json(before)[:-1]},"sampling":{_sampling(request.sampling)},{storable_json(after)[1:]}'


def request_from_row(row: Mapping[str, Any]) -> Request:
    """The request that a row of `requests` tells of; its key is the row's."""
    given = json.loads(row["request"])
    sampling = given["sampling"]
    return Request(
        policy_id=row["policy_id"],
        sampling=Sampling(**{**sampling, "stop": tuple(sampling["stop"])}),
        seed=given["seed"],
        index=given["index"],
        prompt=given.get("prompt"),
        messages=tuple(given.get("messages", ())),
        tokens=tuple(given.get("tokens", ())),
        media=tuple(given.get("media", ())),
        model=row["model"],
        purpose=row["purpose"],
        problem_id=row["problem_id"],
        structured=given.get("structured"),
    )


def asked_row(request: Request, now: float) -> tuple[Any, ...]:
    """key, model, policy id, purpose, problem id, request (JSON), seconds since the epoch."""
    return (request.key, request.model, request.policy_id, request.purpose, request.problem_id, request_json(request), now)


def answered_row(completion: Completion, now: float) -> tuple[Any, ...]:
    """Key, state, text, finish, error, the three arrays, answered by, ms, billed tokens in and out, seconds since the epoch, 1 for an error."""
    c, failed = completion, completion.finish == "error"
    said = (c.key, "failed" if failed else "done", storable(c.text), c.finish, storable(c.error))
    blobs = (_bytes(c.tokens, _INT32), _bytes(c.logp, _FLOAT32), _bytes(c.prompt_tokens, _INT32))
    return (*said, *blobs, c.policy_id, c.ms, *c.usage, now, int(failed))


def completions_of(rows: Sequence[tuple[Any, ...]]) -> Iterator[Completion]:
    """From the columns `ANSWER`. Rows looked up together share one buffer, which takes a third of the time that buffers of their own do."""
    tokens = _sliced([row[2] for row in rows], _INT32)
    logp = _sliced([row[3] for row in rows], _FLOAT32)
    prompts = _sliced([row[4] for row in rows], _INT32)
    for (key, text, _, _, _, finish, policy_id, error, ms, *usage), t, p, q in zip(rows, tokens, logp, prompts):
        yield Completion(key, text, t, p, q, finish, policy_id, error, ms, (usage[0], usage[1]))


def _sliced(blobs: Sequence[bytes | None], kind: np.dtype[Any]) -> Iterator[Any]:
    """An array for each blob, none of which overlap; they may be written to."""
    given = [blob or b"" for blob in blobs]
    whole, end = np.frombuffer(bytearray(b"".join(given)), kind), 0
    for blob in given:
        start, end = end, end + len(blob) // kind.itemsize
        yield whole[start:end]


def int32s(blob: bytes | None) -> Any:
    """int32[n], a copy of its own that may be written to."""
    return np.frombuffer(bytearray(blob or b""), _INT32)


def float32s(blob: bytes | None) -> Any:
    """float32[n], likewise."""
    return np.frombuffer(bytearray(blob or b""), _FLOAT32)


def _bytes(values: Any, kind: np.dtype[Any]) -> bytes:
    return np.ascontiguousarray(values, dtype=kind).tobytes()
