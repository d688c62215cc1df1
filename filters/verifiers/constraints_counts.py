"""IFBench (arXiv 2507.02833) kinds that count or place words and sentences, as functions text -> bool; `form` kinds are next door.

The recorded official verdicts are of October 2025; where IFBench changed a check later, the recorded one is followed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

from filters.verifiers.words import PUNCTUATION, STOP_WORDS, bare, count_words, plain_words, sentences, syllables, tokens

_PRONOUNS = frozenset(
    """i me my mine myself we us our ours ourselves you your yours yourself yourselves he him his himself she her hers herself it its itself they
them their theirs themselves""".split()  # noqa: SIM905
)
_NAMES = """Emma Liam Sophia Jackson Olivia Noah Ava Lucas Isabella Mason Mia Ethan Charlotte Alexander Amelia Benjamin Harper Leo Zoe Daniel Chloe
Samuel Lily Matthew Grace Owen Abigail Gabriel Ella Jacob Scarlett Nathan Victoria Elijah Layla Nicholas Audrey David Hannah Christopher Penelope
Thomas Nora Andrew Aria Joseph Claire Ryan Stella Jonathan""".split()  # noqa: SIM905
_PRIMES = frozenset(n for n in range(2, 98) if all(n % d for d in range(2, n)))


def word_count_range(text: str, *, min_words: int, max_words: int) -> bool:
    return min_words <= count_words(text) <= max_words


def unique_word_count(text: str, *, N: int) -> bool:
    return len({bare(w) for w in text.lower().split()}) >= N


def stop_words(text: str, *, percentage: float) -> bool:
    words = re.findall(r"\w+", text.lower())
    return bool(words) and 100 * sum(w in STOP_WORDS for w in words) / len(words) <= percentage


def _ends(text: str) -> Counter[str]:
    return Counter(s[-1:] for s in sentences(text))


def sentence_type(text: str) -> bool:
    return _ends(text)["."] == 2 * _ends(text)["?"]


def sentence_balance(text: str) -> bool:
    ends = _ends(text)
    return ends["."] == ends["?"] == ends["!"]


def conjunctions(text: str, *, small_n: int) -> bool:
    """Spellings count, as in the official check: "But" and "but" are two."""
    return len({w for w in text.split() if bare(w).lower() in ("and", "but", "for", "nor", "or", "so", "yet")}) >= small_n


def person_names(text: str, *, N: int) -> bool:
    return sum(name in text for name in _NAMES) >= N


def overlap(text: str, *, reference_text: str, percentage: float) -> bool:
    """Character trigrams of the text that the reference has too, in percent, within 2 points."""
    mine, theirs = ({t[i : i + 3] for i in range(len(t) - 2)} for t in (text, reference_text))
    return bool(mine) and percentage - 2 <= 100 * len(mine & theirs) / len(mine) <= percentage + 2


def numbers(text: str, *, N: int) -> bool:
    return len(re.findall(r"\d+", text.translate(str.maketrans("", "", PUNCTUATION)))) == N


def alphabet(text: str) -> bool:
    words = [w.lower() for w in plain_words(text)]
    if not words or words[0][0] not in "abcdefghijklmnopqrstuvwxyz":
        return False
    first = ord(words[0][0]) - 97
    return all(w[0] == chr(97 + (first + i) % 26) for i, w in enumerate(words))


def vowel(text: str) -> bool:
    return "\n" not in text.strip() and len(set(text.lower()) & set("aeiou")) <= 3


def consonants(text: str) -> bool:
    return all(re.search(r"[bcdfghjklmnpqrstvwxyz]{2}", w) for w in text.lower().split())


def alliteration_increment(text: str) -> bool:
    last = -1
    for sentence in sentences(text):
        words = [w for w in (w.lstrip(PUNCTUATION + " ") for w in sentence.lower().split()) if w]
        same = [a[0] == b[0] for a, b in pairwise(words)]
        run = sum(same) + sum(s and not before for s, before in zip(same, [False, *same]))
        if run <= last:
            return False
        last = run
    return True


def palindrome(text: str) -> bool:
    return sum(w == w[::-1] and len(w) >= 5 for w in plain_words(text.lower())) >= 10


def prime_lengths(text: str) -> bool:
    return all(len(w) in _PRIMES for w in plain_words(text))


def sentence_words(text: str) -> bool:
    found = sentences(text)
    return len(found) == 3 and len({len(s) for s in found}) == 1


def words_japanese(text: str, *, N: int) -> bool:
    due = [bare(w) for w in text.split()[N - 1 :: N]] if N > 0 else []
    return all(not w or w.isdigit() or re.search(r"[\u3040-\u30ff\u4e00-\u9fff]", w) for w in due)


def repeats(text: str, *, small_n: int) -> bool:
    return max(Counter(plain_words(text.lower())).values(), default=0) <= small_n


def sentence_keyword(text: str, *, word: str, N: int) -> bool:
    found = sentences(text)
    return 1 <= N <= len(found) and word.lower() in found[N - 1].lower()


def pronouns(text: str, *, N: int) -> bool:
    return sum(w in _PRONOUNS for w in plain_words(text.replace("/", " ").lower())) >= N


def odd_even_syllables(text: str) -> bool:
    parity = [syllables(w) % 2 for w in plain_words(text.lower())]
    return all(a != b for a, b in pairwise(parity))


def last_first(text: str) -> bool:
    found = sentences(text)
    for one, other in pairwise(found):
        last, first = one.rstrip(PUNCTUATION + " ").split(), other.lstrip(PUNCTUATION + " ").split()
        if not last or not first or last[-1].lower() != first[0].lower():
            return False
    return True


def paragraph_last_first(text: str) -> bool:
    paragraphs = [bare(p.strip().lower()).split() for p in text.split("\n")]
    return all(words[0] == words[-1] for words in paragraphs if words)


def increment(text: str, *, small_n: int) -> bool:
    counts = [len(plain_words(s)) for s in sentences(text)]
    return all(b == a + small_n for a, b in pairwise(counts))


def no_consecutive(text: str) -> bool:
    words = plain_words(text.lower())
    return all(a[0] != b[0] for a, b in pairwise(words))


def keywords_multiple(text: str, *, keyword1: str, keyword2: str, keyword3: str, keyword4: str, keyword5: str) -> bool:
    lower = text.lower()
    return all(lower.count(k.strip().lower()) == n for k, n in zip((keyword1, keyword2, keyword3, keyword4, keyword5), (1, 2, 3, 5, 7)))


def keywords_specific_position(text: str, *, keyword: str, n: int, m: int) -> bool:
    found = sentences(text)
    if not 1 <= n <= len(found):
        return False
    words = tokens(found[n - 1])
    return 1 <= m <= len(words) and words[m - 1] == keyword.strip()


def words_position(text: str, *, keyword: str) -> bool:
    words = tokens(text)
    return len(words) >= 2 and words[1] == words[-2] == keyword.strip()


KINDS: dict[str, Callable[..., bool | None]] = {
    "count:word_count_range": word_count_range,
    "count:unique_word_count": unique_word_count,
    "count:conjunctions": conjunctions,
    "count:person_names": person_names,
    "count:numbers": numbers,
    "count:words_japanese": words_japanese,
    "count:pronouns": pronouns,
    "count:keywords_multiple": keywords_multiple,
    "ratio:stop_words": stop_words,
    "ratio:sentence_type": sentence_type,
    "ratio:sentence_balance": sentence_balance,
    "ratio:overlap": overlap,
    "ratio:sentence_words": sentence_words,
    "words:alphabet": alphabet,
    "words:vowel": vowel,
    "words:consonants": consonants,
    "words:palindrome": palindrome,
    "words:prime_lengths": prime_lengths,
    "words:repeats": repeats,
    "words:odd_even_syllables": odd_even_syllables,
    "words:last_first": last_first,
    "words:paragraph_last_first": paragraph_last_first,
    "words:no_consecutive": no_consecutive,
    "words:keywords_specific_position": keywords_specific_position,
    "words:words_position": words_position,
    "sentence:alliteration_increment": alliteration_increment,
    "sentence:keyword": sentence_keyword,
    "sentence:increment": increment,
}
