"""A model that answers by a rule: what judges are tested with, because the judge's model is an input."""

import re
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from data.records import Completion, Generate, Request
from filters.verifiers.base import Tools


def scripted(rule: Callable[[str, int], str | None], log: list[Request] | None = None) -> Tools:
    """Tools whose model answers a prompt (all its messages in one text) and a sample index by `rule`; None is an engine error."""

    def generate(requests: Iterable[Request]) -> Iterator[Completion]:
        for r in reversed(list(requests)):  # completions come in any order
            if log is not None:
                log.append(r)
            said = rule(r.prompt or "\n".join(m["content"] for m in r.messages), r.index)
            none = np.empty(0, np.int32)
            yield Completion(r.key, said or "", none, np.empty(0, np.float32), none, "error" if said is None else "stop", r.policy_id)

    model: Generate = generate
    return Tools(generate=model)


def fence(prompt: str) -> str:
    return re.findall(r"--- (\w+) ---|fence=\"(\w+)\"", prompt)[0][0] or re.findall(r'fence="(\w+)"', prompt)[0]


def shown(prompt: str) -> str:
    """What stands between the fences."""
    mark = f"--- {fence(prompt)} ---"
    return prompt.split(mark)[1].strip()


def verdict(prompt: str, said: str) -> str:
    return f'thinking …\n<verdict fence="{fence(prompt)}">{said}</verdict>'
