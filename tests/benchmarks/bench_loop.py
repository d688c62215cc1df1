"""Does the loop learn? The default recipe over several seeds, beside the control whose rewards are shuffled within each group.

    synth bench loop -- --seeds 5 --jobs 2

One JSON line per run (gain in points of held-out pass@1, wall seconds, peak memory) and one per arm: the mean gain over the seeds with
a paired bootstrap over problems.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np


def one(folder: Path, seed: int, control: bool, overrides: list[str]) -> dict:
    """A whole run in a process of its own."""
    command = [sys.executable, "-m", "flows.cli.main", "run", "--quiet", "--seed", str(seed), "--out", str(folder)]
    for override in [*overrides, *(["train.control=shuffled_rewards"] if control else [])]:
        command += ["--set", override]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    began = time.monotonic()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the run with seed {seed} failed: {' '.join(command)}")
    return {"seed": seed, "control": control, "seconds": round(time.monotonic() - began, 1), "cpu": round(usage.ru_utime + usage.ru_stime, 1),
            "peak_mb": usage.ru_maxrss // 1024, "folder": str(folder)}  # fmt: skip


def differences(folder: Path) -> np.ndarray:
    """float64[problems]: pass rate after the last round minus before any, per held-out problem in id order."""
    import synth

    with synth.open_run(folder) as run:
        rows = run.query("""
            SELECT problem_id, max(passes / n) FILTER (round = (SELECT max(round) FROM evals)) - max(passes / n) FILTER (round = 0) AS gain
            FROM evals GROUP BY problem_id ORDER BY problem_id
        """)
    return rows["gain"].to_numpy()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side (seconds are honest with 1)")
    parser.add_argument("--arms", choices=["both", "real", "control"], default="both")
    parser.add_argument("--keep", type=Path, help="folder to keep the runs in")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args(argv)
    from pipelines.intervals import paired_difference

    arms = {"both": (False, True), "real": (False,), "control": (True,)}[args.arms]
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(args.jobs) as pool:
        root = args.keep or Path(scratch)
        jobs = [
            pool.submit(one, root / f"{'control' if control else 'run'}-{seed}", seed, control, args.set)
            for control in arms
            for seed in range(args.seeds)
        ]
        gains: dict[bool, list[np.ndarray]] = {control: [] for control in arms}
        for job in jobs:
            run = job.result()
            gain = differences(Path(run.pop("folder")))
            gains[run["control"]].append(gain)
            print(json.dumps({"bench": "loop", **run, "gain": round(100 * float(gain.mean()), 2)}), flush=True)
        for control in arms:
            mean = np.mean(gains[control], axis=0)
            overall = paired_difference(np.zeros_like(mean), mean, key=("bench loop", control))
            each = [100 * float(g.mean()) for g in gains[control]]
            print(
                json.dumps(
                    {
                        "bench": "loop",
                        "arm": "shuffled rewards" if control else "real rewards",
                        "seeds": args.seeds,
                        "problems": len(gains[control][0]),
                        "gain_mean": round(100 * overall.value, 2),
                        "gain_low": round(100 * overall.low, 2),
                        "gain_high": round(100 * overall.high, 2),
                        "gain_min": round(min(each), 2),
                        "gain_max": round(max(each), 2),
                    }
                ),
                flush=True,
            )


if __name__ == "__main__":
    main()
