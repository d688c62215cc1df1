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
from pathlib import Path
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

DATA_DESIGNER = """
import sys
from data_designer.config.column_configs import LLMTextColumnConfig, SamplerColumnConfig
from data_designer.config.config_builder import DataDesignerConfigBuilder
from data_designer.config.models import ChatCompletionInferenceParams, ModelConfig, ModelProvider
from data_designer.config.run_config import RunConfig
from data_designer.config.sampler_params import UUIDSamplerParams
from data_designer.interface import DataDesigner

if __name__ == "__main__":
    url, n, at_once = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    limits = ChatCompletionInferenceParams(max_tokens=64, max_parallel_requests=at_once)
    model = ModelConfig(alias="stub", model="stub", provider="stub", inference_parameters=limits, skip_health_check=True)
    columns = DataDesignerConfigBuilder(model_configs=[model])
    columns.add_column(SamplerColumnConfig(name="i", sampler_type="uuid", params=UUIDSamplerParams()))
    columns.add_column(LLMTextColumnConfig(name="answer", model_alias="stub", prompt="Question {{ i }}: answer with a number."))
    designer = DataDesigner(artifact_path="artifacts", model_providers=[ModelProvider(name="stub", endpoint=url, api_key="none")])
    designer.set_run_config(RunConfig(buffer_size=n))
    designer.create(columns, num_records=n)
"""

DATATROVE = """
import sys
from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.inference.run_inference import InferenceConfig, InferenceRunner
from datatrove.pipeline.writers import JsonlWriter

async def answer(document, generate):
    return await generate({"messages": [{"role": "user", "content": document.text}], "max_tokens": 64})

if __name__ == "__main__":
    url, n, at_once = sys.argv[1].removesuffix("/v1"), int(sys.argv[2]), int(sys.argv[3])
    rows = [Document(text=f"Question {i}: what is {i} plus one? Answer with a number.", id=str(i)) for i in range(n)]
    config = InferenceConfig(server_type="endpoint", model_name_or_path="stub", endpoint_url=url, max_concurrent_generations=at_once)
    runner = InferenceRunner(answer, config, JsonlWriter("answers", compression=None))
    LocalPipelineExecutor([rows, runner], logging_dir="logs").run()
"""

DRIVERS = {"distilabel": DISTILABEL, "curator": CURATOR, "datadesigner": DATA_DESIGNER, "datatrove": DATATROVE}
IMPORTS = {"distilabel": "distilabel", "curator": "bespokelabs.curator", "datadesigner": "data_designer.interface", "datatrove": "datatrove.data"}


def pythons(given: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Interpreter by library: as `given`, else as the environment names it (SYNTH_CURATOR_PYTHON, …); "" where nothing does."""
    names = dict.fromkeys([*DRIVERS, *given])
    return {name: given.get(name) or environment.get(f"SYNTH_{name.upper()}_PYTHON", "") for name in names}


def missing(name: str, python: str) -> str:
    """Why there can be no figure of this library, in a sentence; "" where there can."""
    if name not in DRIVERS:
        return f"no driver; there are {', '.join(DRIVERS)}"
    if not python:
        return f"no environment: set SYNTH_{name.upper()}_PYTHON to the Python of one that has it"
    try:
        ran = subprocess.run([python, "-c", f"import {IMPORTS[name]}"], capture_output=True, text=True, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{python} does not run: {error}"
    return "" if ran.returncode == 0 else f"not installed for {python}: {(ran.stderr.strip().splitlines() or ['no reason given'])[-1][:200]}"


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
        if why := missing(name, python):
            yield {"name": name, "error": why}
            continue
        with stub(latency=0.1) as root, tempfile.TemporaryDirectory() as folder:
            driver = Path(folder) / "driver.py"  # some spawn workers, which need a file to import
            driver.write_text(DRIVERS[name], "utf-8")
            quiet = {"HOME": folder, "PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1"}
            quiet |= {"TELEMETRY_ENABLED": "0", "CURATOR_DISABLE_CACHE": "1", "NEMO_TELEMETRY_ENABLED": "false"}
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            try:
                words = [python, str(driver), f"{root}/v1", str(n), str(at_once)]
                ran = subprocess.run(words, env=quiet, capture_output=True, text=True, timeout=limit_s, cwd=folder)
                error = "" if ran.returncode == 0 else ran.stderr[-300:]
            except subprocess.TimeoutExpired:
                error = f"not done within {limit_s:g} s"
            after, told = resource.getrusage(resource.RUSAGE_CHILDREN), counts(root)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            if not error and told["distinct"] < n:
                error = f"{told['distinct']} of {n} requests were answered"
            yield {"name": name, "asked": told["asked"], "distinct": told["distinct"], "most_at_once": told["most"],
                   "span_s": round(told["span"], 2), "cpu_s": round(cpu, 2), **({"error": error} if error else {})}  # fmt: skip
