"""`co_reward`: no labels. A problem and a rewrite of it judge one another: an answer is right where it is what the other wording's answers vote for.

Co-Reward (arXiv 2508.00410; `tmlr-group/Co-Reward`): 8 answers to x and 8 to its paraphrase x'; r(y | x) = 1 where y's answer is the
majority answer among those to x', and the reverse; answers that state nothing get 0 and do not vote, ties go to the answer seen first, no
vote at all gives 0 to everybody.

Online, with the paraphrase of the world where there is one and else of the policy itself (the paper's are written offline by a 32B
model); a problem without a readable paraphrase is left out, as the released code drops it. The step's main groups are not sampled: both
wordings are asked for by this strategy, so that problems nobody can judge are trained on as well. The verdicts in the lake stay those of
the problem's own verifier and tell how often the votes are right.

`vote = "exact"` compares the last \\boxed text as the released code does, for which 1/2 and 0.5 are two answers; `equivalent`, the
default, takes the verifier's own canonical form.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from pydantic import Field

from data.keyed import keyed_seed
from data.records import Group, GroupEdit, Outcome, Problem, RolloutSpec, Verdict, with_problem
from filters.self_consistency import answer_key
from filters.verifiers.votes import cross_vote, plurality
from filters.written import jaccard, read_problem
from generators.strategies.base import BaseStrategy, Online, StepContext
from generators.strategies.rewriting import form_of, rewrite_spec
from generators.strategies.settings import Settings, read_settings

Ties = Literal["first", "none"]
ORIGINAL, PARAPHRASE, WRITE = "co_reward.original", "co_reward.paraphrase", "co_reward.write"


class CoRewardSettings(Settings):
    vote: Literal["equivalent", "exact"] = "equivalent"
    """What counts as one answer: the verifier's canonical form, or the last boxed text letter by letter."""
    ties: Ties = "first"
    """Who wins a tie: the answer seen first, as in the released code, or nobody."""
    paraphrase: Literal["auto", "policy"] = "auto"
    """Who paraphrases: the world where it can and else the policy, or always the policy."""
    max_tokens: int = Field(default=400, ge=1)
    """Tokens of a paraphrase by the policy."""
    form: Literal["auto", "fenced", "json", "line"] = "auto"


def vote_of(answers: Sequence[str], ties: Ties = "first") -> str:
    """The most frequent answer; "" (no answer) does not vote, and is what no vote at all gives, or a tie where ties elect nobody."""
    if ties == "none":
        return plurality(answers) or ""
    votes = Counter(a for a in answers if a)  # insertion order: the first seen wins a tie
    return max(votes, key=lambda a: votes[a]) if votes else ""


def co_rewards(original: Sequence[str], paraphrase: Sequence[str], ties: Ties = "first") -> tuple[list[float], list[float]]:
    """Rewards of the answers to both wordings: each against the other's vote."""
    if ties == "none":
        return cross_vote(original, paraphrase)
    there, here = vote_of(paraphrase), vote_of(original)
    return [float(bool(a) and a == there) for a in original], [float(bool(a) and a == here) for a in paraphrase]


def boxed(text: str) -> str:
    """What stands in the last \\boxed{…} with balanced braces, blanks at its ends off; "" where there is none."""
    start = text.rfind("\\boxed{")
    depth = 0
    for place in range(start + 6, len(text) if start >= 0 else 0):
        depth += (text[place] == "{") - (text[place] == "}")
        if depth == 0:
            return text[start + 7 : place].strip()
    return ""


class CoReward(BaseStrategy):
    name = "co_reward"
    gates_main = True
    settings_known = frozenset(CoRewardSettings.model_fields)

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        super().__init__(settings)
        self.set = read_settings(self.name, CoRewardSettings, settings)

    def online(self, ctx: StepContext) -> Online:
        drops = [GroupEdit.drop(s.group_id, "both wordings are asked for by co_reward") for s in ctx.main]
        other = {s.group_id: self._of_world(ctx, s) for s in ctx.main}
        lacking = [s for s in ctx.main if other[s.group_id] is None]
        if lacking:
            form = form_of(ctx, self.set.form)
            wishes = [
                rewrite_spec(ctx, s.problem, "same", form, self.name, WRITE, self.set.max_tokens, (s.group_id,)).spec for s in lacking
            ]
            for spec, written in zip(lacking, (yield wishes), strict=True):
                other[spec.group_id] = self._of_policy(ctx, spec, written, form)
        pairs = [(s, p) for s in ctx.main if (p := other[s.group_id]) is not None]
        if not pairs:
            return drops
        specs = [
            replace(s, problem=p, stream=stream, key=(s.group_id, stream), refs=(s.group_id,), keeps_unknown=True)
            for s, paraphrase in pairs
            for p, stream in ((s.problem, ORIGINAL), (paraphrase, PARAPHRASE))
        ]
        groups = yield specs
        edits = list(drops)
        for one, two in zip(groups[::2], groups[1::2], strict=True):
            said = [[self._answer(g.problem, r.text) if r.finish == "stop" else "" for r in g.rollouts] for g in (one, two)]
            for group, rewards in zip((one, two), co_rewards(said[0], said[1], self.set.ties), strict=True):
                edits.append(GroupEdit.add(judged(group, rewards), "judged by the other wording's vote"))
            told = f"its vote is {vote_of(said[1], self.set.ties)[:60]!r}; the verifier passes {two.passes} of {len(two.rollouts)} answers"
            ctx.decide(two.problem, self.name, (one.problem.id, *two.refs), "paired", True, told)
        return edits

    def _of_world(self, ctx: StepContext, spec: RolloutSpec) -> Problem | None:
        if ctx.world is None or self.set.paraphrase == "policy":
            return None
        found = ctx.world.paraphrase(spec.problem, keyed_seed(ctx.seed, ctx.round, ctx.step, self.name, spec.problem.id))
        return None if found is None or found.id == spec.problem.id else found

    def _of_policy(self, ctx: StepContext, spec: RolloutSpec, written: Group, form: Any) -> Problem | None:
        of = spec.problem
        text, why = ("", "the engine wrote nothing")
        if written.rollouts:
            writing = written.rollouts[0]
            text, why = ("", "cut off by the token limit") if writing.finish != "stop" else read_problem(writing.text, form)
        rule = "unreadable"
        if not why and jaccard(text, of.prompt) == 1.0:
            rule, why = "copy", "it is the problem itself"
        if not why and (why := ctx.heldout([text])[0]):
            rule = "heldout"
        made = with_problem(of, prompt=text or written.problem.prompt, source=self.name, split="online", meta={"paraphrase_of": of.id})
        if why:
            ctx.decide(made, self.name, (of.id, spec.group_id), rule, False, why)
            return None
        return made

    def _answer(self, problem: Problem, text: str) -> str:
        return boxed(text) if self.set.vote == "exact" else answer_key(problem, text) or ""


def judged(group: Group, rewards: Sequence[float]) -> Group:
    """The group with the vote's rewards and verdicts: the verifier's own may be unknown, and an unknown verdict is not trained on."""

    def verdict(old: Verdict, reward: float) -> Verdict:
        outcome: Outcome = "pass" if reward else "fail"
        return replace(old, outcome=outcome, reward=reward, reason="the other wording's vote", verifier="co_reward")

    verdicts = tuple(verdict(v, r) for v, r in zip(group.verdicts, rewards, strict=True))
    return replace(group, verdicts=verdicts, rewards=np.asarray(rewards, np.float32))
