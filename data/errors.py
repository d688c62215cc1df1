"""Errors that a user can act on. The CLI prints the one sentence and exits with `code`; nobody sees a traceback."""

from __future__ import annotations


class SynthError(Exception):
    """The run failed for a reason worth one sentence (exit status 1)."""

    code = 1


class UserError(SynthError):
    """The user's input is wrong: the sentence says what, where, and what would be right (exit status 2)."""

    code = 2


class BudgetReached(SynthError):
    """A budget was used up; the run stopped cleanly and can be resumed (exit status 3)."""

    code = 3
