"""The one final answer that a response states in words: what the verifiers of choices, short answers and puzzles read."""

from __future__ import annotations

from collections.abc import Callable

from filters.verifiers.extraction import MAX_RESPONSE, strong_marks, weak_marks

MAX_BARE = 300  # characters of a response that is one line and nothing but its answer


def stated_answer(response: str, same: Callable[[str, str], bool]) -> tuple[str | None, str]:
    """(answer, "") or (None, why there is none); `same`: whether two texts state one answer.

    Strong marks (`####`, boxes, `<answer>`) count before weak ones ("the answer is"), thoughts in `<think>` not at all. Several different
    final answers are a shotgun, refused however right one of them may be; a mark with nothing behind it is a truncated response.
    """
    text = response[-MAX_RESPONSE:]
    if "<think>" in text or "</think>" in text:
        _, closed, text = text.rpartition("</think>")
        if not closed or "<think>" in text:
            return None, "no final answer: the response ends inside its thoughts"
    marks = strong_marks(text) or weak_marks(text)
    if marks:
        if not marks[-1]:
            return None, "no final answer: nothing follows the answer's mark"
        last, others = marks[-1], list(dict.fromkeys(m for m in marks[:-1] if m))
        other = next((m for m in others if not same(last, m)), None)
        if other is not None:
            return None, f"contradictory final answers: {other[:40]!r} and {last[:40]!r}"
        return last, ""
    whole = text.strip()
    if whole and "\n" not in whole and len(whole) <= MAX_BARE:
        return whole, ""
    return None, "no final answer"
