"""Other libraries on the benchmark of `bench_endpoint.py`: the shortest honest program of each, run by the Python of an environment that has it.

Each gets the stub's address, the number of requests and how many at once; its own caches are off. Span is measured on the server; CPU is the
driver's process with its children, start-up and imports included (they are what a run of it costs).
"""

from __future__ import annotations

import resource
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

DISTILABEL = """
import sys
from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration

if __name__ == "__main__":
    url, n, at_once = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    rows = [{"instruction": f"Question {i}: what is {i} plus one? Answer with a number."} for i in range(n)]
    with Pipeline(name="bench") as pipeline:
        load = LoadDataFromDicts(data=rows, batch_size=at_once)
        llm = OpenAILLM(model="stub", base_url=url, api_key="none", generation_kwargs={"max_new_tokens": 64})
        load >> TextGeneration(llm=llm, input_batch_size=at_once)
    pipeline.run(use_cache=False)
"""

CURATOR = """
import sys
import tiktoken

class Bytes:  # tiktoken would download its table
    def encode(self, text, **_):
        return list(text.encode())

tiktoken.get_encoding = tiktoken.encoding_for_model = lambda name: Bytes()
from bespokelabs import curator
from datasets import Dataset

class Ask(curator.LLM):
    def prompt(self, row):
        return row["question"]

    def parse(self, row, response):
        return {"answer": str(response)}

if __name__ == "__main__":
    url, n, at_once = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    rows = Dataset.from_list([{"question": f"Question {i}: what is {i} plus one? Answer with a number."} for i in range(n)])
    limits = {"max_concurrent_requests": at_once, "max_requests_per_minute": 10**7, "max_tokens_per_minute": 10**9}
    where = {"base_url": url, "api_key": "none", **limits}
    Ask(model_name="stub", backend="openai", backend_params=where, generation_params={"max_tokens": 64})(rows)
"""

DRIVERS = {"distilabel": DISTILABEL, "curator": CURATOR}


def others(
    pythons: Mapping[str, str],
    stub: Callable[..., AbstractContextManager[str]],
    counts: Callable[..., dict[str, Any]],
    *,
    n: int = 2000,
    at_once: int = 64,
    limit_s: float = 300.0,
) -> Iterator[dict[str, Any]]:
    """Figures of each of `pythons` (name -> interpreter), or why there are none."""
    for name, python in pythons.items():
        if name not in DRIVERS:
            yield {"name": name, "error": f"no driver; there are {', '.join(DRIVERS)}"}
            continue
        with stub(latency=0.1) as root, tempfile.TemporaryDirectory() as folder:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            quiet = {"HOME": folder, "HF_HUB_OFFLINE": "1", "TELEMETRY_ENABLED": "0", "CURATOR_DISABLE_CACHE": "1", "PATH": "/usr/bin:/bin"}
            words = [python, "-c", DRIVERS[name], f"{root}/v1", str(n), str(at_once)]
            if name == "distilabel":  # its workers are spawned, and need a file to import
                path = f"{folder}/driver.py"
                with open(path, "w", encoding="utf-8") as file:
                    file.write(DRIVERS[name])
                words[1:3] = [path]
            try:
                ran = subprocess.run(words, env=quiet, capture_output=True, text=True, timeout=limit_s, cwd=folder)
                error = "" if ran.returncode == 0 else ran.stderr[-300:]
            except subprocess.TimeoutExpired:
                error = f"not done within {limit_s:g} s"
            after, told = resource.getrusage(resource.RUSAGE_CHILDREN), counts(root)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            yield {"name": name, "asked": told["asked"], "distinct": told["distinct"], "most_at_once": told["most"],
                   "span_s": round(told["span"], 2), "cpu_s": round(cpu, 2), **({"error": error} if error else {})}  # fmt: skip
