"""The world reads its own language back: the independent solver agrees with the chains, variants keep answers, planted ones change them."""

from fractions import Fraction
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.records import Problem
from data.render import Renderer
from filters.written import read_problem
from generators.strategies.sws_votes import consistent_answer, stated_answer
from generators.worlds.arithmetic import ArithmeticWorld
from generators.worlds.arithmetic.concepts import assignment, covered, family_concepts
from generators.worlds.arithmetic.draw import Draw
from generators.worlds.arithmetic.families import FAMILIES
from generators.worlds.arithmetic.garbled import garbled
from generators.worlds.arithmetic.solving import FORMULAS, Ill, solve
from generators.worlds.arithmetic.splits import told
from generators.worlds.arithmetic.steps import decimal, work_out
from generators.worlds.arithmetic.variants import KINDS
from pipelines.lessons import TASKS, Syllabus, lessons
from pipelines.policy_card import PROMPTS

WORLD = ArithmeticWorld()
CELLS = st.tuples(
    st.sampled_from(WORLD.families()),
    st.sampled_from(WORLD.levels()),
    st.integers(0, 1000),
    st.integers(0, 2**40),
    st.sampled_from(("train", "heldout")),
)


def _made(cell):
    family, level, index, seed, split = cell
    return WORLD.make(family, level, index, seed=seed, split=split)


def test_every_shape_has_a_formula_of_its_own():
    assert set(FORMULAS) == {f"{family.name}/{name}" for family in FAMILIES.values() for name in family.shapes}


@pytest.mark.parametrize("shape", sorted(FORMULAS))
def test_the_formulas_agree_with_the_worked_chains(shape):
    family, _, name = shape.partition("/")
    chain, draw = FAMILIES[family].shapes[name], Draw(7)
    for _ in range(200):
        numbers = chain.draw_numbers(draw)
        formula = solve(shape, {key: value for key, value in numbers.items() if key[0] != "_"})
        assert Fraction(formula) == Fraction(work_out(chain.steps, numbers)[1])


@given(CELLS)
@settings(max_examples=400, deadline=None)
def test_every_problem_is_read_back_to_its_answer_and_its_side(cell):
    problem = _made(cell)
    read = WORLD.read(problem.prompt)
    assert (read.reference, read.split, read.domain, read.level) == (problem.reference, problem.split, problem.domain, problem.level)
    assert told(read.meta["numbers"]) == told(problem.meta["numbers"])
    assert WORLD.read(f"  {problem.prompt}\n").reference == problem.reference


@pytest.mark.parametrize(
    "text",
    [
        "",
        "What comes next?",
        "Tom has 5 pens. He gets 7 more. How many pens does Ben have now?",  # another person
        "Tom has 5 pens. She gets 7 more. How many pens does Tom have now?",  # another pronoun
        "Tom has 5 pens. He gets 7 more. How many cups does Tom have now?",  # another thing
        "Tom has 5 pens. Tom gives Tom 7 more. How many pens does Tom have now?",  # one person in two roles
        "A pen costs $3. Tom buys 4 cups. How much does he pay?",  # singular and plural differ
        "Tom has 5 pens. Ben takes 7 of them. How many are left?",  # more than there is
        "Tom shares 7 pens equally among 2 friends. How many pens per person?",  # a pen cut in two
        "Look at 3, 5, 8. What comes next?",  # no rule
        "Tom has 05 pens. He gets 7 more. How many pens does Tom have now?",
        "Tom has 5 pens.  He gets 7 more. How many pens does Tom have now?",
        "Tom has 5 pens. How many pens does Tom have now?",
        "Tom has 5 unicorns. He gets 7 more. How many unicorns does Tom have now?",
        "There are 30 cups in a box. 110% of them are red. How many cups is that?",
    ],
)
def test_what_has_no_single_answer_is_unparseable(text):
    assert WORLD.read(text) is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Tom has 5 pens. He gets 7 more. How many pens does Tom have now?", "12"),
        ("A bus goes 100 miles in 8 hours. What is its speed in miles per hour?", "12.5"),
        ("Mia picks 9 cups. Tom has twice as many. How many is that for Tom?", "18"),
        ("Ben packs 21 cups into boxes of 7. How many boxes are needed for all? ", None),
        ("Ben packs 21 cups into boxes of 7. How many boxes does Ben need for all of them?", "3"),
        ("Look at 12, 9, 6. What comes next?", "3"),
    ],
)
def test_hand_written_texts_are_solved(text, answer):
    read = WORLD.read(text)
    assert (read and read.reference) == (answer or "3")


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=300))
@settings(deadline=None)
def test_reading_never_raises(text):
    read = WORLD.read(text)
    assert read is None or read.prompt == text.strip()


@given(CELLS, st.integers(0, 2**40), st.sampled_from(KINDS))
@settings(max_examples=250, deadline=None)
def test_variants_keep_the_answer_and_the_side(cell, key, kind):
    problem = _made(cell)
    variant = WORLD.variant(problem, key, kind)
    if variant is None:
        return
    read = WORLD.read(variant.prompt)
    assert (read.reference, read.split) == (problem.reference, problem.split) == (variant.reference, variant.split)
    assert variant.prompt != problem.prompt
    same_shape = (variant.domain, variant.meta["shape"]) == (problem.domain, problem.meta["shape"])
    if kind == "order":  # of the same family, not always of the same shape: 50 % of 54 is 54 % of 50
        assert variant.domain == problem.domain and told(variant.meta["numbers"]) == told(problem.meta["numbers"])
    else:
        assert not same_shape or kind == "tail"
    assert variant == WORLD.variant(problem, key, kind)


def test_nearly_every_problem_has_a_variant_and_a_planted_wrong_one():
    problems = [WORLD.make(f, level, 0, seed=3, split="train") for f in WORLD.families() for level in WORLD.levels()]
    assert sum(WORLD.variant(p, 1) is not None for p in problems) > 0.9 * len(problems)
    assert sum(WORLD.spoil(p, 1) is not None for p in problems) > 0.9 * len(problems)


@given(CELLS, st.integers(0, 2**40))
@settings(max_examples=250, deadline=None)
def test_a_planted_variant_inherits_a_reference_that_is_wrong(cell, key):
    problem = _made(cell)
    planted = WORLD.spoil(problem, key)
    if planted is not None:
        read = WORLD.read(planted.prompt)
        assert planted.reference == problem.reference != read.reference == planted.meta["truth"]
        assert read.split == problem.split


def test_a_problem_from_elsewhere_has_neither():
    other = Problem("2 + 2 = ?", "4")
    assert WORLD.variant(other, 0) is None and WORLD.spoil(other, 0) is None and WORLD.fine_concepts(other) == ()


@given(CELLS, CELLS, st.integers(0, 2**40))
@settings(max_examples=150, deadline=None)
def test_garbled_texts_cannot_be_read(one, other, key):
    text = garbled(_made(one).prompt, _made(other).prompt, Draw(key))
    assert text is None or WORLD.read(text) is None


@given(CELLS, st.integers(0, 2**40))
@settings(max_examples=200, deadline=None)
def test_an_assignment_is_best_answered_by_its_shape(cell, key):
    problem = _made(cell)
    concepts = assignment(problem.domain, problem.meta["shape"], Draw(key))
    assert 1 <= len(set(concepts)) == len(concepts) <= 5
    assert set(concepts) <= set(family_concepts(problem.domain))
    of = {s.name: covered(problem.domain, s.name, concepts) for s in FAMILIES[problem.domain].at(problem.level)}
    assert of[problem.meta["shape"]] == max(of.values())


def test_lessons_teach_every_task_from_the_train_side_and_nothing_about_a_family_left_out():
    families = [f for f in WORLD.families() if f != "ages"]
    weights = {"solve": 0.4, "rewrite": 0.2, "paraphrase": 0.1, "sws_write": 0.1, "sws_judge": 0.1, "sws_concepts": 0.1}
    renderer = Renderer([PROMPTS], "compact")
    syllabus = Syllabus(families, WORLD.levels())
    drawn = list(islice(lessons(WORLD, weights, syllabus, renderer, 5), 1500))
    by = {task: [one for one in drawn if one.task == task] for task in TASKS}
    assert set(weights) == set(TASKS) - {"doubt"} and all(by[task] for task in weights)
    assert 0.4 <= len(by["solve"]) / len(drawn) <= 0.6  # some tasks fall back to solving
    assert {one.problem.split for one in drawn} == {"train"}
    assert "ages" not in {one.problem.domain for one in drawn} and "years old" not in "".join(one.prompt + one.answer for one in drawn)
    assert all(WORLD.read(one.answer).reference == one.prompt.split("####")[1].split()[0] for one in by["rewrite"])
    assert all(WORLD.read(one.answer).reference == WORLD.read(one.prompt[3:].split("\n")[0]).reference for one in by["paraphrase"])
    assert all(WORLD.read(one.answer).domain == one.prompt[3:].split(";")[0] for one in by["sws_write"])
    sound = [(one.answer, WORLD.read(one.prompt.split("Q: ")[1].split("\n")[0]) is not None) for one in by["sws_judge"]]
    assert {said for said, _ in sound} == {" perfect", " acceptable", " bad"} and all((said == " bad") is not ok for said, ok in sound)
    assert list(islice(lessons(WORLD, weights, syllabus, renderer, 5), 50)) == drawn[:50]


def test_a_syllabus_keeps_to_its_levels_plans_what_is_written_and_doubts_what_has_no_answer():
    renderer = Renderer([PROMPTS], "compact")
    syllabus = Syllabus(WORLD.families(), (1, 3), hard_rewrites=0.0, subtle=1.0, planned=True)
    weights = {"doubt": 0.4, "rewrite": 0.2, "sws_write": 0.2, "sws_judge": 0.2}
    drawn = list(islice(lessons(WORLD, weights, syllabus, renderer, 6), 1200))
    by = {task: [one for one in drawn if one.task == task] for task in TASKS}
    assert {one.problem.level for one in drawn} == {1, 3} == {WORLD.read(one.answer).level for one in by["rewrite"]}
    for one in by["sws_write"]:
        plan, text = one.answer.split(" Q: ")
        assert read_problem(one.answer, "line") == (text, "") and WORLD.read(text).reference == plan.rpartition("=")[2]
    none = 0
    for one in by["doubt"]:
        asked, said = WORLD.read(one.prompt[3:].split("\n")[0]), one.answer.rpartition("#### ")[2]
        assert said == ("none" if asked is None else asked.reference) and (asked is None or asked.split == "train")
        none += asked is None
    assert 0.3 < none / len(by["doubt"]) < 0.8
    shown = [one.prompt.split("Q: ")[1].split("\n")[0] for one in by["sws_judge"] if one.answer == " bad"]
    assert shown and all(WORLD.read(text) is None for text in shown)


@pytest.mark.parametrize("ways", [("story", "paraphrase"), ("story", "order", "tail", "paraphrase")])
def test_retold_chains_keep_their_answer_and_every_chain_has_one(ways):
    syllabus = Syllabus(WORLD.families(), WORLD.levels(), hard_rewrites=0.0, retold=ways)
    drawn = list(islice(lessons(WORLD, {"rewrite": 1.0}, syllabus, Renderer([PROMPTS], "compact"), 7), 400))
    assert {one.task for one in drawn} == {"rewrite"} and {one.problem.split for one in drawn} == {"train"}
    assert all(WORLD.read(one.answer).reference == one.prompt.split("####")[1].split()[0] for one in drawn)
    assert {way for one in drawn if (way := one.problem.meta.get("kind"))} == set(ways) - {"paraphrase"}


@pytest.mark.parametrize(
    ("text", "attempt"),
    [
        ("A ferry goes 7 miles per hour. How many hours does it need for 82 miles?", " 82/7=? #### none"),
        ("7 neighbors share 16 beads equally. How many beads does each get?", " 16/7=? #### none"),
        ("5 neighbors share 16 beads equally. How many beads does each get?", " 16/5=3.2 #### none"),
        ("Emma buys 7 coins at $8 each. She had $50. How much money is left?", " 7*8=56, 50-56=-6 #### none"),
        ("Max buys 7 coins at $8 each. She had $58. How much money is left?", " #### none"),
        ("Why?", " #### none"),
    ],
)
def test_a_question_without_an_answer_is_worked_out_as_far_as_it_goes(text, attempt):
    assert WORLD.read(text) is None and WORLD.attempt(text) == attempt
    assert consistent_answer([stated_answer(attempt)] * 8, 4) == (None, 0)  # it wins no vote


@given(CELLS)
@settings(max_examples=200, deadline=None)
def test_what_a_sound_question_is_answered_is_its_demonstration_or_nothing(cell):
    problem = _made(cell)
    assert WORLD.attempt(problem.prompt) in (WORLD.demonstration(problem), None)


def test_ill_posed_questions_say_why():
    with pytest.raises(Ill, match="more is taken away"):
        solve("totals/4.four_events", {"a": 1, "b": 1, "c": 5, "d": 90})
    assert decimal(solve("totals/4.four_events", {"a": 4, "b": 1, "c": 5, "d": 90})) == "90"
