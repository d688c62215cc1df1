"""Planted weakness: a policy that was taught every family but one, and what SwS gives it beside uniform synthesis at equal tokens.

    synth bench sws -- --out runs/sws --seeds 5            builds the student once, 14 minutes on one core, then two runs at once
    synth bench sws -- --out runs/sws --student DIR        a student that was built before

The student is a small `arithmetic` that was taught to solve levels 1 to 3 of all families but FAMILY, and sits levels 1 and 2; the shipped
`teacher` writes, judges and answers. Two arms a seed, the same but for `strategies.sws.allocation`: by failure rate, or every family alike;
both train on the same number of tokens. Each run goes on where it was stopped. One JSON line per arm and seed, then one per figure;
`report.html` in the folder has the tables and plots.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

FAMILY = "ages"
ARMS = ("weakness", "uniform")
COMMON = {
    "rounds": 2,
    "policy.dialect": "compact",
    "problems.levels": [1, 2],
    "problems.per_cell": 8,
    "probe.problems": 208,
    "probe.n": 8,
    "select.problems": 1000,
    "strategies.sws.budget": 2000,
    "strategies.sws.agreement": 1.0,
    "train.steps": 400,
    "train.tokens": 40_000,
    "train.prompts_per_step": 48,
    "evaluate.problems": 520,
    "evaluate.n": 8,
}


def build_student(out: Path, family: str) -> Path:
    """Knows level 3 as well: a student of levels 1 and 2 alone is so sure of itself that it never gets the new family right, not even by chance."""
    folder = out / f"student-without-{family}"
    if not (folder / "card.json").is_file():
        told = f"from tests.benchmarks.bench_sws import train_student; train_student({str(folder)!r}, {family!r})"
        subprocess.run([sys.executable, "-c", told], check=True, env=_environment(), cwd=Path(__file__).parents[2])
    return folder


def train_student(folder: str, family: str) -> None:
    from dataclasses import replace

    from pipelines.plans import PLANS, Phase
    from pipelines.pretrain import build_policy

    levels = (1, 2, 3)
    again = Phase(900, 900, 1.5e-3, (("solve", 1.0),), levels=levels, prompt_weight=0.1, word_weight=1.0)
    plan = replace(PLANS["arithmetic"], levels=levels, steps=700, decay_steps=875, evaluate_every=100, then=(again,))
    build_policy("arithmetic", folder, threads=1, plan=plan, without=[family])


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def run_arm(folder: Path, seed: int, arm: str, student: Path, teacher: str, overrides: list[str]) -> dict[str, Any]:
    """A whole run in a process of its own, or what is left of it."""
    from pipelines.run import is_run

    main = [sys.executable, "-m", "flows.cli.main"]
    if is_run(folder):
        command = [*main, "resume", str(folder), "--quiet"]
    else:
        settings = COMMON | {"policy.path": str(student), "strategies.sws.teacher": teacher, "strategies.sws.allocation": arm}
        told = [f"{key}={json.dumps(value)}" for key, value in settings.items()] + overrides
        command = [*main, "run", "sws", "--quiet", "--seed", str(seed), "--out", str(folder), *(part for item in told for part in ("--set", item))]
    process = subprocess.Popen(command, env=_environment(), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"stopped: {' '.join(command)}")
    return {"arm": arm, "seed": seed, "cpu": round(usage.ru_utime + usage.ru_stime), "peak_mb": usage.ru_maxrss // 1024}


def run_all(out: Path, seeds: range, student: Path, teacher: str, overrides: list[str], family: str, jobs: int) -> Iterator[dict[str, Any]]:
    """A row per arm and seed, in that order, `jobs` runs at once."""

    def one(task: tuple[int, str]) -> dict[str, Any]:
        seed, arm = task
        folder = out / f"seed-{seed}-{arm}"
        return run_arm(folder, seed, arm, student, teacher, overrides) | measure(folder, family)

    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(one, [(seed, arm) for seed in seeds for arm in ARMS])


def measure(folder: Path, family: str) -> dict[str, Any]:
    """What one run shows: the budget beside the formula, held-out pass rates, tokens, wrong references."""
    from generators.strategies.sws_weakness import budgets, uniform, weaknesses
    from generators.worlds.registry import get_world
    from pipelines.history import rollout_history
    from pipelines.report.funnel import truths
    from pipelines.run import read_lake

    with read_lake(folder) as lake:
        recipe = json.loads((folder / "run.json").read_text())["recipe"]
        settings = recipe["strategies"]["sws"]
        found = weaknesses(_before_training(rollout_history(lake, 2)))
        rates = found.rates if settings["allocation"] == "weakness" else uniform(found.visited)
        written = dict(lake.query("SELECT domain, count(*) FROM decisions WHERE strategy = 'sws' AND stage = 'synthesize' GROUP BY 1").rows())
        formula = {c: n for c, n in budgets(settings["budget"], rates).items() if n}
        others = [float(rate) for c, rate in found.rates.items() if c != family]
        share = lake.query(
            """
            SELECT round, domain = ? AS planted, avg(passes / n) AS rate FROM evals WHERE benchmark = 'heldout' GROUP BY ALL ORDER BY ALL
            """,
            (family,),
        )
        rate = {(round, planted): value for round, planted, value in share.iter_rows()}
        tokens = lake.query("SELECT sum(tokens) FROM train_steps WHERE round = 2").item() or 0
        truth = truths(lake, get_world("arithmetic")).get("sws")
        kept = dict(lake.query("SELECT domain, count(*) FROM decisions WHERE strategy = 'sws' AND stage = 'select' AND kept GROUP BY 1").rows())
    return {
        "budget_is_formula": written == formula,
        "written": written,
        "failure_planted": float(found.rates.get(family, 0)),
        "failure_next": max(others, default=0.0),
        "written_planted": written.get(family, 0),
        "written_next": max((n for c, n in written.items() if c != family), default=0),
        "trained_on_planted": kept.get(family, 0),
        "trained_on": sum(kept.values()),
        "tokens": int(tokens),
        "planted_before": rate[0, True],
        "planted_middle": rate[1, True],
        "planted_after": rate[2, True],
        "others_before": rate[0, False],
        "others_middle": rate[1, False],
        "others_after": rate[2, False],
        "accepted": truth.accepted if truth else 0,
        "wrong": truth.wrong if truth else 0,
        "unparseable": truth.unparseable if truth else 0,
    }


def _before_training(history: Any) -> Any:
    """What SwS saw in round 2: everything but the steps of that round, which came after."""
    import polars as pl

    return history.filter((pl.col("round") < 2) | (pl.col("step") == 0))


def figures(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Over the seeds that both arms finished; intervals are 95 % of Student's t over seeds, of a ratio by the paired bootstrap."""
    from filters.verifiers.votes import wilson

    by = {(row["arm"], row["seed"]): row for row in rows}
    seeds = sorted({s for a, s in by if all((arm, s) in by for arm in ARMS)})
    gain = {arm: np.array([by[arm, s]["planted_after"] - by[arm, s]["planted_middle"] for s in seeds]) for arm in ARMS}
    rest = {arm: np.array([by[arm, s]["others_after"] - by[arm, s]["others_middle"] for s in seeds]) for arm in ARMS}
    told: dict[str, Any] = {
        "seeds": len(seeds),
        "budget_is_formula": all(by[arm, s]["budget_is_formula"] for s in seeds for arm in ARMS),
        "planted_times_next": [round(by["weakness", s]["written_planted"] / max(1, by["weakness", s]["written_next"]), 2) for s in seeds],
        "tokens": {arm: [by[arm, s]["tokens"] for s in seeds] for arm in ARMS},
    }
    for arm in ARMS:
        told[f"planted_gain_points_{arm}"] = _mean(100 * gain[arm])
        told[f"others_gain_points_{arm}"] = _mean(100 * rest[arm])
        accepted = sum(by[arm, s]["accepted"] for s in seeds)
        wrong = sum(by[arm, s]["wrong"] + by[arm, s]["unparseable"] for s in seeds)
        low, high = wilson(wrong, accepted)
        told[f"wrong_references_{arm}"] = {"accepted": accepted, "wrong": wrong, "share": round(wrong / max(1, accepted), 4), "low": round(low, 4),
                                           "high": round(high, 4)}  # fmt: skip
    told["planted_gain_difference_points"] = _mean(100 * (gain["weakness"] - gain["uniform"]))
    told["gain_ratio"] = _ratio(gain["weakness"], gain["uniform"])
    return told


def _mean(values: np.ndarray) -> dict[str, float | None]:
    from pipelines.intervals import t_quantile

    if not len(values):
        return {}
    half = t_quantile(len(values) - 1) * float(values.std(ddof=1)) / np.sqrt(len(values)) if len(values) > 1 else float("inf")
    middle = float(values.mean())
    known = bool(np.isfinite(half))
    return {"mean": round(middle, 2), "low": round(middle - half, 2) if known else None, "high": round(middle + half, 2) if known else None}


def _ratio(one: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    """Mean over mean; None where the lower arm gained nothing. Bootstrap over seeds, both arms of a seed together; one seed has no interval."""
    if not len(one) or other.mean() <= 0:
        return {"ratio": None}
    if len(one) == 1:
        return {"ratio": round(float(one[0] / other[0]), 2), "low": None, "high": None}
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(one), (4000, len(one)))
    below = other[drawn].mean(1)
    ratios = np.where(below > 0, one[drawn].mean(1) / np.where(below > 0, below, 1), np.inf)
    low, high = np.quantile(ratios, [0.025, 0.975], method="inverted_cdf")
    highest = round(float(high), 2) if np.isfinite(high) else None
    return {"ratio": round(float(one.mean() / other.mean()), 2), "low": round(float(low), 2), "high": highest}


def report(path: Path, rows: list[dict[str, Any]], told: dict[str, Any], family: str, command: str) -> None:
    from pipelines.report import charts
    from pipelines.report.experiment import write_experiment
    from pipelines.report.figure import Figure, Section, Table, percent

    whens = ("before", "after")
    names = [f"{arm}, {what}" for what in (family, "other families") for arm in ARMS]
    drawn = []
    for arm in ARMS:
        for what, key in ((family, "planted"), ("other families", "others")):
            for when, at in zip(whens, ("middle", "after")):
                values = np.array([row[f"{key}_{at}"] for row in rows if row["arm"] == arm])
                if len(values):
                    low, high = float(values.min()), float(values.max())
                    text = f"{arm}, {what}, {when}: {percent(float(values.mean()))} (seeds from {percent(low)} to {percent(high)})"
                    drawn.append({"name": f"{arm}, {what}", "when": when, "value": float(values.mean()), "low": low, "high": high, "text": text})
    cells = [
        [row["arm"], str(row["seed"]), f"{row['written_planted']:,}", f"{row['written_next']:,}", f"{row['accepted']:,}",
         str(row["wrong"] + row["unparseable"]), f"{row['tokens']:,}", percent(row["planted_middle"]), percent(row["planted_after"]),
         percent(row["others_middle"]), percent(row["others_after"])]
        for row in rows
    ]  # fmt: skip
    columns = ["arm", "seed", f"written for {family}", "most for another", "accepted", "wrong reference", "tokens trained on", f"{family} before",
               "after", "others before", "after"]  # fmt: skip
    gained = ", ".join(f"{arm} {told[f'planted_gain_points_{arm}'].get('mean', 'unknown')}" for arm in ARMS)
    alt = f"{told['seeds']} seeds. Mean gain on {family} in points: {gained}."
    figure = Figure("planted", "Held-out pass@1 before and after the round with new problems", charts.before_after(drawn, names, whens), alt)
    section = Section(
        id="planted",
        link="Planted weakness",
        title=f"Does writing for what is weak help more than writing for everything? The student was never taught {family}.",
        look="Held-out pass@1 before and after the round in which new problems are written, the mean over the seeds; the lines span the seeds.",
        figures=[figure],
        tables=[
            ("Every run", Table(columns, cells, numeric_from=1)),
            ("Figures", Table(["figure", "value"], [[k, json.dumps(v)] for k, v in told.items()], numeric_from=9)),
        ],
        note=alt,
    )  # fmt: skip
    write_experiment(path, "Planted weakness", alt, [section], command=command, recipe={"common": COMMON | {"family": family}})


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--family", default=FAMILY)
    parser.add_argument("--student", type=Path, help="a policy that was not taught the family (default: built into the folder)")
    parser.add_argument("--teacher", default="teacher")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs") / "bench-sws")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    student = args.student or build_student(args.out, args.family)
    rows = []
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    for row in run_all(args.out, seeds, student.resolve(), args.teacher, args.set, args.family, args.jobs):
        rows.append(row)
        print(json.dumps(row), flush=True)
    told = figures(rows)
    for name, value in told.items():
        print(json.dumps({"bench": "sws", "figure": name, "value": value}), flush=True)
    page = args.out / "report.html"
    report(page, rows, told, args.family, f"synth bench sws -- --seeds {args.seeds} --family {args.family}")
    print(json.dumps({"bench": "sws", "figure": "report", "value": str(page)}), flush=True)


if __name__ == "__main__":
    main()
