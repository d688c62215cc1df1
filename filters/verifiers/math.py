"""The `math` verifier: finds the one final answer of a response and decides whether it states the reference.

Precision first: nothing passes that was not shown equal; what cannot be decided is `unknown` with the reason, what was shown to be
something else is `fail`. Nothing the model wrote is evaluated as code: it is read by our own grammar into a tree, and trees are compared.
Fast path first (equal numbers by exact value, equal text), then trees (`equivalence`), then words (`phrases`).
Settings of a problem (`spec`): {"extract": "strict" | "last_number"}, see `filters.verifiers.extraction`.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from data.records import Outcome, Problem
from data.text import storable
from filters.verifiers import choices, prose, wording
from filters.verifiers.base import PlainVerifier, register_verifier
from filters.verifiers.equivalence import compare
from filters.verifiers.expressions import Node, has_sign, is_expression
from filters.verifiers.extraction import POLICIES, find_answer
from filters.verifiers.grammar import read
from filters.verifiers.notation import MAX_ANSWER, MAX_DIGIT_RUN
from filters.verifiers.numbers import MAX_LENGTH, Number, Refusal, parse_number
from filters.verifiers.sameness import constant, left_undone
from filters.verifiers.units import compare_units, converted, same_unit

Judged = tuple[Outcome, str]
_parse = lru_cache(maxsize=65_536)(parse_number)
_WORDS = re.compile(r"[^\W\d_]+(?: [^\W\d_]+){0,2}\Z")
_MATH_WORDS = frozenset(("pi", "π", "e", "i", "infinity", "inf", "dne", *wording.NUMBER_WORDS))
_SYNONYMS = ({"yes", "true"}, {"no", "false"})
_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+\Z")


def compare_numbers(reference: Number, answer: Number) -> tuple[Outcome, str]:
    """Exact on values; units count when the reference has one.

    Percent: "50 %" against a bare 50 passes (the question asked for percent), against a bare 1/2 too, but "0.5 %" against a bare
    0.5 does not: below 1 a bare reference is a ratio. A bare 0.5 against "50 %" is `unknown`: it may mean either.
    """
    want, got = reference.value, answer.value
    if reference.unit and answer.unit:
        told = "same" if same_unit(reference.unit, answer.unit) else compare_units(reference.unit, answer.unit)
        if told == "same":
            return ("pass", "equal") if want == got else ("fail", "another number")
        factor = converted(answer.unit, reference.unit)
        if factor is not None:
            return ("pass", "equal after conversion") if want == got * factor else ("fail", "another quantity")
        if told == "different":
            return "fail", f"the unit is {answer.unit!r}, not {reference.unit!r}"
        return "unknown", f"units {answer.unit!r} and {reference.unit!r} cannot be compared"
    if same_unit(answer.unit, "%") and abs(want) < 1 and want != 0:
        got = got / 100
    if want == got:
        return "pass", "equal"
    if same_unit(reference.unit, "%") and want == got * 100:
        return "unknown", "a bare ratio where the reference is in percent"
    return "fail", "another number"


def normal_text(text: str) -> str:
    """Text answers compare equal under NFKC, LaTeX dress off and blanks gone; case counts only in symbolic answers."""
    text = unicodedata.normalize("NFKC", text).strip().strip("*_` ").rstrip(".,;: ")
    words = re.sub(r"\\(?:text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}", r"\1", text).strip("$ ")
    if _WORDS.match(words):
        return words.casefold() if len(words) > 1 else words
    for dress in ("\\left", "\\right", "\\,", "\\!", "\\;", "\\ "):
        words = words.replace(dress, "")
    words = words.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    return re.sub(r"(?<![0-9])\s+|\s+(?![0-9\s])", "", words)


def _one_word(text: str) -> bool:
    return _WORDS.match(text) is not None and " " not in text and text not in _MATH_WORDS


def _other_word(want: str, answer: str) -> Judged | None:
    """A reference of one plain word against another word or a number: certainly not the same."""
    got = wording.plain_words(answer) if " " in answer.strip() else normal_text(answer)
    if isinstance(_parse(answer[: MAX_LENGTH + 1]), Number):
        return "fail", "a number where the reference is a word"
    alike = want.casefold().startswith(got.casefold()) or got.casefold().startswith(want.casefold()) or {want, got} in _SYNONYMS
    if _one_word(got) and not alike and not (len(want) > 1 and len(got) == 1):
        return "fail", "another word"
    return None


def compare_answers(reference: str, answer: str, *, marked: bool = True) -> Judged:
    """(outcome, reason) of an extracted answer against the reference; pure and total, cached by the two texts.

    marked: the response marked it as its answer, so that the one number in a marked sentence is the number meant.
    """
    want, got = _parse(reference), _parse(answer[: MAX_LENGTH + 1])
    if isinstance(want, Number) and isinstance(got, Number) and not ("=" in reference and "=" in answer):
        return _two_numbers(want, got, answer)
    return _compare_slowly(reference, answer[: MAX_ANSWER + 1], marked)


def _two_numbers(want: Number, got: Number, answer: str) -> Judged:
    verdict = compare_numbers(want, got)
    if verdict[0] == "unknown" and same_unit(want.unit, "%") and not got.unit and ("/" in answer or "frac" in answer):
        return "pass", "equal"  # 5/8 is 62.5 %; only a bare decimal may mean percent
    return verdict


@lru_cache(maxsize=65_536)
def _compare_slowly(reference: str, answer: str, marked: bool) -> Judged:
    """As they stand, then with words spelled out in signs, then the value that a sentence states, then word by word."""
    want_text = normal_text(reference)
    if want_text and want_text == normal_text(answer):
        return "pass", "equal text"
    verdict = _compare_once(reference, answer)
    if verdict[0] == "pass":
        return verdict
    spelled = wording.spelled_out(reference) or reference, wording.spelled_out(answer) or answer
    if spelled != (reference, answer):
        again = _compare_once(*spelled)
        if again[0] == "pass" or verdict[1] == _UNREAD:
            verdict = again
        if verdict[0] == "pass":
            return verdict
    if verdict[0] == "fail":
        return verdict
    if not isinstance(read(reference), Node):
        for value in prose.stated_value(reference, lone=True):
            if value != reference and _compare_once(value, answer)[0] == "pass":
                return "pass", "equal"
    for value in prose.stated_value(answer, lone=marked and not _measured(reference)):
        if value != answer:
            stated = _compare_once(reference, value)
            if stated[0] != "unknown":
                return stated
    if isinstance(_parse(reference), Number):
        got = _parse(answer[: MAX_LENGTH + 1])
        if verdict[1] == _UNREAD and isinstance(got, Refusal):
            return ("unknown", got.reason) if got.expression else ("fail", got.reason)
        return verdict
    if _one_word(want_text) and (told := _other_word(want_text, answer)) is not None:
        return told
    if isinstance(read(reference), Node) and verdict[1] != _UNREAD:
        return verdict
    return prose.same_prose(reference, answer, _same_read) if prose.has_words(reference) else ("unknown", "the answer could not be read")


_UNREAD = "not read"


def _measured(reference: str) -> bool:
    """Has the reference a unit? Then a number alone, without the words around it, is not all that was said."""
    number, tree = _parse(reference), read(reference)
    return (isinstance(number, Number) and bool(number.unit)) or (isinstance(tree, Node) and tree.op == "quantity")


def _compare_once(reference: str, answer: str) -> Judged:
    """Numbers, options, clock times, trees: what can be read; ("unknown", _UNREAD) where one of the two cannot."""
    want, got = _parse(reference), _parse(answer[: MAX_LENGTH + 1])
    if isinstance(want, Number) and isinstance(got, Number) and not ("=" in reference and "=" in answer):
        return _two_numbers(want, got, answer)
    return _by_parts(reference, answer) or _by_choice(reference, answer) or _by_clock(reference, answer) or _by_tree(reference, answer)


def _same_read(one: str, other: str) -> bool:
    return one == other or _compare_once(one, other)[0] == "pass"


def _by_tree(reference: str, answer: str) -> Judged:
    want, got = read(reference), read(answer)
    if isinstance(want, Node) and isinstance(got, Node):
        if _GROUPED.match(reference.strip("$ ")) and got.op == "list":
            want = read(reference.replace(",", ", "))
        elif _GROUPED.match(answer.strip("$ ")) and want.op == "list":
            got = read(answer.replace(",", ", "))
        if isinstance(want, Node) and isinstance(got, Node):
            try:
                verdict = compare(want, got)
                if verdict[0] == "pass" and isinstance(_parse(reference), Number) and (undone := left_undone(_final_side(got))):
                    return "unknown", undone
            except RecursionError:
                return "unknown", "the answer is nested too deeply"
            return verdict
    return "unknown", _UNREAD


def _final_side(tree: Node) -> Node:
    """The last side of "x = 37 + 45 = 82"."""
    return tree.args[-1] if tree.op == "rel" and set(tree.args[0]) == {"="} else tree


def _by_parts(reference: str, answer: str) -> Judged | None:
    """Numbered parts, each against its own."""
    want, got = choices.numbered_parts(reference), choices.numbered_parts(answer)
    if not want or not got:
        return None
    if len(want) != len(got):
        return "fail", f"{len(got)} parts where the reference has {len(want)}"
    verdicts = [_compare_slowly(w, g, True) for w, g in zip(want, got)]
    for wanted in ("fail", "unknown"):
        for number, verdict in enumerate(verdicts, 1):
            if verdict[0] == wanted:
                return verdict[0], f"part {number}: {verdict[1]}"
    return "pass", "all parts are equal"


def _by_choice(reference: str, answer: str) -> Judged | None:
    """Letters of multiple choice, with or without the text of the option."""
    letter, text = choices.choice(reference)
    other, rest = choices.choice(answer)
    if letter and (not text or len(reference.strip("() .")) > 1):
        if other and letter == other and text and rest and _compare_once(text, rest)[0] == "fail":
            return "fail", "the letter of the right option with other content"
        if other:
            return ("pass", "the same option") if letter == other else ("fail", "another option")
        return _compare_once(text, answer) if text else None
    if other and rest and rest != answer and not letter:
        return _compare_once(reference, rest)
    return None


def _by_clock(reference: str, answer: str) -> Judged | None:
    if ":" not in reference and "m" not in reference.lower():
        return None
    want, got = choices.clock(reference), choices.clock(answer)
    if want is None or got is None:
        return None
    if choices.same_time(want, got):
        return "pass", "the same time"
    return None if ":" in reference and not want[1] and not got[1] else ("fail", "another time")


def _agree(one: str, other: str) -> bool:
    left, right = _parse(one[: MAX_LENGTH + 1]), _parse(other[: MAX_LENGTH + 1])
    if isinstance(left, Number) and isinstance(right, Number):
        return left.value == right.value and (not left.unit or not right.unit or same_unit(left.unit, right.unit))
    return normal_text(one) == normal_text(other) or _compare_slowly(one[: MAX_ANSWER + 1], other[: MAX_ANSWER + 1], True)[0] == "pass"


_DIGIT = re.compile(r"[0-9\\¼-¾⅐-⅞√π]|\d")


def _holds_number(mark: str) -> bool:
    return _DIGIT.search(mark) is not None or any(w in wording.NUMBER_WORDS for w in re.findall(r"[a-z]+", mark[:200].lower()))


def _anything(mark: str) -> bool:
    return True


def _plausible(mark: str) -> bool:
    """Where the reference is mathematics: mathematics, or at least a few words."""
    return not mark or len(mark) <= 80 or "$" in mark or isinstance(read(mark[: MAX_ANSWER + 1]), Node)


def _several(reference: str) -> bool:
    tree = read(reference)
    return isinstance(tree, Node) and (tree.op in ("list", "set", "where") or has_sign(tree))


def judge(reference: str, response: str, extract: str = "strict") -> Judged:
    """(outcome, reason) of one response; pure and total. A response and what the ledger stored of it are judged alike."""
    response = storable(response)
    numeric = isinstance(_parse(reference), Number)
    plausible = _holds_number if numeric else _plausible if isinstance(read(reference), Node) else _anything
    answer, why = find_answer(response, extract, _agree, plausible=plausible, several=not numeric and _several(reference))
    if answer is None:
        return "fail", why
    if why != "bare":
        return compare_answers(reference, answer)
    verdict = compare_answers(reference, answer, marked=False)
    if verdict[0] == "pass" or isinstance(_parse(answer[: MAX_LENGTH + 1]), Number) or (not numeric and isinstance(read(answer), Node)):
        return verdict
    if extract == "last_number":  # one unmarked line is an answer only if nothing else is in it
        answer, why = find_answer(response + "\n.\n.", extract, _agree, plausible=plausible)
        return ("fail", why) if answer is None else compare_answers(reference, answer)
    return ("unknown", verdict[1]) if verdict[0] == "unknown" and not numeric and len(answer) <= 80 else ("fail", "no final answer")


_EQUAL_TREES = "equal"


def _by_options(problem: Problem, response: str) -> Judged | None:
    """A question that lists its options: the letter answered by the option's content, or the content by its letter."""
    letter, text = choices.choice(problem.reference)
    lettered = bool(letter) and not text
    if not lettered and len(problem.reference) > 200:
        return None
    listed = choices.options(problem.prompt) if "A" in problem.prompt and "B" in problem.prompt else ()
    if not listed:
        return None
    answer, _ = find_answer(storable(response), str(problem.spec.get("extract", "strict")), _agree, plausible=_anything)
    said, rest = choices.choice(answer[: MAX_ANSWER + 1]) if answer else ("", "")
    if not answer or (said and rest) or bool(said) == lettered:
        return None
    content = answer if lettered else problem.reference
    right = letter if lettered else said
    same = [name for name, option in listed if compare_answers(option, content)[0] == "pass"]
    return ("pass", "the content of the right option" if lettered else "the letter of the right option") if same == [right] else None


def _repeats(problem: Problem, response: str) -> bool:
    """Is the answer an expression that stands in the problem? "\\sin 60^\\circ" is equal to the value asked for, but no answer."""
    answer, _ = find_answer(storable(response), str(problem.spec.get("extract", "strict")), _agree, plausible=_anything)
    tree = read(answer[: MAX_ANSWER + 1]) if answer else ""
    if not isinstance(tree, Node) or not is_expression(tree) or isinstance(_parse(str(answer)[: MAX_LENGTH + 1]), Number):
        return False
    text = _bare(str(answer))
    return len(text) >= 3 and text != _bare(problem.reference) and text in _bare(problem.prompt[:20_000])


def _bare(text: str) -> str:
    return re.sub(r"[\s${}]|\\(?:left|right|[,;!: ()\[\]])", "", text.replace("\\dfrac", "\\frac"))


class MathVerifier(PlainVerifier):
    """Final answers against a reference, by exact value."""

    name = "math"

    def decide(self, problem: Problem, response: str) -> tuple[Outcome, str]:
        outcome, reason = judge(problem.reference, response, str(problem.spec.get("extract", "strict")))
        if outcome != "pass" and problem.prompt:
            outcome, reason = _by_options(problem, response) or (outcome, reason)
        if outcome == "pass" and reason == _EQUAL_TREES and _repeats(problem, response):
            outcome, reason = "unknown", "an expression of the problem itself, not worked out"
        return outcome, reason

    def check_problem(self, problem: Problem) -> str:
        if not problem.reference.strip():
            return "the problem has no reference answer"
        if len(problem.reference) > MAX_ANSWER:
            return f"the reference answer is longer than {MAX_ANSWER} characters"
        if re.search(rf"\d{{{MAX_DIGIT_RUN + 1}}}", problem.reference):
            return f"the reference answer holds a run of more than {MAX_DIGIT_RUN} digits"
        extract = problem.spec.get("extract", "strict")
        if extract not in POLICIES:
            return f"spec extract={extract!r} is none of {', '.join(POLICIES)}"
        return ""

    def answer_key(self, problem: Problem, response: str) -> str:
        """The final answer in one canonical form, "" where there is none: equal keys are one vote."""
        answer, _ = find_answer(storable(response), str(problem.spec.get("extract", "strict")), _agree, plausible=_anything)
        if answer is None:
            return ""
        number = _parse(answer[: MAX_LENGTH + 1])
        if isinstance(number, Number):
            return f"{number.value} {number.unit}".strip()
        tree = read(answer[: MAX_ANSWER + 1])
        value = constant(tree) if isinstance(tree, Node) else None
        return normal_text(answer) if value is None else str(value)[:30]


def reference_kind(reference: str) -> str:
    """number | percent | quantity (a number with a unit) | text | symbolic: how the verifier reads a reference."""
    read = _parse(reference)
    if isinstance(read, Number):
        return "number" if not read.unit else "percent" if same_unit(read.unit, "%") else "quantity"
    return "text" if _WORDS.match(normal_text(reference)) and isinstance(read, Refusal) and not read.expression else "symbolic"


register_verifier("math", MathVerifier)
