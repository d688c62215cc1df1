"""The `written` verifier: whether an answer holds a problem that can be read, in the form that was asked for.

For the groups in which a policy writes problems (SvS, rewriting). A pass says that there is a text to go on with and nothing about its
worth, so its reward is 0: the strategy that asked for it rewards it by what solvers make of it.
"""

from __future__ import annotations

from data.records import Problem
from filters.verifiers.base import register_verifier
from filters.verifiers.spec import Judgement, Spec, TypedVerifier
from filters.written import Form, read_problem


class WrittenSpec(Spec):
    form: Form = "fenced"
    """How the problem is set into the answer: fenced (a ```text block), json ({"problem": …}) or line (the shipped policies' dialect)."""


class WrittenVerifier(TypedVerifier[WrittenSpec]):
    """Reads the problem out of the response."""

    name = "written"
    Spec = WrittenSpec
    needs_reference = False
    outright = True
    form_only = True

    def judge(self, problem: Problem, spec: WrittenSpec, response: str) -> Judgement:
        _, why = read_problem(response, spec.form)
        return ("fail", 0.0, why) if why else ("pass", 0.0, "a problem can be read")

    def oracle(self, problem: Problem) -> str:
        text = "How many apples are left of seven when two are eaten?"
        return {"fenced": f"```text\n{text}\n```", "json": f'{{"problem": "{text}"}}', "line": text}[problem.spec.get("form", "fenced")]


register_verifier("written", WrittenVerifier)
