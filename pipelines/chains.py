"""Is the chain behind a right answer right, too? What CoT-Pass@k counts (Wen et al., arXiv 2506.14245, section 3).

programs: the world's own step checker where the problem is its, else every arithmetic equality that the response states, computed exactly
(the `process` verifier's first mode). Where nothing can be checked the answer is None: unknown is neither right nor wrong.
model: `votes` answers of the run's policy to "which step is the first wrong one?", counted by `rule` (the paper's any, all, majority).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from data.records import Problem, Sampling
from filters.verifiers.asking import Wish, ask, question
from filters.verifiers.base import Tools
from filters.verifiers.process import first_false_claim, read_index, steps_of
from generators.worlds.base import World
from pipelines.evaluate import VoteRule, chain_holds

JUDGE_TOKENS = 1024


@dataclass(frozen=True)
class ChainJudge:
    """How chains are judged in one evaluation. `tools` is asked in mode `model` only."""

    mode: str  # programs | model | none
    world: World | None
    tools: Tools
    votes: int = 3
    rule: VoteRule = "majority"
    temperature: float = 0.7

    def passes(self, problem: Problem, responses: Sequence[str], passed: Sequence[bool]) -> int | None:
        """How many of the passing responses have a right chain; None where that cannot be told of every one of them."""
        right = [text for text, ok in zip(responses, passed, strict=True) if ok]
        if self.mode == "none":
            return None
        said = self._asked(problem, right) if self.mode == "model" else [self._checked(problem, text) for text in right]
        return None if None in said else sum(map(bool, said))

    def _checked(self, problem: Problem, response: str) -> bool | None:
        if self.world is not None and (known := self.world.check_chain(problem, response)) is not None:
            return known
        index, _, checked = first_false_claim(steps_of(response))
        return False if index >= 0 else True if checked else None

    def _asked(self, problem: Problem, responses: Sequence[str]) -> list[bool | None]:
        """Votes that cannot be read say nothing; where none can be read, nobody knows."""
        steps = [steps_of(text) for text in responses]
        questions = [question("first_error", problem=problem, steps=s) for s in steps]
        sampling = Sampling(temperature=self.temperature, max_tokens=JUDGE_TOKENS)
        answers = ask(self.tools, [Wish((q,), sampling, self.votes) for q in questions])
        said: list[bool | None] = []
        for q, s, ((texts),) in zip(questions, steps, answers, strict=True):
            votes = [index == -1 for text in texts if (index := read_index(text, q.fence, len(s))) is not None]
            said.append(chain_holds(votes, self.rule) if votes else None)
        return said
