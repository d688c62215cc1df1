"""Small shard commits: is the commit time flat, is the number of files bounded, what do digest and merge take?

python -m tests.benchmarks.bench_lake --commits 10000
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from data.lake import Lake
from data.records import Sampling, Trajectory
from data.tables import rollout_row, trajectory_row


def shard_rows(shard: int, n: int = 1, length: int = 40) -> dict[str, list[dict[str, Any]]]:
    """What a small shard writes: n rollouts in the narrow and the wide table."""
    narrow, wide = [], []
    for i in range(n):
        rng = np.random.default_rng((shard, i))
        tokens = rng.integers(0, 300, length, dtype=np.int32)
        mask, logp = np.ones(length, np.uint8), -rng.random(length, dtype=np.float32)
        one = Trajectory(f"p{shard}", "policy", tokens, mask, logp, Sampling(), shard, i, "stop", "text")
        narrow.append(rollout_row(one, 0, reward=1.0))
        wide.append(trajectory_row(one, 0))
    return {"rollouts": narrow, "trajectories": wide}


def measure(run_dir: Path, commits: int, merge_every: int) -> dict[str, Any]:
    """Commits `commits` shards of one trajectory, merging after every `merge_every` (a round); seconds and file counts."""
    seconds, merges, files_peak = [], [], 0
    with Lake.open(run_dir, create=True) as lake:
        for shard in range(commits):
            rows = shard_rows(shard)
            began = time.perf_counter()
            assert lake.commit(shard // merge_every, "train", shard, rows)
            seconds.append(time.perf_counter() - began)
            if shard % merge_every == merge_every - 1:
                files_peak = max(files_peak, count_files(run_dir))
                began = time.perf_counter()
                lake.merge()
                merges.append(time.perf_counter() - began)
        began = time.perf_counter()
        digest = lake.digest()
        digest_s = time.perf_counter() - began
    span = min(100, commits // 3)
    first, last = statistics.median(seconds[:span]), statistics.median(seconds[-span:])
    return {
        "commits": commits,
        "rows": digest.tables["rollouts"].rows,
        "first_ms": 1e3 * first,
        "last_ms": 1e3 * last,
        "ratio": last / first,
        "ratio_of_means": statistics.fmean(seconds[-span:]) / statistics.fmean(seconds[:span]),
        "commit_p99_ms": 1e3 * sorted(seconds)[int(0.99 * (len(seconds) - 1))],
        "merge_last_s": merges[-1] if merges else 0.0,
        "files_peak": files_peak,
        "files_left": count_files(run_dir),
        "catalog_mb": sum(f.stat().st_size for f in run_dir.glob("catalog.sqlite*")) / 1e6,
        "digest_s": digest_s,
    }


def measure_digest(run_dir: Path, trajectories: int) -> dict[str, Any]:
    """The digest of trajectories of 60 tokens, in shards of 1000."""
    with Lake.open(run_dir, create=True) as lake:
        for shard in range(trajectories // 1000):
            lake.commit(0, "train", shard, shard_rows(shard, 1000, 60))
        began = time.perf_counter()
        digest = lake.digest()
        return {"trajectories": digest.tables["trajectories"].rows, "digest_wide_s": time.perf_counter() - began}


def count_files(run_dir: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(run_dir / "lake"))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commits", type=int, default=10_000)
    parser.add_argument("--merge-every", type=int, default=250, help="commits a round; the lake merges at each round's end")
    parser.add_argument("--trajectories", type=int, default=30_000, help="for the digest")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="bench-lake-") as folder:
        figures = measure(Path(folder) / "commits", options.commits, options.merge_every)
        figures |= measure_digest(Path(folder) / "digest", options.trajectories)
    for name, value in figures.items():
        print(json.dumps({"bench": "lake", "figure": name, "value": round(value, 4)}), flush=True)


if __name__ == "__main__":
    main()
