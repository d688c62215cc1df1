"""Mutation scores of HumanEval's and MBPP's own tests beside EvalPlus' inputs, equivalent mutants removed.

    python tests/benchmarks/bench_suites.py [--data ../shared/data] [--problems 60] [--mutants 8]

Per problem up to `mutants` AST mutants of the canonical solution; base = the inputs of the original tests, strong = base and EvalPlus' inputs (Mini
for HumanEval, NoExtreme for MBPP, at most 100 a problem), expected values from the canonical solution. A mutant that agrees with it on all strong
inputs counts as equivalent. Beside reference/verifiers.md section 3 (HumanEval: base MS 0.959, VAcc 0.848, single test 0.643, 57 equivalent of 981).
`--problems 0`: all. Prints one JSON line per set.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from data.keyed import keyed_order
from filters import suites
from filters.mutants import mutants
from filters.sandbox.checks import Check
from filters.sandbox.levels import open_sandbox
from filters.sandbox.matrix import run_matrix
from filters.suite_audit import expected_of_reference, kill_matrix, reference_limits

SETS = {"HumanEval": "HumanEvalPlus-Mini.jsonl.gz", "MBPP": "MbppPlus-NoExtreme.jsonl.gz"}
STRONG = 100


def rows(path: Path, problems: int) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        found = {row["task_id"]: row for row in map(json.loads, file)}
    chosen = keyed_order(0, list(found), "bench_suites")
    return [found[name] for name in sorted(chosen[: problems or None])]


def score(row: dict[str, Any], mutants_each: int) -> dict[str, Any] | None:
    """Kill matrices of base tests and of all strong tests over the problem's mutants; None where the reference answers no base input."""
    runner = open_sandbox()
    code = row["prompt"] + row["canonical_solution"]
    calls = {name: [f"{row['entry_point']}({', '.join(map(repr, args))})" for args in row[f"{name}_input"]] for name in ("base", "plus")}
    limits = reference_limits(runner, code, [Check("call", c) for c in calls["base"]])
    base, plus = (expected_of_reference(runner, code, calls[name][:STRONG], limits=limits) for name in ("base", "plus"))
    if not base:
        return None
    made = [m.code for m in mutants(code, mutants_each, key=row["task_id"])]
    cells = run_matrix(runner, made, [[c] for c in (*base, *plus)], limits=limits)
    kills = kill_matrix(cells, len(base) + len(plus))
    return {"base": kills[: len(base)], "strong": kills}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--problems", type=int, default=60)
    parser.add_argument("--mutants", type=int, default=8)
    args = parser.parse_args()
    for title, name in SETS.items():
        began = time.monotonic()
        scored = [s for row in rows(args.data / name, args.problems) if (s := score(row, args.mutants)) is not None]
        real = [s["strong"].any(axis=0) for s in scored]  # not equivalent: some strong test tells it from the reference
        base = [s["base"][:, r] for s, r in zip(scored, real)]
        strong = [s["strong"][:, r] for s, r in zip(scored, real)]
        killed = sum(int(b.any(axis=0).sum()) for b in base)
        count = sum(b.shape[1] for b in base)
        line = {
            "set": title,
            "problems": len(scored),
            "mutants": sum(len(r) for r in real),
            "equivalent": sum(int((~r).sum()) for r in real),
            "base_tests": sum(len(b) for b in base),
            "strong_tests": sum(len(s) for s in strong),
            "base_mutation_score": round(killed / count, 4),
            "base_verifier_accuracy": round(float(np.nanmean([suites.verifier_accuracy(b) for b in base])), 4),
            "single_test_kill_rate": round(float(np.nanmean([suites.mean_kill_rate(b) for b in base])), 4),
            "strong_single_test_kill_rate": round(float(np.nanmean([suites.mean_kill_rate(s) for s in strong])), 4),
            "base_auc_at_5": round(suites.auc_at_n(suites.accuracy_curve(base, upto=5)), 4),
            "minimal_tests_per_problem": round(float(np.mean([len(suites.greedy_minimal_suite(s)) for s in strong])), 2),
            "seconds": round(time.monotonic() - began, 1),
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
