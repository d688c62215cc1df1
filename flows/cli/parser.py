"""The command line's parser: argparse, but what is wrong is said in one sentence that names the nearest right word."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from data.errors import UserError

KINDS = {"int": "a whole number", "float": "a number", "Path": "a path"}
_CHOICE = re.compile(r"argument (.+?): invalid choice: (.+?) \(choose from (.*)\)")
_TYPE = re.compile(r"argument (.+?): invalid (\w+) value: (.+)")
_MISSING = re.compile(r"the following arguments are required: (.+)")
_AMBIGUOUS = re.compile(r"ambiguous option: (\S+) could match (.+)")
_VALUE = re.compile(r"argument (.+?): expected (.+)")
_OTHER = re.compile(r"argument (.+?): (.+)")


class Parser(argparse.ArgumentParser):
    """Raises `UserError` for wrong words; `--help` and `--version` end the process as argparse does."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"formatter_class": argparse.RawDescriptionHelpFormatter, **options})

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        words = sys.argv[1:] if args is None else list(args)
        try:
            found, left = self.parse_known_args(words, namespace)
        except UserError:
            self._refuse_mistyped(words)  # rather than miss what a mistyped flag was to bring
            raise
        if left:
            self._innermost(found)._refuse(left)
        return found

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self._command()}{_sentence(message)}; `{self.prog} --help` shows what there is")

    def _verbs(self) -> argparse._SubParsersAction[Parser] | None:
        return next((action for action in self._actions if isinstance(action, argparse._SubParsersAction)), None)

    def _innermost(self, found: argparse.Namespace) -> Parser:
        """The parser of the verb (and of what it does) that these words named."""
        verbs = self._verbs()
        below = verbs.choices.get(str(getattr(found, verbs.dest, ""))) if verbs else None
        return below._innermost(found) if below else self

    def _refuse_mistyped(self, words: Sequence[str]) -> None:
        parser = self
        for word in words:
            verbs = parser._verbs()
            if word == "--":
                return
            if verbs and word in verbs.choices:
                parser = verbs.choices[word]
            elif word.startswith("--") and not any(flag.startswith(word.partition("=")[0]) for flag in parser._option_string_actions):
                parser._refuse([word])

    def _refuse(self, left: Sequence[str]) -> NoReturn:
        flags = [word.partition("=")[0] for word in left if word.startswith("-") and len(word) > 1 and not word[1].isdigit()]
        if not flags:
            self.error(f"'{left[0]}' is one word too many")
        near = _near(flags[0], (name for name in self._option_string_actions if name not in ("-h", "--help", "--debug")))
        self.error(f"there is no {flags[0]}{near}")

    def _command(self) -> str:
        """The verb, before what is wrong with its words."""
        verb = self.prog.partition(" ")[2]
        return f"{verb}: " if verb else ""


def _near(word: str, words: Iterable[str]) -> str:
    found = difflib.get_close_matches(word, list(words), n=1, cutoff=0.5)
    return f", did you mean {found[0]}?" if found else ""


def _sentence(message: str) -> str:
    """argparse's message in our words; as it is where it is none that we know."""
    if found := _CHOICE.fullmatch(message):
        name, got, choices = found[1], found[2].strip("'\""), [c.strip("'\" ") for c in found[3].split(",")]
        near, named = _near(got, choices), ", ".join(choices)
        if name in ("VERB", "ACTION"):
            return f"there is no {name.lower()} '{got}'{near}" if near or name == "VERB" else f"there is no action '{got}': there are {named}"
        return f"{name} must be one of {named}, got '{got}'{near}"
    if found := _TYPE.fullmatch(message):
        return f"{found[1]} must be {KINDS.get(found[2], f'a valid {found[2]}')}, got {found[3]}"
    if found := _MISSING.fullmatch(message):
        names = found[1].split(", ")
        return f"{' and '.join([', '.join(names[:-1]), names[-1]] if names[1:] else names)} {'are' if names[1:] else 'is'} missing"
    if found := _AMBIGUOUS.fullmatch(message):
        return f"{found[1]} could be {' or '.join(found[2].split(', '))}"
    if found := _VALUE.fullmatch(message):
        return f"{found[1]} needs {'a value' if found[2] == 'one argument' else found[2].replace('argument', 'value')}"
    if found := _OTHER.fullmatch(message):
        return f"{found[1]}: {found[2]}"
    return message
