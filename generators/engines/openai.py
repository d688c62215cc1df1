"""Any OpenAI-compatible endpoint as an engine: what it understands and gives is found by asking it once."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import SynthError, UserError
from data.records import Completion, Float32, LogProbs, PolicyVersion, Request, Sampling
from generators.engines import structured
from generators.engines.base import Capabilities
from generators.engines.endpoints import Endpoints
from generators.engines.scheduler import Busy, Failed, Scheduler, Scheduling, Together
from generators.engines.wire import Dialect, body_of, chat_api, completions_of, gap_of, usage_of

_OPTIONAL = ("return_token_ids", "logprobs", "seed", "max_tokens", "response_format", "top_p", "temperature")
"""Fields that a server may refuse and that a request can do without, the least common first."""
_PROBE_S = 60.0
_TELLING = 0.05  # nats between the two likeliest tokens, below which halving the temperature shows nothing


class OpenAIEngine:
    """`url`: one base URL or several copies of one server. `model`: the name it is served under; "" = the only one it lists.

    `api`: where plain prompts go, `completions` (as they are) or `chat` (as a user message). Conversations and images always go to chat,
    token ids to completions. `key_env` names the environment variable with the key. `tokenizer`: a local folder, for servers that give no token ids
    and for multi-turn rollouts. `media`: the folder with images by content hash. `dialect`: what the server understands; None = ask it.
    `structured_tries`: answers asked for until one has the wanted form. `body`: fields added to every request.
    `group`: up to so many samples of one input share an HTTP request (`n`), which pays for their prompt once. Off (1) by default: a request's seed
    is a hash of its own, and no server takes a seed per choice (vLLM draws choice i of seed s as it would n=1 with seed s+i), so that a grouped
    answer is not the one that its request would get alone. Where the server has no seeds, nothing is lost by it.

    A completion's tokens are the server's own where it gives them, else the local tokenizer's (log-probs NaN), else none; its log-probs are those at
    the sampling temperature or NaN. Raises UserError where nobody answers, the key is refused or the model is not there.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        model: str = "",
        policy_id: str = "",
        api: str = "completions",
        key_env: str = "",
        key: str = "",
        tokenizer: str | Path = "",
        media: Path | None = None,
        dialect: Dialect | None = None,
        scheduling: Scheduling | None = None,
        structured_tries: int = 3,
        group: int = 1,
        body: Mapping[str, Any] | None = None,
    ) -> None:
        self.endpoints = Endpoints(url, key_env=key_env, key=key)
        self.model, self.policy_id, self.api, self.media = model, policy_id, api, media
        self.tokenizer_path = Path(tokenizer) if tokenizer else None
        self.structured_tries = structured_tries
        self.usage: dict[str, int] = {"prompt": 0, "sampled": 0}
        self.scheduler = Scheduler(scheduling)
        self._together = Together(_alike, self._ask_together, group) if group > 1 else None
        self.image = lru_cache(maxsize=64)(self._read_image)
        try:
            self.dialect = dialect or self.scheduler.call(self._probe(), timeout=_PROBE_S)
        except (Busy, Failed, TimeoutError) as error:
            self.close()
            reason = getattr(error, "reason", "") or f"no answer within {_PROBE_S:g} s"
            raise UserError(f"engine.openai.url {self.endpoints.address}: {reason}; start the endpoint or give its right address") from None
        except BaseException:
            self.close()
            raise
        if body:
            self.dialect = replace(self.dialect, extra={**self.dialect.extra, **body})
        self.capabilities: Capabilities = self._capabilities()

    # -- generation --------------------------------------------------------------------------------------------------

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """In completion order, while the input may still be open."""
        return self.scheduler.run(requests, self.send, together=self._together)

    def cancel(self, keys: Iterable[str]) -> None:
        """These end with finish "cancelled", on their way or not yet sent."""
        self.scheduler.cancel(keys)

    async def send(self, request: Request) -> Completion:
        """One request, asked as often as its form needs. On the scheduler's loop."""
        if request.structured is None:
            return await self._ask(request)
        asked, constrained = structured.worded(request, self.dialect)
        spent = (0, 0)
        for again in itertools.count():
            answer = await self._ask(asked, constrained)
            spent = (spent[0] + answer.usage[0], spent[1] + answer.usage[1])
            found = structured.judged(request, asked, answer, again, self.structured_tries)
            if isinstance(found, Completion):
                return replace(found, usage=spent)
            asked = found
        raise AssertionError("unreachable")

    async def _ask(self, request: Request, more: Mapping[str, Any] | None = None) -> Completion:
        chat = chat_api(request, self.api)
        if request.messages and not chat:
            raise Failed("conversations go to the chat API")
        body = body_of(request, self.model, self.dialect, chat=chat, image=self.image)
        if more:
            body.update(more)
        began = time.perf_counter()
        answer = await self.endpoints.post("chat/completions" if chat else "completions", body)
        ms = (time.perf_counter() - began) * 1e3
        completion = completions_of(answer, [request], self.dialect, policy_id=self.answered_by(answer, request), ms=ms)[0]
        return self.counted(completion, request, usage_of(answer))

    async def _ask_together(self, requests: Sequence[Request]) -> list[Completion]:
        first = requests[0]
        chat = chat_api(first, self.api)
        body = body_of(first, self.model, self.dialect, chat=chat, image=self.image, n=len(requests))
        began = time.perf_counter()
        answer = await self.endpoints.post("chat/completions" if chat else "completions", body)
        ms = (time.perf_counter() - began) * 1e3
        made = completions_of(answer, requests, self.dialect, policy_id=self.answered_by(answer, first), ms=ms)
        prompt, sampled = usage_of(answer)
        share, rest = divmod(sampled, len(made))  # the bill is for all of them: their prompt goes to the first, which had it read
        bills = [(0 if i else prompt, share + (i < rest)) for i in range(len(made))]
        return [self.counted(c, r, bill) for c, r, bill in zip(made, requests, bills)]

    def answered_by(self, answer: Mapping[str, Any], request: Request) -> str:
        """The policy id that the answer carries; an engine whose weights change says which ones it had."""
        return self.policy_id or request.policy_id

    def counted(self, completion: Completion, request: Request, usage: tuple[int, int]) -> Completion:
        """With what it cost, and the local tokenizer's tokens where the server gave none."""
        changes: dict[str, Any] = {"usage": usage}
        if self.tokenizer_path is not None and not len(completion.tokens) and completion.text:
            changes["tokens"] = np.asarray(self.encode(completion.text), np.int32)
            changes["logp"] = np.full(len(changes["tokens"]), np.nan, np.float32)
            if not len(completion.prompt_tokens):
                prompt = self.render_chat(request.messages) if request.messages else self.encode(request.prompt or "")
                changes["prompt_tokens"] = np.asarray(prompt, np.int32)
        self.usage["prompt"] += usage[0]
        self.usage["sampled"] += usage[1]
        return replace(completion, **changes)

    # -- what the endpoint can ---------------------------------------------------------------------------------------

    async def _probe(self) -> Dialect:
        """Its models, then one token with everything asked for; what it refuses is left out, one field after the other.

        A second token, drawn at half the temperature, tells whether its log-probs are those of the tempered distribution: then the gap between the
        two likeliest tokens doubles.
        """
        vllm = await self._look_up_model()
        dialect = Dialect(vllm=vllm, logprobs=True, token_ids=True)
        request = Request("", Sampling(max_tokens=1), seed=1, prompt="1")
        chat = chat_api(request, self.api)
        path = "chat/completions" if chat else "completions"
        while True:
            body = body_of(request, self.model, dialect, chat=chat)
            if dialect.logprobs:
                body["top_logprobs" if chat else "logprobs"] = 2
            try:
                answer = await self._patiently(path, body)
                break
            except Failed as refused:
                dialect = _milder(dialect, body, refused)
        first = completions_of(answer, [request], dialect)[0]
        gap, cooler = gap_of(answer), None
        if gap is not None and gap > _TELLING:
            cooler = gap_of(await self._patiently(path, {**body, "temperature": 0.5}))
        return replace(
            dialect,
            logprobs=bool(answer["choices"][0].get("logprobs")),
            processed=gap is not None and cooler is not None and abs(cooler - 2 * gap) < abs(cooler - gap),
            token_ids=len(first.tokens) > 0,
            token_prompts=vllm or not chat,
        )

    async def _look_up_model(self) -> bool:
        """Fills in the model's name where none was given; whether a vLLM serves it."""
        try:
            listed = (await self._patiently("models")).get("data")
            cards = {str(card["id"]): card for card in listed or () if isinstance(card, Mapping) and "id" in card}
        except (Failed, UserError):
            if not self.model:
                raise
            return False  # some endpoints list nothing; the probe itself will tell
        if not self.model:
            if len(cards) != 1:
                some = ", ".join(sorted(cards)[:5]) or "none"
                raise UserError(f"engine.openai.model: name one of the {len(cards)} models that {self.endpoints.address} serves ({some})")
            self.model = next(iter(cards))
        elif cards and self.model not in cards:
            raise UserError(f"engine.openai.model: {self.endpoints.address} serves no {self.model!r}; it serves {', '.join(sorted(cards)[:5])}")
        return str(cards.get(self.model, {}).get("owned_by", "")) == "vllm"

    async def _patiently(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A busy endpoint is asked again a few times; one where nobody listens is not."""
        import asyncio

        for wait in (0.2, 1.0, 3.0):
            try:
                return await (self.endpoints.get(path) if body is None else self.endpoints.post(path, body))
            except Busy as busy:
                if not busy.counts and not busy.load:
                    raise
                await asyncio.sleep(min(10.0, busy.retry_after or wait))
        return await (self.endpoints.get(path) if body is None else self.endpoints.post(path, body))

    def _capabilities(self) -> Capabilities:
        found = {"structured", "images"} if self.media else {"structured"}
        if self.dialect.token_ids:
            found.add("tokens")
            if self.dialect.logprobs:
                found.add("logprobs")
        return frozenset(found)

    def control(self, method: str, path: str, body: Mapping[str, Any] | None = None, *, timeout: float | None = 60.0) -> list[dict[str, Any]]:
        """Asks every copy of the server something beside generation (`/pause`, `/health`, …); the answers in the order of the URLs.

        Raises SynthError where one does not answer well.
        """

        async def ask() -> list[dict[str, Any]]:
            each = range(len(self.endpoints.copies))
            if method == "GET":
                return [await self.endpoints.get(path, copy=i) for i in each]
            return [await self.endpoints.post(path, body or {}, copy=i) for i in each]

        try:
            return self.scheduler.call(ask(), timeout)
        except (Busy, Failed, TimeoutError) as error:
            raise SynthError(f"{self.endpoints.address}{path}: {getattr(error, 'reason', '') or 'no answer in time'}") from None

    # -- tokens ------------------------------------------------------------------------------------------------------

    @cached_property
    def tokenizer(self) -> Any:
        if self.tokenizer_path is None:
            raise UserError("engine.openai.tokenizer: an endpoint has no tokenizer of its own; name a local folder with the model's tokenizer")
        from generators.engines.folder import open_folder

        return open_folder(self.tokenizer_path)[1]

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))

    def render_chat(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        text = self.tokenizer.apply_chat_template([dict(m) for m in messages], add_generation_prompt=True, tokenize=False)
        return self.encode(text)

    # -- what it can't -----------------------------------------------------------------------------------------------

    def score(self, sequences: Iterable[tuple[str, Sequence[int]]]) -> Iterator[LogProbs]:
        raise SynthError(f"{self.endpoints.address} gives no log-probs of given tokens; use the local or the vllm engine")

    def embed(self, texts: Sequence[str]) -> Float32:
        raise SynthError(f"{self.endpoints.address} is asked for text only; embeddings come from the local engine")

    def update(self, policy: PolicyVersion) -> None:
        if policy.round or policy.step:
            raise SynthError(f"the weights behind {self.endpoints.address} can't be changed from here; train with the local or the vllm engine")

    def close(self) -> None:
        """Cancels what is under way. Harmless twice."""
        self.scheduler.close(self.endpoints.close)

    def _read_image(self, name: str) -> bytes:
        if self.media is None or not name.isalnum():
            raise Failed(f"medium {name!r}: this engine was given no folder to read it from")
        found = sorted(self.media.glob(f"{name}*"))
        if not found:
            raise Failed(f"medium {name} is not in {self.media}")
        return found[0].read_bytes()


def _alike(request: Request) -> tuple[Any, ...] | None:
    """Equal for requests that differ in seed and index only; None for what is asked again and again until it has its form."""
    return None if request.structured is not None else (request.input_key, request.policy_id, *map(str, request.sampling.key()))


def _milder(dialect: Dialect, body: Mapping[str, Any], refused: Failed) -> Dialect:
    """Without the field that the refusal names, else the next that a server may not know. Raises the refusal where nothing is left to leave out."""
    sent = [name for name in _OPTIONAL if name in body and not (name == "max_tokens" and dialect.max_tokens != name)]
    named = [name for name in sent if name in refused.reason]
    if "max_tokens" in named and "max_completion_tokens" not in refused.reason:
        named.remove("max_tokens")
    rest = [name for name in sent if name in ("return_token_ids", "logprobs", "seed")]
    if not (named or rest):
        raise refused
    return dialect.without((named or rest)[0])
