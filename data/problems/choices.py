"""Multiple choice as data sets write it: MMLU's index, ARC's labels, the letter, or the text of the right choice."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from data.errors import UserError
from data.problems.json_rows import show

LETTERS = "ABCDEFGHIJ"


@dataclass(frozen=True)
class Choices:
    texts: tuple[str, ...]
    labels: tuple[str, ...]  # as the row calls them, else letters

    def shown_in(self, prompt: str) -> str:
        """The prompt with the choices under letters, unless all of them are in it already: an answer cannot be a letter of nothing."""
        if all(text in prompt for text in self.texts):
            return prompt
        return prompt + "\n" + "\n".join(f"({letter}) {text}" for letter, text in zip(LETTERS, self.texts, strict=False))

    def letter_of(self, answer: Any, where: str) -> tuple[str, str]:
        """(letter, how it was given). A label or letter comes before a text, a text before an index, which counts from 0 as MMLU's does."""
        given = str(int(answer) if isinstance(answer, float) and answer.is_integer() else answer).strip()
        if not isinstance(answer, bool) and isinstance(answer, (str, int, float)):
            bare = given.strip("().: ")
            if bare in self.labels:
                return LETTERS[self.labels.index(bare)], "label"
            if given in self.texts:
                return LETTERS[self.texts.index(given)], "text of the choice"
            if bare.isascii() and bare.isdigit() and int(bare) < len(self.texts):
                return LETTERS[int(bare)], "index from 0"
        raise UserError(f"{where} must be a letter up to {LETTERS[len(self.texts) - 1]}, an index from 0, or one of the choices, got {show(answer)}")


def read_choices(column: str, value: Any, where: str) -> Choices | None:
    """A list of texts, an object of label and text, ARC's {"text": […], "label": […]}, or one of these as JSON text; None where there is none."""
    if isinstance(value, str) and value.strip().startswith(("[", "{")):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where}: field {column!r} looks like JSON and is not, got {show(value)}") from error
    if value is None or value == [] or value == {}:
        return None
    texts, labels = value, None
    if isinstance(value, dict):
        if isinstance(value.get("text"), list):
            texts, labels = value["text"], value.get("label")
        else:
            present = {k: v for k, v in value.items() if v is not None}
            texts, labels = list(present.values()), list(present)
    wanted = (
        f'{where}: field {column!r} must be a list of 2 to {len(LETTERS)} texts, or {{"A": "…", "B": "…"}}, got {show(value)}; '
        "or leave it out with --map choices="
    )
    if not isinstance(texts, list) or not all(isinstance(t, (str, int, float)) and not isinstance(t, bool) and str(t).strip() for t in texts):
        raise UserError(wanted)
    if not 2 <= len(texts) <= len(LETTERS) or (labels is not None and (not isinstance(labels, list) or len(labels) != len(texts))):
        raise UserError(wanted)
    names = [str(label).strip() for label in labels] if labels is not None else list(LETTERS[: len(texts)])
    if "\x00" in "".join(map(str, texts)):
        raise UserError(f"{where}: field {column!r} holds a NUL character, which no table can store; leave it out")
    return Choices(tuple(str(t).strip() for t in texts), tuple(names))
