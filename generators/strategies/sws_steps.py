"""The questions that SwS asks a model, step by step; what the answers decide is in `sws_reading` and `sws_votes`.

Every step is one stream of requests, keyed by (round, step, category, number, sample): their order and the engine's speed change nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from data.keyed import keyed_seed
from data.records import Completion, Problem, Request, Sampling
from filters.difficulty import Band
from filters.verifiers.base import verify_all
from filters.verifiers.process import first_false_claim, steps_of
from filters.written import PROBLEM_SCHEMA, plan_before, read_problem
from generators.strategies.speaker import Speaker
from generators.strategies.sws_reading import CONCEPTS_SCHEMA, JUDGEMENT_SCHEMA, read_concepts, read_judgement
from generators.strategies.sws_votes import consistent_answer, keeps, planned_answer, right_difficulty, same_answer, stated_answer, votes_needed

_PROOF = re.compile(r"\b(?:prove|proof|show that|demonstrate that)\b", re.I)
SHOWN = 300  # characters of an unreadable answer that its reason quotes


@dataclass(frozen=True)
class Order:
    """One problem to be written. `weak`: the failing problem whose concepts it began with."""

    category: str
    number: int
    concepts: tuple[str, ...]
    difficulty: int | str
    weak: str


@dataclass
class Draft:
    """A problem on its way through the filters. `rule` says where it fell, "" while it stands."""

    order: Order
    request: str  # key of the request that wrote it
    written_by: str
    text: str = ""
    plan: str = ""
    reference: str = ""
    rule: str = ""
    reason: str = ""
    measured: dict[str, Any] = field(default_factory=dict)

    def refuse(self, rule: str, reason: str) -> None:
        self.rule, self.reason = rule, reason

    def told(self) -> str:
        """Why it is proposed, in words."""
        m = self.measured
        judged = f"judged {' and '.join(m['judged'])}, " if "judged" in m else ""
        return f"{judged}{m['votes']} answers agree, the policy solves {m['passes']} of {m['n']}"


def _texts(speaker: Speaker, requests: Sequence[Sequence[Request]]) -> list[list[str | None]]:
    """For each row of requests its answers, taken as they come: "" for one that ran into the token limit, None where the engine failed."""
    wanted = [r for row in requests for r in row]
    said = {c.key: c for c in speaker.generate(wanted)} if wanted else {}
    return [[_text(said[r.key]) for r in row] for row in requests]


def _text(completion: Completion) -> str | None:
    return completion.text if completion.finish == "stop" else "" if completion.finish == "length" else None


def _seed(seed: int, round: int, step: str, order: Order, index: int) -> int:
    return keyed_seed(seed, round, "sws", step, order.category, order.number, index)


def extract_concepts(speaker: Speaker, problems: Iterable[Problem], max_tokens: int, seed: int, round: int) -> dict[str, tuple[str, ...]]:
    """By problem id, greedy; () where nothing could be read."""
    listed = list(problems)
    sampling = Sampling(temperature=0.0, top_p=0.95, max_tokens=max_tokens)
    requests = [
        [
            speaker.request(
                "sws_concepts",
                sampling,
                keyed_seed(seed, round, "sws", "concepts", problem.id),
                purpose="sws.concepts",
                problem_id=problem.id,
                schema=CONCEPTS_SCHEMA,
                question=problem.prompt,
            )
        ]
        for problem in listed
    ]
    return {p.id: read_concepts(text or "", speaker.form) for p, (text,) in zip(listed, _texts(speaker, requests), strict=True)}


def false_claim(text: str) -> str:
    """The first step of a text that states a false equality of numbers, "" where none does or nothing can be computed."""
    steps = steps_of(text)
    at = first_false_claim(steps)[0]
    return steps[at].strip() if at >= 0 else ""


def write(speaker: Speaker, orders: Sequence[Order], sampling: Sampling, arithmetic: bool, seed: int, round: int) -> list[Draft]:
    """A draft per order, in their order; those without a readable problem, with a proof, or (`arithmetic`) with a false plan carry their rule."""
    requests = [
        [
            speaker.request(
                "sws_write",
                sampling,
                _seed(seed, round, "write", order, 0),
                purpose="sws.write",
                problem_id=order.weak,
                schema=PROBLEM_SCHEMA,
                category=order.category,
                concepts=list(order.concepts),
                level=order.difficulty,
            )
        ]
        for order in orders
    ]
    drafts = []
    for order, (request,), (said,) in zip(orders, requests, _texts(speaker, requests), strict=True):
        draft = Draft(order, request.key, speaker.policy_id)
        text, why = read_problem(said, speaker.form) if said else ("", "no answer" if said is None else "it ran into the token limit")
        draft.text = text
        if why:
            draft.refuse("unreadable", f"{why}: {said[:SHOWN]}" if said else why)
        elif _PROOF.search(text):
            draft.refuse("proof", "it asks for a proof")
        else:
            draft.plan = plan_before(said or "", speaker.form)
            if arithmetic and (wrong := false_claim(draft.plan)):
                draft.refuse("plan", f"its writer's plan says {wrong[:SHOWN]}")
        drafts.append(draft)
    return drafts


def judge(speaker: Speaker, drafts: Sequence[Draft], sampling: Sampling, seed: int, round: int) -> None:
    """Two votes on each draft; rule quality where they do not keep it."""
    requests = [
        [
            speaker.request(
                "sws_judge",
                sampling,
                _seed(seed, round, "judge", draft.order, vote),
                vote,
                purpose="sws.judge",
                problem_id=draft.order.weak,
                schema=JUDGEMENT_SCHEMA,
                category=draft.order.category,
                concepts=list(draft.order.concepts),
                level=draft.order.difficulty,
                question=draft.text,
            )
            for vote in range(2)
        ]
        for draft in drafts
    ]
    for draft, said in zip(drafts, _texts(speaker, requests), strict=True):
        first, second = (read_judgement(text or "", speaker.form) for text in said)
        draft.measured["judged"] = [first or "unreadable", second or "unreadable"]
        if not keeps(first, second):
            draft.refuse("quality", f"judged {' and '.join(draft.measured['judged'])}")


def answer(
    speaker: Speaker, drafts: Sequence[Draft], sampling: Sampling, votes: int, agreement: float, arithmetic: bool, seed: int, round: int
) -> None:
    """`votes` answers to each draft; their mode becomes its reference, rule answer where fewer than the share `agreement` agree.

    `arithmetic`: an answer that states a false equality is no vote, and the plan that the problem was written after has to come to the mode.
    """
    needed = votes_needed(votes, agreement)
    for draft, said in zip(drafts, _texts(speaker, _solving(speaker, drafts, sampling, votes, "answer", seed, round)), strict=True):
        stated = ["" if text is None or (arithmetic and false_claim(text)) else stated_answer(text) for text in said]
        found, most = consistent_answer(stated, needed)
        planned = planned_answer(draft.plan, speaker.form) if arithmetic else ""
        draft.measured["votes"] = f"{most} of {votes}"
        if found is None:
            draft.refuse("answer", f"only {most} of {votes} answers agree" if most < needed else f"two answers have {most} of {votes} votes")
        elif planned and not same_answer(planned, found):
            draft.refuse("answer", f"{most} of {votes} answers say {found}, its writer planned {planned}")
        else:
            draft.reference = found


def sit(student: Speaker, drafts: Sequence[Draft], sampling: Sampling, n: int, band: Band, seed: int, round: int) -> None:
    """The student sits each problem `n` times; rule band where its accuracy is outside. What could not be made or judged does not count."""
    said = _texts(student, _solving(student, drafts, sampling, n, "student", seed, round))
    problems = [Problem(draft.text, draft.reference) for draft in drafts]
    verdicts = iter(verify_all([(p, text) for p, texts in zip(problems, said, strict=True) for text in texts if text is not None]))
    for draft, texts in zip(drafts, said, strict=True):
        outcomes = [next(verdicts).outcome for text in texts if text is not None]
        passes, judged = outcomes.count("pass"), len(outcomes) - outcomes.count("unknown")
        draft.measured |= {"passes": passes, "n": judged}
        if not right_difficulty(passes, judged, band):
            draft.refuse("band", f"the policy solves {passes} of {judged}: outside the band {band}")


def _solving(speaker: Speaker, drafts: Sequence[Draft], sampling: Sampling, n: int, step: str, seed: int, round: int) -> list[list[Request]]:
    return [
        [
            speaker.request(
                "solve",
                sampling,
                _seed(seed, round, step, draft.order, index),
                index,
                purpose=f"sws.{step}",
                problem_id=draft.order.weak,
                prompt=draft.text,
            )
            for index in range(n)
        ]
        for draft in drafts
    ]
