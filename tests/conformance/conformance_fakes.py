"""Small fakes of every protocol: an engine, a verifier, a world, environments and strategies, none of them with a model.

They are as awkward as the protocols allow (answers out of order, failures, images, judges that break), so that what passes with
them passes with the real ones.
"""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from data.ids import content_hash
from data.keyed import keyed_rng, keyed_seed
from data.records import (
    Candidate,
    Completion,
    Finish,
    Float32,
    Group,
    GroupEdit,
    LogProbs,
    PolicyVersion,
    Problem,
    Request,
    RolloutSpec,
    Turn,
    Verdict,
)
from generators.strategies.base import BaseStrategy, Online, RoundContext, StepContext

END, IMAGE = 256, 257
"""Token ids beside the 256 bytes: end of text, and the placeholder of one image."""

Answer = Callable[[Request, str], str]
"""(request, what the policy sees as text) -> what it says."""


def token_logp(tokens: Sequence[int] | np.ndarray) -> Float32:
    """The fake policy's log-prob of each token: a function of the token alone."""
    return (-0.1 - (np.asarray(tokens, np.int64) % 7) / 10).astype(np.float32)


class FakeEngine:
    """A byte-level policy that says what `answer` says, out of order, a few requests ahead of its input.

    `fails(request)` gives a reason for which this request fails. `order` keys the order of completion and nothing else.
    """

    def __init__(
        self, answer: Answer, *, order: int = 0, fails: Callable[[Request], str] = lambda r: "", images: bool = True, window: int = 4
    ) -> None:
        self.answer, self.order, self.fails, self.window = answer, order, fails, window
        self.capabilities = frozenset({"logprobs", "tokens", "score", "embed", "update"} | ({"images"} if images else set()))
        self.asked: list[Request] = []
        self.policy = "start"
        self.closed = False

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        rng = keyed_rng(self.order, "completion order", len(self.asked))
        waiting: list[Request] = []
        given: queue.Queue[Request | None] = queue.Queue(1)

        def feed() -> None:
            for request in requests:
                given.put(request)
            given.put(None)

        threading.Thread(target=feed, daemon=True).start()
        ended = False
        while waiting or not ended:
            try:
                # Held back for company, but not for ever: who asks may ask more once this is answered.
                request = None if ended else given.get(timeout=0.005 if waiting else None)
                ended = request is None
            except queue.Empty:
                request = None
            if request is not None:
                self.asked.append(request)
                waiting.append(request)
            if waiting and (request is None or len(waiting) >= self.window):
                yield self._complete(waiting.pop(int(rng.integers(len(waiting)))))

    def _complete(self, request: Request) -> Completion:
        prompt = self._prompt(request)
        why = self.fails(request) or ("this engine takes no images" if request.media and "images" not in self.capabilities else "")
        if why:
            none = np.empty(0, np.int32)
            return Completion(request.key, "", none, np.empty(0, np.float32), np.asarray(prompt, np.int32), "error", request.policy_id, why)
        tokens = [*self.encode(self.answer(request, self.decode(prompt))), END]
        finish: Finish = "stop"
        if len(tokens) > request.sampling.max_tokens:
            tokens, finish = tokens[: request.sampling.max_tokens], "length"
        sampled = np.asarray(tokens, np.int32)
        return Completion(
            request.key, self.decode(tokens), sampled, token_logp(sampled), np.asarray(prompt, np.int32), finish, request.policy_id, ms=1.0
        )

    def _prompt(self, request: Request) -> list[int]:
        if request.tokens:
            return list(request.tokens)
        images = [IMAGE] * len(request.media)
        return images + (self.render_chat(request.messages) if request.messages else self.encode(request.prompt or ""))

    def score(self, sequences: Iterable[tuple[str, Sequence[int]]]) -> Iterator[LogProbs]:
        for key, tokens in reversed(list(sequences)):
            logp = token_logp(tokens)
            logp[:1] = np.nan
            yield LogProbs(key, logp)

    def embed(self, texts: Sequence[str]) -> Float32:
        return np.asarray([[len(t), t.count(" "), sum(map(ord, t)) % 97] for t in texts], np.float32).reshape(len(texts), 3)

    def update(self, policy: PolicyVersion) -> None:
        self.policy = policy.id

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, tokens: Sequence[int]) -> str:
        return bytes(int(t) for t in tokens if t < END).decode(errors="replace")

    def render_chat(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        return self.encode("".join(f"<{m['role']}>{m['content']}" for m in messages) + "<assistant>")

    def close(self) -> None:
        self.closed = True


class CountVerifier:
    """The answer must hold the reference as often as it holds marks; abstains on "?", breaks on "!"."""

    name = "fake-count"

    def verify(self, problem: Problem, response: str) -> Verdict:
        if "!" in response:
            raise RuntimeError("this judge cannot stand exclamation marks")
        if "?" in response:
            return Verdict("unknown", 0.0, "the response is a question", self.name)
        right = response.count("#") > 0 and response.count(f"#{problem.reference}") == response.count("#")
        return Verdict("pass" if right else "fail", float(right), "counted", self.name)

    def check_problem(self, problem: Problem) -> str:
        return "" if problem.reference else "no reference"


class AdditionWorld:
    """`a + b` with two families; a problem's own hash decides its split."""

    name = "fake-addition"

    def families(self) -> tuple[str, ...]:
        return ("plain", "story")

    def levels(self) -> tuple[int, ...]:
        return (1, 2)

    def concepts(self, family: str) -> tuple[str, ...]:
        return ("addition",) if family == "plain" else ("addition", "reading")

    def make(self, family: str, level: int, index: int, *, seed: int, split: str) -> Problem:
        for attempt in range(1000):
            a, b = (int(n) for n in keyed_rng(seed, family, level, index, attempt).integers(0, 10 ** (level + 2), 2))
            if (keyed_seed(0, a, b) % 4 == 0) == (split == "heldout"):
                return self._problem(family, level, a, b, split)
        raise AssertionError("a split that is nearly empty")

    def _problem(self, family: str, level: int, a: int, b: int, split: str, name: str = "Ann") -> Problem:
        prompt = f"What is {a} + {b}?" if family == "plain" else f"{name} has {a} nuts and finds {b} more. How many nuts has {name}?"
        return Problem(
            prompt,
            str(a + b),
            domain=family,
            level=level,
            concepts=self.concepts(family),
            source="world",
            split="heldout" if split == "heldout" else "train",
            meta={"world": self.name, "a": a, "b": b},
        )

    def demonstration(self, problem: Problem) -> str:
        return f"{problem.meta['a']} + {problem.meta['b']} = {problem.reference}\n#### {problem.reference}"

    def paraphrase(self, problem: Problem, key: int) -> Problem | None:
        if problem.meta.get("world") != self.name or problem.domain != "story":
            return None
        return self._problem("story", problem.level, problem.meta["a"], problem.meta["b"], problem.split, ("Bob", "Cid", "Dora")[key % 3])

    def check_chain(self, problem: Problem, response: str) -> bool | None:
        if problem.meta.get("world") != self.name:
            return None
        return response == self.demonstration(problem)


class Calculator:
    """Environment: answers `calc(a + b)` at the end of a turn; anything else ends the conversation."""

    name = "fake-calculator"
    max_turns = 4

    def observe(self, problem: Problem, turns: Sequence[Turn]) -> str | None:
        asked = re.search(r"calc\((\d+) \+ (\d+)\)\s*\Z", turns[-1].text)
        return f"\n= {int(asked[1]) + int(asked[2])}\n" if asked else None


class HardCells(BaseStrategy):
    """Offline: one new problem per probed problem that was sometimes solved, up to the budget."""

    name = "fake-offline"

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        super().__init__(settings)
        self.proposed = 0

    def propose(self, ctx: RoundContext) -> Iterator[Candidate]:
        assert ctx.world is not None
        for row in ctx.difficulty.sort("problem_id").head(ctx.budget).iter_rows(named=True):
            problem = ctx.world.make(row["domain"], row["level"], self.proposed, seed=keyed_seed(ctx.seed, ctx.round, self.name), split="train")
            self.proposed += 1
            yield Candidate(problem, ctx.round, self.name, (row["problem_id"],), reason="sometimes solved")

    def state_dict(self) -> dict[str, Any]:
        return {"proposed": self.proposed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.proposed = int(state["proposed"])


class Variants(BaseStrategy):
    """Online, SvS's shape: waits for the main groups, rewrites the solved ones (a stream of its own, another estimator), then
    has the rewrites solved. Three waves; what each spec asks for depends on judged groups of the wave before."""

    name = "fake-variants"

    def online(self, ctx: StepContext) -> Online:
        groups = yield list(ctx.main)
        mixed = [g for g in groups if 0 < g.passes < len(g.rollouts)]
        if not mixed:
            return []
        rewrites = yield [
            RolloutSpec(g.problem, 2, ctx.sampling, "rewrite", estimator="reinforce", coef=0.5, prompt=f"rewrite: {g.problem.prompt}", refs=(g.id,))
            for g in mixed
        ]
        solvers = [
            RolloutSpec(Problem(rollout.text, g.problem.reference, g.problem.verifier), 2, ctx.sampling, "solve-rewrite", refs=(g.id, rollout.id))
            for g in rewrites
            for rollout in g.rollouts
        ]
        solved = yield solvers
        edits = [GroupEdit.add(g) for g in solved if not g.zero_variance]
        for g in rewrites:
            rewards = [float(next((s.passes > 0 for s in solved if s.refs[1] == r.id), False)) for r in g.rollouts]
            edits += [GroupEdit.add(g), GroupEdit.set_reward(g.id, rewards, "solvable rewrite")]
        return edits


class Gate(BaseStrategy):
    """Online, PEARL's shape: probes each main problem once, drops the hopeless before they are sampled, then asks for the
    rest and scales those that are nearly solved."""

    name = "fake-gate"
    gates_main = True

    def online(self, ctx: StepContext) -> Online:
        probes = yield [RolloutSpec(s.problem, 1, ctx.sampling, stream="probe", refs=(s.group_id,)) for s in ctx.main]
        hopeless = {g.refs[0] for g in probes if g.passes == 0}
        groups = yield [s for s in ctx.main if s.group_id not in hopeless]
        edits = [GroupEdit.scale(g.id, 0.5, "nearly solved") for g in groups if g.passes * 4 >= len(g.rollouts) * 3]
        return edits + [GroupEdit.drop(i, "hopeless") for i in sorted(hopeless)]


class DropsUnasked(BaseStrategy):
    """A gate that never asks for anything: it returns at once, dropping every main spec whose problem is marked."""

    name = "fake-drops"
    gates_main = True

    def online(self, ctx: StepContext) -> Online:
        return [GroupEdit.drop(s.group_id, "marked") for s in ctx.main if "marked" in s.problem.prompt]
        yield


class Continues(BaseStrategy):
    """Online: goes on from the middle of a failed main rollout."""

    name = "fake-continues"

    def online(self, ctx: StepContext) -> Online:
        groups = yield list(ctx.main)
        specs = []
        for g in groups:
            for rollout, verdict in zip(g.rollouts, g.verdicts, strict=True):
                if verdict.outcome == "fail":
                    offset = rollout.prompt_length + rollout.response_length // 2
                    specs.append(RolloutSpec(g.problem, 2, ctx.sampling, stream="branch", parent=rollout, offset=offset, refs=(rollout.id,)))
                    break
        branches = yield specs
        return [GroupEdit.add(g, "branch") for g in branches]


def image_hash(content: bytes) -> str:
    return content_hash("image", content.hex())


def group_facts(group: Group) -> tuple[Any, ...]:
    """What must be equal between two runs of one step."""
    answers = [(r.id, r.text) for r in group.rollouts]
    return (group.id, group.stream, group.estimator, group.coef, answers, group.rewards.tolist())
