import numpy as np
import polars as pl
import pytest

from data.errors import UserError
from data.records import Problem, RolloutSpec, Sampling
from generators.strategies.base import RoundContext, StepContext
from generators.strategies.frontier import Frontier, frontier_cells, mixed_share
from generators.strategies.paraphrase import Paraphrase, chosen
from generators.strategies.registry import make_strategy
from generators.worlds.registry import get_world

DIFFICULTY = pl.DataFrame(
    [
        # round, id, domain, level, passes, n: an old round, a cell that is too easy, one too hard, two inside the band
        (1, "p0", "ages", 1, 0, 8),
        (2, "p1", "ages", 1, 8, 8),
        (2, "p2", "ages", 2, 4, 8),
        (2, "p3", "totals", 2, 1, 8),
        (2, "p4", "totals", 2, 2, 8),
        (2, "p5", "totals", 5, 0, 8),
        (2, "p6", "mine", 0, 4, 8),
    ],
    schema=["round", "problem_id", "domain", "level", "passes", "n"],
    orient="row",
)


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.5, 0.9, 1.0])
def test_mixed_share_is_the_share_of_groups_with_variance(rate):
    rng = np.random.default_rng(0)
    passes = rng.binomial(8, rate, 20_000)
    assert mixed_share(rate, 8) == pytest.approx(np.mean((passes > 0) & (passes < 8)), abs=0.01)
    assert mixed_share(rate, 1) == pytest.approx(0.0)


def test_frontier_takes_the_latest_round_and_the_cells_inside_the_band():
    assert frontier_cells(DIFFICULTY, (0.125, 0.875)) == {("ages", 2): 0.5, ("totals", 2): 3 / 16}
    assert frontier_cells(DIFFICULTY, (0.5, 0.5)) == {("ages", 2): 0.5}
    assert frontier_cells(DIFFICULTY.head(0), (0.0, 1.0)) == {}


def _context(world, difficulty, budget):
    return RoundContext(
        round=3, seed=7, budget=budget, difficulty=difficulty, problems={}, band=(0.125, 0.875), group_size=8, policy_id="p",
        sampling=Sampling(), generate=lambda requests: iter(()), world=world,
    )  # fmt: skip


def test_frontier_spends_its_budget_exactly_where_the_policy_sometimes_succeeds():
    world = get_world("arithmetic")
    one, two = world.families()[:2]
    difficulty = DIFFICULTY.with_columns(domain=pl.col("domain").replace({"ages": one, "totals": two}))
    candidates = list(Frontier({"budget": 41}).propose(_context(world, difficulty, 41)))
    assert len(candidates) == 41
    cells = {(c.problem.domain, c.problem.level) for c in candidates}
    assert cells == {(one, 2), (two, 2)}
    share = sum(c.problem.domain == one for c in candidates)
    assert share == round(41 * mixed_share(0.5, 8) / (mixed_share(0.5, 8) + mixed_share(3 / 16, 8)))
    assert all(c.problem.split == "train" and c.parents in (("p2",), ("p3",)) for c in candidates)
    again = list(Frontier({"budget": 41}).propose(_context(world, difficulty, 41)))
    assert [c.id for c in again] == [c.id for c in candidates]


def test_frontier_without_a_world_proposes_nothing():
    assert list(Frontier().propose(_context(None, DIFFICULTY, 10))) == []


def test_paraphrase_choice_is_a_set_and_not_an_order():
    ids = [f"g{i}" for i in range(40)]
    assert chosen(ids, 0.25, 1, 2, 3) == chosen(ids[::-1], 0.25, 1, 2, 3)
    assert len(chosen(ids, 0.25, 1, 2, 3)) == 10
    assert chosen(ids, 0.25, 1, 2, 3) != chosen(ids, 0.25, 1, 2, 4)


def test_paraphrase_asks_for_the_same_answer_in_other_words():
    world = get_world("arithmetic")
    problems = [world.make(f, 2, i, seed=1, split="train") for f in world.families() for i in range(2)]
    main = [RolloutSpec(p, 4, Sampling()) for p in [*problems, Problem("mine?", "3")]]
    context = StepContext(round=1, step=1, seed=0, main=main, sampling=Sampling(), policy_id="p", world=world)
    online = Paraphrase({"share": 1.0, "coef": 0.5}).online(context)
    specs = next(online)
    by_ref = {s.group_id: s for s in main}
    assert len(specs) >= len(problems) * 3 // 4
    for spec in specs:
        source = by_ref[spec.refs[0]].problem
        assert spec.problem.reference == source.reference
        assert spec.problem.prompt != source.prompt
        assert (spec.stream, spec.coef, spec.n) == ("paraphrase", 0.5, 4)


def test_two_problems_with_one_paraphrase_are_two_groups():
    """Seen in a long run: a problem and its own rewording in one step, reworded alike."""
    world = get_world("arithmetic")
    problem = world.make(world.families()[0], 1, 0, seed=1, split="train")
    twins = [RolloutSpec(problem, 4, Sampling(), key=(1, 0, cursor)) for cursor in range(4)]
    context = StepContext(round=1, step=1, seed=0, main=twins, sampling=Sampling(), policy_id="p", world=world)
    specs = next(Paraphrase({"share": 1.0}).online(context))
    assert len(specs) == 4
    assert len({s.problem.id for s in specs}) == 1
    assert len({s.group_id for s in specs}) == 4


def test_wrong_strategy_names_and_settings_say_what_is_near():
    with pytest.raises(UserError, match=r"strategies\.frontjer: no such strategy; did you mean 'frontier'"):
        make_strategy("frontjer", {})
    with pytest.raises(UserError, match=r"strategies\.paraphrase\.shar: unknown setting; did you mean 'share'"):
        make_strategy("paraphrase", {"shar": 1})
