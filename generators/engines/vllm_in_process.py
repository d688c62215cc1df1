"""vLLM inside this process, where the environment holds it: no server, no HTTP; the same requests, weights and checks.

For machines where one process must own the GPU. A crash of vLLM is a crash of the run; `synth resume` goes on.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import SynthError, UserError
from data.records import Completion, LogProbs, PolicyVersion, Request
from generators.engines import structured
from generators.engines.base import Capabilities
from generators.engines.environment import SIDE
from generators.engines.scheduler import Busy, Failed, _unanswered
from generators.engines.vllm import _DIALECT, VllmEngine
from generators.engines.vllm_settings import VllmSettings, engine_options, server_environment
from generators.engines.weights import FolderHolder

_BATCH = 512  # requests handed to vLLM at a time; it schedules within


class VllmInProcess(VllmEngine):
    """As `VllmEngine`, without streaming: a batch of up to 512 requests comes back when all of it is done."""

    def __init__(self, base: str | Path, *, policy: PolicyVersion | None = None, policy_id: str = "", settings: VllmSettings | None = None) -> None:
        self._hold(base, policy or PolicyVersion(policy_id, str(base)), settings or VllmSettings())
        self.policy_id, self.media, self.usage = self.held.id, None, {"prompt": 0, "sampled": 0}
        if self.settings.lora_rank:
            raise UserError("engine.vllm.in_process takes whole weights only; set engine.vllm.lora_rank = 0, or in_process = false")
        python = Path(sys.executable)
        around = server_environment(python, self.settings)
        before = dict(os.environ)
        os.environ.update({k: v for k, v in around.items() if k not in ("PATH", "PYTHONPATH")})
        sys.path.append(str(SIDE))
        try:
            from vllm import LLM

            self.llm = LLM(model=str(self.base), **engine_options(self.settings))
        except ImportError as error:
            raise UserError(f"engine.vllm.in_process needs vLLM in synth's own environment (pip install '.[vllm]'): {error}") from None
        finally:
            for name in ("LD_PRELOAD", "PYTHONPATH"):  # vLLM puts its own here, and every program that a verifier starts would load it
                os.environ.pop(name, None)
                if name in before:
                    os.environ[name] = before[name]
        self.capabilities: Capabilities = frozenset({"logprobs", "tokens", "score", "update", "structured"})
        self.context = int(self.llm.llm_engine.model_config.max_model_len)
        if Path(self.held.path).absolute() == self.base:
            self.llm.update_weight_version(self.held.id)
        else:
            self._give(self.held.id, FolderHolder(Path(self.held.path)))
            self.agreement.check(self, FolderHolder(Path(self.held.path)))

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        self._wake()
        source = iter(requests)
        while batch := list(islice(source, _BATCH)):
            yield from self._batch(batch)

    def _batch(self, batch: Sequence[Request]) -> Iterator[Completion]:
        asked: list[tuple[Request, list[int], dict[str, Any]]] = []
        for request in batch:
            try:
                if request.policy_id and request.policy_id != self.policy_id:
                    raise Failed(f"the request asks for policy '{request.policy_id}', this engine holds '{self.policy_id}'")
                if request.media:
                    raise Failed("vLLM in this process is asked for text only")
                prompt = self._prompt(request)
                more = structured.fields(request.structured, _DIALECT) if request.structured is not None else {}
                asked.append((request, prompt, self._body(request, prompt, more)["sampling_params"]))
            except Failed as failed:
                yield _unanswered(request, "error", failed.reason)
        if not asked:
            return
        self.seen = self.seen or tuple(asked[0][1])
        began = time.perf_counter()
        outputs = self._run([prompt for _, prompt, _ in asked], [sampling for _, _, sampling in asked])
        ms = (time.perf_counter() - began) * 1e3
        version = self.llm.get_weight_version()
        for (request, prompt, _), output in zip(asked, outputs, strict=True):
            one = output.outputs[0]
            content = [{"logprob": entry[t].logprob} for t, entry in zip(one.token_ids, one.logprobs or (), strict=True)]
            choice = {
                "token_ids": list(one.token_ids),
                "logprobs": {"content": content},
                "finish_reason": one.finish_reason,
                "weight_versions": [{"version": version}],
            }
            try:
                yield self._completion({"choices": [choice]}, request, prompt, ms)
            except Busy as wrong:
                yield _unanswered(request, "error", wrong.reason)

    def _run(self, prompts: Sequence[list[int]], samplings: Sequence[Mapping[str, Any]]) -> list[Any]:
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        def params(sampling: Mapping[str, Any]) -> Any:
            given = dict(sampling)
            if "structured_outputs" in given:
                given["structured_outputs"] = StructuredOutputsParams(**given["structured_outputs"])
            return SamplingParams(**given)

        return list(self.llm.generate([{"prompt_token_ids": p} for p in prompts], [params(s) for s in samplings], use_tqdm=False))

    def score(self, sequences: Iterable[tuple[str, Sequence[int]]]) -> Iterator[LogProbs]:
        self._wake()
        source = iter(sequences)
        while window := [(key, [int(t) for t in tokens]) for key, tokens in islice(source, _BATCH)]:
            for key, tokens in window:
                if len(tokens) >= self.context:
                    raise UserError(f"sequence {key} has {len(tokens)} tokens; vLLM scores up to {self.context - 1} of its context of {self.context}")
            long = [(key, tokens) for key, tokens in window if len(tokens) > 1]
            rule = {"temperature": 1.0, "max_tokens": 1, "prompt_logprobs": 0, "detokenize": False}
            yield from (LogProbs(key, np.full(len(tokens), np.nan, np.float32)) for key, tokens in window if len(tokens) < 2)
            for (key, tokens), output in zip(long, self._run([t for _, t in long], [rule] * len(long)) if long else [], strict=True):
                logp = [np.nan, *(entry[t].logprob for entry, t in zip(output.prompt_logprobs[1:], tokens[1:], strict=True))]
                yield LogProbs(key, np.asarray(logp, np.float32))

    def cancel(self, keys: Iterable[str]) -> None:
        """A batch runs to its end."""

    def tell(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The server's control routes, called directly."""
        given = dict(body or {})
        name, _, query = path.lstrip("/").partition("?")
        match name:
            case "pause" | "resume":  # between two batches nothing runs
                return {}
            case "init_weight_transfer_engine" | "update_weights":
                getattr(self.llm, name)(given)
            case "start_weight_update":
                self.llm.start_weight_update()
            case "finish_weight_update":
                self.llm.finish_weight_update(**given)
            case "reset_prefix_cache":
                return {"success": bool(self.llm.reset_prefix_cache())}
            case "sleep":
                self.llm.sleep(level=int(query[len("level=") :].partition("&")[0]))
            case "wake_up":
                self.llm.wake_up([query.removeprefix("tags=")] if query else None)
            case "get_world_size":
                return {"world_size": self.settings.tensor_parallel * self.settings.data_parallel}
            case _:
                raise SynthError(f"vLLM in this process has no {path}")
        return {}

    def _ensure(self) -> None:
        pass

    def _discard(self) -> None:
        raise SynthError("new weights did not reach vLLM and it runs in this process, so that it can't be restarted; go on with `synth resume`")

    def close(self) -> None:
        if self._transfer is not None:
            self._transfer.close()
            self._transfer = None
        shutdown = getattr(self.llm.llm_engine.engine_core, "shutdown", None)
        if shutdown is not None:
            shutdown()
