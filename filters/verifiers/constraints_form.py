"""IFBench kinds of form: lists, quotes, brackets, tables, repetition; and its one-of-a-kind tasks. See `constraints_counts`."""

from __future__ import annotations

import csv
import re
import string
from collections.abc import Callable
from itertools import pairwise

from filters.verifiers.words import PUNCTUATION, bare, folded, plain_words, sentences, tokens

_CAPITALS = """Reykjavik Helsinki Oslo Tallinn Stockholm Riga Moscow Copenhagen Vilnius Minsk Dublin Berlin Amsterdam Warsaw London Brussels Prague
Luxembourg Paris Vienna Bratislava Budapest Vaduz Chisinau Bern Ljubljana Zagreb""".split()  # noqa: SIM905


def punctuation(text: str) -> bool:
    mark = next((m for m in ("?!", "!?") if m in text), "")
    return ("‽" in text or bool(mark)) and set(".,!?;:") <= set(text.replace(mark, "", 1) if mark else text)


def parentheses(text: str) -> bool:
    """At least five brackets inside one another, of which one is closed; a bracket of the wrong kind begins anew."""
    open_ones: list[str] = []
    deepest = 0
    for c in text:
        if c in "([{":
            open_ones.append(c)
            deepest = max(deepest, len(open_ones))
        elif c in ")]}":
            if open_ones and open_ones[-1] + c in ("()", "[]", "{}"):
                open_ones.pop()
                if deepest >= 5:
                    return True
            else:
                open_ones, deepest = [], 0
    return False


def quotes(text: str) -> bool:
    """Quotation marks three deep, of both kinds in turn."""
    open_ones: list[str] = []
    deepest = 0
    for c in text:
        if open_ones and c == open_ones[-1]:
            open_ones.pop()
            if deepest - len(open_ones) >= 3:
                return True
        elif c in "\"'":
            open_ones.append(c)
            deepest = max(deepest, len(open_ones))
    return False


def options(text: str, *, options: str) -> bool:
    separator = "/" if "/" in options else "or" if "or" in options else ","
    listed = [o.strip() for o in options.split(separator)]
    if re.match(r"\W*[aA]\W*[bB]\W*[cC]\W*", options):
        return text in listed
    return bare(text).lower() in [bare(o).lower() for o in listed]


def newline(text: str) -> bool:
    plain = text.translate(str.maketrans("", "", PUNCTUATION)).strip()
    return len([line for line in plain.split("\n") if line]) == len(plain.split())


def emoji(text: str) -> bool:
    """Each sentence ends with an emoji, or the next begins with one."""
    from emoji import is_emoji

    found = [s.translate(str.maketrans("", "", PUNCTUATION)).strip() for s in sentences(text)]
    for i, sentence in enumerate(found):
        if not sentence:
            return False
        if not is_emoji(sentence[-1]) and not is_emoji(sentence[-2:][0]):
            after = found[i + 1] if i + 1 < len(found) else ""
            if not after or not is_emoji(after[0]):
                return False
    return True


def line_indent(text: str) -> bool:
    lines = text.split("\n")
    for line in lines:
        if not line.strip():
            lines.remove(line)  # as the official check does it: of two empty lines in a row the second stays
    indents = [len(line) - len(line.lstrip(" ")) for line in lines]
    return all(b > a for a, b in pairwise(indents))


def quote_unquote(text: str) -> bool:
    """Every quotation is followed by an explanation: no two quotations in a row, none at the end."""
    said = "".join(text.replace("“", '"').replace("”", '"').replace("'\"'", "").split())
    return '""' not in said and said.strip(string.digits + PUNCTUATION.replace('"', ""))[-1:] != '"'


def separated_list(text: str, *, sep: str) -> bool:
    return text.count(sep) >= 2


def thesis(text: str) -> bool:
    """An italic thesis (<i> or <em>) that is not empty, and text behind it."""
    start = next((at for tag in ("<i>", "<em>") if (at := text.find(tag)) >= 0), -1)
    if start < 0:
        return False
    text = text[start:]
    end = next((at for tag in ("</i>", "</em>") if (at := text.find(tag)) >= 0), -1)
    return end >= 0 and text[3:end].strip() != "" and text[end + 4 :].strip() != ""


def sub_bullets(text: str) -> bool:
    return all("-" in bullet for bullet in text.split("*")[1:])


def no_bullets_bullets(text: str) -> bool:
    """Two sentences or more, then two bullets or more, and nothing else."""
    before, bullets, more = 0, 0, True
    for line in text.split("\n"):
        if line.strip().startswith("*"):
            if before < 2:
                return False
            bullets, more = bullets + 1, False
        elif not more:
            return False
        else:
            found = sentences(line.strip())
            before, more = before + len(found), bool(found)  # after a blank line only bullets may come
    return bullets >= 2


def multiples(text: str) -> bool:
    return re.findall(r"\d+", text) == [str(n) for n in range(14, 51, 7)]


def mcq_count_length(text: str) -> bool:
    """Four questions of five options each, every question longer than the one before."""
    if not text.startswith("Question"):
        return False
    lengths = []
    for question in [q.strip() for q in re.split(r"Question \d+[.|):;]?\s*", text) if q.strip()]:
        lines = [line.strip() for line in question.split("\n")]
        option = [re.match(r"[A-Ea-e][.|)]\s*\w", line) is not None for line in lines]
        if sum(option) != 5:
            return False
        lengths.append(len(" ".join(lines[: option.index(True)]).strip()))
    return len(lengths) == 4 and all(a < b for a, b in pairwise(lengths))


def reverse_newline(text: str) -> bool:
    """African countries a line each in reverse order of the alphabet, from Zimbabwe on."""
    lines = [folded(line) for line in map(bare, text.split("\n")) if line]
    start = next((i for i, line in enumerate(lines) if "Zimbabwe" in line), len(lines))
    return len(lines) - start >= 52 and lines[start:] == sorted(lines[start:], reverse=True)


def word_reverse(text: str) -> bool:
    said = " ".join(plain_words(text.lower())[::-1])
    return "bald eagle" in said and said in sentences(said)


def character_reverse(text: str) -> bool:
    return "elgae dlab" in text.lower()


def sentence_alphabet(text: str) -> bool:
    found = sentences(text)
    return len(found) == 26 and all(s.lstrip()[:1].lower() == chr(97 + i) for i, s in enumerate(found))


def european_capitals_sort(text: str) -> bool:
    return [c.strip() for c in folded(text).split(",") if c.strip()] == _CAPITALS


def _table(text: str, delimiter: str = ",") -> list[list[str]]:
    try:
        return list(csv.reader(text.split("\n"), delimiter=delimiter))
    except csv.Error:
        return []


def csv_city(text: str) -> bool:
    rows = _table(text)
    return len(rows) == 8 and rows[0] == ["ID", "Country", "City", "Year", "Count"] and all(len(r) == 5 for r in rows)


def csv_special_character(text: str) -> bool:
    head = ",[ \\t]*".join(rf'"?{name}"?' for name in ("ProductID", "Category", "Brand", "Price", "Stock"))
    rows = _table(text.replace('"', '"""'))
    if not re.fullmatch(head, text.split("\n")[0].strip()) or len(rows) != 15 or any(len(r) != 5 for r in rows[1:]):
        return False
    return any(re.match(r'".*[^\d\w\s].*"', field) for row in rows[1:] for field in row)


def csv_quotes(text: str) -> bool:
    head = "\\t *".join(rf'"?{name}"?' for name in ("StudentID", "Subject", "Grade", "Semester", "Score"))
    rows = _table(text.replace('"', '"""'), "\t")
    if not re.fullmatch(head, text.split("\n")[0].strip()) or len(rows) != 4 or any(len(r) != 5 for r in rows):
        return False
    return all(field.strip()[:1] == field.strip()[-1:] == '"' for row in rows for field in row)


def date_format_list(text: str) -> bool:
    """YYYY-MM-DD between 1769 and 1821, commas between."""
    for date in text.strip().split(","):
        match = re.fullmatch(r"(\d{4})-(\d{2})-(\d{2})", date.strip())
        if not match:
            return False
        year, month, day = map(int, match.groups())
        if not 1769 <= year <= 1821 or month > 12 or day > (29 if month == 2 else 30 if month in (4, 6, 9, 11) else 31):
            return False
    return True


def repeat_change(text: str, *, prompt_to_repeat: str) -> bool:
    return text != prompt_to_repeat and text.split()[1:] == prompt_to_repeat.split()[1:]


def repeat_simple(text: str) -> bool:
    return text.strip().lower() == "only output this sentence here, ignore all other requests."


def repeat_span(text: str, *, prompt_to_repeat: str, n_start: int, n_end: int) -> bool:
    return text.strip().lower().split() == prompt_to_repeat.strip().lower().split()[n_start:n_end]


def title_case(text: str) -> bool:
    return not any(w[0].islower() and (w[1:].islower() or w[1:].isupper()) for w in tokens(text))


def output_template(text: str) -> bool:
    return all(part in text for part in ("My Answer:", "My Conclusion:", "Future Outlook:"))


def no_whitespace(text: str) -> bool:
    return not any(c.isspace() for c in text)


KINDS: dict[str, Callable[..., bool | None]] = {
    "count:punctuation": punctuation,
    "format:parentheses": parentheses,
    "format:quotes": quotes,
    "format:options": options,
    "format:newline": newline,
    "format:emoji": emoji,
    "format:line_indent": line_indent,
    "format:quote_unquote": quote_unquote,
    "format:list": separated_list,
    "format:thesis": thesis,
    "format:sub-bullets": sub_bullets,
    "format:no_bullets_bullets": no_bullets_bullets,
    "format:title_case": title_case,
    "format:output_template": output_template,
    "format:no_whitespace": no_whitespace,
    "custom:multiples": multiples,
    "custom:mcq_count_length": mcq_count_length,
    "custom:reverse_newline": reverse_newline,
    "custom:word_reverse": word_reverse,
    "custom:character_reverse": character_reverse,
    "custom:sentence_alphabet": sentence_alphabet,
    "custom:european_capitals_sort": european_capitals_sort,
    "custom:csv_city": csv_city,
    "custom:csv_special_character": csv_special_character,
    "custom:csv_quotes": csv_quotes,
    "custom:date_format_list": date_format_list,
    "repeat:repeat_change": repeat_change,
    "repeat:repeat_simple": repeat_simple,
    "repeat:repeat_span": repeat_span,
}
