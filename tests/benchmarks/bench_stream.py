"""`synth verify` over a large file: peak memory against the number of rows, rows per second, and kill -9 in the middle with --resume.

`synth bench stream -- --rows 1000000`. Memory is the resident size of the command, its fork server and its workers, sampled ten times a second.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]


def write_rows(path: Path, rows: int) -> Path:
    """Right and wrong answers in a sentence; every id once."""
    with open(path, "w", encoding="utf-8") as stream:
        for i in range(rows):
            row = {"id": i, "reference": str(i), "response": f"We add {i - 1} and 1, so it is \\boxed{{{i + (i % 3 == 0)}}}"}
            stream.write(json.dumps(row) + "\n")
    return path


def command(source: Path, output: Path, workers: int, *more: str) -> list[str]:
    options = ["--verifier", "math", "--input", str(source), "--output", str(output), "--workers", str(workers), "--quiet", *more]
    return [sys.executable, "-m", "flows.cli.main", "verify", *options]


def run(words: list[str], *, kill_at: int = 0, output: Path | None = None) -> dict[str, float]:
    """Seconds, CPU seconds and peak resident megabytes of all its processes; killed once `output` has `kill_at` bytes."""
    import psutil

    began = time.monotonic()
    started = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL)
    main = psutil.Process(started.pid)
    peak_all = peak_main = cpu = 0.0
    while started.poll() is None:
        try:
            every = [main, *main.children(recursive=True)]
            sizes = [p.memory_info().rss for p in every]
            peak_main, peak_all = max(peak_main, sizes[0]), max(peak_all, sum(sizes))
            cpu = max(cpu, sum(sum(p.cpu_times()[:2]) for p in every))
        except psutil.Error:
            pass
        if kill_at and output is not None and output.exists() and output.stat().st_size >= kill_at:
            started.send_signal(signal.SIGKILL)
            started.wait()
        time.sleep(0.1)
    return {"seconds": time.monotonic() - began, "cpu_seconds": cpu, "peak_main_mb": peak_main / 1e6, "peak_all_mb": peak_all / 1e6}


def timeless(path: Path) -> list[dict[str, object]]:
    return [{k: v for k, v in json.loads(line).items() if k != "ms"} for line in path.read_text("utf-8").splitlines()]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="synth bench stream", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="accepted for all benchmarks; this one prints JSON anyway")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="bench-stream-") as name:
        folder = Path(name)
        for rows in (options.rows // 10, options.rows):
            source, output = write_rows(folder / f"in{rows}.jsonl", rows), folder / f"out{rows}.jsonl"
            told = run(command(source, output, options.workers))
            said = {k: round(v, 1) for k, v in told.items()} | {"rows_per_s": round(rows / told["seconds"])}
            print(json.dumps({"bench": "stream", "rows": rows, "workers": options.workers, **said}), flush=True)
        source, output = folder / f"in{options.rows // 10}.jsonl", folder / "killed.jsonl"
        whole = folder / f"out{options.rows // 10}.jsonl"
        run(command(source, output, options.workers), kill_at=whole.stat().st_size // 2, output=output)
        left = output.read_bytes().count(b"\n")
        run(command(source, output, options.workers, "--resume"))
        same = timeless(output) == timeless(whole)
        print(json.dumps({"bench": "stream", "killed_after_rows": left, "resumed_equals_uninterrupted": same}), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
