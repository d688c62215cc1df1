"""How judges ask a model: prompts from `filters/prompts`, samples keyed by what is asked, answers read strictly.

Against a response that talks to the judge or plants a verdict, every prompt carries a fence: a word hashed from everything it shows, so
that a response cannot hold its own. Only a verdict that repeats the fence counts.
Against the "master keys" that fool judges ("Thought process:", ":"; arXiv 2507.08794) stands `says_nothing`: such a response is refused
before any model is asked.
"""

from __future__ import annotations

import json
import re
import time
import unicodedata
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self

from data.ids import content_hash
from data.keyed import keyed_seed
from data.records import Problem, Request, Sampling, Verdict
from data.render import Renderer
from data.text import storable
from filters.verifiers.base import NO_TOOLS, Tools
from filters.verifiers.spec import Judgement, S, TypedVerifier

PROMPTS = Path(__file__).parents[1] / "prompts"
SHOWN = 20_000  # characters of a response that a judge is shown
MASTER_KEYS: tuple[str, ...] = (
    "thought process", "let's solve this problem step by step", "let's solve the problem step by step", "let's think step by step",
    "solution", "answer", "final answer", "the answer is", "解", "かいせつ", "respuesta", "lösung", "réponse",
)  # fmt: skip
"""Openers that promise an answer and give none."""


@dataclass(frozen=True)
class Question:
    """One prompt for a judge; `turns` are its earlier answers, each followed by the template `wait`; `draw` tells equal ones apart."""

    template: str
    variables: Mapping[str, Any]
    fence: str
    turns: tuple[str, ...] = ()
    draw: int = 0


def question(template: str, **variables: Any) -> Question:
    """Fenced by a hash of everything that it shows; texts are cut to `SHOWN` characters."""
    shown = {name: value[:SHOWN] if isinstance(value, str) else value for name, value in variables.items()}
    plain = {name: value.id if isinstance(value, Problem) else value for name, value in shown.items()}
    return Question(template, shown, content_hash("fence", template, plain)[:10])


@dataclass(frozen=True)
class Wish:
    """What an asking wants to know next: `samples` answers to each question."""

    questions: tuple[Question, ...]
    sampling: Sampling
    samples: int = 1
    attempt: int = 0


Answers = list[list[str | None]]
"""[questions, samples]; None where the model gave no answer"""

Asking = Generator[Wish, Answers, Judgement]
"""Yields wishes, is resumed with their answers, ends with the judgement: so that many judgements share one stream of requests."""


def ask(tools: Tools, wishes: Sequence[Wish]) -> list[Answers]:
    """The answers to each wish; all requests go out in one stream, equal ones once."""
    if tools.generate is None:
        return [[[None] * wish.samples for _ in wish.questions] for wish in wishes]
    renderer = _renderer(tools.dialect)
    wanted = [[_requests(tools, renderer, q, wish) for q in wish.questions] for wish in wishes]
    distinct = {r.key: r for questions in wanted for requests in questions for r in requests}
    answers = {c.key: c.text for c in tools.generate(list(distinct.values())) if c.finish in ("stop", "length")}
    return [[[answers.get(r.key) for r in requests] for requests in questions] for questions in wanted]


def drive(tools: Tools, askings: Sequence[Asking]) -> list[Judgement]:
    """Runs askings side by side, a wish of each per round; one that breaks is unknown and does not disturb the others."""
    done: dict[int, Judgement] = {}
    wishes: dict[int, Wish] = {}

    def resume(place: int, answers: Answers | None) -> None:
        try:
            wishes[place] = next(askings[place]) if answers is None else askings[place].send(answers)
        except StopIteration as stop:
            done[place] = stop.value
        except Exception as error:  # noqa: BLE001 - a judge that breaks passes nobody
            done[place] = ("unknown", 0.0, f"the judge broke: {type(error).__name__}: {error}")

    for place in range(len(askings)):
        resume(place, None)
    while wishes:
        places = sorted(wishes)
        said = ask(tools, [wishes.pop(place) for place in places])
        for place, answers in zip(places, said, strict=True):
            resume(place, answers)
    return [done[place] for place in range(len(askings))]


def _requests(tools: Tools, renderer: Renderer, one: Question, wish: Wish) -> list[Request]:
    first = renderer.render(one.template, fence=one.fence, **one.variables)
    wait = renderer.render("wait", fence=one.fence)
    return [_request(tools, first, wait, one, wish, index) for index in range(wish.samples)]


def _request(tools: Tools, first: str, wait: str, one: Question, wish: Wish, index: int) -> Request:
    seed = keyed_seed(0, "judge", content_hash(first, list(one.turns)), one.draw, index, wish.attempt)
    if tools.dialect == "compact":
        prompt = first + "".join(f"{turn}\n{wait}\n" for turn in one.turns)
        return Request(tools.policy_id, wish.sampling, seed, index, prompt=prompt, purpose="judge")
    messages: list[dict[str, str]] = [{"role": "user", "content": first}]
    for turn in one.turns:
        messages += [{"role": "assistant", "content": turn}, {"role": "user", "content": wait}]
    return Request(tools.policy_id, wish.sampling, seed, index, messages=tuple(messages), purpose="judge")


@cache
def _renderer(dialect: str) -> Renderer:
    return Renderer([PROMPTS], dialect)


_VERDICT = re.compile(r"<verdict fence=\"([0-9a-f]{1,32})\">\s{0,4}([^<>]{1,24}?)\s{0,4}</verdict>", re.I)


def read_verdict(text: str | None, fence: str, allowed: Sequence[str]) -> str | None:
    """The one verdict with this fence, after the last thought; None where there is none, several that differ, or one not allowed."""
    if text is None:
        return None
    said = {value.strip().casefold() for got, value in _VERDICT.findall(text.rpartition("</think>")[2][-SHOWN:]) if got == fence}
    by_fold = {a.casefold(): a for a in allowed}
    return by_fold.get(said.pop()) if len(said) == 1 else None


def read_json(text: str | None, fence: str = "") -> dict[str, Any] | None:
    """The last JSON object of an answer (fenced code or bare); None where there is none, or it does not repeat `fence`."""
    if text is None:
        return None
    said = text.rpartition("</think>")[2][-SHOWN:]
    decoder = json.JSONDecoder()
    found, at = None, said.find("{")
    while at >= 0:
        try:
            value, end = decoder.raw_decode(said, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            found = value if isinstance(value, dict) and (not fence or value.get("fence") == fence) else found
        at = said.find("{", end)
    return found


def says_nothing(response: str) -> bool:
    """Whether nothing is left of `response` without its openers, markup and punctuation."""
    text = unicodedata.normalize("NFKC", response[:SHOWN]).casefold().replace("’", "'")
    for key in sorted(MASTER_KEYS, key=len, reverse=True):
        text = text.replace(key, " ")
    text = re.sub(r"</?[a-z_]{1,20}>|\\(?:boxed|text|left|right|\[|\]|\(|\))", " ", text)
    return not any(unicodedata.category(c)[0] in "LN" for c in text)


class ModelVerifier(TypedVerifier[S]):
    """A verifier that asks a model, many responses in one stream. Without one, and where it breaks, the verdict is unknown."""

    asks_model: ClassVar[bool] = True
    needs_reference: ClassVar[bool] = False

    def __init__(self, tools: Tools = NO_TOOLS) -> None:
        self.tools = tools

    def bind(self, tools: Tools) -> Self:
        return type(self)(tools)

    def alone(self, problem: Problem, spec: S, response: str) -> Judgement | None:
        """What can be said without a model, None where it must be asked."""
        return None

    def asking(self, problem: Problem, spec: S, response: str) -> Asking:
        raise NotImplementedError

    def verify(self, problem: Problem, response: str) -> Verdict:
        return self.verify_batch([(problem, response)])[0]

    def verify_batch(self, pairs: Sequence[tuple[Problem, str]]) -> list[Verdict]:
        start = time.perf_counter()
        judgements: list[Judgement | None] = []
        items: list[tuple[Problem, S, str]] = []
        for problem, response in pairs:
            spec = self.settings(problem)
            why = spec if isinstance(spec, str) else self.refuse(problem, spec)
            judgement: Judgement | None = ("unknown", 0.0, why) if why or isinstance(spec, str) else self.alone(problem, spec, storable(response))
            judgements.append(judgement)
            if judgement is None and not isinstance(spec, str):
                items.append((problem, spec, storable(response)))
        nobody: Judgement = ("unknown", 0.0, "no model to ask was given")
        asked = iter(drive(self.tools, [self.asking(*item) for item in items]) if self.tools.generate is not None else [nobody] * len(items))
        verdicts = [self.verdict(problem, j if j is not None else next(asked)) for (problem, _), j in zip(pairs, judgements, strict=True)]
        share = (time.perf_counter() - start) * 1e3 / max(1, len(pairs))
        return [replace(v, ms=share) for v in verdicts]
