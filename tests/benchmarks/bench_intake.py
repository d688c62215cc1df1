"""A file of problems on its way in: import, summary, deduplication, decontamination; with leaks and doubles planted, all of which must be found.

    python tests/benchmarks/bench_intake.py [--train FILE --test FILE] [--rows 1000000]

GSM8K's train set (7,473 rows) against its test set, from shared/data beside the checkout unless told otherwise. One planted leak per
test problem, in six kinds of dress, and one double for every tenth row. CPU seconds of this process, each step on its own; the sum is the
figure. `--rows N` measures instead what a Parquet file of N rows (made here from the train set) takes: seconds and peak memory.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from data.problems.readers import iter_problems, read_problems, read_rows
from data.problems.source import Source
from data.records import Problem
from filters.clean import find_duplicates, find_leaks
from filters.decontaminate import GRAM, HeldoutIndex, HeldoutSet
from filters.intake import summarise
from filters.verifier_choice import choose_verifier

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"
T = TypeVar("T")


def timed(figures: dict[str, Any], name: str, work: Callable[[], T]) -> T:
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    figures[f"{name}_cpu_s"], figures[f"{name}_wall_s"] = time.process_time() - cpu, time.perf_counter() - wall
    return found


def leak(problem: Problem, number: int) -> str:
    """A held-out problem as it gets into training data: as it is, dressed up, with words around it, in part."""
    text = problem.prompt
    words = text.split()
    part = " ".join(words[: max(GRAM + 4, 2 * len(words) // 3)])
    around = f"Solve the following problem step by step.\n\nProblem {number}: {text}\nAnswer:"
    dress = (text, text.upper(), "  " + text.replace(" ", "  ") + "\n", unicodedata.normalize("NFD", text), around, f"{part} What can you say?")
    return dress[number % len(dress)]


def planted(train: list[Problem], test: list[Problem]) -> tuple[list[dict[str, str]], set[int], set[int]]:
    """(rows, places of leaks, places of doubles), shuffled."""
    rng = random.Random(0)
    rows = [({"prompt": p.prompt, "answer": p.reference}, "") for p in train]
    rows += [({"prompt": p.prompt.upper() if n % 2 else f" {p.prompt} ", "answer": p.reference}, "double") for n, p in enumerate(train[::10])]
    rows += [({"prompt": leak(p, n), "answer": p.reference}, "leak") for n, p in enumerate(test)]
    rng.shuffle(rows)
    kinds = [kind for _, kind in rows]
    return [row for row, _ in rows], {n for n, k in enumerate(kinds) if k == "leak"}, {n for n, k in enumerate(kinds) if k == "double"}


def measure(train_file: Path, test_file: Path) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    train = timed(figures, "import", lambda: read_problems(Source(str(train_file)), choose=choose_verifier))
    test = read_problems(test_file)
    figures["rows"] = len(train)
    index = timed(figures, "index", lambda: HeldoutIndex([HeldoutSet("test", test)]))
    honest = timed(figures, "summary", lambda: summarise((("", p) for p in train), index))
    placed = list(read_rows(Source(str(train_file))))
    timed(figures, "dedup", lambda: list(find_duplicates(placed, {})))
    timed(figures, "decontaminate", lambda: list(find_leaks(placed, {}, index)))
    figures["all_cpu_s"] = sum(v for k, v in figures.items() if k.endswith("_cpu_s"))
    figures["all_wall_s"] = sum(v for k, v in figures.items() if k.endswith("_wall_s"))
    rows, leaks, doubles = planted(train, test)
    numbered = [(str(n), row) for n, row in enumerate(rows)]
    found = {int(v.where) for v in find_leaks(numbered, {}, index) if v.reason}
    pairs = [{int(v.where), int(v.other)} for v in find_duplicates(numbered, {}) if v.reason]
    figures |= {
        "leaks_planted": len(leaks),
        "leaks_found": len(leaks & found),
        "honest_rows_refused": len(found - leaks),
        "near_leaks_in_train": sum(honest.leaks.values()),
        "doubles_planted": len(doubles),
        "doubles_found": sum(bool(pair & doubles) for pair in pairs),
        "honest_pairs_called_doubles": sum(not pair & (doubles | leaks) for pair in pairs),
    }
    return figures


def measure_large(train_file: Path, test_file: Path, rows: int) -> dict[str, Any]:
    """A Parquet file of `rows` rows through import and summary, against the test set."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    problems = [(p.prompt, p.reference) for p in read_problems(train_file)]
    index = HeldoutIndex([HeldoutSet("test", read_problems(test_file))])

    def tables() -> Iterator[pa.Table]:
        for start in range(0, rows, 10_000):
            picked = [(f"Case {n}. {p}", a) for n in range(start, min(rows, start + 10_000)) for p, a in (problems[n % len(problems)],)]
            yield pa.table({"prompt": [p for p, _ in picked], "answer": [a for _, a in picked]})

    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="bench-intake-") as folder:
        file = Path(folder) / "large.parquet"
        with pq.ParquetWriter(file, pa.schema([("prompt", pa.string()), ("answer", pa.string())])) as writer:
            for table in tables():
                writer.write_table(table)
        figures["large_before_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        found = timed(figures, "large", lambda: summarise(iter_problems(Source(str(file)), choose=choose_verifier), index))
        figures["large_rows"], figures["large_file_mb"] = found.rows, file.stat().st_size / 1e6
        figures["large_peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return figures


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=Path, default=SHARED / "gsm8k_train.jsonl.gz")
    parser.add_argument("--test", type=Path, default=SHARED / "gsm8k_test.jsonl.gz")
    parser.add_argument("--rows", type=int, default=0, help="measure a Parquet file of so many rows instead")
    options = parser.parse_args(argv)
    figures = measure_large(options.train, options.test, options.rows) if options.rows else measure(options.train, options.test)
    for name, value in figures.items():
        print(json.dumps({"bench": "intake", "figure": name, "value": round(value, 4)}), flush=True)


if __name__ == "__main__":
    main()
