"""How vLLM's server is started: settings in, argument list and environment out. Pure functions, no vLLM needed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from generators.engines.environment import SIDE, has_gpu, home

SERVED = "policy"
"""The name that the server serves the weights under."""
ADAPTER = "policy-adapter"


@dataclass(frozen=True)
class VllmSettings:
    """Whatever is 0, "" or empty is left to vLLM."""

    python: str = ""  # interpreter or environment that holds vLLM; "" = found
    device: str = ""  # cpu or cuda; "" = cuda where there is a GPU
    dtype: str = "auto"
    tensor_parallel: int = 1
    data_parallel: int = 1
    max_model_len: int = 0
    max_num_seqs: int = 0
    gpu_memory_utilization: float = 0.0
    cpu_cache_gb: int = 1  # KV cache on a CPU
    threads: int = 1  # OpenMP threads on a CPU; two that spin on busy cores cost a factor of ten
    block_size: int = 0  # tokens per block of the prefix cache
    enforce_eager: bool = False
    quantization: str = ""
    speculative: Mapping[str, Any] = field(default_factory=dict)
    lora_rank: int = 0  # above 0: adapters are hot-loaded instead of whole weights
    sleep_level: int = 0  # colocated on the trainer's GPU: what it frees while the trainer works; 0 = nothing
    transfer: str = ""  # file, ipc or nccl; "" = ipc where it shares the trainer's GPU, nccl on others, file where there is none
    anneal: tuple[float, ...] = ()  # (T0, T1, tokens)
    startup_seconds: float = 900.0
    restarts: int = 3
    arguments: Sequence[str] = ()  # further ones of `vllm serve`
    environment: Mapping[str, str] = field(default_factory=dict)
    in_process: bool = False

    @property
    def on_cpu(self) -> bool:
        return (self.device or ("cuda" if has_gpu() else "cpu")) == "cpu"

    @property
    def backend(self) -> str:
        """What carries the weights: file, ipc or nccl."""
        if self.on_cpu:
            return "file"
        return self.transfer or ("ipc" if self.sleep_level else "nccl")


def serve_command(python: Path, model: Path, settings: VllmSettings, port: int) -> list[str]:
    """Argument list of the server on 127.0.0.1:`port`. The key is not in it."""
    s = settings
    command = [str(python), "-m", "vllm.entrypoints.cli.main", "serve", str(model), "--served-model-name", SERVED]
    command += ["--host", "127.0.0.1", "--port", str(port), "--middleware", "synth_key.KeyRequired", "--disable-uvicorn-access-log"]
    for name, value in engine_options(settings).items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            command.append(flag)
        elif isinstance(value, (list, tuple)):
            command += [flag, *map(str, value)]
        elif value is not False:
            command += [flag, json.dumps(value) if isinstance(value, dict) else str(value)]
    return [*command, "--enable-scale-out", *s.arguments]


def engine_options(settings: VllmSettings) -> dict[str, Any]:
    """Options of vLLM's engine by their Python names, the same for the server and for `LLM(…)`."""
    s = settings
    options: dict[str, Any] = {
        "dtype": ("float32" if s.on_cpu else "auto") if s.dtype == "auto" else s.dtype,
        "seed": 0,
        # The distribution that was sampled from, not the raw one: at temperature 0.7 they are up to 2.6 nats apart.
        "logprobs_mode": "processed_logprobs",
        "generation_config": "vllm",  # a model folder's own defaults (a repetition penalty, say) must not bend what was asked for
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},  # else a weak model writes newlines for ever
        "worker_extension_cls": "synth_weights.Extension",
        "weight_transfer_config": {"backend": {"file": "cpu_file"}.get(s.backend, s.backend)},
        "tensor_parallel_size": s.tensor_parallel,
        "data_parallel_size": s.data_parallel,
        "enable_prefix_caching": True,
        "enforce_eager": s.enforce_eager or s.on_cpu,
    }
    if s.on_cpu:
        options["block_size"] = s.block_size or 32  # vLLM's own 128 on a CPU means that shorter prompts are never found again
    elif s.block_size:
        options["block_size"] = s.block_size
    optional = {
        "max_model_len": s.max_model_len,
        "max_num_seqs": s.max_num_seqs,
        "gpu_memory_utilization": 0 if s.on_cpu else s.gpu_memory_utilization,
        "quantization": s.quantization,
        "speculative_config": dict(s.speculative),
        "enable_sleep_mode": bool(s.sleep_level) and not s.on_cpu,  # a CPU refuses the flag
    }
    options |= {name: value for name, value in optional.items() if value}
    if s.lora_rank:
        options |= {"enable_lora": True, "max_lora_rank": lora_slot(s.lora_rank), "max_loras": 1}
    if s.anneal:
        options["logits_processors"] = ["synth_anneal:AnnealedV1" if s.on_cpu else "synth_anneal:AnnealedV2"]
    return options


def lora_slot(rank: int) -> int:
    """The smallest rank that vLLM has kernels for and that holds `rank`."""
    return next((size for size in (8, 16, 32, 64, 128, 256, 320, 512) if size >= rank), rank)


def server_environment(python: Path, settings: VllmSettings) -> dict[str, str]:
    """What is added to the server's environment."""
    cache = home() / "cache" / "vllm"
    path = os.pathsep.join([str(python.parent), os.environ.get("PATH", os.defpath)])
    values = {
        "PYTHONPATH": str(SIDE),
        "PATH": path,  # ninja and the like lie beside the interpreter
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_CACHE_ROOT": str(cache),
        "VLLM_LOGGING_LEVEL": "INFO",
        "VLLM_SERVER_DEV_MODE": "1",  # the routes that pause it and change its weights; all need the key (synth_key.py)
    }
    if settings.on_cpu:
        values |= {
            "OMP_NUM_THREADS": str(settings.threads),
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_CPU_KVCACHE_SPACE": str(settings.cpu_cache_gb),
            "TORCHDYNAMO_DISABLE": "1",  # else the first log-probs wait for a compiler, which need not be there
        }
        if settings.tensor_parallel == settings.data_parallel == 1:
            values["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    if settings.backend == "ipc":
        values["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"  # CUDA handles come pickled; only who has the key can send any
    if settings.lora_rank:
        values["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"
    return values | dict(settings.environment)
