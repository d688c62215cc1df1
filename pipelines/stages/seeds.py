"""seeds: the world's problems and the user's own, training and held-out, and the declared benchmarks, into the lake (round 0).

The user's files are streamed, twice: once to choose which problems are held out, once to store them, a shard at a time. What stays in
memory grows by some 200 bytes a row.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

from data.errors import UserError
from data.ids import canonical_json, content_hash
from data.keyed import keyed_seed
from data.records import Problem, with_problem
from data.tables import problem_row
from filters.decontaminate import HeldoutIndex
from filters.dedup import normalise_texts
from filters.intake import batched
from filters.tables import decision_row
from filters.verifiers.base import get_verifier
from pipelines.problems import HELDOUT, benchmarks_of, index_of, read_benchmarks, user_problems
from pipelines.run import Run, run_file
from pipelines.stages.base import Summary

SHARD = 10_000  # seeds


def seeds_stage(run: Run, round: int) -> Summary:
    """Every distinct seed gets a decision row: kept, or refused because it gives a held-out problem away, has the text of another
    seed, or cannot be judged by its verifier. Rules `heldout`, `duplicate`, `unjudgeable`, in that order.
    """
    benchmarks = read_benchmarks(run.recipe)
    share, rows = own_share(run, index_of([], benchmarks))
    own = [*_world(run, "heldout"), *share]
    seeds = Seeds(index_of(own, benchmarks))
    first = seeds.heldout([p for problems in benchmarks.values() for p in problems], own)
    shards = max(1, -(-rows // SHARD))
    for shard, batch in enumerate(batched(_train(run), SHARD)):
        judged = [*first, *seeds.judge(batch)] if shard == 0 else list(seeds.judge(batch))
        if shard == shards - 1:
            seeds.check_any_left()
        if not run.lake.has_shard(round, "seeds", shard):
            tables: dict[str, list[dict[str, Any]]] = {
                "problems": [problem_row(p, round, "seeds") for p, _, why in judged if not why or "unjudgeable" in p.meta],
                "decisions": [
                    decision_row(p, rule, not why, why or _kept(p), round=round, stage="seeds", shard=shard) for p, rule, why in judged
                ],
            }
            run.lake.commit(round, "seeds", shard, tables | ({"runs": [run_row(run)]} if shard == 0 else {}))
        if shards > 1:
            run.emit("progress", round=round, stage="seeds", done=shard + 1, total=shards)
    return seeds.summary({name: len(problems) for name, problems in benchmarks.items()})


Judged = tuple[Problem, str, str]
"""problem, the rule that decided, why it is refused or ''"""


class Seeds:
    """Judges seeds batch by batch, and remembers which ids and texts it has seen: 16 bytes of hash each."""

    def __init__(self, index: HeldoutIndex) -> None:
        self.index = index
        self.counts = {"train": 0, "heldout": 0, "leaks": 0, "duplicates": 0, "unjudgeable": 0}
        self._ids: set[bytes] = set()
        self._texts: set[bytes] = set()
        self._held: set[bytes] = set()

    def heldout(self, benchmarks: Iterable[Problem], own: Iterable[Problem]) -> list[Judged]:
        """Held-out problems, each id once: those of benchmarks as they are, our own without doubles. A problem of both is one row."""
        found: dict[str, Judged] = {}
        for problem in benchmarks:
            why = get_verifier(problem.verifier).check_problem(problem)
            found.setdefault(problem.id, (with_problem(problem, meta={**problem.meta, "unjudgeable": why}) if why else problem, "unjudgeable", why))
        listed = list({p.id: p for p in own}.values())
        for problem, text in zip(listed, _text_keys(listed), strict=True):
            if problem.id in found:
                shared, rule, why = found[problem.id]
                problem = with_problem(shared, meta={**shared.meta, "benchmarks": [*benchmarks_of(shared), HELDOUT]})
            elif text in self._texts:
                rule, why = "duplicate", "the same text as an earlier held-out problem"
            else:
                rule, why = "unjudgeable", get_verifier(problem.verifier).check_problem(problem)
            self._texts.add(text)
            found[problem.id] = (problem, rule, why)
            self.counts["heldout" if not why else "duplicates" if rule == "duplicate" else "unjudgeable"] += 1
            self._held.add(bytes.fromhex(problem.id))
        return list(found.values())

    def judge(self, batch: list[Problem]) -> Iterator[Judged]:
        """What becomes of training seeds; one whose id was seen before is the same problem and gets no second row."""
        fresh = []
        for problem in batch:
            key = bytes.fromhex(problem.id)
            if key in self._ids:
                self.counts["duplicates"] += 1
            elif key not in self._held or problem.source == "world":
                fresh.append(problem)
            self._ids.add(key)
        texts = _text_keys(fresh)
        for problem, text, hit in zip(fresh, texts, self.index.hits([p.prompt for p in fresh]), strict=True):
            if hit is not None:
                rule, why, count = "heldout", hit.reason, "leaks"
            elif text in self._texts:
                rule, why, count = "duplicate", "the same text as an earlier seed", "duplicates"
            else:
                rule, why = "unjudgeable", get_verifier(problem.verifier).check_problem(problem)
                count = "unjudgeable" if why else "train"
            self._texts.add(text)
            self.counts[count] += 1
            yield problem, rule, why

    def check_any_left(self) -> None:
        if self.counts["train"] == 0:
            raise UserError(
                f"no problem to learn from: of the seeds {self.counts['leaks']} give held-out problems away, "
                f"{self.counts['duplicates']} are duplicates and {self.counts['unjudgeable']} cannot be judged"
            )

    def summary(self, benchmarks: dict[str, int]) -> Summary:
        return {**self.counts, **({"benchmarks": benchmarks} if benchmarks else {})}


def own_share(run: Run, benchmarks: HeldoutIndex) -> tuple[list[Problem], int]:
    """(the user's problems that are held out, all rows of training seeds). Chosen by content hash, the same for every run seed.

    A problem that gives a benchmark's away is not chosen: it is to be refused, with a row that says so. Where the problems come from a
    run, what it held out is held out again, and nothing else.
    """
    part, limit = run.recipe.problems, run.recipe.evaluate.problems
    nearest: list[tuple[int, str, Problem]] = []  # a heap: the problems with the smallest keyed numbers, largest first
    seen: set[bytes] = set()
    apart: dict[str, Problem] = {}
    rows = sum(1 for _ in _world(run, "train"))
    for given in batched(user_problems(run.recipe), SHARD):
        apart |= {p.id: p for _, p in given if p.split == "heldout"}
        batch = [(where, p) for where, p in given if p.split != "heldout"]
        rows += len(batch)
        for (_, problem), hit in zip(batch, benchmarks.hits([p.prompt for _, p in batch]), strict=True):
            key = bytes.fromhex(problem.id)
            if hit is None and key not in seen:
                seen.add(key)
                entry = (-keyed_seed(0, "heldout", problem.id), problem.id, problem)
                if len(nearest) < limit:
                    heapq.heappush(nearest, entry)
                elif entry > nearest[0]:
                    heapq.heapreplace(nearest, entry)
    if apart:
        return [apart[i] for i in sorted(apart)], rows
    count = min(int(part.heldout_share * len(seen) + 0.5), limit)
    if part.heldout_share > 0 and len(seen) > 1:
        count = max(count, 1)
    chosen = heapq.nlargest(count, nearest)
    return [with_problem(p, split="heldout") for _, _, p in sorted(chosen, key=lambda entry: entry[1])], rows


def _train(run: Run) -> Iterator[Problem]:
    yield from _world(run, "train")
    yield from (problem for _, problem in user_problems(run.recipe) if problem.split != "heldout")


def _kept(problem: Problem) -> str:
    sets = [name for name in benchmarks_of(problem) if name != HELDOUT]
    return f"problem of {', '.join(sets)}, held out" if sets else f"{problem.split} seed"


def _text_keys(problems: list[Problem]) -> list[bytes]:
    return [blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest() for text in normalise_texts([p.prompt for p in problems])]


def run_row(run: Run) -> dict[str, Any]:
    """The run's own line: what it was begun with, and on what."""
    begun = run_file(run.dir)
    return {
        "run_id": content_hash("run", run.recipe_hash, run.recipe.seed),
        "attempt": 0,
        "recipe_hash": run.recipe_hash,
        "seed": run.recipe.seed,
        "versions": canonical_json({**begun["versions"], "python": begun["python"]}),
        "host": canonical_json({"machine": begun["machine"], "cores": begun["cores"], "threads": run.threads}),
        "started_at": datetime.now(UTC),
    }


def _world(run: Run, split: str) -> Iterator[Problem]:
    """Evenly over the recipe's families and levels."""
    world, part = run.world, run.recipe.problems
    if world is None:
        return
    families = part.families or world.families()
    levels = part.levels or world.levels()
    cells = [(f, lv) for f in families for lv in levels]
    per_cell = part.per_cell if split == "train" else -(-run.recipe.evaluate.problems // len(cells))
    left = run.recipe.evaluate.problems if split == "heldout" else len(cells) * per_cell
    # The held-out set is the same for every run seed, so that runs can be compared on it.
    seed = keyed_seed(run.recipe.seed, "seeds") if split == "train" else keyed_seed(0, "heldout")
    for index in range(per_cell):
        for family, level in cells:
            if left <= 0:
                return
            left -= 1
            yield world.make(family, level, index, seed=seed, split=split)  # type: ignore[arg-type]
