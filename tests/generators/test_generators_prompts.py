"""The prompts of the strategies, in both dialects: what they must show, and what they must not."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.records import Problem
from data.render import Renderer
from filters.written import read_problem

PROMPTS = Path(__file__).parents[2] / "generators" / "prompts"
PROBLEM = Problem("A baker fills 4 trays with 9 rolls each. How many rolls is that?", "36")
VALUES = {
    "rewrite": {"response": "4*9=36 #### 36", "structured": False},
    "paraphrase": {"problem": PROBLEM, "mode": "simplify", "structured": False},
    "reorder_steps": {"problem": PROBLEM, "steps": ["5*7=35", "4*9=36"]},
    "fill_masks": {"problem": PROBLEM, "text": "4*9=[m1]", "masks": ["m1"]},
    "next_segment": {"before": "He bakes. He sells.", "after": ""},
}


@pytest.mark.parametrize("dialect", ["compact", "instruct"])
@pytest.mark.parametrize("name", VALUES)
def test_every_prompt_shows_its_material_in_either_dialect(name: str, dialect: str) -> None:
    text = Renderer([PROMPTS], dialect).render(name, **VALUES[name])
    shown = {"rewrite": "4*9=36", "paraphrase": PROBLEM.prompt, "reorder_steps": "4*9=36", "fill_masks": "[m1]", "next_segment": "He sells."}
    assert shown[name] in text
    if dialect == "compact":
        assert text[-2] in "QAOMS" and text[-1] == ":"  # the policy goes on right behind the mark


@pytest.mark.parametrize("mode", ["same", "simplify", "diversify"])
@pytest.mark.parametrize("structured", [False, True])
def test_the_grammar_asked_for_is_the_grammar_read(mode: str, structured: bool) -> None:
    render = Renderer([PROMPTS], "instruct").render
    for text in (render("paraphrase", problem=PROBLEM, mode=mode, structured=structured), render("rewrite", response="36", structured=structured)):
        assert ('under "problem"' in text) is structured and ("```text" in text) is not structured
        assert not structured or "```" not in text
        assert "36" not in text or "worked answer" in text  # a rewriter is not shown the answer
    question = "How many are nine rolls on each of four trays?"
    said = f'{{"problem": "{question}"}}' if structured else f"```text\n{question}\n```"
    assert read_problem(said, "json" if structured else "fenced")[0]


def test_a_variants_writer_sees_the_answer_alone() -> None:
    for dialect in ("compact", "instruct"):
        text = Renderer([PROMPTS], dialect).render("rewrite", response="4*9=36 #### 36", structured=False)
        assert PROBLEM.prompt not in text and "4*9=36 #### 36" in text


def test_a_prompt_that_echoes_its_own_example_is_no_problem() -> None:
    assert read_problem("```text\nthe problem\n```")[0] == ""
