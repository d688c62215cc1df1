"""Search answers: precision and recall of EM, subEM, F1 and our rules on rewrites of real answers labelled by construction.

A positive says the same thing otherwise (case, articles, dates, numbers, brackets, a short sentence); a negative is another answer of the
same kind, a near miss (a day, a name, a namesake, a negation) or a list of candidates. `synth bench answers [-- --data FOLDER]`
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from filters.verifiers.answer import compare
from filters.verifiers.answer_text import contains, exact_match, f1
from filters.verifiers.dates import read_date
from filters.verifiers.votes import wilson

DATA = Path(__file__).parents[3] / "shared" / "data"
_MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"]
_SMALL = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]

Pair = tuple[str, str, bool, str]
"""reference, answer, whether it is right, how it was made"""


def references(folder: Path) -> list[str]:
    """Distinct answers of 2WikiMultihopQA, MuSiQue and HotpotQA rows, in file order."""
    found: dict[str, None] = {}
    for name in ("2wiki_500.json", "musique_500.json"):
        for row in json.loads((folder / name).read_text("utf-8")):
            found[row["answer"][0]] = None
    with gzip.open(folder / "migres_hotpot_200_with_context.json.gz", "rt", encoding="utf-8") as stream:
        for line in stream:
            answer = json.loads(line)["answer"]
            found[answer if isinstance(answer, str) else answer[0]] = None
    return [a.strip() for a in found if a.strip()]


def kind(answer: str) -> str:
    if answer.lower() in ("yes", "no"):
        return "closed"
    if read_date(answer) is not None and not re.fullmatch(r"\d{1,3}", answer):
        return "date"
    return "number" if re.fullmatch(r"[\d,.]+|" + "|".join(_SMALL), answer.lower()) else "name"


def positives(answer: str) -> Iterator[tuple[str, str]]:
    yield answer, "same"
    yield answer.upper(), "case"
    yield f"  {answer.lower()}.", "case"
    yield f'"{answer}"', "quotes"
    if kind(answer) == "name":
        yield f"the {answer}", "article"
        plain = "".join(c for c in unicodedata.normalize("NFKD", answer) if not unicodedata.combining(c))
        if plain != answer:
            yield plain, "diacritics"
        if "-" in answer:
            yield answer.replace("-", "–"), "dash"
        if " and " in answer:
            yield answer.replace(" and ", " & "), "ampersand"
        if "." in answer:
            yield answer.replace(".", ""), "dots"
        if "(" not in answer:
            yield f"{answer} (as the article says)", "bracket"
    date = read_date(answer) if kind(answer) == "date" else None
    if date is not None and date.whole:
        month = _MONTHS[(date.month or 1) - 1]
        for said in (f"{month} {date.day}, {date.year}", f"{date.day} {month} {date.year}", f"{date.year}-{date.month:02d}-{date.day:02d}",
                     f"{date.day} {month[:3]} {date.year}"):  # fmt: skip
            yield said, "date"
    if answer.lower() in _SMALL:
        yield str(_SMALL.index(answer.lower())), "number"
    if re.fullmatch(r"\d{4,}", answer) and kind(answer) == "number":
        yield f"{int(answer):,}", "number"
    if kind(answer) != "closed":
        yield f"It is {answer}", "sentence"


def negatives(answer: str, others: Sequence[str], rng: random.Random) -> Iterator[tuple[str, str]]:
    mine = kind(answer)
    same = [o for o in others if kind(o) == mine and not exact_match(o, answer)]
    if same:
        yield rng.choice(same), "another"
        near = max(rng.sample(same, min(80, len(same))), key=lambda o: f1(o, answer))
        yield near, "nearest"
        yield ", ".join([answer, *rng.sample(same, min(3, len(same)))]), "list"
    if mine == "closed":
        yield "no" if answer.lower() == "yes" else "yes", "negation"
        return
    date = read_date(answer) if mine == "date" else None
    if date is not None:
        if date.day and date.month:
            yield f"{date.day % 27 + 1} {_MONTHS[date.month - 1]} {date.year or ''}".strip(), "a day off"
            yield f"{date.day} {_MONTHS[date.month % 12]} {date.year or ''}".strip(), "a month off"
        if date.year:
            yield re.sub(r"\d{4}", str(date.year + 1), answer), "a year off"
        return
    if mine == "number" and re.fullmatch(r"[\d,]+", answer):
        yield str(int(answer.replace(",", "")) + 1), "one more"
        yield answer + "0", "ten times"
        return
    yield f"not {answer}", "negation"
    words = answer.split()
    if 2 <= len(words) <= 3 and all(w[:1].isupper() for w in words):
        first = rng.choice([o.split()[0] for o in same if len(o.split()) == 2 and o.split()[0] != words[0]] or ["Zed"])
        yield " ".join([first, *words[1:]]), "another first name"
        yield f"{answer} {rng.choice(['II', 'Junior', 'County', 'University', 'Street'])}", "a namesake"


def pairs(folder: Path = DATA, seed: int = 1) -> list[Pair]:
    rng, found = random.Random(seed), references(folder)
    made = [(a, said, True, how) for a in found for said, how in positives(a)]
    return made + [(a, said, False, how) for a in found for said, how in negatives(a, found, rng)]


RULES: dict[str, Callable[[str, str], str]] = {
    "EM": lambda r, a: "pass" if exact_match(a, r) else "fail",
    "subEM": lambda r, a: "pass" if contains(a, r) else "fail",
    "F1>=.5": lambda r, a: "pass" if f1(a, r) >= 0.5 else "fail",
    "F1>=.8": lambda r, a: "pass" if f1(a, r) >= 0.8 else "fail",
    "answer": lambda r, a: compare(r, a)[0],
}


def measure(labelled: Sequence[Pair]) -> list[dict[str, object]]:
    """Precision and recall of `pass`, the false-positive rate with its upper 95 % bound, and the share left to a judge by label."""
    rows = []
    for name, rule in RULES.items():
        said = Counter((rule(r, a), good) for r, a, good, _ in labelled)
        right, wrong = (sum(n for (_, g), n in said.items() if g is good) for good in (True, False))
        passed, accepted = said["pass", True], said["pass", False]
        rows.append({
            "bench": "answers", "rule": name, "right": right, "wrong": wrong, "precision": round(passed / max(1, passed + accepted), 4),
            "recall": round(passed / right, 4), "fpr": round(accepted / wrong, 5), "fpr_upper95": round(wilson(accepted, wrong)[1], 5),
            "judge_right": round(said["unknown", True] / right, 4), "judge_wrong": round(said["unknown", False] / wrong, 4),
        })  # fmt: skip
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="synth bench answers", description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--json", action="store_true", help="accepted for all benchmarks; this one prints JSON anyway")
    options = parser.parse_args(argv)
    labelled = pairs(options.data)
    for row in measure(labelled):
        print(json.dumps(row), flush=True)
    asked = Counter(f"{'right' if good else 'wrong'}, {how}: {compare(r, a)[2].split(' ')[0]} {' '.join(compare(r, a)[2].split(' ')[1:3])}"
                    for r, a, good, how in labelled if compare(r, a)[0] == "unknown")  # fmt: skip
    print(json.dumps({"bench": "answers", "a judge is asked": dict(asked.most_common(12))}), flush=True)
    missed = Counter(how for r, a, good, how in labelled if good and compare(r, a)[0] == "fail")
    print(json.dumps({"bench": "answers", "right answers refused": dict(missed)}), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
