"""SvS's decisions as pure functions: which problems are sources, what a variant's answers say, what a variant's writing is worth.

SvS (arXiv 2508.14029v4), Alg. 1 and section 3.2. The bands are inclusive, as in its released code; Alg. 1 writes the source band strictly.
Pass rates are compared on counts, so 12.5 % of 8 answers is exactly one on every machine and the bands hold for any group size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from filters.dedup import normalise_texts
from filters.difficulty import PRESETS, Band
from filters.written import Form, jaccard, read_problem, states_answer

SOURCE: Band = PRESETS["svs_source"]  # 1..4 of 8
VARIANT: Band = PRESETS["svs_variant"]  # 1..5 of 8


def settle(passes: int, judged: int, asked: int, band: Band) -> bool | None:
    """Whether `passes` of `asked` answers lie in the band; None where the answers that nobody could judge decide it.

    With every verdict known this is `band.contains(passes, asked)`. A verdict that is unknown may be either: only what holds for
    all of them is settled, so that an engine that fails or a judge that breaks is never read as a wrong answer.
    """
    if judged <= 0 or judged > asked or not 0 <= passes <= judged:
        return None
    said = {band.contains(k, asked) for k in range(passes, passes + asked - judged + 1)}
    return said.pop() if len(said) == 1 else None


def is_source(passes: int, judged: int, asked: int, band: Band = SOURCE) -> bool:
    """Whether variants are written from the problem's correct answers: it is under-performing and not hopeless."""
    return settle(passes, judged, asked, band) is True


def writing_reward(passes: int, judged: int, asked: int, band: Band = VARIANT) -> float | None:
    """R_v: 1.0 where the solvers' agreement with the inherited answer lies in the band, 0.0 where not, None where that is not known.

    Never negative, and no sum of parts: a text that is wrong (no answer agrees) and one that gives itself away (all agree) are worth
    the same nothing.
    """
    found = settle(passes, judged, asked, band)
    return None if found is None else float(found)


def is_trained(rewards: Sequence[float]) -> bool:
    """Whether a group of writings joins the update: at least one positive (Alg. 1, line 22)."""
    return any(r > 0 for r in rewards)


@dataclass(frozen=True)
class Written:
    """One answer of the writer: the variant's text, or the rule that it broke and how; `same_as` = place of an equal one before it."""

    text: str = ""
    rule: str = ""
    reason: str = ""
    same_as: int | None = None

    @property
    def solvable(self) -> bool:
        """Whether solvers are asked."""
        return not self.rule


def read_variants(
    answers: Sequence[tuple[str, bool]], source: str, reference: str, form: Form, *, ngram: int = 3, overlap: float = 0.9
) -> list[Written]:
    """Each answer (text, whether it was cut off) of the writers of one source, judged by the rules, in order; the first broken one counts.

    unreadable  no problem can be read out of it: worth 0, and nobody is asked to solve anything
    copy        its word n-grams are the source's by `overlap` or more (Jaccard)
    leak        it states the answer (`filters.written.states_answer`)
    duplicate   an earlier answer of this source says the same once both are normalised: it shares that one's fate and worth
    """
    found: list[Written] = []
    seen: dict[str, int] = {}
    for place, (answer, cut) in enumerate(answers):
        text, why = ("", "cut off by the token limit") if cut else read_problem(answer, form)
        if why:
            found.append(Written(rule="unreadable", reason=why))
            continue
        same = seen.setdefault(normalise_texts([text])[0], place)
        if same != place:
            found.append(Written(text, "duplicate", "an earlier variant of this problem says the same", same))
            continue
        shared = jaccard(text, source, ngram)
        if shared >= overlap:
            found.append(Written(text, "copy", f"shares {shared:.0%} of its {ngram}-word runs with the problem it stands for"))
        elif leak := states_answer(text, reference, source):
            found.append(Written(text, "leak", leak))
        else:
            found.append(Written(text))
    return found
