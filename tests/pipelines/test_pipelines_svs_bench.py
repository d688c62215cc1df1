"""What `synth bench svs` says follows from the runs: planted differences come back with their sign, and the page holds what the lines say."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.benchmarks import bench_svs as bench


def found(entropy: list[float], rates: list[list[float]], tokens: int) -> dict[str, Any]:
    """One run: per round its entropy and the pass rates of its held-out problems."""
    steps = {"round": [1, 1], "step": [1, 2], "tokens": [tokens, tokens], "groups": [3, 3]}
    curve = pl.DataFrame(steps | {"entropy": [0.2, 0.1], "reward_mean": [0.5, 0.6]})
    passes = np.asarray(rates)
    return {
        "entropy": np.asarray(entropy), "pass_1": passes, "pass_16": np.minimum(1.0, 2 * passes),
        "curve": curve, "at": np.asarray([0, 2 * tokens]), "steps": 2, "tokens": 2 * tokens, "sampled": 9 * tokens,
    }  # fmt: skip


def pair(seed: int, gain: float) -> dict[str, dict[str, Any]]:
    rng = np.random.default_rng(seed)
    before, after = rng.uniform(0.1, 0.4, 40), rng.uniform(0.1, 0.4, 40)
    return {
        "svs": found([0.07, 0.06 + 0.001 * seed], [before.tolist(), (after + gain).tolist()], 500),
        "grpo": found([0.07, 0.04], [before.tolist(), after.tolist()], 500),
        "wide": found([0.07, 0.05], [before.tolist(), (after + gain).tolist()], 500),
    }


@pytest.mark.parametrize(("gain", "not_inferior"), [(0.05, True), (-0.01, True), (-0.05, False)])
def test_planted_differences_come_back(gain: float, not_inferior: bool) -> None:
    rows = bench.gaps({seed: pair(seed, gain) for seed in range(4)})
    assert [(r["round"], r["figure"]) for r in rows] == [(place, name) for place in (0, 1) for name in bench.FIGURES]
    by = {(r["round"], r["figure"]): r for r in rows}
    assert by[0, "pass_1"]["svs_minus_grpo"]["value"] == 0 and by[0, "entropy"]["svs"] == by[0, "entropy"]["grpo"] == 0.07
    assert by[1, "pass_1"]["svs_minus_grpo"]["value"] == pytest.approx(gain, abs=1e-4) and by[1, "pass_1"]["not_inferior"] is not_inferior
    over = by[1, "pass_1"]["svs_minus_grpo_over_problems"]
    assert over["low"] <= gain + 1e-4 and over["high"] >= gain - 1e-4
    assert by[1, "pass_16"]["svs_minus_wide"]["value"] == 0 and by[1, "entropy"]["svs_minus_wide"]["value"] == pytest.approx(0.0115, abs=1e-4)
    gap = by[1, "entropy"]["svs_minus_grpo"]
    assert gap["value"] == pytest.approx(0.0215, abs=1e-4) and gap["low"] < gap["value"] < gap["high"]
    assert "svs_minus_grpo_over_problems" not in by[1, "entropy"]


def test_one_seed_says_nothing_about_inferiority() -> None:
    last = bench.gaps({7: pair(7, 0.1)})[-2]
    assert last["figure"] == "pass_1" and last["not_inferior"] is None and "low" not in last["svs_minus_grpo"]


def test_the_page_holds_table_and_curves() -> None:
    each = {seed: pair(seed, 0.05) for seed in range(3)}
    rows = bench.gaps(each)
    page = bench.page_of(each, rows, {"written": bench.rate([True, False, False]), "trained": bench.rate([False] * 4)})
    text = re.sub(r"<[^>]+>", " ", page)
    for row in rows[-3:]:
        assert f"{row['svs']:.4f}" in text and f"{row['grpo']:.4f}" in text
    assert "Held-out pass@16" in text and "1,000" in text and "4,500" in text  # trained and sampled tokens
    assert page.count("svs, 1 thousand trained tokens") >= 3  # a curve of each figure
