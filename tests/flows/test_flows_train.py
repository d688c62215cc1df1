"""`synth train` and `synth presets` from the command line."""

import json
import os
import shutil
from dataclasses import fields
from pathlib import Path

import pytest
from safetensors.torch import load_file

from data.errors import SynthError
from flows.cli.main import main
from pipelines.grpo.config import OF_RECIPE, GRPOConfig
from pipelines.policies import policy_folder
from pipelines.run import read_lake

SMALL = ["--steps", "2", "--quiet", "--set", "train.prompts_per_step=3", "--set", "train.group_size=4", "--set", "sampling.max_tokens=48"]


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    rows = [{"prompt": f"What is {a} + {b}?", "answer": str(a + b)} for a in range(2, 5) for b in range(3, 6)]
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_train_on_a_file_then_on_the_runs_lake(problems: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = tmp_path / "first"
    extra = ["--set", "train.trainer.minibatches=2", "--tensorboard", "--heldout", "0.2", "--preset", "nsr"]
    assert main(["train", str(problems), "--out", str(first), *SMALL, *extra]) == 0
    with read_lake(first) as lake:
        assert lake.query("SELECT stage FROM stages ORDER BY round, stage").rows() == [
            ("evaluate",),
            ("seeds",),
            ("evaluate",),
            ("select",),
            ("train",),
        ]
        steps = lake.query("SELECT step, groups, rollouts, grad_norm, tokens FROM train_steps ORDER BY step").rows()
        assert [s[0] for s in steps] == [1, 2] and all(
            groups == 3 and rollouts == 12 and norm > 0 and tokens for _, groups, rollouts, norm, tokens in steps
        )
        assert lake.query("SELECT count(*) FROM decisions WHERE stage = 'select' AND rule = 'given' AND kept").item() == 7
        assert lake.query("SELECT count(DISTINCT problem_id) FROM evals WHERE round = 1").item() == 2
    assert list((first / "tensorboard").glob("events.*"))
    second = tmp_path / "second"
    assert main(["train", str(first), "--out", str(second), *SMALL, "--set", "train.objective.kl_coef=0.01"]) == 0
    with read_lake(second) as lake:
        assert lake.query("SELECT split, count(*) FROM problems GROUP BY ALL ORDER BY ALL").rows() == [("heldout", 2), ("train", 7)]
        assert lake.query("SELECT max(abs(kl)) FROM train_steps").item() is not None
    recipe = json.loads((second / "run.json").read_text())["recipe"]
    assert recipe["policy"]["path"] == str((first / "policies" / "r1-s0002").resolve()) and recipe["policy"]["dialect"] == "compact"
    assert main(["resume", str(second), "--quiet"]) == 0  # nothing is left to do, and no other stage begins
    with read_lake(second) as lake:
        assert lake.query("SELECT count(*) FROM stages WHERE stage = 'probe'").item() == 0
    capsys.readouterr()


def test_adapters_of_a_local_folder_one_step_behind(problems: Path, tmp_path: Path) -> None:
    """LoRA on a model folder of one's own, stopped between its steps: the base stays, adapters are checkpointed, the engine gets them merged."""
    policy = tmp_path / "my-model"
    shutil.copytree(policy_folder("arithmetic"), policy)
    out, extra = tmp_path / "run", ["--set", "train.trainer.lora_rank=2", "--set", "train.staleness=1", "--set", "train.learning_rate=1e-3"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("pipelines.stages.train._prune", lambda *args: (_ for _ in ()).throw(SynthError("stopped after the first step")))
        assert main(["train", str(problems), "--policy", str(policy), "--out", str(out), *SMALL, *extra, "--steps", "3", "--heldout", "0"]) == 1
    assert main(["resume", str(out), "--quiet"]) == 0
    with read_lake(out) as lake:
        assert lake.query("SELECT step, staleness FROM train_steps ORDER BY step").rows() == [(1, 0), (2, 1), (3, 1)]
        assert lake.query("SELECT count(*) FROM train_steps WHERE grad_norm > 0").item() >= 2
    base, newest = (load_file(folder / "model.safetensors") for folder in (policy, out / "policies" / "r1-s0003"))
    assert (out / "policies" / "r1-s0003" / "adapters.safetensors").is_file()
    changed = {name for name in base if not base[name].equal(newest[name])}
    assert changed and all("proj" in name for name in changed), "only linear layers have adapters"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere.jsonl"], "no such file or folder"),
        (["{file}", "--preset", "daop"], "did you mean 'dapo'"),
        (["{file}", "--set", "train.objective.tau_positive=2"], "tau_positive belongs to surrogate 'sapo'"),
        (["{file}", "--preset", "dcpo", "--set", "train.objective.dynamic_sampling=true"], "dynamic sampling drops groups of equal rewards"),
        (["{file}", "--set", "train.trainer.lora_rnk=4"], "did you mean 'lora_rank'"),
        (["{file}", "--set", "train.trainer.seed=4"], "give seed"),
        (["{file}", "--set", "train.trainer.epochs=many"], "epochs takes int"),
        (["{file}", "--policy", "no-such-model"], "no model at 'no-such-model'"),
        (["{folder}"], "is not a run"),
    ],
)
def test_wrong_input_is_one_sentence(problems: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    filled = [a.format(file=problems, folder=tmp_path) for a in arguments]
    assert main(["train", *filled, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and not os.path.exists(tmp_path / "out")


def test_presets_lists_paper_slots_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets"]) == 0
    text = capsys.readouterr().out
    for expected in ("dapo  DAPO, arXiv 2503.14476", "clip_high=0.28", "estimator=smooth_standardization", "ratio=sequence"):
        assert expected in text
    assert main(["presets", "gspo", "--json"]) == 0
    (gspo,) = json.loads(capsys.readouterr().out)
    assert gspo["slots"]["ratio"] == "sequence" and gspo["options"]["clip_high"] == 4e-4 and gspo["slots"]["surrogate"] == "ppo"
    assert main(["presets", "--components", "--json"]) == 0
    parts = json.loads(capsys.readouterr().out)
    assert {"slot": "weights", "name": "entropy_mask"}.items() <= next(p for p in parts if p["name"] == "entropy_mask").items()
    assert main(["presets", "--components"]) == 0 and "truncated_importance" in capsys.readouterr().out
    assert main(["presets", "rloo"]) == 0 and "its ratio has no bound" in capsys.readouterr().out
    assert main(["presets", "dcpo"]) == 0 and "train.staleness = 1 works with it" in capsys.readouterr().out
    assert main(["presets", "--trainer", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    own = {f"train.trainer.{f.name}" for f in fields(GRPOConfig) if f.name not in OF_RECIPE}
    assert {key for key in listed if key.startswith("train.trainer.")} == own and all(v["what"] for v in listed.values())
    assert {"train.staleness", "train.ranks", "train.devices"} <= listed.keys()
    assert main(["presets", "--trainer"]) == 0 and "one GPU or CPU share each" in capsys.readouterr().out
    assert main(["presets", "gsop"]) == 2 and "did you mean 'gspo'" in capsys.readouterr().err
