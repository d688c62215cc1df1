"""`synth bench grpo -- --gpu`: its arithmetic against published numbers, and the whole of it on a tiny shape."""

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import bench_grpo
import grpo_update


@pytest.mark.parametrize(("name", "billions"), [("0.6b", 0.596), ("4b", 4.022)])
def test_shapes_have_the_sizes_that_their_model_cards_say(name: str, billions: float) -> None:
    assert grpo_update.parameters(grpo_update.SHAPES[name]) / 1e9 == pytest.approx(billions, abs=1e-3)


def test_flops_are_counted_as_the_published_figure_counts_them() -> None:
    """prime-rl: 0.6B full, one H100, 16 k: 11.9 k tokens/s = 11.1 % MFU."""
    assert 11.9e3 * grpo_update.flops_per_token(grpo_update.SHAPES["0.6b"], 16384) / grpo_update.PEAK["H100"] == pytest.approx(0.111, abs=1e-3)


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        ("aten::mm", "matrix products"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32", "matrix products"),
        ("nvjet_tst_128x256_64x4_2x1_v_bz_TNT", "matrix products"),
        ("fmha_cutlassF_bf16_aligned_64x64_rf_sm80", "attention"),
        ("flash_fwd_kernel", "attention"),
        ("multi_tensor_apply_kernel<FusedAdamMathFunctor>", "optimizer"),
        ("ncclDevKernel_AllGather_RING_LL", "communication"),
        ("aten::mul", "elementwise and reductions"),
    ],
)
def test_what_an_operators_time_is_spent_on(operator: str, kind: str) -> None:
    assert grpo_update.kind_of(operator) == kind


def test_the_whole_path_on_a_tiny_shape(capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    try:
        assert bench_grpo.main(["--gpu", "--shapes", "tiny", "--contexts", "64,128", "--steps", "1", "--rows", "4"]) == 0
    finally:
        torch.set_num_threads(threads)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert [line["context"] for line in lines] == [64, 128]
    for line in lines:
        assert line["tokens_per_second"] > line["trained_tokens_per_second"] > 0
        assert line["parameters"] >= grpo_update.parameters(grpo_update.SHAPES["tiny"])
        assert sum(line["spent"].values()) == pytest.approx(1, abs=0.01) and line["bound_by"] in line["spent"]
        assert line["mfu"] is None or torch.cuda.is_available()
        assert line["note"] or torch.cuda.is_available()
