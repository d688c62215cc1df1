"""vLLM as a server process of ours: token ids in, token ids out, each answer with the version of the weights that wrote it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import SynthError, UserError
from data.records import Completion, Float32, LogProbs, PolicyVersion, Request
from generators.engines.agreement import PURPOSE, Agreement
from generators.engines.base import Capabilities
from generators.engines.environment import find_python
from generators.engines.folder import end_tokens, open_folder, text_of
from generators.engines.openai import OpenAIEngine
from generators.engines.scheduler import Busy, Failed, Scheduling
from generators.engines.server import Server, ServerPlan
from generators.engines.stopping import cut_at_stop
from generators.engines.vllm_settings import ADAPTER, SERVED, VllmSettings, serve_command, server_environment
from generators.engines.weights import FolderHolder, HalfLoaded, Holder, Transfer, make_transfer, push, push_adapter, shared_folder, write_adapter
from generators.engines.wire import Dialect

GENERATE = "/inference/v1/generate"
CONTROL_S = 1800.0  # a pause waits for what is under way, weights of a large model take their time
_SCORE_WINDOW = 64
_DIALECT = Dialect(vllm=True, logprobs=True, processed=True, token_ids=True, token_prompts=True)


class VllmEngine(OpenAIEngine):
    """Serves the transformers folder `base` and holds `policy`: other weights of the same architecture are pushed into it, now and at every `update`.

    A server that dies is restarted, gets the weights it had, and what was under way is asked again. `log`: the server's log file.
    Raises UserError where vLLM or the folder is not there, SynthError where the server does not start (with the end of its log).
    """

    def __init__(
        self,
        base: str | Path,
        *,
        policy: PolicyVersion | None = None,
        policy_id: str = "",
        settings: VllmSettings | None = None,
        log: str | Path = "vllm.log",
        media: Path | None = None,
        scheduling: Scheduling | None = None,
    ) -> None:
        self._hold(base, policy or PolicyVersion(policy_id, str(base)), settings or VllmSettings())
        self._reviving: asyncio.Task[bool] | None = None
        python = find_python(self.settings.python)
        plan = ServerPlan(
            "vLLM",
            lambda port: serve_command(python, self.base, self.settings, port),
            Path(log).absolute(),
            server_environment(python, self.settings),
            key_variable="VLLM_API_KEY",
            startup_seconds=self.settings.startup_seconds,
            restarts=self.settings.restarts,
        )
        self.server = Server(plan, self._started)
        super().__init__(
            self.server.url, model=SERVED, tokenizer=self.base, media=media, dialect=_DIALECT, scheduling=scheduling, key=self.server.key
        )
        self.policy_id = self.held.id
        try:
            self.server.start()
            self.context = self._context()
            if Path(self.held.path).absolute() != self.base:
                self.agreement.check(self, FolderHolder(Path(self.held.path)))
        except BaseException:
            self.close()
            raise

    def _hold(self, base: str | Path, policy: PolicyVersion, settings: VllmSettings) -> None:
        """What it knows before anything is started."""
        self.settings = settings
        self.base = Path(base).absolute()
        self.config, self._tokenizer = open_folder(self.base)
        self._text = text_of(self._tokenizer)
        self.eos = end_tokens(self.base, self.config, self._tokenizer)
        self.held = policy
        self.agreement = Agreement(self.settings)
        self.seen: Sequence[int] = ()  # the first prompt asked
        self._transfer: Transfer | None = None
        self._asleep = 0
        self._adapted = False
        self._updating = threading.RLock()
        self._prompt_ids = lru_cache(maxsize=4096)(self._tokenized)
        self._shared: Any = None

    def _capabilities(self) -> Capabilities:
        found = {"logprobs", "tokens", "update", "structured"} | ({"images"} if self.media else set())
        # With adapters vLLM 0.32 dies of prompt log-probs as soon as two requests share a step (seen on a CPU).
        return frozenset(found if self.settings.lora_rank else found | {"score"})

    def _context(self) -> int:
        cards = self.control("GET", "models")[0]["data"]
        return int(next(card["max_model_len"] for card in cards if card["id"] == SERVED))

    # -- generation --------------------------------------------------------------------------------------------------

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        self._wake()
        return super().generate(requests)

    async def _ask(self, request: Request, more: Mapping[str, Any] | None = None) -> Completion:
        if request.policy_id and request.policy_id != self.policy_id:
            raise Failed(f"the request asks for policy '{request.policy_id}', this engine holds '{self.policy_id}'")
        if request.media or (more and "tools" in more):
            return await self._chat(request, more)
        prompt = self._prompt(request)
        self.seen = self.seen or tuple(prompt)
        began = time.perf_counter()
        answer = await self._post(GENERATE, self._body(request, prompt, more or {}))
        return self._completion(answer, request, prompt, (time.perf_counter() - began) * 1e3)

    async def _chat(self, request: Request, more: Mapping[str, Any] | None) -> Completion:
        """Through the chat API, which names no version: the server is asked for it."""
        completion = await super()._ask(request, more)
        version = (await self._post("/weight_info")).get("weight_version")
        if version != self.policy_id:
            raise Busy(f"vLLM answered with weights '{version}', not '{self.policy_id}'")
        return completion

    def _prompt(self, request: Request) -> list[int]:
        if request.tokens:
            prompt = list(request.tokens)
        else:
            try:
                prompt = self._prompt_ids(_Input(request))
            except Exception as error:  # noqa: BLE001  a bad request is data: chat templates raise errors of any type
                raise Failed(f"the input can't be turned into tokens: {error}") from None
        if not prompt:
            raise Failed("the prompt is empty; at least one token is needed")
        if len(prompt) >= self.context:
            raise Failed(f"the prompt has {len(prompt)} tokens and the context holds {self.context}: nothing is left to sample")
        return prompt

    def _tokenized(self, given: _Input) -> list[int]:
        request = given.request
        if request.messages:
            return self.render_chat(request.messages)
        return list(self._tokenizer(request.prompt, add_special_tokens=True)["input_ids"])

    def _body(self, request: Request, prompt: list[int], more: Mapping[str, Any]) -> dict[str, Any]:
        s = request.sampling
        if s.max_tokens < 1:
            raise Failed(f"max_tokens is {s.max_tokens}; at least 1 token has to be sampled")
        sampling: dict[str, Any] = {
            "temperature": s.temperature,
            "top_p": s.top_p,
            "top_k": s.top_k,
            "max_tokens": min(s.max_tokens, self.context - len(prompt)),
            "seed": request.seed & 0x7FFFFFFFFFFFFFFF,
            "logprobs": 0,
            "stop_token_ids": self.eos,
            "detokenize": bool(s.stop),  # the text is decoded here, as everywhere
        }
        if s.stop:
            sampling["stop"] = list(s.stop)
        if self.settings.anneal and request.purpose != PURPOSE:
            sampling["extra_args"] = {"anneal": list(self.settings.anneal)}
        if "structured_outputs" in more:
            sampling["structured_outputs"] = more["structured_outputs"]
        return {"model": ADAPTER if self._adapted else SERVED, "token_ids": prompt, "sampling_params": sampling}

    def _completion(self, answer: Mapping[str, Any], request: Request, prompt: list[int], ms: float) -> Completion:
        try:
            choice = answer["choices"][0]
            tokens = np.asarray(choice["token_ids"], np.int32)
            logp = np.asarray([entry["logprob"] for entry in choice["logprobs"]["content"]], np.float32)
            versions = {span["version"] for span in choice["weight_versions"] or ()}
            reason = choice["finish_reason"]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise Busy(f"vLLM's answer has not the form of a completion ({type(error).__name__}: {error})") from None
        wanted = request.policy_id or self.policy_id
        if versions - {wanted}:
            raise Busy(f"vLLM answered with weights '{', '.join(sorted(versions))}', not '{wanted}'")
        if len(tokens) != len(logp) or reason not in ("stop", "length"):
            raise Busy(f"vLLM's answer is cut short ({reason}, {len(tokens)} tokens, {len(logp)} log-probs)")
        text = self.decode(tokens.tolist())
        if request.sampling.stop and (cut := cut_at_stop(text, request.sampling.stop)) is not None:
            text, reason = cut, "stop"
        self.usage["prompt"] += len(prompt)
        self.usage["sampled"] += len(tokens)
        usage = len(prompt), len(tokens)
        return Completion(request.key, text, tokens, logp, np.asarray(prompt, np.int32), reason, wanted, ms=ms, usage=usage)

    # -- the server behind it ------------------------------------------------------------------------------------------

    async def _post(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Like `endpoints.post` (GET without a body), but a dead server is restarted and asked again. SynthError once it has died too often."""
        while True:
            seen = self.server.starts
            try:
                return await (self.endpoints.post(path, body) if body is not None else self.endpoints.get(path))
            except Busy as busy:
                if busy.load or not await self._revived(seen):
                    raise

    async def _revived(self, seen: int) -> bool:
        """Whether there is a new server; however many requests ask at once, one thread looks."""
        if self.server.starts == seen or not self.server.alive():
            if self._reviving is None or self._reviving.done():
                self._reviving = asyncio.create_task(asyncio.to_thread(self.server.revive, seen))
            return await asyncio.shield(self._reviving)
        return True

    def _started(self, server: Server) -> None:
        """A server just became ready with the base's weights: it gets what the engine holds before anybody asks it."""
        copy = self.endpoints.copies[0]
        copy.root, copy.url = server.url, f"{server.url}/v1"
        copy.well()
        self._transfer, self._asleep, self._adapted = None, 0, False
        if Path(self.held.path).absolute() == self.base:
            self.tell("POST", "/update_weight_version", {"new_version": self.held.id})
        elif not Path(self.held.path).is_dir():
            raise SynthError(f"the weights of policy {self.held.id} are gone ({self.held.path}), so that vLLM can't be given them again")
        else:
            self._give(self.held.id, FolderHolder(Path(self.held.path)))

    def tell(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One call of the server's control routes, some of which answer in plain words; SynthError where it is refused or nobody answers."""
        try:
            content = self.scheduler.call(self.endpoints.raw(method, path, json=dict(body or {})), CONTROL_S)
        except (Busy, Failed, TimeoutError) as error:
            raise SynthError(f"vLLM, {path}: {getattr(error, 'reason', '') or 'no answer in time'}") from None
        try:
            answer = json.loads(content)
        except ValueError:
            return {"said": content.decode("utf-8", "replace")}
        return answer if isinstance(answer, dict) else {"said": answer}

    # -- weights -------------------------------------------------------------------------------------------------------

    def update(self, policy: PolicyVersion, holder: Holder | None = None) -> None:
        """The weights of `holder` (the trainer; default: the folder `policy.path`) replace those served; requests under way end with the old ones.

        Then both are asked for the log-probs of the same tokens: SynthError where they disagree by more than the dtype explains.
        A server that dies meanwhile is restarted and given the new ones again.
        """
        source = holder or FolderHolder(Path(policy.path))
        with self._updating:
            self._ensure()
            for last in (False, True):
                try:
                    self._give(policy.id, source)
                    break
                except HalfLoaded:
                    self._discard()
                    if last:
                        raise
                    self._ensure()
            self.held, self.policy_id = policy, policy.id
            self.agreement.check(self, source)

    def _ensure(self) -> None:
        self.server.ensure()

    def _discard(self) -> None:
        """What holds half of two models answers nobody any more."""
        self.server.kill()

    def _give(self, version: str, holder: Holder) -> None:
        if self.settings.lora_rank:
            adapter = holder.adapter()
            if adapter is None:
                right = "set train.trainer.lora_rank too, or engine.vllm.lora_rank = 0"
                raise UserError(f"engine.vllm.lora_rank is set, but the trainer has no adapters; {right}")
            if self._shared is None:
                self._shared = shared_folder()
                self._adapters = self._shared.__enter__()
            self._wake_memory()
            push_adapter(self.tell, write_adapter(self._adapters / "adapter", *adapter, base=str(self.base)), version)
            self._adapted = True
            return
        if self._transfer is None:
            self._transfer = make_transfer(self.settings.backend, self.tell)
        push(self.tell, self._transfer, holder.weights(), version, asleep=self._asleep == 2)
        self._asleep = 0

    def rest(self) -> None:
        """Frees the GPU for the trainer, where the recipe says that they share it. The next `update` or request wakes it."""
        level = self.settings.sleep_level
        if level and not self._asleep:
            self.tell("POST", f"/sleep?level={level}&mode=wait")
            self._asleep = level

    def _wake_memory(self) -> None:
        if self._asleep:
            self.tell("POST", "/wake_up")
            self._asleep = 0

    def _wake(self) -> None:
        """Awake and holding its weights: level 2 forgot them."""
        with self._updating:
            if self._asleep == 2 and not self.settings.lora_rank:
                self._give(self.held.id, FolderHolder(Path(self.held.path)))
            else:
                self._wake_memory()

    # -- scoring and text ----------------------------------------------------------------------------------------------

    def score(self, sequences: Iterable[tuple[str, Sequence[int]]]) -> Iterator[LogProbs]:
        """Log-probs at temperature 1. UserError for a sequence that leaves no room for one more token in the context."""
        if "score" not in self.capabilities:
            raise SynthError("vLLM gives no log-probs of given tokens while it serves adapters (engine.vllm.lora_rank)")
        self._wake()
        source = iter(sequences)
        while window := list(islice(source, _SCORE_WINDOW)):
            for key, tokens in window:
                if len(tokens) >= self.context:
                    raise UserError(f"sequence {key} has {len(tokens)} tokens; vLLM scores up to {self.context - 1} of its context of {self.context}")

            async def all_of(part: Sequence[tuple[str, Sequence[int]]] = tuple(window)) -> list[LogProbs]:
                return await asyncio.gather(*(self._score(key, tokens) for key, tokens in part))

            try:
                yield from self.scheduler.call(all_of())
            except (Busy, Failed) as error:
                raise SynthError(f"vLLM could not score: {error}") from None

    async def _score(self, key: str, tokens: Sequence[int]) -> LogProbs:
        ids = [int(t) for t in tokens]
        out = np.full(len(ids), np.nan, np.float32)
        if len(ids) > 1:
            sampling = {"temperature": 1.0, "max_tokens": 1, "prompt_logprobs": 0, "detokenize": False}
            body = {"model": ADAPTER if self._adapted else SERVED, "token_ids": ids, "sampling_params": sampling}
            given = (await self._post(GENERATE, body))["prompt_logprobs"]
            out[1:] = [entry[str(t)]["logprob"] for entry, t in zip(given[1:], ids[1:], strict=True)]
        return LogProbs(key, out)

    def embed(self, texts: Sequence[str]) -> Float32:
        raise SynthError("a vLLM server that generates gives no embeddings; they come from the local engine")

    @property
    def tokenizer(self) -> Any:  # type: ignore[override]
        return self._tokenizer

    def decode(self, tokens: Sequence[int]) -> str:
        return self._text(list(tokens))

    def render_chat(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        if not self._tokenizer.chat_template:
            raise UserError(f"the policy in {self.base} has no chat template; give a prompt instead of messages")
        return list(self._tokenizer.apply_chat_template([dict(m) for m in messages], add_generation_prompt=True, tokenize=True, return_dict=False))

    def close(self) -> None:
        """Ends the requests under way, then the server and everything it started."""
        super().close()
        if self._transfer is not None:
            self._transfer.close()
            self._transfer = None
        self.server.stop()
        if self._shared is not None:
            self._shared.__exit__(None, None, None)
            self._shared = None


class _Input:
    """A request by its input alone, so that a group's prompt is tokenized once."""

    __slots__ = ("request",)

    def __init__(self, request: Request) -> None:
        self.request = request

    def __hash__(self) -> int:
        return hash(self.request.input_key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Input) and other.request.input_key == self.request.input_key
