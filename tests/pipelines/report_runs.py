"""Runs for the tests of the report: a small real one, one whose every text is hostile, one with a planted history."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from data.records import Candidate, Problem, Sampling, Trajectory
from data.tables import problem_row, rollout_row, trajectory_row
from filters.tables import decision_row
from pipelines.loop import run_loop
from pipelines.recipe import load_recipe
from pipelines.report import write_report
from pipelines.run import Run

TINY = [
    "rounds=1", "problems.per_cell=2", "problems.levels=[1, 2]", "probe.problems=24", "probe.n=4", "probe.shard=8", "strategies.frontier.budget=20",
    "select.problems=40", "train.steps=2", "train.prompts_per_step=6", "train.group_size=4", "evaluate.problems=20", "evaluate.n=2",
    "engine.batch_rows=16", "sampling.max_tokens=32",
]  # fmt: skip
HOSTILE = (
    "</script><script>window.owned = 1</script><img src=x onerror='window.owned = 2'>",
    "<!--<script>{{ 7 * 7 }}{% raw %}<style>*{display:none}</style><iframe src='http://example.com'></iframe>",
    "\u202etxt.exe\u2066\u2067\u200f\u200b \x1b[31m ]]> &lt;b&gt; \"'`${window.owned = 3}",
    "https://example.com/x.png <link rel=stylesheet href=//example.com/a.css><base href=//example.com>",
    "huge " * 60_000,
)


@cache
def real_run() -> Path:
    """A small real run, with its report; once per test session."""
    folder = Path(tempfile.mkdtemp(prefix="report-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with Run.create(folder / "run", load_recipe("arithmetic", TINY)) as run:
        run_loop(run)
    write_report(folder / "run")
    return folder / "run"


def hostile_lake(folder: Path) -> None:
    """A run whose every text is out to break the page: prompts, references, answers, reasons, domains, rules, strategies."""
    with Run.create(folder, load_recipe("arithmetic", [*TINY, "name='x</title><script>window.owned = 4</script>'"])) as run:
        tables: dict[str, list] = {"problems": [], "rollouts": [], "trajectories": [], "verdicts": [], "evals": [], "decisions": []}
        for i, text in enumerate(HOSTILE):
            problem = Problem(text, reference=text, domain=text[:200], source=text[:80])
            tables["problems"].append(problem_row(problem, 0))
            tables["decisions"].append(
                decision_row(Candidate(problem, round=1, strategy=text[:80]), text[:90], False, text, round=1, stage="audit", shard=0)
            )
            for k in range(2):
                rollout = Trajectory(
                    problem.id, "p0", np.arange(3, dtype=np.int32), np.ones(3, np.uint8), np.zeros(3, np.float32), Sampling(), i, k, "stop", text
                )
                outcome = ("fail", "unknown")[k]
                tables["rollouts"].append(rollout_row(rollout, 0, outcome=outcome))
                tables["trajectories"].append(trajectory_row(rollout, 0))
                tables["verdicts"].append(
                    {
                        "rollout_id": rollout.id,
                        "problem_id": problem.id,
                        "policy_id": "p0",
                        "outcome": outcome,
                        "reward": 0.0,
                        "reason": text,
                        "verifier": text[:50],
                    }
                )
            tables["evals"].append(
                {
                    "policy_id": "p0",
                    "benchmark": text[:100],
                    "problem_id": problem.id,
                    "domain": text[:200],
                    "level": 1,
                    "n": 2,
                    "passes": 0,
                    "unknowns": 1,
                }
            )
        decisions = tables.pop("decisions")
        run.lake.commit(0, "evaluate", 0, tables)
        run.lake.commit(1, "audit", 0, {"decisions": decisions})
        run.lake.finish_stage(1, "train", {"steps": 0, "skipped": HOSTILE[0]}, 1.0)


def planted(folder: Path) -> None:
    """Held-out problems that get better, worse, stay unsolved; one refused candidate a rule; one unknown verdict."""
    with Run.create(folder, load_recipe("arithmetic", TINY)) as run:
        change = {"better": (0, 4), "worse": (4, 0), "never": (0, 0), "same": (3, 3)}
        problems = {f"{kind}{i}": (kind, i) for kind in change for i in range(8)}
        stored = [{"problem_id": p, "prompt": p, "reference": "1", "verifier": "math", "domain": f"d{i % 4}"} for p, (_, i) in problems.items()]
        refused = [{"problem_id": f"refused{i}", "prompt": f"refused{i}", "reference": "1", "verifier": "math"} for i in range(6)]
        for round in (0, 1):
            evals = [
                {"policy_id": f"p{round}", "benchmark": "heldout", "problem_id": p, "domain": f"d{i % 4}", "n": 4, "passes": change[kind][round]}
                for p, (kind, i) in problems.items()
            ]
            run.lake.commit(round, "evaluate", 0, {"evals": evals, "problems": [*stored, *refused] if round == 0 else []})
        rules = ["duplicate", "duplicate", "duplicate", "duplicate", "heldout", "verifier"]
        decisions = [
            {"candidate_id": f"c{i}", "problem_id": f"refused{i}", "strategy": "s", "rule": r, "kept": False, "reason": "why"}
            for i, r in enumerate(rules)
        ]
        run.lake.commit(1, "audit", 0, {"decisions": decisions})
        unknown = {
            "rollout_id": "r",
            "problem_id": "same0",
            "policy_id": "p0",
            "outcome": "unknown",
            "reward": 0.0,
            "reason": "odd",
            "verifier": "math",
        }
        run.lake.commit(1, "verify", 0, {"verdicts": [unknown]})
        run.lake.commit(1, "probe", 0, {"rollouts": [{"rollout_id": "r", "problem_id": "same0", "sample": 0, "finish": "stop"}]})
