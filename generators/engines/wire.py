"""The OpenAI wire form: a request as a JSON body, an answer's choice as a completion. Pure functions, no I/O."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from data.records import Completion, Finish, Request
from generators.engines.sending import Busy, Failed

Image = Callable[[str], bytes]  # content hash -> the bytes

_CUT_OFF = ("length", "max_tokens")


@dataclass(frozen=True)
class Dialect:
    """What one server understands and gives, as found by the probe."""

    vllm: bool = False  # top_k, structured_outputs and the like are understood
    seed: bool = True
    logprobs: bool = False
    processed: bool = False  # its log-probs are those of the tempered distribution that was sampled from
    token_ids: bool = False
    token_prompts: bool = False  # /completions takes token ids
    json_schema: bool = True  # response_format of type json_schema
    max_tokens: str = "max_tokens"  # or max_completion_tokens
    omit: frozenset[str] = frozenset()  # fields that the server refuses
    extra: Mapping[str, Any] = field(default_factory=dict)  # fields sent with every request

    def without(self, name: str) -> Dialect:
        """The dialect of a server that refuses the field `name`."""
        if name == "max_tokens":
            return replace(self, max_tokens="max_completion_tokens")
        known = {"seed": "seed", "logprobs": "logprobs", "return_token_ids": "token_ids", "response_format": "json_schema"}
        lost: dict[str, Any] = {known[name]: False} if name in known else {}
        return replace(self, omit=self.omit | {name}, **lost)


def chat_api(request: Request, api: str) -> bool:
    """Whether it goes to /chat/completions: conversations do, token ids cannot, a plain prompt goes where `api` says."""
    return bool(request.messages) or bool(request.media) or (api == "chat" and not request.tokens)


def body_of(request: Request, model: str, dialect: Dialect, *, chat: bool, image: Image | None = None, n: int = 1) -> dict[str, Any]:
    """The JSON body. Raises Failed where the server can't be asked this."""
    sampling = request.sampling
    body: dict[str, Any] = {"model": model, dialect.max_tokens if chat else "max_tokens": sampling.max_tokens, "temperature": sampling.temperature}
    if sampling.top_p != 1.0:
        body["top_p"] = sampling.top_p
    if sampling.top_k:
        if not dialect.vllm and "top_k" in dialect.omit:
            raise Failed("this endpoint does not know top_k, and answers drawn without it are not what was asked for; leave sampling.top_k at 0")
        body["top_k"] = sampling.top_k
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if dialect.seed:
        body["seed"] = request.seed
    if n > 1:
        body["n"] = n
    if dialect.token_ids:
        body["return_token_ids"] = True
    if chat:
        body["messages"] = messages_of(request, image)
        if dialect.logprobs:
            body["logprobs"] = True
    else:
        if request.tokens and not dialect.token_prompts:
            raise Failed("this endpoint takes no token ids as a prompt, so a conversation can't be continued from its tokens")
        body["prompt"] = list(request.tokens) if request.tokens else request.prompt
        if dialect.logprobs:
            body["logprobs"] = 0 if dialect.vllm else 1
    for name in dialect.omit & body.keys() - {"model", "messages", "prompt"}:
        del body[name]
    return {**body, **dialect.extra}


def messages_of(request: Request, image: Image | None = None) -> list[dict[str, Any]]:
    """The conversation; a prompt is its one user message. Images go before the text of the first user message, as data URLs."""
    messages = [dict(m) for m in request.messages] or [{"role": "user", "content": request.prompt}]
    if not request.media:
        return messages
    if image is None:
        raise Failed("the request has images and this engine was given no folder to read them from")
    parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": data_url(image(name))}} for name in request.media]
    at = next((i for i, m in enumerate(messages) if m.get("role") == "user"), None)
    if at is None:
        raise Failed("the request has images and no user message to put them into")
    content = messages[at].get("content") or ""
    parts += content if isinstance(content, list) else [{"type": "text", "text": content}]
    messages[at] = {**messages[at], "content": parts}
    return messages


_MAGIC = ((b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF8", "gif"), (b"RIFF", "webp"))


def data_url(content: bytes) -> str:
    """The bytes of an image as a data URL. Failed where they are no PNG, JPEG, GIF or WebP."""
    kind = next((name for magic, name in _MAGIC if content.startswith(magic)), "")
    if not kind:
        raise Failed("a medium is no PNG, JPEG, GIF or WebP image")
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def completions_of(
    answer: Mapping[str, Any], requests: Sequence[Request], dialect: Dialect, *, policy_id: str = "", ms: float = 0.0
) -> list[Completion]:
    """A completion per choice, paired with `requests` by choice index. Raises Busy for what is no answer, Failed for what was withheld."""
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices:
        raise Busy(f"the answer has no choices: {json.dumps(dict(answer))[:200]}")
    try:
        ordered = sorted(choices, key=lambda c: int(c.get("index") or 0))[: len(requests)]
        return [_completion(choice, answer, r, dialect, policy_id or r.policy_id, ms) for choice, r in zip(ordered, requests)]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise Busy(f"the answer has not the form of a completion ({type(error).__name__}: {error}): {json.dumps(dict(answer))[:200]}") from None


def _completion(choice: Mapping[str, Any], answer: Mapping[str, Any], request: Request, dialect: Dialect, policy_id: str, ms: float) -> Completion:
    message = choice.get("message")
    said = choice["text"] if message is None else _said(message)
    if not isinstance(said, str):
        raise TypeError(f"text is {type(said).__name__}")
    reason = choice.get("finish_reason") or "stop"
    if reason == "content_filter":
        raise Failed("the endpoint withheld the answer (content_filter)")
    tokens = _ids(choice.get("token_ids"))
    logp = np.full(len(tokens), np.nan, np.float32)
    given = choice.get("logprobs")
    if given and (dialect.processed or request.sampling.temperature == 1.0):
        values = given["token_logprobs"] if message is None else [entry["logprob"] for entry in given["content"] or ()]
        drawn = np.asarray([np.nan if v is None else v for v in values], np.float32)
        if not len(tokens) or len(drawn) == len(tokens):
            logp = drawn
    prompt = choice.get("prompt_token_ids")
    prompt = _ids(answer.get("prompt_token_ids") if prompt is None else prompt)
    if not len(prompt) and request.tokens:
        prompt = np.asarray(request.tokens, np.int32)
    finish: Finish = "length" if reason in _CUT_OFF else "stop"
    return Completion(request.key, said, tokens, logp if len(tokens) else logp[:0], prompt, finish, policy_id, ms=ms)


def _said(message: Mapping[str, Any]) -> Any:
    """Content, or the refusal in its place; tool calls as Hermes writes them, `<tool_call>{"name": …, "arguments": …}</tool_call>`."""
    text = message.get("content")
    if isinstance(text, list):  # parts
        text = "".join(part.get("text", "") for part in text)
    text = text or message.get("refusal") or ""
    calls = message.get("tool_calls") or ()
    return "\n".join([text] * bool(text) + [_call(call["function"]) for call in calls]) if calls else text


def _call(function: Mapping[str, Any]) -> str:
    given = function.get("arguments") or "{}"
    with contextlib.suppress(ValueError):  # the model's own broken JSON is kept as it stands, for a parser to judge
        given = json.loads(given) if isinstance(given, str) else given
    return f"<tool_call>{json.dumps({'name': function['name'], 'arguments': given}, ensure_ascii=False)}</tool_call>"


def _ids(values: Any) -> Any:
    if values is None:
        return np.empty(0, np.int32)
    ids = np.asarray(values, np.int64).reshape(-1)
    if len(ids) and (ids.min() < 0 or ids.max() > 0x7FFFFFFF):
        raise ValueError("a token id is out of range")
    return ids.astype(np.int32)


def usage_of(answer: Mapping[str, Any]) -> tuple[int, int]:
    """(prompt tokens, sampled tokens) as billed; zeros where the server does not say."""
    usage = answer.get("usage")
    if not isinstance(usage, Mapping):
        return 0, 0
    counted = (usage.get("prompt_tokens"), usage.get("completion_tokens"))
    return tuple(c if isinstance(c, int) and c > 0 else 0 for c in counted)  # type: ignore[return-value]


def gap_of(answer: Mapping[str, Any]) -> float | None:
    """Nats between the two likeliest first tokens, where the answer lists them (`top_logprobs`)."""
    try:
        given = answer["choices"][0]["logprobs"]
        listed = given["top_logprobs"][0].values() if "top_logprobs" in given else [t["logprob"] for t in given["content"][0]["top_logprobs"]]
        best, second = sorted(map(float, listed), reverse=True)[:2]
        return best - second
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        return None
