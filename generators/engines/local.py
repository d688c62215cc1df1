"""The embedded engine: a transformers folder on this machine, with its own decode loop (`decode.py`).

Promise of sameness: one batch of the plan gives the same tokens and log-probs bit by bit on one host with one thread count.
A row's draws depend on its request's seed only, so another batching changes nothing but float noise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from data.errors import UserError
from data.records import Completion, Float32, LogProbs, PolicyVersion, Request
from generators.engines.base import Capabilities
from generators.engines.causal_lm import CausalLM
from generators.engines.decode import Decoder, Stopped, decode
from generators.engines.folder import end_tokens, load_weights, open_folder
from generators.engines.fused import FusedDecoder, fusible
from generators.engines.grammar_masks import Grammars, Masks
from generators.engines.sampling import DrawRule
from generators.engines.stopping import StopStrings, cut_at_stop

Progress = Callable[[int, int, int], None]
"""(rows done, rows in all, tokens sampled)"""

_LOGIT_COPIES = 4  # logits, log-probs and their float64 sum are alive at once
_PROMPTS_KEPT = 8192  # tokenized prompts that are remembered
_SCORE_TOKENS = 8192  # tokens forwarded at a time in `score` and `embed`
_SCORE_LOGITS = 1 << 25  # logit elements at a time in `score` (128 MiB in float32)


class LocalEngine:
    """Samples, scores and embeds with the weights of `path`, as policy `policy_id`.

    batch_rows: most rows in one decode batch; memory_bytes: what its KV cache and logits may take, which lowers the rows of long batches; None is
    1 GiB, on a GPU half of its memory. threads: torch's thread count for the process (None leaves it). device: "auto" is the first GPU where there
    is one. pooling: what `embed` takes of the last hidden states. Raises UserError for a folder that holds no model.
    """

    capabilities: Capabilities = frozenset({"logprobs", "tokens", "score", "embed", "update", "batches", "structured"})

    def __init__(
        self,
        path: str | Path,
        *,
        policy_id: str,
        threads: int | None = None,
        batch_rows: int = 512,
        model: str = "",
        dtype: Literal["float32", "float64", "bfloat16"] = "float32",
        device: Literal["cpu", "cuda", "auto"] = "cpu",
        memory_bytes: int | None = None,
        pooling: Literal["mean", "last"] = "mean",
        on_progress: Progress | None = None,
    ) -> None:
        if batch_rows < 1:
            raise UserError(f"batch_rows is {batch_rows}; a decode batch needs at least 1 row")
        if threads is not None:
            torch.set_num_threads(threads)
        self.path, self.policy_id, self.model = Path(path), policy_id, model
        self.batch_rows, self.pooling, self.on_progress = batch_rows, pooling, on_progress
        self.device = usable_device(device)
        self.memory_bytes = memory_bytes or (1 << 30 if self.device == "cpu" else torch.cuda.get_device_properties(0).total_memory // 2)
        self.config, self.tokenizer = open_folder(self.path)
        self.decoder: Decoder
        if fusible(self.config):
            self.decoder = FusedDecoder(self.config, load_weights(self.path), getattr(torch, dtype), self.device)
        else:
            self.decoder = CausalLM(self.path, self.config, getattr(torch, dtype), self.device)
        self.eos = end_tokens(self.path, self.config, self.tokenizer)
        self._stops: dict[tuple[str, ...], StopStrings] = {}
        self._pieces: list[str] = []
        self._masking: Grammars | None = None  # made by the first structured request
        self._prompts: dict[str, tuple[list[int], str]] = {}  # by input key

    # ---- generation

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Batch by batch in the plan's order; a key that is asked twice is answered once."""
        plan = self.batches(list(requests))
        total, done, tokens = sum(map(len, plan)), 0, 0
        report = self.on_progress
        for batch in plan:
            answers = self._batch(batch, None if report is None else lambda r, t, d=done, s=tokens: report(d + r, total, s + t))  # type: ignore[misc]
            done, tokens = done + len(batch), tokens + sum(len(a.tokens) for a in answers)
            yield from answers

    def batches(self, requests: Sequence[Request]) -> list[list[Request]]:
        """The plan: depends on the set of requests only, never on the order they came in.

        Groups (equal inputs) by (prompt length, input key), samples in a group by (index, seed, key); whole groups are
        packed up to the row limit, a group above it is split. The limit is `batch_rows`, or fewer where the caches would not fit `memory_bytes`.
        What can't be answered is a batch of its own, so that asking it again never costs its neighbours' tokens.
        """
        groups: dict[str, dict[str, Request]] = {}
        refused: dict[str, Request] = {}
        for r in requests:
            if self._refusal(r):
                refused[r.key] = r
            else:
                groups.setdefault(r.input_key, {}).setdefault(r.key, r)
        sized: list[tuple[int, str]] = []
        for key, group in groups.items():
            prompt, unusable = self._prompt(next(iter(group.values())))
            if unusable:
                refused.update(group)
            else:
                sized.append((len(prompt), key))
        plan = [sorted(refused.values(), key=_sample_order)] if refused else []
        full = bool(refused)  # nothing joins the refused
        longest = 0  # most tokens that a row of the open batch may sample
        for length, key in sorted(sized):
            members = sorted(groups[key].values(), key=_sample_order)
            own = max(self._limit(r, length) for r in members)
            wanted = max(longest, own)
            if plan and not full and len(plan[-1]) + len(members) <= self._rows_that_fit(length + wanted):
                plan[-1].extend(members)
                longest = wanted
            else:
                rows, longest, full = self._rows_that_fit(length + own), own, False
                plan += [members[a : a + rows] for a in range(0, len(members), rows)]
        return plan

    def generate_batch(self, batch: Sequence[Request]) -> list[Completion]:
        """One completion per request, in the batch's order; its numbers do not depend on that order."""
        report, total = self.on_progress, len(batch)
        return self._batch(batch, None if report is None else lambda r, t: report(r, total, t))

    def _batch(self, batch: Sequence[Request], on_step: Callable[[int, int], None] | None) -> list[Completion]:
        begun = time.perf_counter()
        answers: dict[str, Completion] = {}
        groups: dict[str, list[Request]] = {}
        prompts: dict[str, list[int]] = {}
        unusable: dict[str, str] = {}
        for r in sorted({r.key: r for r in batch}.values(), key=_sample_order):
            if r.input_key not in prompts:
                prompts[r.input_key], unusable[r.input_key] = self._prompt(r)
            if error := self._refusal(r) or unusable[r.input_key]:
                answers[r.key] = _failed(r, error, prompts[r.input_key])
            else:
                groups.setdefault(r.input_key, []).append(r)
        order = sorted(groups, key=lambda k: (prompts[k], k))  # prompts that begin alike stand side by side
        rows = [r for k in order for r in groups[k]]
        if rows:
            masks = Masks(self._grammars(), rows) if any(r.structured is not None for r in rows) else None
            drawn = decode(
                self.decoder,
                [prompts[k] for k in order],
                [len(groups[k]) for k in order],
                DrawRule.of([r.sampling for r in rows], self.decoder.vocab, self._wide(), self.device),
                np.array([r.seed & 0xFFFFFFFFFFFFFFFF for r in rows], np.uint64),
                np.array([self._limit(r, len(prompts[r.input_key])) for r in rows], np.int64),
                self.eos,
                self._stopped(rows),
                masks,
                on_step,
            )
            setup = (time.perf_counter() - begun) * 1e3 - max(drawn.ms)
            for i, (r, tokens, logp, finish, ms) in enumerate(zip(rows, drawn.tokens, drawn.logp, drawn.finish, drawn.ms)):
                if masks is not None and (error := masks.error(i)):
                    answers[r.key] = _failed(r, f"the reply left its grammar: {error}", prompts[r.input_key])
                    continue
                text = self.decode(tokens.tolist())
                if r.sampling.stop and (cut := cut_at_stop(text, r.sampling.stop)) is not None:
                    text, finish = cut, "stop"
                prompt = np.array(prompts[r.input_key], np.int32)
                answers[r.key] = Completion(r.key, text, tokens, logp, prompt, "stop" if finish == "stop" else "length", r.policy_id, ms=setup + ms)
        return [answers[r.key] for r in batch]

    def _prompt(self, request: Request) -> tuple[list[int], str]:
        """Prompt token ids, and why they can't be continued ("" where they can). Remembered: the plan and the batch both ask."""
        if (known := self._prompts.get(request.input_key)) is None:
            if len(self._prompts) >= _PROMPTS_KEPT:
                self._prompts.clear()
            known = self._prompts[request.input_key] = self._tokenized(request)
        return known

    def _tokenized(self, request: Request) -> tuple[list[int], str]:
        try:
            if request.tokens:
                prompt = list(request.tokens)
            elif request.messages:
                prompt = self.render_chat(request.messages)
            else:
                prompt = list(self.tokenizer(request.prompt, add_special_tokens=True, verbose=False)["input_ids"])
        except Exception as error:  # noqa: BLE001  a bad request is data: chat templates raise errors of any type
            return [], f"the input can't be turned into tokens: {error}"
        if not prompt:
            return prompt, "the prompt is empty; at least one token is needed"
        if len(prompt) >= self.decoder.context:
            return prompt, f"the prompt has {len(prompt)} tokens and the model's context holds {self.decoder.context}: nothing is left to sample"
        if min(prompt) < 0 or max(prompt) >= self.decoder.vocab:
            return prompt, f"the prompt holds a token outside the vocabulary of {self.decoder.vocab}"
        return prompt, ""

    def _refusal(self, request: Request) -> str:
        """Why this engine can't answer such a request, "" where it can."""
        if request.policy_id != self.policy_id:
            return f"the request asks for policy '{request.policy_id}', this engine holds '{self.policy_id}'"
        if request.media:
            return "this engine reads no images"
        if request.structured is not None and isinstance(error := self._grammars().compiled(request.structured), str):
            return error
        if request.sampling.max_tokens < 1:
            return f"max_tokens is {request.sampling.max_tokens}; at least 1 token has to be sampled"
        return ""

    def _grammars(self) -> Grammars:
        if self._masking is None:
            self._masking = Grammars(self.tokenizer, self.decoder.vocab, self.eos)
        return self._masking

    def _wide(self) -> torch.dtype:
        """The type of log-probs: float32 where the weights are shorter."""
        return torch.float32 if self.decoder.dtype.itemsize < 4 else self.decoder.dtype

    def _limit(self, request: Request, prompt: int) -> int:
        return max(1, min(request.sampling.max_tokens, self.decoder.context - prompt))

    def _rows_that_fit(self, columns: int) -> int:
        row = columns * self.decoder.kv_bytes + self.decoder.vocab * _LOGIT_COPIES * self._wide().itemsize
        return max(1, min(self.batch_rows, self.memory_bytes // row))

    def _stopped(self, rows: Sequence[Request]) -> Stopped | None:
        """The stop check of a batch, None where no request has stop strings."""
        kinds = {r.sampling.stop: self._stop_strings(r.sampling.stop) for r in rows if r.sampling.stop}
        if not kinds:
            return None
        of = [(rule, np.array([r.sampling.stop == stop for r in rows])) for stop, rule in kinds.items()]

        def stopped(numbers: NDArray[np.int64], tokens: NDArray[np.int32]) -> NDArray[np.bool_]:
            out = np.zeros(len(numbers), bool)
            for rule, mine in of:
                for j in np.flatnonzero(rule.completes[tokens[:, -1]] & mine[numbers]):
                    out[j] = rule.ends(tokens[j].tolist())
            return out

        return stopped

    def _stop_strings(self, stops: tuple[str, ...]) -> StopStrings:
        if stops not in self._stops:
            if not self._pieces:
                self._pieces = [self.decode([t]) for t in range(self.decoder.vocab)]
            self._stops[stops] = StopStrings(stops, self._pieces, self.tokenizer.all_special_ids, self.decode)
        return self._stops[stops]

    # ---- scoring and embedding

    def score(self, sequences: Iterable[tuple[str, Sequence[int]]]) -> Iterator[LogProbs]:
        """Log-probs at temperature 1; longest first within windows of 4096 sequences. Raises UserError for ids or lengths the model can't take."""
        window: list[tuple[str, list[int]]] = []
        for key, tokens in sequences:
            ids = [int(t) for t in tokens]
            if len(ids) > self.decoder.context or not all(0 <= t < self.decoder.vocab for t in ids):
                takes = f"up to {self.decoder.context} tokens with ids below {self.decoder.vocab}"
                raise UserError(f"sequence {key} has {len(ids)} tokens up to id {max(ids)}; the model takes {takes}")
            window.append((key, ids))
            if len(window) == 4096:
                yield from self._score(window)
                window = []
        yield from self._score(window)

    def _score(self, window: list[tuple[str, list[int]]]) -> Iterator[LogProbs]:
        yield from (LogProbs(key, np.empty(0, np.float32)) for key, ids in window if not ids)
        for part in _by_length([ids for _, ids in window]):
            with torch.inference_mode():  # never across a yield: the mode would leak into the consumer
                hidden = self.decoder.hidden(_right_padded([window[j][1] for j in part]))
                scored = [(window[j][0], self._logp(hidden[row], window[j][1])) for row, j in enumerate(part)]
            for key, logp in scored:
                yield LogProbs(key, logp)

    def _logp(self, hidden: torch.Tensor, ids: list[int]) -> Float32:
        """hidden [>= T, h], T ids -> float32[T], NaN first."""
        out = np.full(len(ids), np.nan, np.float32)
        step = max(1, _SCORE_LOGITS // self.decoder.vocab)
        for a in range(0, len(ids) - 1, step):
            b = min(a + step, len(ids) - 1)
            logits = self.decoder.head(hidden[a:b]).to(self._wide())
            target = torch.tensor(ids[a + 1 : b + 1], device=logits.device)
            out[a + 1 : b + 1] = (logits.gather(-1, target[:, None])[:, 0] - logits.logsumexp(-1)).cpu().numpy()
        return out

    def embed(self, texts: Sequence[str]) -> Float32:
        """Mean (or last) hidden state of each text, L2-normalised float32[n, d]; beyond the context a text is cut, an empty one is zeros."""
        ids = [self.encode(t)[: self.decoder.context] for t in texts]
        out = np.zeros((len(texts), self.config.hidden_size), np.float32)
        with torch.inference_mode():
            for part in _by_length(ids):
                hidden = self.decoder.hidden(_right_padded([ids[j] for j in part]))
                for row, j in enumerate(part):
                    if n := len(ids[j]):
                        pooled = hidden[row, :n].mean(0) if self.pooling == "mean" else hidden[row, n - 1]
                        out[j] = torch.nn.functional.normalize(pooled.float(), dim=0).cpu().numpy()
        return out

    # ---- weights and text

    def update(self, policy: PolicyVersion) -> None:
        """Reads `policy.path/model.safetensors` into the same architecture; the tokenizer stays. No cache outlives a batch, so none is stale."""
        self.decoder.load(load_weights(Path(policy.path)))
        self.policy_id = policy.id

    def encode(self, text: str) -> list[int]:
        """Without special tokens: for text that is put into a conversation."""
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def decode(self, tokens: Sequence[int]) -> str:
        return self.tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def render_chat(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        if not self.tokenizer.chat_template:
            raise UserError(f"the policy in {self.path} has no chat template; give a prompt instead of messages")
        return list(self.tokenizer.apply_chat_template([dict(m) for m in messages], add_generation_prompt=True, tokenize=True, return_dict=False))

    def close(self) -> None:
        """Nothing is held beyond memory."""


def usable_device(device: str) -> str:
    """"auto" -> "cuda" where torch sees a GPU, else "cpu". Raises UserError for a GPU that isn't there."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("engine.device is cuda, but torch sees no GPU here; use device = \"cpu\" or \"auto\"")
    return device


def _sample_order(request: Request) -> tuple[int, int, str]:
    return request.index, request.seed, request.key


def _failed(request: Request, error: str, prompt: Sequence[int] = ()) -> Completion:
    none = np.empty(0, np.int32), np.empty(0, np.float32)
    return Completion(request.key, "", *none, np.array(prompt, np.int32), "error", request.policy_id, error=error)


def _by_length(sequences: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Positions in parts of at most `_SCORE_TOKENS` padded tokens, longest first, so that little is padded."""
    order = sorted((j for j in range(len(sequences)) if len(sequences[j])), key=lambda j: (-len(sequences[j]), j))
    while order:
        n = max(1, _SCORE_TOKENS // len(sequences[order[0]]))
        yield order[:n]
        order = order[n:]


def _right_padded(sequences: Sequence[Sequence[int]]) -> torch.Tensor:
    widest = max(map(len, sequences))
    return torch.tensor([list(s) + [0] * (widest - len(s)) for s in sequences])
