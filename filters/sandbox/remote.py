"""Programs run by a SandboxFusion-compatible endpoint (`POST {url}/run_code`) instead of this host: same jobs, same results, same judge.

The endpoint only executes: the program and the runner go there, typed values come back, expected values stay here. How well it isolates is its
owner's business, so verdicts are stamped "remote" and nothing falls back silently: an endpoint that does not answer makes jobs `broken`, which is
`unknown`, never a fail and never a run on this host. Two things are weaker than at home: deadlines are on the clock, and a judge's script runs
beside the program's process under one user.
Protocol: bytedance.github.io/SandboxFusion, RunCodeRequest and RunCodeResponse.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

from data.errors import UserError
from filters.sandbox.jobs import Job, Result, Runner

HERE = Path(__file__).resolve().parent
MAX_ANSWER = 64 << 20
TRIES, BACKOFF = 3, 0.5
AHEAD = 4  # requests in flight per worker

_DRIVER = """
import json, os, sys
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.getcwd())
import child
import random
request = json.loads({request!r})
out = os.dup(1)
null = os.open(os.devnull, os.O_RDWR)
for fd in (0, 1):
    os.dup2(null, fd)
def emit(record, mark={mark!r}):
    data = (mark + json.dumps(record) + "\\n").encode()
    while data:
        data = data[os.write(out, data):]
random.seed(request["seed"])
lock = lambda request: None
if request["kind"] == "judge":
    asked, ask = os.pipe()
    answered, answer = os.pipe()
    if os.fork() == 0:
        os.close(out), os.close(ask), os.close(answered)
        child.serve_calls(request, child.emitter(answer), child.receiver(asked), lock)
        os._exit(0)
    os.close(asked), os.close(answer)
    child.run_judge(request, emit, child.receiver(answered), child.emitter(ask), lock)
else:
    {{"calls": child.run_calls, "beside": child.run_beside}}[request["kind"]](request, emit, lock)
os._exit(0)
"""


class RemoteSandbox:
    """Sends jobs to an endpoint, `workers` at a time; results in order. Raises `UserError` for an address that is none."""

    isolation = "remote"

    def __init__(self, url: str, workers: int = 16, headers: dict[str, str] | None = None) -> None:
        if not url.startswith(("http://", "https://")):
            raise UserError(f"the sandbox endpoint must be an address such as http://host:8080, got {url!r}")
        self.url, self.workers = url.rstrip("/") + "/run_code", workers
        self.headers = {"Content-Type": "application/json", **(headers or {})}

    def run(self, jobs: Iterable[Job]) -> list[Result]:
        return list(self.stream(jobs))

    def stream(self, jobs: Iterable[Job]) -> Iterator[Result]:
        """Results in order; takes from `jobs` only as fast as they are answered."""
        source = iter(jobs)
        with ThreadPoolExecutor(self.workers) as pool:
            waiting = [pool.submit(self.run_one, job) for job in islice(source, AHEAD * self.workers)]
            while waiting:
                yield waiting.pop(0).result()
                waiting.extend(pool.submit(self.run_one, job) for job in islice(source, 1))

    def run_one(self, job: Job) -> Result:
        mark = f"{secrets.token_hex(8)} "
        body = json.dumps(self.request(job, mark)).encode()
        limit = job.limits.total + 30.0
        for attempt in range(TRIES):
            try:
                asked = urllib.request.Request(self.url, body, self.headers)
                with urllib.request.urlopen(asked, timeout=limit) as response:
                    answer = json.loads(response.read(MAX_ANSWER))
                if isinstance(answer, dict) and answer.get("status") != "SandboxError":
                    return self.result(job, answer, mark)
            except (OSError, ValueError, urllib.error.URLError):
                pass
            time.sleep(BACKOFF * 2**attempt * (attempt + 1 < TRIES))
        return Result("broken")

    def request(self, job: Job, mark: str) -> dict[str, Any]:
        """The RunCodeRequest. A program that reads its input goes as it is, everything else behind the runner."""
        common = {"language": "python", "run_timeout": wall_limit(job), "compile_timeout": 10.0}
        if job.kind == "stdin":
            return common | {"code": job.code, "stdin": job.stdin}
        files = {name: base64.b64encode((HERE / name).read_bytes()).decode() for name in ("child.py", "wire.py")}
        return common | {"code": _DRIVER.format(request=json.dumps(job.request()), mark=mark), "stdin": "", "files": files}

    @staticmethod
    def result(job: Job, answer: dict[str, Any], mark: str) -> Result:
        run = answer.get("run_result")
        if not isinstance(run, dict):
            return Result("broken")
        seconds = float(run.get("execution_time") or 0.0)
        if run.get("status") == "TimeLimitExceeded":
            return Result("timeout", wall=seconds, cpu=seconds)
        stdout = str(run.get("stdout") or "")
        if len(stdout) > job.limits.output:
            return Result("output", wall=seconds, cpu=seconds)
        if job.kind == "stdin":
            failed = json.dumps(["x", "exit status", str(run.get("return_code"))]).encode()
            record = b'["done"]' if run.get("return_code") == 0 else failed
            return Result("ended", (record,), stdout.encode("utf-8", "surrogatepass"), (seconds,), seconds, seconds)
        records = tuple(line[len(mark) :].encode() for line in stdout.splitlines() if line.startswith(mark))
        return Result("ended", records, times=(seconds,), cpu=seconds, wall=seconds)


def wall_limit(job: Job) -> float:
    """Seconds on the clock: three times what the tests may use of the CPU, and one to start; the endpoint knows no limit per test."""
    return min(job.limits.total, 3.0 * job.limits.test * (len(job.calls) + 1)) + 1.0


def open_runner() -> Runner:
    """Where programs run: the endpoint that `SYNTH_SANDBOX_URL` names, else this host's sandbox at its strictest level."""
    if url := os.environ.get("SYNTH_SANDBOX_URL", ""):
        return RemoteSandbox(url)
    from filters.sandbox.levels import open_sandbox

    return open_sandbox()
