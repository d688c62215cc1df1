"""Words and sentences of a text, counted as the IFEval and IFBench checkers count them; every scan is linear in the text.

`sentences` follows the rules of their splitter (abbreviations, decimals, initials, websites and dots in a row do not end a sentence);
`tokens` is a Penn-Treebank-like split (punctuation apart, contractions in two), what their NLTK tokenizer gives on ordinary English.
"""

from __future__ import annotations

import re
import string
import unicodedata

PUNCTUATION = string.punctuation
_OFF = str.maketrans("", "", PUNCTUATION)
_DOT = "\ue000"  # a dot that ends nothing, private use
_END = "\ue001"
_STARTERS = r"(?:Mr|Mrs|Ms|Dr|Prof|Capt|Cpt|Lt|He\s|She\s|It\s|They\s|Their\s|Our\s|We\s|But\s|However\s|That\s|This\s|Wherever)"
_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(rule), put)
    for rule, put in (
        (r"(Mr|St|Mrs|Ms|Dr)\.", rf"\1{_DOT}"),
        (r"\.(com|net|org|io|gov|edu|me)", rf"{_DOT}\1"),
        (r"([0-9])\.([0-9])", rf"\1{_DOT}\2"),
        (r"\.{2,}", f"{_DOT}{_END}"),
        (r"Ph\.D\.", f"Ph{_DOT}D{_DOT}"),
        (r"\s([A-Za-z])\. ", rf" \1{_DOT} "),
        (rf"([A-Z]\.[A-Z]\.(?:[A-Z]\.)?) (?={_STARTERS})", rf"\1{_END} "),
        (r"([A-Za-z])\.([A-Za-z])\.([A-Za-z])\.", rf"\1{_DOT}\2{_DOT}\3{_DOT}"),
        (r"([A-Za-z])\.([A-Za-z])\.", rf"\1{_DOT}\2{_DOT}"),
        (rf" (Inc|Ltd|Jr|Sr|Co)\. (?={_STARTERS})", rf" \1{_END} "),
        (r" (Inc|Ltd|Jr|Sr|Co)\.", rf" \1{_DOT}"),
        (r" ([A-Za-z])\.", rf" \1{_DOT}"),
    )
)


def count_words(text: str) -> int:
    """Runs of word characters."""
    return sum(1 for _ in re.finditer(r"\w+", text))


def sentences(text: str) -> list[str]:
    """Sentences with their end marks; a quotation mark behind the end mark changes places with it."""
    text = f" {text}  ".replace("\n", " ").replace(_DOT, "").replace(_END, "")
    for rule, put in _RULES:
        text = rule.sub(put, text)
    for quoted, turned in ((".”", "”."), ('."', '".'), ('!"', '"!'), ('?"', '"?')):
        text = text.replace(quoted, turned)
    text = re.sub(r"([.?!])", rf"\1{_END}", text).replace(_DOT, ".")
    found = [s.strip() for s in text.split(_END)]
    return found[:-1] if found and not found[-1] else found


def plain_words(text: str) -> list[str]:
    """Words between blanks, punctuation taken out wherever it stands."""
    return text.translate(_OFF).split()


def bare(word: str) -> str:
    """Punctuation and blanks off both ends."""
    return word.strip(PUNCTUATION + " ")


_TOKEN = re.compile(
    r"\.\.\.|--+|``|''|\w+(?=n't\b)|n't\b|'(?:s|re|ve|ll|d|m|S|RE|VE|LL|D|M)\b|[A-Za-z]\.(?:[A-Za-z]\.)+|\d+(?:[.,:]\d+)+|"
    r"\w+(?:[-./_]\w+)*|\s+|.",
    re.S,
)


def tokens(text: str) -> list[str]:
    """Words and marks apart: "don't (stop)." -> do n't ( stop ) ."""
    return [t for t in _TOKEN.findall(text) if not t.isspace()]


def folded(text: str) -> str:
    """ASCII letters only: diacritics off, other letters left out."""
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")


def syllables(word: str) -> int:
    """Syllables of an English word by its spelling: groups of vowels, less a silent e. An estimate."""
    word = re.sub(r"[^a-z]", "", word.lower())
    if not word:
        return 0
    count = len(re.findall(r"[aeiouy]+", re.sub(r"(?:[^laeiouy]es|ed|[^laeiouy]e)$", "", word)))
    count += len(re.findall(r"ia|eo|iu|io(?!n)|ua(?!r)", word))
    return max(1, count)


STOP_WORDS = frozenset(
    """i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she her hers herself it its itself they them
their theirs themselves what which who whom this that these those am is are was were be been being have has had having do does did doing a an
the and but if or because as until while of at by for with about against between into through during before after above below to from up down
in out on off over under again further then once here there when where why how all any both each few more most other some such no nor not only
own same so than too very s t can will just don should now d ll m o re ve y ain aren couldn didn doesn hadn hasn haven isn ma mightn mustn
needn shan shouldn wasn weren won wouldn""".split()  # noqa: SIM905
)
"""NLTK's English stop words, as one-word tokens."""
