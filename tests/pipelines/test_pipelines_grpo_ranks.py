"""FSDP2 and DCP with two gloo processes: the same training as alone, the same bits after a resume, and checkpoints that one rank can take up."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from grpo_ranks import train
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

from pipelines.grpo.config import GRPOConfig
from pipelines.grpo.trainer import GRPOTrainer

SCRIPT = Path(__file__).with_name("grpo_ranks.py")
LORA = {"lora_rank": 2, "precision": "bf16", "gradient_checkpointing": True}
CONFIGS = {
    "grpo": {"learning_rate": 1e-3, "micro_tokens": 40, "overrides": {"kl_coef": 0.05}},
    "memory": {"preset": "dcpo", "learning_rate": 1e-3, "micro_tokens": 40, "minibatches": 2, "overrides": {"entropy_share": 0.5}},
    "lora_bf16": {"learning_rate": 1e-2, "micro_tokens": 40, "overrides": {"kl_coef": 0.05}, **LORA},
}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("ranks")
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    Qwen3ForCausalLM(Qwen3Config(vocab_size=40, max_position_embeddings=64, tie_word_embeddings=True, **size)).save_pretrained(path / "policy")
    return path


def torchrun(folder: Path, config: str) -> list[dict[str, float]]:
    """The lines of rank 0 of two."""
    (folder / "config.json").write_text(json.dumps(CONFIGS[config]))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1", "--master-port", str(port)]
    command = [*start, str(SCRIPT), str(folder), str(folder / "config.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.mark.slow  # the quick suite has two ranks against one in test_pipelines_rank_group.py
@pytest.mark.parametrize("name", list(CONFIGS))
def test_two_ranks_train_as_one_and_one_goes_on_from_two(policy: Path, tmp_path: Path, name: str) -> None:
    torch.set_num_threads(1)
    config = GRPOConfig(**CONFIGS[name])  # type: ignore[arg-type]
    (tmp_path / "policy").symlink_to(policy / "policy")
    lines = torchrun(tmp_path, name)
    two, again = lines[:3], lines[3:]
    assert [line["hash"] for line in again] == [line["hash"] for line in two[1:]]  # bit for bit at equal world size
    one = list(train(GRPOTrainer(policy / "policy", config), tmp_path, "one"))
    alone = list(train(GRPOTrainer.resume(tmp_path / "at1", config), tmp_path, "alone"))
    loose = 5e-2 if name == "lora_bf16" else 1e-5  # FSDP2 rounds weights to bfloat16, autocast only what enters a matrix product
    for a, b in zip([*two, *two[1:]], [*one, *alone], strict=True):
        assert a["step"] == b["step"] and a["tokens"] == b["tokens"] and a["updates"] == b["updates"] and a["rows_dropped"] == 0
        for key in ("loss", "grad_norm", "entropy", "kl", "ratio_mean"):
            assert a[key] == pytest.approx(b[key], rel=loose, abs=loose / 10), key
    got, wanted = (load_file(tmp_path / f / "model.safetensors") for f in ("alone3", "at3"))
    assert got.keys() == wanted.keys()
    for key, value in wanted.items():
        torch.testing.assert_close(got[key], value, atol=1e-2 if name == "lora_bf16" else 1e-5, rtol=0)
    assert sorted(p.suffix for p in (tmp_path / "at3/shards").iterdir()) == [".safetensors"] * 2  # no pickled metadata
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "at3", dtype=torch.float32)
    assert sum(p.numel() for p in model.parameters()) == sum(v.numel() for v in wanted.values())
