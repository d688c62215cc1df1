"""SvS against plain GRPO at equal trained tokens, on the policy that can write: does it keep entropy and pass@16 up without losing pass@1?

    synth bench svs -- --keep runs/bench-svs                five seeds; goes on where it was, finished runs are not made again
    synth bench svs -- --only 3 --keep runs/bench-svs       one seed
    synth bench svs -- --planted 400                        only the share of planted answer-changing variants that the band lets through

Per seed three runs of the recipe `svs` in the regime that the paper is about, few problems and many passes over them (`REGIME`): with the
strategy, without it, and without it in as few, wider steps, since a step of SvS learns from three times the tokens and so fewer steps move
the weights less. All learn from TOKENS response tokens, whole groups: the answers to problems, with SvS also the writings and the answers to
the variants. Sampled tokens are told beside them: SvS samples more, most of it for variants that the band refuses.

Three figures on held-out problems, before training and after each round: pass@1, pass@16, and entropy (mean -log p of the sampled tokens at
temperature 1), so that what the writing stream adds to the trainer's own curve does not count. One JSON line per run, per round and figure,
and over all seeds; a table and the curves in KEEP/svs.html.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

ARMS = {"svs": (), "grpo": ("strategies={}",), "wide": ("strategies={}", "train.prompts_per_step=96")}
"""What each changes in the recipe. wide: plain GRPO that takes as few steps as SvS does, three times the problems in each."""
PAIRS = (("svs", "grpo"), ("svs", "wide"))
FIGURES = ("entropy", "pass_1", "pass_16")
MARGIN = 0.02
"""pass@1 may be lower by this much and still counts as not inferior."""
ROUNDS, TOKENS = 3, 201_000
"""Evaluations after training, and what both arms learn from in all of it."""
REGIME = (
    "problems.per_cell=4",
    "probe.problems=260",
    "select.problems=260",
    f"rounds={ROUNDS}",
    f"train.tokens={TOKENS // ROUNDS}",
    "train.steps=1000",
    "train.learning_rate=2e-4",
    "train.final_rate=1",
    "evaluate.problems=260",
)
"""Chosen with plain GRPO on seed 100, which is none of those reported: it passes over some 170 problems a dozen times and loses what it
could do elsewhere. With half of them at 3e-4 it lost 13 points of pass@1 as well, which is more than the paper's baseline does."""


# ----------------------------------------------------------------------------------------------------------------- runs
def run(folder: Path, seed: int, overrides: list[str]) -> dict[str, Any]:
    """A whole run in a process of its own, or what is missing of one that was begun; {} where it is finished."""
    from pipelines.run import is_run

    command = [sys.executable, "-m", "flows.cli.main"]
    if is_run(folder):
        if finished(folder):
            return {}
        command += ["resume", str(folder), "--quiet"]
    else:
        command += ["run", "svs", "--quiet", "--seed", str(seed), "--out", str(folder)]
        for override in overrides:
            command += ["--set", override]
    began = time.monotonic()
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the run in {folder} failed: {' '.join(command)}")
    return {"seconds": round(time.monotonic() - began, 1), "cpu": round(usage.ru_utime + usage.ru_stime, 1)}


def finished(folder: Path) -> bool:
    import synth

    with synth.open_run(folder) as one:
        last = one.recipe["rounds"]
        return one.query(f"SELECT count(*) FROM stages WHERE round = {last:d} AND stage = 'evaluate'").item() > 0


# -------------------------------------------------------------------------------------------------------------- figures
def measures(folder: Path) -> dict[str, Any]:
    """What one run came to. By figure float64[rounds + 1, problems] (entropy float64[rounds + 1]), trained and sampled tokens after each round."""
    import synth
    from pipelines.evaluate import pass_at_k_rates

    with synth.open_run(folder) as one:
        evals = one.query("SELECT round, n, passes FROM evals WHERE n > 0 ORDER BY round, problem_id")
        entropy = one.query("""
            SELECT round, -sum(x.l) / count(*) FROM (SELECT round, unnest(logp) AS l FROM trajectories WHERE stage = 'evaluate') x
            WHERE NOT isnan(x.l) GROUP BY round ORDER BY round
        """)
        steps = one.query("SELECT round, step, tokens, entropy, reward_mean, groups FROM train_steps ORDER BY round, step")
        tokens = one.query("SELECT round, sum(tokens)::BIGINT FROM train_steps GROUP BY round")
        sampled = one.query("SELECT sum(response_tokens) FROM rollouts WHERE stage = 'train'").item()
    found: dict[str, Any] = {"entropy": entropy.to_series(1).to_numpy(), "pass_1": [], "pass_16": [], "curve": steps, "sampled": int(sampled)}
    for (_,), part in evals.group_by("round", maintain_order=True):
        n, passes = part["n"].to_numpy(), part["passes"].to_numpy()
        found["pass_1"].append(passes / n)
        found["pass_16"].append(pass_at_k_rates(n, passes, min(16, int(n.min()))))
    each = dict(tokens.rows())
    found["at"] = np.cumsum([each.get(round, 0) for round in range(len(found["pass_1"]))])
    return found | {name: np.asarray(found[name]) for name in ("pass_1", "pass_16")} | {"tokens": int(found["at"][-1]), "steps": steps.height}


def references(folder: Path) -> dict[str, list[bool]]:
    """Per gate, whether the inherited reference of each variant is wrong, by the world's own reading of its text; unreadable text is wrong.

    written: everything that the policy wrote (the ungated arm); solved: what kept the rules; rewarded: the band; trained: mixed answers.
    """
    import synth
    from generators.worlds.registry import get_world

    world = get_world("arithmetic")
    with synth.open_run(folder) as one:
        rows = one.query("""
            SELECT d.candidate_id, any_value(p.prompt) AS prompt, any_value(p.reference) AS reference, any_value(p.verifier) AS verifier,
                   bool_or(d.rule = 'mixed') AS solved, bool_or(d.rule = 'band' AND d.kept) AS rewarded,
                   bool_or(d.rule = 'mixed' AND d.kept) AS trained
            FROM decisions d JOIN problems p USING (problem_id) WHERE d.strategy = 'svs' AND d.stage = 'train' GROUP BY d.candidate_id ORDER BY 1
        """)
    wrong: dict[str, list[bool]] = {"written": [], "solved": [], "rewarded": [], "trained": []}
    for _, prompt, reference, verifier, *gates in rows.iter_rows():
        truth = world.read(prompt) if verifier != "written" else None
        bad = truth is None or truth.reference != reference
        for name, through in zip(wrong, (True, *gates), strict=True):
            if through:
                wrong[name].append(bad)
    return wrong


def over_seeds(differences: list[float]) -> dict[str, Any]:
    """Mean with a 95 % interval of Student's t over the seeds; no interval for a single one."""
    from pipelines.intervals import t_quantile

    mean, n = float(np.mean(differences)), len(differences)
    if n < 2:
        return {"value": round(mean, 4)}
    half = t_quantile(n - 1) * float(np.std(differences, ddof=1)) / n**0.5
    return {"value": round(mean, 4), "low": round(mean - half, 4), "high": round(mean + half, 4)}


def rate(flags: list[bool]) -> dict[str, Any]:
    from pipelines.intervals import mean_with_interval

    value, low, high = mean_with_interval(np.asarray(flags, np.float64))
    return {"n": len(flags), "value": round(value, 4), "low": round(low, 4), "high": round(high, 4)}


# -------------------------------------------------------------------------------------------------------------- planted
def planted(root: Path, problems: int, overrides: list[str]) -> None:
    """Answer-changing variants that the world plants, and honest ones, solved by the untrained policy: what does the band let through?"""
    from data.records import RolloutSpec
    from generators.strategies.svs_decisions import is_source, writing_reward
    from pipelines.recipe import load_recipe
    from pipelines.rollout import make_groups
    from pipelines.run import Run
    from pipelines.stages.rows import rollouts_of

    with Run.create(root / f"planted-{problems}-{int(time.time())}", load_recipe("svs", overrides)) as one:
        world = one.world
        assert world is not None
        sampling, made = one.recipe.sampling.sampling(), rollouts_of(one, 0, "planted")
        cells = [(f, level) for f in world.families() for level in world.levels()]
        asked = [world.make(*cells[i % len(cells)], i, seed=8, split="train") for i in range(problems)]

        def solved(listed: list, key: str) -> list:
            specs = [RolloutSpec(p, 8, sampling, stream=key, key=(key, i)) for i, p in enumerate(listed)]
            return make_groups(specs, made.sample(specs))[0] if specs else []

        sources = [g.problem for g in solved(asked, "source") if is_source(g.passes, len(g.rollouts), 8)]
        for name, change in (("planted", world.spoil), ("honest", world.variant)):
            listed = [v for p in sources for key in range(3) if (v := change(p, key)) is not None]
            groups = solved(listed, name)
            through = [writing_reward(g.passes, len(g.rollouts), 8) == 1.0 for g in groups]
            mixed = [not g.zero_variance for g in groups]
            print(json.dumps({"bench": "svs", "variants": name, "sources": len(sources), "in_band": rate(through), "mixed": rate(mixed)}), flush=True)


# ------------------------------------------------------------------------------------------------------------------ main
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", type=int, action="append", help="this seed (may be repeated)")
    parser.add_argument("--keep", type=Path, help="folder of the runs; what is finished there is not made again")
    parser.add_argument("--processes", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--planted", type=int, default=0, metavar="PROBLEMS", help="only: how many planted variants does the band let through?")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        root = args.keep or Path(scratch)
        root.mkdir(parents=True, exist_ok=True)
        if args.planted:
            planted(root, args.planted, args.set)
            return
        seeds = sorted(set(args.only)) if args.only else list(range(args.seeds))
        with ThreadPoolExecutor(args.processes) as pool:  # a thread waits, its run works in a process of its own
            jobs = {(seed, arm): pool.submit(run_arm, root, seed, arm, args.set) for seed in seeds for arm in ARMS}
            each = {seed: {arm: jobs[seed, arm].result() for arm in ARMS} for seed in seeds}
        summary(root, each)


def run_arm(root: Path, seed: int, arm: str, overrides: list[str]) -> dict[str, Any]:
    folder = root / f"{arm}-{seed}"
    cost = run(folder, seed, [*REGIME, *overrides, *ARMS[arm]])
    found = measures(folder)
    curves = {name: [round(float(np.mean(value)), 4) for value in found[name]] for name in FIGURES}
    counts = {k: found[k] for k in ("steps", "tokens", "sampled")}
    print(json.dumps({"bench": "svs", "arm": arm, "seed": seed, **cost, **counts, **curves}), flush=True)
    return found


def gaps(each: dict[int, dict[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    """By round and figure: the arms' means over seeds, differences with their intervals over seeds, and over problems (seeds averaged)."""
    from pipelines.intervals import paired_difference

    rows = []
    for place in range(min(len(found["at"]) for pair in each.values() for found in pair.values())):
        for name in FIGURES:
            values = {arm: np.stack([np.atleast_1d(pair[arm][name][place]) for pair in each.values()]) for arm in ARMS}
            line = {"bench": "svs", "round": place, "figure": name, "seeds": len(each)}
            line |= {arm: round(float(v.mean()), 4) for arm, v in values.items()}
            for one, other in PAIRS:
                gap = line[f"{one}_minus_{other}"] = over_seeds((values[one].mean(1) - values[other].mean(1)).tolist())
                if values[one].shape[1] > 1:
                    each_problem = paired_difference(values[other].mean(0), values[one].mean(0), key=("svs", name, other, place))
                    line[f"{one}_minus_{other}_over_problems"] = {k: round(v, 4) for k, v in zip(("value", "low", "high"), each_problem, strict=True)}
                if name == "pass_1" and other == "grpo":
                    line["not_inferior"] = bool(gap["low"] > -MARGIN) if "low" in gap else None  # one seed tells nothing
            rows.append(line)
    return rows


def summary(root: Path, each: dict[int, dict[str, dict[str, Any]]]) -> None:
    rows = gaps(each)
    for line in rows:
        print(json.dumps(line), flush=True)
    gates: dict[str, list[bool]] = {}
    for seed in each:
        for name, flags in references(root / f"svs-{seed}").items():
            gates.setdefault(name, []).extend(flags)
    wrong = {name: rate(flags) for name, flags in gates.items()}
    print(json.dumps({"bench": "svs", "figure": "wrong_references", **wrong}), flush=True)
    (root / "svs.html").write_text(page_of(each, rows, wrong), "utf-8")


def page_of(each: dict[int, dict[str, dict[str, Any]]], rows: list[dict[str, Any]], wrong: dict[str, dict[str, Any]]) -> str:
    """The report's page around the bench's table and curves over trained tokens."""
    from pipelines.report import charts
    from pipelines.report.figure import Figure, Section, Table, count
    from pipelines.report.head import Head
    from pipelines.report.page import page

    def shown(value: dict[str, Any]) -> str:
        return f"{value['value']:.4f}" + (f" [{value['low']:.4f}, {value['high']:.4f}]" if "low" in value else "")

    last = max(r["round"] for r in rows)
    before = {r["figure"]: r["svs"] for r in rows if r["round"] == 0}
    ends = [r for r in rows if r["round"] == last]
    def line_of(r: dict[str, Any]) -> list[str]:
        means = [f"{before[r['figure']]:.4f}", *(f"{r[arm]:.4f}" for arm in ARMS)]
        return [r["figure"], *means, *(shown(r[f"{one}_minus_{other}"]) for one, other in PAIRS)]

    columns = ["figure", "before", "SvS", "GRPO", "GRPO, wide steps", "SvS - GRPO, 95 % over seeds", "SvS - wide"]
    table = Table(columns, [line_of(r) for r in ends])
    kinds = ("steps", "tokens", "sampled")
    costs = [[arm, *(count(int(np.mean([pair[arm][k] for pair in each.values()]))) for k in kinds)] for arm in ARMS]
    spent = Table(["arm", "steps", "trained tokens", "sampled tokens"], costs)
    refs = Table(["variants", "number", "wrong reference"], [[name, count(v["n"]), shown(v)] for name, v in wrong.items()])
    figures = []
    for name, title in (("entropy", "Entropy on held-out problems, nats a token"), ("pass_1", "Held-out pass@1"), ("pass_16", "Held-out pass@16")):
        values = []
        for row in (r for r in rows if r["figure"] == name):
            for arm in ARMS:
                at, value = float(np.mean([pair[arm]["at"][row["round"]] for pair in each.values()])) / 1000, row[arm]
                values.append({"at": round(at), "series": arm, "value": value, "text": f"{arm}, {at:.0f} thousand trained tokens: {value:.3f}"})
        figures.append(Figure(name, title, charts.curve(values, [{"at": 0, "label": ""}], format=".3f", series=list(ARMS), smooth=0), title))
    for column, title in (("entropy", "Entropy while training, nats a token"), ("reward_mean", "Mean reward while training")):
        values = []
        for arm in ARMS:
            curves = [pair[arm]["curve"] for pair in each.values()]
            for step in range(min(c.height for c in curves)):
                at = float(np.mean([c["tokens"][: step + 1].sum() for c in curves])) / 1000
                value = float(np.mean([c[column][step] for c in curves]))
                values.append({"at": round(at), "series": arm, "value": value, "text": f"{arm}, {at:.0f} thousand trained tokens: {value:.3f}"})
        spec = charts.curve(values, [{"at": 0, "label": ""}], format=".3f", series=list(ARMS), smooth=4)
        figures.append(Figure(f"train-{column}", title, spec, f"{title} over thousands of trained tokens, mean of {len(each)} seeds."))
    tables = [("After training, on held-out problems", table), ("What it took", spent), ("Wrong references by the world's own reading", refs)]
    title = "SvS against plain GRPO at equal trained tokens"
    look = "Across: thousands of trained tokens. wide: plain GRPO in as few steps as SvS takes."
    section = Section("svs", "SvS", title, look, figures=figures, layout="two", tables=tables)
    best = next(r for r in ends if r["figure"] == "pass_16")
    verdict = f"pass@16 {best['svs']:.3f} with SvS, {best['grpo']:.3f} without"
    top = Head("synth bench svs", "", "finished", True, verdict, "none", [("seeds", ", ".join(map(str, each)))], [], [], "", "", "")
    return page(top, [section], "")


if __name__ == "__main__":
    main()
