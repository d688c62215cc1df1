"""The recipe's `[engine.vllm]`: how vLLM is started and how weights reach it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from generators.engines.vllm_settings import VllmSettings
from pipelines.part import Part, Positive

Count = Annotated[int, Field(ge=0)]


class VllmPart(Part):
    """vLLM as a server process of ours. 0 and "" leave a setting to vLLM."""

    python: str = ""
    """Interpreter (or environment) that holds vLLM; "" = $SYNTH_VLLM_PYTHON, this environment, or what `synth engine install vllm` made."""
    device: Literal["", "cpu", "cuda"] = ""
    """"" = cuda where there is a GPU."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """auto = the policy's own on a GPU, float32 on a CPU."""
    tensor_parallel: Positive = 1
    """GPUs that share one copy of the weights."""
    data_parallel: Positive = 1
    """Copies of the weights."""
    max_model_len: Count = 0
    """Context in tokens; 0 = the policy's."""
    max_num_seqs: Count = 0
    """Sequences decoded side by side; `engine.scheduler.concurrency` is what is sent."""
    gpu_memory_utilization: Annotated[float, Field(ge=0, le=1)] = 0
    """Share of each GPU's memory that vLLM may take, weights and cache together."""
    cpu_cache_gb: Positive = 1
    """KV cache where there is no GPU."""
    threads: Positive = 1
    """OpenMP threads where there is no GPU; more than the free cores cost a factor of ten."""
    block_size: Count = 0
    """Tokens per block of the prefix cache; shorter prompts are not shared."""
    enforce_eager: bool = False
    """No CUDA graphs and no compilation: starts sooner, decodes slower."""
    quantization: str = ""
    """A method of vLLM, e.g. fp8; log-probs are then compared with wide tolerance only."""
    speculative: dict[str, Any] = {}
    """vLLM's speculative config, e.g. {method = "ngram", num_speculative_tokens = 4, prompt_lookup_max = 4}."""
    lora_rank: Count = 0
    """Above 0, hot-loads the trainer's adapters of this rank (`train.trainer.lora_rank`) instead of whole weights."""
    sleep_level: Literal[0, 1, 2] = 0
    """Where vLLM and the trainer share one GPU, what vLLM frees while the trainer works: 1 = its cache, with the weights in main memory, 2 = both."""
    transfer: Literal["", "file", "ipc", "nccl"] = ""
    """How weights travel; "" = file on a CPU, ipc with sleep_level, nccl else. file works everywhere on one machine."""
    anneal: tuple[float, ...] = ()
    """[T0, T1, tokens]: the temperature moves from T0 to T1 over the first tokens of an answer; `sampling.temperature` must be 1."""
    startup: Annotated[float, Field(gt=0)] = 900
    """Seconds until it must be ready."""
    restarts: Count = 3
    """Deaths within half an hour that are answered by a new start."""
    arguments: tuple[str, ...] = ()
    """Further arguments of `vllm serve`, e.g. ["--max-num-batched-tokens", "8192"]."""
    environment: dict[str, str] = {}
    """Further variables of vLLM's environment."""
    in_process: bool = False
    """Inside this process instead of a server; needs vLLM in synth's own environment. A crash of vLLM is then a crash of the run."""

    @model_validator(mode="after")
    def _makes_sense(self) -> VllmPart:
        if self.anneal and (len(self.anneal) != 3 or min(self.anneal[:2]) <= 0 or self.anneal[2] < 1):
            raise ValueError(f"anneal is [T0 > 0, T1 > 0, tokens >= 1], e.g. [1.2, 0.8, 64], not {list(self.anneal)}")
        if self.sleep_level and self.tensor_parallel * self.data_parallel > 1:
            raise ValueError("sleep_level is for one GPU that trainer and vLLM share; set it to 0 with tensor_parallel or data_parallel above 1")
        return self

    def settings(self) -> VllmSettings:
        return VllmSettings(**(self.model_dump(exclude={"startup"}) | {"startup_seconds": self.startup}))
