"""The 25 instruction kinds of IFEval (arXiv 2311.07911) as functions text -> bool; the official checkers' results, written anew.

Words from a problem are matched as texts, not as regular expressions. Where the official check passes what it cannot tell (a text whose
language cannot be detected), ours says None.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal

from filters.verifiers.words import count_words, sentences, tokens

Relation = Literal["less than", "at least"]


def _compared(count: int, relation: Relation, bound: int) -> bool:
    return count < bound if relation == "less than" else count >= bound


def existence(text: str, *, keywords: Sequence[str]) -> bool:
    return all(re.search(re.escape(k), text, re.I) for k in keywords)


def frequency(text: str, *, keyword: str, frequency: int, relation: Relation) -> bool:
    return _compared(len(re.findall(re.escape(keyword.strip()), text, re.I)), relation, frequency)


def forbidden_words(text: str, *, forbidden_words: Sequence[str]) -> bool:
    return not any(re.search(rf"\b{re.escape(w)}\b", text, re.I) for w in forbidden_words)


def letter_frequency(text: str, *, letter: str, let_frequency: int, let_relation: Relation) -> bool:
    return _compared(Counter(text.lower())[letter.lower()], let_relation, let_frequency)


def response_language(text: str, *, language: str) -> bool | None:
    found = detected_language(text)
    return None if found is None else found == language


def number_sentences(text: str, *, num_sentences: int, relation: Relation) -> bool:
    return _compared(len([s for s in sentences(text) if s]), relation, num_sentences)


def number_paragraphs(text: str, *, num_paragraphs: int) -> bool:
    parts = re.split(r"\s?\*\*\*\s?", text)
    if any(not p.strip() for p in parts[1:-1]):
        return False
    return sum(bool(p.strip()) for p in parts) == num_paragraphs


def number_words(text: str, *, num_words: int, relation: Relation) -> bool:
    return _compared(count_words(text), relation, num_words)


def nth_paragraph_first_word(text: str, *, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    parts = text.split("\n\n")
    full = sum(bool(p.strip()) for p in parts)
    if nth_paragraph > full or not 1 <= nth_paragraph <= len(parts) or not (paragraph := parts[nth_paragraph - 1].strip()):
        return False
    word = re.split(r"[.,?!'\"]", paragraph.split()[0].lstrip("'").lstrip('"'))[0].lower()
    return full == num_paragraphs and word == first_word.lower()


def number_placeholders(text: str, *, num_placeholders: int) -> bool:
    count = 0
    for line in text.split("\n"):
        at = line.find("[")
        while at >= 0 and (end := line.find("]", at)) >= 0:
            count += 1
            at = line.find("[", end)
    return count >= num_placeholders


def postscript(text: str, *, postscript_marker: str) -> bool:
    form = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}.get(postscript_marker.strip(), re.escape(postscript_marker.strip().lower()))
    return re.search(form, text.lower()) is not None


def number_bullet_lists(text: str, *, num_bullets: int) -> bool:
    lines = [line.lstrip() for line in text.split("\n")]
    stars = sum(line.startswith("*") and not line.startswith("**") and (len(line) > 1 or i < len(lines) - 1) for i, line in enumerate(lines))
    return stars + sum(line.startswith("-") for line in lines) == num_bullets


def constrained_response(text: str) -> bool:
    return any(option in text for option in ("My answer is yes.", "My answer is no.", "My answer is maybe."))


def number_highlighted_sections(text: str, *, num_highlights: int) -> bool:
    single = sum(bool(h.strip("*").strip()) for h in re.findall(r"\*[^\n*]*\*", text))
    double = sum(bool(h[2:-2].strip()) for h in re.findall(r"\*\*[^\n*]*\*\*", text))
    return single + double >= num_highlights


def multiple_sections(text: str, *, section_spliter: str, num_sections: int) -> bool:
    return len(re.split(rf"\s?{re.escape(section_spliter.strip())}\s?\d+\s?", text)) - 1 >= num_sections


def json_format(text: str) -> bool:
    said = text.strip()
    for head in ("```json", "```Json", "```JSON", "```"):
        said = said.removeprefix(head)
    try:
        json.loads(said.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def title(text: str) -> bool:
    for line in text.split("\n"):
        start, end = line.find("<<"), line.rfind(">>")
        if start >= 0 and end > start + 2 and line[start : end + 2].lstrip("<").rstrip(">").strip():
            return True
    return False


def two_responses(text: str) -> bool:
    parts = text.split("******")
    if any(not p.strip() for p in parts[1:-1]):
        return False
    said = [p.strip() for p in parts if p.strip()]
    return len(said) == 2 and said[0] != said[1]


def repeat_prompt(text: str, *, prompt_to_repeat: str) -> bool:
    return text.strip().lower().startswith(prompt_to_repeat.strip().lower())


def end_checker(text: str, *, end_phrase: str) -> bool:
    return text.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def capital_word_frequency(text: str, *, capital_frequency: int, capital_relation: Relation) -> bool:
    return _compared(sum(t.isupper() for t in tokens(text)), capital_relation, capital_frequency)


def english_capital(text: str) -> bool | None:
    return False if not text.isupper() else response_language(text, language="en")


def english_lowercase(text: str) -> bool | None:
    return False if not text.islower() else response_language(text, language="en")


def no_comma(text: str) -> bool:
    return "," not in text


def quotation(text: str) -> bool:
    said = text.strip()
    return len(said) > 1 and said[0] == said[-1] == '"'


@lru_cache(maxsize=1_024)
def detected_language(text: str) -> str | None:
    """ISO code of the text's language by langdetect with a fixed seed (its answers are random otherwise); None where it cannot tell."""
    from langdetect import DetectorFactory, LangDetectException, detect

    DetectorFactory.seed = 0
    try:
        found: str = detect(text)
    except LangDetectException:
        return None
    return found


KINDS: dict[str, Callable[..., bool | None]] = {
    "keywords:existence": existence,
    "keywords:frequency": frequency,
    "keywords:forbidden_words": forbidden_words,
    "keywords:letter_frequency": letter_frequency,
    "language:response_language": response_language,
    "length_constraints:number_sentences": number_sentences,
    "length_constraints:number_paragraphs": number_paragraphs,
    "length_constraints:number_words": number_words,
    "length_constraints:nth_paragraph_first_word": nth_paragraph_first_word,
    "detectable_content:number_placeholders": number_placeholders,
    "detectable_content:postscript": postscript,
    "detectable_format:number_bullet_lists": number_bullet_lists,
    "detectable_format:constrained_response": constrained_response,
    "detectable_format:number_highlighted_sections": number_highlighted_sections,
    "detectable_format:multiple_sections": multiple_sections,
    "detectable_format:json_format": json_format,
    "detectable_format:title": title,
    "combination:two_responses": two_responses,
    "combination:repeat_prompt": repeat_prompt,
    "startend:end_checker": end_checker,
    "startend:quotation": quotation,
    "change_case:capital_word_frequency": capital_word_frequency,
    "change_case:english_capital": english_capital,
    "change_case:english_lowercase": english_lowercase,
    "punctuation:no_comma": no_comma,
}
