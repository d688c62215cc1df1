"""The report of a big run: seconds and megabytes for a lake of a million rollouts, generated in bulk.

python -m tests.benchmarks.bench_report --rollouts 1000000
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data.lake import Lake
from pipelines.recipe import load_recipe
from pipelines.report import write_report
from pipelines.run import Run, is_run

ROUNDS = 10
DOMAINS = 13
EVALUATED, EVAL_N = 1024, 8
PROBED, PROBE_N = 2000, 8
STEPS, GROUP = 200, 8
LENGTH = 40
OUTCOMES = np.array(["fail", "pass", "unknown"])
REASONS = {
    "pass": ["equal"],
    "unknown": ["the answer is an expression"],
    "fail": ["another number", "no final answer", "contradictory final answers: 4, 7"],
}


def make_run(folder: Path, rollouts: int, seed: int = 0) -> None:
    """A finished run of `ROUNDS` rounds with about that many rollouts, each with its verdict, trajectory and request."""
    recipe = load_recipe("arithmetic", [f"rounds={ROUNDS}", f"train.steps={STEPS}"])
    with Run.create(folder, recipe) as run:
        rng = np.random.default_rng(seed)
        heldout, train = ([f"{kind}{i:06d}" for i in range(n)] for kind, n in (("h", EVALUATED), ("t", 20_000)))
        run.lake.commit(0, "seeds", 0, {"problems": _problems(heldout, train)})
        run.lake.finish_stage(0, "seeds", {"train": len(train), "heldout": len(heldout)}, 1.0)
        first = np.zeros(1)
        for round in range(ROUNDS + 1):
            skill = 0.4 + 0.03 * round
            rates = np.clip(rng.beta(2, 2, EVALUATED) + skill - 0.5, 0, 1)
            if round:
                _round(run.lake, rng, round, train, skill, rollouts)
            passes = rng.binomial(EVAL_N, rates)
            outcomes = (np.arange(EVAL_N) < passes[:, None]).astype(int).ravel()
            scored = _cells(EVALUATED, policy_id=f"p{round}", benchmark="heldout", unknowns=0, level=1, n=EVAL_N)
            scored |= {"problem_id": heldout, "domain": [f"domain {i % DOMAINS}" for i in range(EVALUATED)], "passes": passes}
            tables = _answers(rng, round, "evaluate", np.repeat(heldout, EVAL_N), outcomes)
            run.lake.commit(round, "evaluate", 0, tables | {"evals": pa.table(scored)})
            now = passes / EVAL_N
            first = now if round == 0 else first
            info = {"problems": EVALUATED, **_around("pass_at_1", now.mean()), **(_around("gain", (now - first).mean()) if round else {})}
            run.lake.finish_stage(round, "evaluate", info, 10.0)
        run.lake.merge()


def _round(lake: Lake, rng: np.random.Generator, round: int, train: list[str], skill: float, rollouts: int) -> None:
    probed = [train[i] for i in rng.choice(len(train), PROBED, replace=False)]
    passes = rng.binomial(PROBE_N, np.clip(rng.beta(1, 1, PROBED) + skill - 0.5, 0, 1))
    outcomes = (np.arange(PROBE_N) < passes[:, None]).astype(int).ravel()
    tables = _answers(rng, round, "probe", np.repeat(probed, PROBE_N), outcomes)
    lake.commit(round, "verify", 0, {"verdicts": tables.pop("verdicts")})
    lake.commit(round, "probe", 0, tables)
    rate = {"passes": passes, "fails": PROBE_N - passes, "pass_rate": passes / PROBE_N, "posterior_mean": (passes + 1) / (PROBE_N + 2)}
    described = _cells(PROBED, policy_id=f"p{round - 1}", domain="domain 1", level=1, unknowns=0, n=PROBE_N, ci_low=0.0, ci_high=1.0)
    lake.commit(round, "estimate", 0, {"difficulty": pa.table({"problem_id": probed, **described, **rate})})
    ids = [f"c{round}-{i}" for i in range(4000)]
    fate = _cells(len(ids), strategy="frontier", domain="domain 1", level=1, reason="for the benchmark")
    decided = {"candidate_id": ids, "problem_id": ids, **fate}
    for stage, rules in (("synthesize", ["proposed"]), ("audit", ["verifier", "duplicate"]), ("select", ["selected", "budget"])):
        rule = [rules[min(i % 7, len(rules) - 1)] if stage != "synthesize" else rules[0] for i in range(len(ids))]
        kept = [r in ("proposed", "verifier", "selected") for r in rule]
        lake.commit(round, stage, 0, {"decisions": pa.table({**decided, "rule": rule, "kept": kept})})
    rest = rollouts - ROUNDS * PROBED * PROBE_N - (ROUNDS + 1) * EVALUATED * EVAL_N
    size = GROUP * max(1, -(-rest // (ROUNDS * STEPS * GROUP)))
    asked = np.repeat(rng.choice(train, (STEPS, size // GROUP)), GROUP, axis=1)
    judged = rng.choice(3, (STEPS, size), p=[0.995 - skill, skill, 0.005])
    for block in range(0, STEPS, 20):  # a shard a step, written 20 at a time: the report reads the same rows, and this is quicker
        steps = np.repeat(np.arange(block + 1, block + 21), size)
        tables = _answers(rng, round, "train", asked[block : block + 20].ravel(), judged[block : block + 20].ravel(), steps)
        at = np.arange(block + 1, block + 21)
        made = {"round": np.full(20, round), "stage": ["train"] * 20, "shard": at, "step": at, "policy_id": [f"p{round}-{s}" for s in at]}
        noise = rng.normal(0, 0.03, (8, 20))
        made |= {name: 0.5 + noise[i] for i, name in enumerate(("reward_mean", "pass_rate", "entropy", "grad_norm", "loss"))}
        made |= _cells(20, groups=size // GROUP, rollouts=size, tokens=size * LENGTH, response_length_mean=40.0, seconds=3.0, generate_seconds=1.5)
        lake.commit(round, "train", block + 1, tables | {"train_steps": pa.table(made)})
    for stage in ("probe", "verify", "estimate", "synthesize", "audit", "select", "train"):
        lake.finish_stage(round, stage, {"steps": STEPS} if stage == "train" else {}, 30.0)


def _problems(heldout: list[str], train: list[str]) -> pa.Table:
    ids = [*heldout, *train]
    cells = _cells(len(ids), reference="42", verifier="math", spec="{}", level=1, source="world", meta="{}")
    where = {"domain": [f"domain {i % DOMAINS}" for i in range(len(ids))], "split": ["heldout"] * len(heldout) + ["train"] * len(train)}
    return pa.table({"problem_id": ids, "prompt": [f"How many are {i} and {i}? " * 4 for i in range(len(ids))], **cells, **where})


def _answers(rng: np.random.Generator, round: int, stage: str, problems: Any, outcomes: Any, shards: Any = None) -> dict[str, pa.Table]:
    """Rollouts with verdicts, trajectories and requests: outcomes int[n] index `OUTCOMES`."""
    n = len(problems)
    ids = [f"{stage[0]}{round:02d}{i:032x}" for i in (np.arange(n) + (0 if shards is None else int(shards[0]) * 1_000_000)).tolist()]
    place = {"round": np.full(n, round), "stage": pa.array([stage]).take(pa.array(np.zeros(n, int)))}
    place["shard"] = np.zeros(n, int) if shards is None else shards
    who = {"rollout_id": ids, "problem_id": problems} | _cells(n, policy_id=f"p{round}")
    words = pa.array(OUTCOMES.tolist()).take(pa.array(outcomes))
    reasons = pa.array([REASONS[OUTCOMES[o]][i % len(REASONS[OUTCOMES[o]])] for i, o in enumerate(outcomes.tolist())])
    tokens = pa.FixedSizeListArray.from_arrays(pa.array(rng.integers(0, 300, n * LENGTH, dtype=np.int32)), LENGTH)
    logp = pa.FixedSizeListArray.from_arrays(pa.array(-rng.random(n * LENGTH, dtype=np.float32)), LENGTH)
    mask = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(n * LENGTH, np.uint8)), LENGTH)
    texts = [f" {i}+{i}={2 * i}, {2 * i}+7={2 * i + 7} #### {2 * i + 7}" for i in range(n)]
    narrow = who | {"outcome": words, "reward": (outcomes == 1).astype(np.float32)}
    narrow |= _cells(n, group_id="g", stream="main", sample=0, finish="stop", prompt_tokens=30, response_tokens=LENGTH)
    judged = who | {"outcome": words, "reward": (outcomes == 1).astype(float), "reason": reasons}
    judged |= _cells(n, verifier="math", ms=0.1, isolation="", integrity="")
    wide = who | {"tokens": tokens, "loss_mask": mask, "logp": logp, "text": texts} | _cells(n, sampling="{}", seed=1, sample=0, finish="stop")
    asked = {"key": ids, "problem_id": problems, "request": [f'{{"prompt": "{t}"}}' for t in texts], "tokens": tokens, "logp": logp, "text": texts}
    asked |= _cells(n, model="m", policy_id="p", purpose=stage, finish="stop", error="", attempts=1, repeats=0, ms=3.0)
    verdicts = judged | (place if stage != "probe" else place | {"stage": pa.array(["verify"]).take(pa.array(np.zeros(n, int)))})
    made = {"rollouts": place | narrow, "trajectories": place | wide, "requests": place | asked, "verdicts": verdicts}
    return {name: pa.table(columns) for name, columns in made.items()}


def _around(name: str, value: float) -> dict[str, float]:
    return {name: float(value), f"{name}_low": float(value) - 0.02, f"{name}_high": float(value) + 0.02}


def _cells(rows: int, /, **values: Any) -> dict[str, pa.Array]:
    """Columns of one value each."""
    return {name: pa.array([value]).take(pa.array(np.zeros(rows, int))) for name, value in values.items()}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rollouts", type=int, default=1_000_000)
    parser.add_argument("--keep", type=Path, help="make the run in this folder (or find it there) and leave it")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="bench-report-") as temporary:
        folder = options.keep or Path(temporary) / "run"
        figures: dict[str, float] = {}
        if not is_run(folder):
            began = time.perf_counter()
            make_run(folder, options.rollouts)
            figures["generate_s"] = time.perf_counter() - began
        with Lake.open(folder) as lake:
            figures["rollouts"] = lake.query("SELECT count(*) FROM rollouts").item()
        began, cpu = time.perf_counter(), time.process_time()
        path = write_report(folder)
        figures |= {"report_s": time.perf_counter() - began, "report_cpu_s": time.process_time() - cpu, "report_mb": path.stat().st_size / 1e6}
        figures["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    for name, value in figures.items():
        print(json.dumps({"bench": "report", "figure": name, "value": round(value, 3)}), flush=True)


if __name__ == "__main__":
    main()
