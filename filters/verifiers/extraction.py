"""Where a response states its final answer: a named policy that finds exactly one, or says why there is none.

Strong marks: `#### X`, `\\boxed{X}` with balanced braces, `<answer>X</answer>`. Weak marks: "answer is X", "Answer: X", a line "A: X".
Weak marks are read only where there is no strong one. All marks of the strength that counts must agree; several different final
answers are a shotgun, refused however right one of them may be. A mark with nothing behind it is a truncated response.
Every scan is linear in the response (plain searches, no backtracking pattern), and only the last `MAX_RESPONSE` characters are read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal, get_args

Policy = Literal["strict", "last_number"]
POLICIES: tuple[str, ...] = get_args(Policy)
"""strict: marks only (or a response that is one line and nothing but the answer). last_number: else the last number in the text."""

MAX_RESPONSE = 64_000  # characters from the end that are searched for marks
MAX_MARKS = 200  # marks of one kind; more than that is no answer but a list

_SAYS = re.compile(
    r"(?:\banswer\b(?: to [^.:\n]{1,80}?)?,?(?: therefore| then| thus| hence)?,?[ \t*_]{0,8}(?:is\b|are\b|:|=|would be\b|should be\b)[ \t*_:]{0,8}"
    r"|\bcorrect (?:option|choice)[ \t*_]{0,8}(?:is\b|:)[ \t*_:]{0,8}"
    r"|\banswer[ \t*#_:]{0,8}$"
    r"|^[ \t*]{0,8}A:[ \t]{0,8})",
    re.IGNORECASE | re.MULTILINE,
)
_SAYS_A = re.compile(r"^[ \t*]{0,8}[Aa]:[ \t]{0,8}", re.MULTILINE)
_HEADING = re.compile(r"[ \t*#_]{0,8}(?:the )?(?:final )?\Z", re.IGNORECASE)
_NUMBER_IN_TEXT = re.compile(
    r"(?<![0-9A-Za-z_.])[-−]?(?:[$€£][ ]?)?-?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?(?:/[0-9]+(?:\.[0-9]+)?)?[ ]?%?"
)


def strong_marks(response: str) -> list[str]:
    """Texts behind every `####`, inside every balanced `\\boxed{}` and every `<answer>` pair, in that order; "" where nothing follows."""
    found = [part.split("\n", 1)[0].strip() for part in response.split("####", MAX_MARKS)[1:]]
    found += _boxed(response)
    lowered = response.lower() if "<answer>" in response or "<ANSWER>" in response else ""
    at = lowered.find("<answer>")
    while lowered and at >= 0 and len(found) < 3 * MAX_MARKS:
        end = lowered.find("</answer>", at)
        found.append(response[at + 8 : end].strip() if end >= 0 else "")
        at = lowered.find("<answer>", end) if end >= 0 else -1
    return found


def _boxed(response: str) -> list[str]:
    found: list[str] = []
    at = response.find("\\boxed")
    while at >= 0 and len(found) < MAX_MARKS:
        start = at + 6
        while start < len(response) and response[start] == " ":
            start += 1
        end = _closing_brace(response, start) if response[start : start + 1] == "{" else -1
        loose = None if end >= 0 else re.compile(r"-?\d[\d.,/]*|[A-Z](?![A-Za-z])").match(response, start)
        found.append(response[start + 1 : end].strip() if end >= 0 else loose.group().rstrip(".,") if loose else "")
        at = response.find("\\boxed", end + 1 if end >= 0 else start)
    return found


def _closing_brace(text: str, start: int, limit: int = 2_000) -> int:
    """Index of the brace that closes the one at `start`, or -1; escaped braces do not count; at most `limit` characters are read."""
    depth = 0
    for i in range(start, min(len(text), start + limit)):
        if text[i] in "{}" and text[i - 1] != "\\":
            depth += 1 if text[i] == "{" else -1
            if depth == 0:
                return i
    return -1


def weak_marks(response: str) -> list[str]:
    """Texts behind "answer is", "Answer:", "A:"; up to the end of the sentence or line, or the next line where this one ends there."""
    found: list[str] = []
    ended = -1
    lowered = response.lower()
    says = _SAYS if "answer" in lowered or "correct " in lowered else _SAYS_A
    for i, match in enumerate(says.finditer(response)):
        if i >= MAX_MARKS:
            break
        if response[match.end() : match.end() + 1] == "\n" and not match.group().rstrip().endswith(("is", "are", "be", ":", "=", "*")):
            line_start = response.rfind("\n", 0, match.start()) + 1
            if _HEADING.match(response, line_start, match.start()) is None:
                continue  # a line that ends in the word "answer"
        tail = response[match.end() : match.end() + 2_000].lstrip()
        line = tail.split("\n", 1)[0]
        for opener, closer in (("\\[", "\\]"), ("$$", "$$")):
            if line.startswith(opener) and (close := tail.find(closer, 2)) > 0:
                line = tail[2:close].replace("\n", " ").strip()
        said = re.split(r"(?<=[^ .])[.?]['\")*]?\s", line + " ", maxsplit=1)[0].strip()
        if match.start() < ended:  # "Final answer: the answer is 5": the inner mark says it
            found.pop()
        ended = match.end() + len(said)
        found.append(said)
    return found


def find_answer(
    response: str, policy: str, agree: Callable[[str, str], bool], *, plausible: Callable[[str], bool], several: bool = False
) -> tuple[str | None, str]:
    """(answer, "") or (None, why there is none). `agree` says whether two texts state the same answer.

    plausible: could a text behind a weak mark be the answer at all? ("the answer is in dollars" is none where a number is wanted)
    several: the reference states several values, so boxes side by side ("\\boxed{1} and \\boxed{2}") are one answer.
    """
    text = response[-MAX_RESPONSE:]
    if "<think>" in text or "</think>" in text:
        _, closed, said = text.rpartition("</think>")
        if not closed or "<think>" in said:
            return None, "no final answer: the response ends inside its thoughts"
        text = said
    marks = strong_marks(text)
    if not marks:
        marks = [m for m in weak_marks(text) if plausible(m)]
    if marks:
        if not marks[-1]:
            return None, "no final answer: nothing follows the answer's mark"
        stated = [m for m in marks if m]
        if not all(agree(stated[-1], other) for other in dict.fromkeys(stated[:-1])):
            if several and (joined := _side_by_side(text)):
                return joined, ""
            return None, f"contradictory final answers: {', '.join(_short(m) for m in list(dict.fromkeys(stated))[:4])}"
        return stated[-1], ""
    whole = text.strip()
    if whole and len(whole) <= 1_000 and len(response) <= MAX_RESPONSE and ("\n" not in whole or _one_display(whole)):
        return whole, "bare"
    if policy == "last_number":
        numbers = [m.group().strip() for m in _NUMBER_IN_TEXT.finditer(text)]
        if numbers:
            return numbers[-1], ""
    return None, "no final answer"


def _side_by_side(text: str) -> str:
    """The contents of boxes that stand together with nothing but "and", "or", commas and names between them; "" otherwise."""
    at, end = text.find("\\boxed"), -1
    parts: list[str] = []
    while at >= 0 and len(parts) < 12:
        if end >= 0 and not _BETWEEN.match(text[end + 1 : at]):
            return ""
        start = text.find("{", at)
        end = _closing_brace(text, start) if 0 <= start <= at + 8 else -1
        if end < 0:
            return ""
        parts.append(text[start + 1 : end].strip())
        at = text.find("\\boxed", end)
    return ", ".join(parts) if at < 0 else ""


_BETWEEN = re.compile(r"[\s$,;&]{0,8}(?:and|or|\\text\{ ?(?:and|or) ?\}|\\quad)?[\s$,;&]{0,8}(?:[A-Za-z](?:\([a-z]\))? ?= ?)?[\s$]{0,8}\Z")


def _one_display(whole: str) -> bool:
    """Several lines that are one formula: a matrix, a display."""
    return (
        len(whole) <= 400
        and whole.count("\n") <= 12
        and ("\\begin{" in whole or whole.startswith(("\\[", "$$")))
        and whole.endswith(("\\]", "$$", "}", "$"))
    )


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "…"
