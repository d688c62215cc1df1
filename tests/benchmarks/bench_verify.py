"""The math verifier beside Math-Verify 0.9.0: recall, false accepts, share of unknown, verdicts a second, hostile and fuzzed answers.

python -m tests.benchmarks.bench_verify [--mathverify 400] [--fuzz 10000]
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import resource
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import math_pairs
import math_rewrites

from filters.verifiers import choices, evaluation, grammar, sameness, symbolic, wording
from filters.verifiers import math as ours

Judge = Callable[[str, str], str]
CACHES = (
    ours._compare_slowly, ours._parse, grammar.read, evaluation.value_at, sameness.same, wording.spelled_out, choices.choice, choices.clock,
    symbolic.same_curve, symbolic.same_series,
)  # fmt: skip


def cold() -> None:
    for cache in CACHES:
        cache.cache_clear()


def our_verdict(reference: str, response: str) -> str:
    return ours.judge(reference, response)[0]


def math_verify_verdict() -> Judge | None:
    """Math-Verify as its README uses it: reference in a box, default extraction and precision. None where it is not installed."""
    try:
        from math_verify import parse, verify
    except ImportError:
        return None
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)

    def judge(reference: str, response: str) -> str:
        try:
            return "pass" if verify(parse(f"\\boxed{{{math_rewrites.undressed(reference)}}}"), parse(response)) else "fail"
        except Exception:  # noqa: BLE001 - whatever it raises is no acceptance
            return "unknown"

    return judge


def upper_bound(wrong: int, tried: int) -> float:
    """Upper end of the one-sided exact 95 % interval (Clopper-Pearson) of a rate, by bisection on the binomial tail."""
    from math import exp, lgamma, log

    def tail(rate: float) -> float:
        return sum(
            exp(lgamma(tried + 1) - lgamma(k + 1) - lgamma(tried - k + 1) + k * log(rate) + (tried - k) * log(1 - rate)) for k in range(wrong + 1)
        )

    low, high = 1e-12, 1 - 1e-12
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(middle) > 0.05 else (low, middle)
    return high


def accuracy(judge: Judge, pairs: Sequence[tuple[str, str, bool]]) -> dict[str, Any]:
    counts: Counter[tuple[bool, str]] = Counter((equal, judge(reference, response)) for reference, response, equal in pairs)
    equal, other = sum(n for (e, _), n in counts.items() if e), sum(n for (e, _), n in counts.items() if not e)
    return {
        "pairs": equal + other,
        "recall": counts[True, "pass"] / max(1, equal),
        "false_accepts": counts[False, "pass"],
        "fpr": counts[False, "pass"] / max(1, other),
        "fpr_upper95": upper_bound(counts[False, "pass"], other) if other else 1.0,
        "unknown": (counts[True, "unknown"] + counts[False, "unknown"]) / max(1, equal + other),
    }


def speed(theirs: Judge | None, pairs: Sequence[tuple[str, str, bool]], chunk: int = 50) -> dict[str, Any]:
    """CPU seconds on unique pairs, cold caches, in interleaved chunks; medians over the chunks. Latencies are CPU time of this thread."""
    mine, other, latencies = [], [], []
    unknown = 0
    for start in range(0, len(pairs), chunk):
        part = pairs[start : start + chunk]
        cold()
        began = time.process_time()
        for reference, response, _ in part:
            one = time.thread_time()
            unknown += our_verdict(reference, response) == "unknown"
            latencies.append(time.thread_time() - one)
        mine.append(len(part) / (time.process_time() - began))
        if theirs is not None:
            began = time.process_time()
            for reference, response, _ in part:
                theirs(reference, response)
            other.append(len(part) / (time.process_time() - began))
    latencies.sort()
    figures = {
        "pairs": len(pairs),
        "verdicts_per_s": statistics.median(mine),
        "p50_ms": 1e3 * latencies[len(latencies) // 2],
        "p99_ms": 1e3 * latencies[int(0.99 * (len(latencies) - 1))],
        "unknown": unknown / len(pairs),
    }
    if other:
        figures |= {"mathverify_per_s": statistics.median(other), "ratio": statistics.median(m / o for m, o in zip(mine, other, strict=True))}
    return figures


def hostile(fuzz: int) -> dict[str, Any]:
    """The pathological list with 200 neighbours, then `fuzz` fuzzed responses: the slowest verdict, what passed, what raised."""
    worst, passed, raised = 0.0, 0, 0
    answers = [*math_pairs.PATHOLOGICAL, *math_pairs.neighbours(200)]
    for answer in answers:
        for reference in math_pairs.REFERENCES:
            for response in (f"\\boxed{{{answer}}}", answer):
                began = time.perf_counter()
                try:
                    passed += our_verdict(reference, response) == "pass"
                except Exception:  # noqa: BLE001 - counted
                    raised += 1
                worst = max(worst, time.perf_counter() - began)
    slowest, fuzz_passed, outcomes = 0.0, 0, Counter[str]()
    for reference, response in math_pairs.fuzzed(fuzz):
        began = time.perf_counter()
        try:
            outcome = our_verdict(reference, response)
        except Exception:  # noqa: BLE001 - counted
            raised, outcome = raised + 1, "raised"
        outcomes[outcome] += 1
        fuzz_passed += outcome == "pass"
        slowest = max(slowest, time.perf_counter() - began)
    return {
        "hostile_answers": len(answers),
        "hostile_slowest_s": worst,
        "hostile_passed": passed,
        "fuzzed": fuzz,
        "fuzzed_slowest_s": slowest,
        "fuzzed_passed": fuzz_passed,
        "raised": raised,
        "process_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "sympy_asked": symbolic._worker.asked,
        "sympy_children_started": symbolic._worker.started,
        "alive_after": our_verdict("xy=1", "\\boxed{y=\\frac{1}{x}}") == "pass",
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mathverify", type=int, default=400, help="metamorphic pairs that Math-Verify is asked about (it is slow)")
    parser.add_argument("--fuzz", type=int, default=10_000)
    options = parser.parse_args(argv)

    def emit(group: str, figures: dict[str, Any]) -> None:
        for name, value in figures.items():
            print(
                json.dumps({"bench": "verify", "figure": f"{group}.{name}", "value": round(value, 6) if isinstance(value, float) else value}),
                flush=True,
            )

    emit("hostile", hostile(options.fuzz))
    theirs = math_verify_verdict()
    hand = [(reference, f"\\boxed{{{answer}}}", equal) for reference, answer, equal in math_pairs.hand_written()]
    emit("hand", accuracy(our_verdict, hand))
    if theirs is not None:
        emit("hand.mathverify", accuracy(theirs, hand))
    rewritten = [(reference, response, equal) for _, reference, response, equal in math_rewrites.pairs()]
    if rewritten:
        emit("metamorphic", accuracy(our_verdict, rewritten))
        listed = list(dict.fromkeys(math_rewrites.references()))
        emit(
            "references",
            {"distinct": len(listed), "equal_themselves": sum(our_verdict(r, f"\\boxed{{{r}}}") == "pass" for r in listed) / len(listed)},
        )
        random.Random(0).shuffle(rewritten)
        if theirs is not None:
            emit("metamorphic.mathverify", accuracy(theirs, rewritten[: options.mathverify]))
    unique = {reference: (reference, response, equal) for reference, response, equal in [*rewritten, *hand]}
    mixed = list(unique.values())
    random.Random(1).shuffle(mixed)
    emit("speed", speed(theirs, mixed))


if __name__ == "__main__":
    main()
