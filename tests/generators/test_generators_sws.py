"""SwS as a strategy: planted answers from an engine whose every word is known, so that the funnel can be counted by hand."""

import json

import numpy as np
import polars as pl
import pytest

from data.errors import UserError
from data.keyed import keyed_seed
from data.records import Completion, Problem, Sampling
from data.render import Renderer
from filters.verifiers.base import verify_all
from generators.embedding import embedder
from generators.strategies.base import RoundContext
from generators.strategies.registry import make_strategy
from generators.strategies.speaker import Speaker
from generators.strategies.sws import DIFFICULTIES, Sws
from generators.strategies.sws_steps import Draft, Order, answer, extract_concepts, judge, write
from generators.worlds.registry import get_world
from pipelines.policy_card import PROMPTS

WORLD = get_world("arithmetic")
FAMILIES = ("ages", "totals", "travel")
NOTHING = np.zeros(0, np.int32)


class Planted:
    """Writes the world's own problems and knows their answers; `faults` says what goes wrong with the n-th problem of a category."""

    def __init__(self, faults=None, passes=4):
        self.faults, self.passes, self.asked = faults or {}, passes, []

    def __call__(self, requests):
        requests = list(requests)
        self.asked += requests
        for r in reversed(requests):  # the order of the answers must not matter
            yield Completion(r.key, self.say(r), NOTHING, np.zeros(0, np.float32), NOTHING, "stop", r.policy_id)

    def say(self, r):
        step, prompt = r.purpose.partition(".")[2], r.prompt
        if step == "write":
            family, _, level = prompt[3:].split("\n")[0].split("; ")
            text = WORLD.make(family, int(level.split()[1]), r.seed % 1_000_003, seed=1, split="train").prompt
            fault = self.faults.get("write", {}).get(sum(q.purpose == "sws.write" and q.key <= r.key for q in self.asked) % 7)
            return {"unreadable": "Tom has", "proof": f"Prove that it holds. {text}"}.get(fault, text)
        text = prompt.split("Q: ")[1].split("\n")[0]
        place = keyed_seed(0, text) % 10
        if step == "judge":
            return " bad" if place == 0 and r.index == 1 else " acceptable" if r.index == 1 else " perfect"
        right = WORLD.read(text).reference
        if step == "answer":
            return f" #### {right}" if place != 1 or r.index < 3 else f" #### {r.index}77"
        return f" #### {right}" if r.index < self.passes else " #### 123456789"


def _context(planted, budget=60, rows=None, **changes):
    problems = [WORLD.make(f, level, i, seed=5, split="train") for f in FAMILIES for level in (1, 2) for i in range(4)]
    # ages: all weak; totals: a quarter weak; travel: learned
    failing = {p.id for p in problems if p.domain == "ages" or (p.domain == "totals" and p.level == 2 and p.id < sorted(q.id for q in problems)[12])}
    visits = rows or [(p.id, p.domain, p.level, r, 0, 0 if p.id in failing else 4 + 2 * r, 8) for r in (1, 2) for p in problems]
    history = pl.DataFrame(visits, schema=["problem_id", "domain", "level", "round", "step", "passes", "n"], orient="row")
    return RoundContext(
        round=2, seed=7, budget=budget, difficulty=pl.DataFrame(), problems={p.id: p for p in problems}, band=(0.1, 0.9), group_size=8, policy_id="p",
        sampling=Sampling(), generate=planted, world=WORLD, render=Renderer([PROMPTS], "compact").render, history=history, **changes,
    )  # fmt: skip


def test_the_budget_goes_to_the_failing_categories_and_every_candidate_has_a_decision():
    planted = Planted({"write": {0: "unreadable", 3: "proof"}})
    ctx = _context(planted)
    kept = list(Sws({}).propose(ctx))
    written = sum(r.purpose == "sws.write" for r in planted.asked)
    assert written == 60
    assert len(kept) + len(ctx.decided) == written
    assert len({c.id for c in kept} | {d.candidate.id for d in ctx.decided}) == written
    rules = {d.rule for d in ctx.decided}
    assert {"unreadable", "proof", "quality", "answer"} <= rules <= {"unreadable", "proof", "repeated", "quality", "answer"}
    assert not any(d.kept for d in ctx.decided)
    assert {c.problem.domain for c in kept} <= {"ages", "totals"} and sum(c.problem.domain == "ages" for c in kept) > len(kept) / 2
    for candidate in kept:
        read = WORLD.read(candidate.problem.prompt)
        assert read.reference == candidate.problem.reference
        assert candidate.parents[0] in ctx.problems and candidate.parents[1] in {r.key for r in planted.asked}
        assert "answers agree" in candidate.reason
    assert all(d.reason for d in ctx.decided)
    verdicts = verify_all([(c.problem, f"#### {c.problem.reference}") for c in kept])
    assert {v.outcome for v in verdicts} == {"pass"}


def test_the_same_round_proposes_the_same_whatever_order_answers_come_in():
    first = [c.id for c in Sws({}).propose(_context(Planted()))]
    assert first and first == [c.id for c in Sws({}).propose(_context(Planted()))]


@pytest.mark.parametrize(("passes", "kept"), [(1, False), (2, True), (6, True), (7, False)])
def test_only_what_the_student_solves_two_to_six_times_of_eight_is_kept(passes, kept):
    ctx = _context(Planted(passes=passes), budget=20)
    assert bool(list(Sws({}).propose(ctx))) is kept
    assert ("band" in {d.rule for d in ctx.decided}) is not kept


def test_nothing_is_written_before_the_preliminary_rounds_or_without_weakness():
    planted = Planted()
    assert not list(Sws({"after": 2}).propose(_context(planted))) and not planted.asked
    rows = [(i, "ages", 1, 1, 0, 8, 8) for i in _context(planted).problems]
    assert not list(Sws({}).propose(_context(planted, rows=rows))) and not planted.asked


def test_uniform_allocation_gives_every_visited_category_the_same():
    planted = Planted()
    list(Sws({"allocation": "uniform"}).propose(_context(planted)))
    orders = [r.prompt[3:].split(";")[0] for r in planted.asked if r.purpose == "sws.write"]
    assert {f: orders.count(f) for f in FAMILIES} == dict.fromkeys(FAMILIES, 20)


def test_keep_shares_the_places_by_failure_rate_again():
    ctx = _context(Planted())
    kept = list(Sws({"keep": 10}).propose(ctx))
    assert len(kept) == 10
    assert any(d.rule == "weights" and "beyond the" in d.reason for d in ctx.decided)


def test_heldout_texts_are_refused_before_they_cost_anything():
    planted = Planted()
    ctx = _context(planted, heldout=lambda texts: ["a held-out problem"] * len(texts))
    assert not list(Sws({}).propose(ctx))
    assert {d.rule for d in ctx.decided} <= {"heldout", "repeated"} and {r.purpose for r in planted.asked} == {"sws.write"}


def test_a_teacher_writes_judges_and_answers_and_the_policy_only_sits():
    teacher, student = Planted(), Planted()
    speaker = Speaker(teacher, Renderer([PROMPTS], "compact").render, "teacher")
    opened = []
    ctx = _context(student, budget=12, teacher=lambda path: opened.append(path) or speaker)
    assert list(Sws({"teacher": "writer"}).propose(ctx))
    assert opened == ["writer"]
    assert {r.purpose for r in teacher.asked} == {"sws.write", "sws.judge", "sws.answer"}
    assert {r.purpose for r in student.asked} == {"sws.student"} and {r.policy_id for r in student.asked} == {"p"}


# -- chat models -------------------------------------------------------------------------------------------------------


class Chat:
    """A chat model that answers as told, whatever is asked."""

    def __init__(self, said):
        self.said, self.asked = said, []

    def __call__(self, requests):
        for r in requests:
            self.asked.append(r)
            yield Completion(r.key, self.said, NOTHING, np.zeros(0, np.float32), NOTHING, "stop", r.policy_id)


ORDER = Order("Algebra", 0, ("Vieta's formulas",), DIFFICULTIES[0], "weak")


@pytest.mark.parametrize("structured", [False, True])
def test_the_instruct_prompts_ask_for_what_the_readers_read(structured):
    render = Renderer([PROMPTS], "instruct").render
    text = "Find the sum of the squares of the roots of x^2 - 5x + 6 = 0."
    chat = Chat(json.dumps({"problem": text}) if structured else f"Plan: two ideas meet.\n```text\n{text}\n```")
    speaker = Speaker(chat, render, "p", dialect="instruct", structured=structured)
    (draft,) = write(speaker, [ORDER], Sampling(), True, 0, 1)
    assert (draft.text, draft.rule) == (text, "")
    prompt = chat.asked[0].messages[0]["content"]
    assert "Vieta's formulas" in prompt and "AMC12" in prompt and ("```text" in prompt) is not structured
    assert (chat.asked[0].structured is not None) is structured
    said = '{"analysis": "sound", "final_judgement": "perfect"}' if structured else "1. FORMAT: Perfect\nFinal Judgement: perfect"
    judging = Chat(said)
    judge(Speaker(judging, render, "p", dialect="instruct", structured=structured), [draft], Sampling(), 0, 1)
    assert draft.rule == "" and draft.measured["judged"] == ["perfect", "perfect"]
    assert f"<problem>\n{text}\n</problem>" in judging.asked[0].messages[0]["content"]
    naming = Chat('{"concepts": ["root sums"]}' if structured else '```python\n["root sums"]\n```')
    problem = Problem(text, "13")
    found = extract_concepts(Speaker(naming, render, "p", dialect="instruct", structured=structured), [problem], 64, 0, 1)
    assert found == {problem.id: ("root sums",)} and text in naming.asked[0].messages[0]["content"]


@pytest.mark.parametrize(
    "said", ["", "no block here", "```text\n```", "```text\nA?\n```\n```text\nB?\n```", "<think>```text\nlong enough a text\n```"]
)
def test_mangled_answers_write_nothing_and_never_another_answers_text(said):
    speaker = Speaker(Chat(said), Renderer([PROMPTS], "instruct").render, "p", dialect="instruct")
    drafts = write(speaker, [ORDER, Order("Algebra", 1, ("x",), 3, "weak")], Sampling(), True, 0, 1)
    assert [(d.text, d.rule) for d in drafts] == [("", "unreadable")] * 2


class Voices(Chat):
    """Says one thing after the other."""

    def __call__(self, requests):
        for r, said in zip(requests, self.said, strict=True):
            yield Completion(r.key, said, NOTHING, np.zeros(0, np.float32), NOTHING, "stop", r.policy_id)


def compact(*said):
    return Speaker(Voices(said), Renderer([PROMPTS], "compact").render, "p", dialect="compact")


def test_a_plan_with_a_false_equality_is_refused_and_only_then():
    told = "Tom has 12 pens and buys 24 more. How many pens does he have?"
    said = (f"12+24=36 Q: {told}", f"12+24=35 Q: {told}", told)
    orders = [Order("totals", at, ("x",), 1, "weak") for at in range(3)]
    drafts = write(compact(*said), orders, Sampling(), True, 0, 1)
    assert [(d.text, d.plan, d.rule) for d in drafts] == [(told, "12+24=36", ""), (told, "12+24=35", "plan"), (told, "", "")]
    assert drafts[1].reason == "its writer's plan says 12+24=35"
    assert all(d.rule == "" for d in write(compact(*said), orders, Sampling(), False, 0, 1))


@pytest.mark.parametrize(
    ("plan", "answers", "reference", "reason"),
    [
        ("12+24=36", ["12+24=36 #### 36"] * 3 + ["12+24=37 #### 37"], "36", ""),
        ("", ["12+24=36 #### 36"] * 2 + ["12+24=37 #### 37"] * 2, "36", ""),  # false arithmetic does not vote
        ("", ["12+24=36 #### 36"] + ["12+24=37 #### 37"] * 3, "", "only 1 of 4 answers agree"),
        ("12*24=288", ["12+24=36 #### 36"] * 4, "", "4 of 4 answers say 36, its writer planned 288"),
        ("36/5=7.2", ["36/5=7.2 #### none"] * 4, "", "only 0 of 4 answers agree"),
    ],
)
def test_votes_are_checked_by_arithmetic_and_have_to_come_to_the_plan(plan, answers, reference, reason):
    draft = Draft(Order("totals", 0, ("x",), 1, "weak"), "key", "p", "How many pens does he have?", plan)
    answer(compact(*answers), [draft], Sampling(), 4, 0.5, True, 0, 1)
    assert (draft.reference, draft.reason) == (reference, reason)


def test_settings_are_checked_in_one_sentence():
    with pytest.raises(UserError, match=r"strategies\.sws\.tua: unknown setting; did you mean 'tau'"):
        make_strategy("sws", {"tua": 1})
    with pytest.raises(UserError, match=r"strategies\.sws\.allocation: "):
        make_strategy("sws", {"allocation": "random"})
    with pytest.raises(UserError, match="low <= high"):
        make_strategy("sws", {"band": [0.8, 0.2]})


def test_an_embedder_that_is_no_folder_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(UserError, match="no sentence-transformers folder"):
        embedder(str(tmp_path))


def test_a_local_sentence_transformers_folder_embeds(tmp_path):
    models = pytest.importorskip("sentence_transformers.models")
    from sentence_transformers import SentenceTransformer

    bag = models.BoW(vocab=["addition", "loss", "speed"])
    SentenceTransformer(modules=[bag]).save(str(tmp_path / "bag"))
    vectors = embedder(str(tmp_path / "bag"))(["addition loss", "addition", "speed"])
    assert vectors.shape == (3, 3) and vectors.dtype == np.float32
    assert vectors[0] @ vectors[1] > 0.5 > vectors[0] @ vectors[2]
