"""Arguments of the server, and weights on their way to it: pure parts of the vLLM engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from data.errors import SynthError, UserError
from generators.engines import weights
from generators.engines.vllm_settings import VllmSettings, lora_slot, serve_command, server_environment

PYTHON, MODEL = Path("/env/bin/python"), Path("/models/m")


def options(settings: VllmSettings) -> dict[str, str]:
    command = serve_command(PYTHON, MODEL, settings, 8123)
    return {flag: after if not after.startswith("--") else "" for flag, after in zip(command, [*command[1:], "--"]) if flag.startswith("--")}


def test_a_cpu_server_takes_what_a_cpu_can() -> None:
    given = options(VllmSettings(device="cpu", sleep_level=1, gpu_memory_utilization=0.5, transfer="nccl"))
    assert given["--host"] == "127.0.0.1" and given["--port"] == "8123"
    assert given["--dtype"] == "float32" and "--enforce-eager" in given and given["--block-size"] == "32"
    assert json.loads(given["--weight-transfer-config"]) == {"backend": "cpu_file"}
    assert json.loads(given["--structured-outputs-config"])["disable_any_whitespace"] is True
    assert given["--logprobs-mode"] == "processed_logprobs" and given["--generation-config"] == "vllm"
    assert given["--middleware"] == "synth_key.KeyRequired", "vLLM itself guards /v1 only"
    assert not {"--enable-sleep-mode", "--gpu-memory-utilization", "--enable-lora", "--logits-processors", "--max-num-seqs"} & given.keys()
    around = server_environment(PYTHON, VllmSettings(device="cpu"))
    assert around["OMP_NUM_THREADS"] == "1" and around["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0" and around["TORCHDYNAMO_DISABLE"] == "1"
    assert around["PATH"].startswith("/env/bin") and "VLLM_ALLOW_INSECURE_SERIALIZATION" not in around
    assert "VLLM_ENABLE_V1_MULTIPROCESSING" not in server_environment(PYTHON, VllmSettings(device="cpu", tensor_parallel=2))


def test_a_gpu_server_takes_what_the_recipe_says() -> None:
    settings = VllmSettings(
        device="cuda", tensor_parallel=4, data_parallel=2, max_model_len=8192, max_num_seqs=256, gpu_memory_utilization=0.85,
        quantization="fp8", speculative={"method": "ngram", "num_speculative_tokens": 4}, lora_rank=20, anneal=(1.2, 0.8, 64),
        arguments=["--max-num-batched-tokens", "8192"],
    )  # fmt: skip
    given = options(settings)
    assert (given["--tensor-parallel-size"], given["--data-parallel-size"]) == ("4", "2")
    assert (given["--max-model-len"], given["--max-num-seqs"]) == ("8192", "256")
    assert given["--quantization"] == "fp8" and given["--gpu-memory-utilization"] == "0.85" and given["--dtype"] == "auto"
    assert json.loads(given["--speculative-config"])["method"] == "ngram"
    assert "--enable-lora" in given and given["--max-lora-rank"] == "32" and given["--logits-processors"] == "synth_anneal:AnnealedV2"
    assert given["--max-num-batched-tokens"] == "8192" and "--enforce-eager" not in given
    assert "OMP_NUM_THREADS" not in server_environment(PYTHON, settings)
    assert server_environment(PYTHON, settings)["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"


@pytest.mark.parametrize(
    ("settings", "backend", "pickles"),
    [
        (VllmSettings(device="cuda"), "nccl", False),
        (VllmSettings(device="cuda", sleep_level=2), "ipc", True),
        (VllmSettings(device="cuda", sleep_level=2, transfer="file"), "file", False),
        (VllmSettings(device="cpu", transfer="ipc"), "file", False),
    ],
)
def test_how_weights_travel(settings: VllmSettings, backend: str, pickles: bool) -> None:
    assert settings.backend == backend
    assert json.loads(options(settings)["--weight-transfer-config"])["backend"] == {"file": "cpu_file"}.get(backend, backend)
    assert ("VLLM_ALLOW_INSECURE_SERIALIZATION" in server_environment(PYTHON, settings)) == pickles
    assert ("--enable-sleep-mode" in options(settings)) == (settings.sleep_level > 0 and not settings.on_cpu)


def test_adapters_fit_the_slot() -> None:
    assert [lora_slot(r) for r in (1, 8, 9, 64, 257)] == [8, 8, 16, 64, 320]


def test_a_tied_head_goes_along() -> None:
    tied = torch.ones(4, 2)
    assert weights.with_head({"model.embed_tokens.weight": tied})["lm_head.weight"] is tied
    own = {"model.embed_tokens.weight": tied, "lm_head.weight": 2 * tied}
    assert weights.with_head(own) == own
    assert "lm_head.weight" in weights.with_head({"transformer.wte.weight": tied})


def test_weights_are_cut_into_files_that_share_nothing() -> None:
    tied = torch.ones(4, 2)
    parts = list(weights.chunks({"a": tied, "b": torch.zeros(2), "c": tied, "d": torch.ones(100).t()}, most=48))
    assert [list(p) for p in parts] == [["a", "b"], ["c"], ["d"]]
    both = next(iter(weights.chunks({"a": tied, "c": tied})))
    assert both["a"].data_ptr() != both["c"].data_ptr()


class Recorder:
    def __init__(self, fails_at: str = "") -> None:
        self.calls: list[str] = []
        self.fails_at = fails_at

    def __call__(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        self.calls.append(path)
        if path == self.fails_at:
            raise SynthError("no")
        return {"success": path != "/refuses"}


def test_an_update_that_breaks_off_never_resumes() -> None:
    for at in ("/start_weight_update", "/update_weights", "/finish_weight_update", "/reset_prefix_cache"):
        control = Recorder(at)
        with pytest.raises(weights.HalfLoaded, match="did not reach vLLM"):
            weights.push(control, weights.FileTransfer(control), {"w": torch.ones(2)}, "v1")
        assert "/resume" not in control.calls and not list(Path("/dev/shm").glob(f"synth-{__import__('os').getpid()}-*"))


def test_what_the_dead_left_in_shared_memory_is_swept(tmp_path: Path) -> None:
    import os
    import subprocess
    import sys

    dead = int(subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True).stdout)
    mine, left = tmp_path / f"synth-{os.getpid()}-a", tmp_path / f"synth-{dead}-b"
    for folder in (mine, left):
        folder.mkdir()
    weights._sweep(tmp_path)
    assert mine.exists() and not left.exists()


def test_the_adapter_is_what_peft_writes(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import load_file
    from transformers import Qwen3Config, Qwen3ForCausalLM

    sizes = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    config = Qwen3Config(**sizes, num_attention_heads=2, num_key_value_heads=1, head_dim=8)
    model = get_peft_model(Qwen3ForCausalLM(config), LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"]))
    model.save_pretrained(tmp_path / "peft")
    ours = {n.removeprefix("base_model.model."): p.detach() for n, p in model.named_parameters() if "lora_" in n}
    weights.write_adapter(tmp_path / "ours", 4, 8.0, ours, base="b")
    mine, theirs = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("ours", "peft"))
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)
    read = LoraConfig.from_pretrained(str(tmp_path / "ours"))
    assert (read.r, read.lora_alpha, set(read.target_modules)) == (4, 8.0, {"q_proj", "down_proj"})


def test_device_transfer_without_vllm_says_what_to_do() -> None:
    with pytest.raises(UserError, match=r"needs vLLM in synth's own environment"):
        weights.make_transfer("nccl", Recorder())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"anneal": (1.0, 1.0)}, "anneal is"),
        ({"sleep_level": 2, "tensor_parallel": 2}, "sleep_level is for one GPU"),
        ({"sleep_level": 3}, "0, 1 or 2"),
        ({"gpu_memory_utilization": 2}, "less than or equal to 1"),
        ({"pyhton": "x"}, "Extra inputs"),
    ],
)
def test_the_recipe_table_refuses_nonsense(changes: dict[str, Any], said: str) -> None:
    from pydantic import ValidationError

    from pipelines.vllm_part import VllmPart

    assert VllmPart().settings() == VllmSettings()
    with pytest.raises(ValidationError, match=said):
        VllmPart(**changes)
