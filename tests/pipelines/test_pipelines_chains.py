"""Who says that a chain is right: the world, exact arithmetic, or votes of a model (whose answers are recorded here, as text)."""

import numpy as np
import pytest

from data.records import Completion, Problem
from filters.verifiers.base import NO_TOOLS, Tools
from generators.worlds.registry import get_world
from pipelines.chains import ChainJudge
from pipelines.recipe import load_recipe
from pipelines.run import Run
from pipelines.stages import FIRST
from pipelines.stages.base import run_stage
from tests.small_run import OVERRIDES

GSM = Problem("Tom has 3 bags of 4 apples and eats 2. How many are left?", "10")
GOOD, LUCKY, BARE = "3 * 4 = 12\n12 - 2 = 10\n#### 10", "3 * 4 = 13\n13 - 2 = 10\n#### 10", "#### 10"


def programs(world=None):
    return ChainJudge("programs", world, NO_TOOLS)


def test_arithmetic_judges_what_no_world_knows():
    assert programs().passes(GSM, [GOOD, LUCKY, GOOD], [True, True, True]) == 2
    assert programs().passes(GSM, [GOOD, LUCKY], [True, False]) == 1  # a wrong answer's chain is not asked about
    assert programs().passes(GSM, [GOOD, BARE], [True, True]) is None  # nothing to check: nobody knows
    assert programs().passes(GSM, [LUCKY], [False]) == 0
    assert ChainJudge("none", None, NO_TOOLS).passes(GSM, [GOOD], [True]) is None


def test_the_world_judges_its_own():
    world = get_world("arithmetic")
    problem = world.make("ages", 2, 0, seed=0, split="heldout")
    right = world.demonstration(problem)
    assert programs(world).passes(problem, [right, f" #### {problem.reference}"], [True, True]) == 1


def voting(*said: str):
    """A model that answers each question's samples with `said` in turn; {} in it becomes the fence that it was shown."""

    def generate(requests):
        for request in requests:
            fence = request.prompt.split('fence="')[1].split('"')[0]
            text = said[request.index].replace("{}", fence)
            empty = np.zeros(0, np.int32)
            yield Completion(request.key, text, empty, np.zeros(0, np.float32), empty, "stop", "judge")

    return Tools(generate=generate, policy_id="judge", dialect="compact")


NO_ERROR, STEP_1, JUNK = '<verdict fence="{}">-1</verdict>', '<verdict fence="{}">1</verdict>', "looks fine to me"


@pytest.mark.parametrize(
    ("said", "rule", "right"),
    [
        ((NO_ERROR, NO_ERROR, STEP_1), "majority", 1),
        ((NO_ERROR, STEP_1, STEP_1), "majority", 0),
        ((NO_ERROR, STEP_1, STEP_1), "any", 1),
        ((NO_ERROR, NO_ERROR, STEP_1), "all", 0),
        ((NO_ERROR, JUNK, JUNK), "all", 1),  # what cannot be read is no vote
        ((JUNK, JUNK, JUNK), "any", None),
    ],
)
def test_votes_of_a_model(said, rule, right):
    assert ChainJudge("model", None, voting(*said), votes=3, rule=rule).passes(GSM, [GOOD], [True]) == right


def test_in_a_real_run_the_weak_policy_cannot_judge_and_its_requests_are_kept(tmp_path):
    recipe = load_recipe("arithmetic", [*OVERRIDES, "evaluate.chain=model", "evaluate.chain_votes=2", "evaluate.problems=10"])
    with Run.create(tmp_path / "run", recipe) as run:
        for stage in FIRST:
            run_stage(run, stage, 0)
        evals = run.lake.query("SELECT passes, chain_passes FROM evals")
        distinct = run.lake.query(
            "SELECT count(DISTINCT t.problem_id || t.text) FROM trajectories t JOIN verdicts v USING (rollout_id) WHERE v.outcome = 'pass'"
        ).item()
        judged = run.lake.query("SELECT count(*) FROM requests WHERE purpose = 'judge'").item()
    assert distinct > 0
    assert judged == 2 * distinct  # two votes on each right answer, equal answers to one problem once
    assert evals.filter(evals["passes"] > 0)["chain_passes"].null_count() == evals.filter(evals["passes"] > 0).height  # it writes no verdict
