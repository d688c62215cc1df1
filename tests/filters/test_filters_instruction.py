"""Checkable constraints: the official verdicts on real responses, and the edges of each kind."""

import gzip
import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from data.records import Problem
from filters.verifiers.base import check_spec, get_verifier
from filters.verifiers.instruction import KINDS, WITHOUT, Instruction, followed, variants
from filters.verifiers.words import count_words, sentences, tokens

SHARED = Path(__file__).parents[3] / "shared" / "data"


def rows(name: str) -> list[dict]:
    if not (SHARED / name).exists():
        pytest.skip(f"{name} is not on this machine")
    with gzip.open(SHARED / name, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


@pytest.mark.parametrize("mode", ["strict", "loose"])
def test_official_verdicts_on_real_responses(mode: str) -> None:
    given = {r["prompt"].strip(): r for r in rows("ifbench_test.jsonl.gz")}
    told = agree = whole = agree_whole = 0
    for row in rows(f"ifbench_eval_results_{mode}.jsonl.gz"):
        asked = given.get(row["prompt"].strip())
        if asked is None:
            continue  # one recorded row is torn and has no input
        ours = []
        for kind, kwargs, official in zip(asked["instruction_id_list"], asked["kwargs"], row["follow_instruction_list"], strict=True):
            if kind in WITHOUT:
                ours.append(None)
                continue
            one = followed(Instruction(id=kind, kwargs={k: v for k, v in kwargs.items() if v is not None}), row["response"], loose=mode == "loose")
            ours.append(one)
            told, agree = told + 1, agree + (one is official)
        if None not in ours:
            whole, agree_whole = whole + 1, agree_whole + (all(ours) is row["follow_all_instructions"])
    assert told >= 328 and whole >= 287
    assert (agree, agree_whole) == (told, whole)


def test_every_row_of_the_benchmarks_has_settings_that_are_read() -> None:
    for name, count in (("ifeval_input_541.jsonl.gz", 541), ("ifbench_test.jsonl.gz", 300)):
        wrong = [check_spec("instruction", {"instruction_id_list": r["instruction_id_list"], "kwargs": r["kwargs"]}) for r in rows(name)]
        assert len(wrong) == count
        assert {w for w in wrong if w and "words:start_verb" not in w} == set()
        assert sum(bool(w) for w in wrong) == (0 if "ifeval" in name else 6)


@pytest.mark.parametrize(
    ("kind", "kwargs", "right", "wrong"),
    [
        ("punctuation:no_comma", {}, "one two", "one, two"),
        ("length_constraints:number_words", {"relation": "at least", "num_words": 3}, "a b c", "a b"),
        ("length_constraints:number_words", {"relation": "less than", "num_words": 3}, "a b", "a b c"),
        (
            "length_constraints:number_sentences",
            {"relation": "less than", "num_sentences": 3},
            "Dr. A came at 3.5 p.m. Good.",
            "One. Two! Three? Four.",
        ),
        ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a *** b", "a *** b *** c"),
        ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "so"}, "a\n\n'So, b", "a\n\nb so"),
        ("keywords:existence", {"keywords": ["a+", "b"]}, "A+ B", "aa b"),
        ("keywords:frequency", {"keyword": "x", "relation": "at least", "frequency": 2}, "x X", "x"),
        ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, "concat", "a Cat."),
        ("keywords:letter_frequency", {"letter": "a", "let_relation": "less than", "let_frequency": 2}, "A", "aA"),
        ("language:response_language", {"language": "de"}, "Das ist ein ganz gewöhnlicher deutscher Satz.", "This is an ordinary English sentence."),
        ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[a] [b]", "[a] b]"),
        ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "x\nP. P. S y", "x P.S. y"),
        ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n- b", "* a\n** b"),
        ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* b *c*", "*a* ** b"),
        ("detectable_format:multiple_sections", {"section_spliter": "SECTION", "num_sections": 2}, "SECTION 1 a SECTION 2 b", "SECTION 1 SECTION"),
        ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "{a: 1}"),
        ("detectable_format:title", {}, "<<a>> b", "<< >> b"),
        ("detectable_format:constrained_response", {}, "Well. My answer is no.", "no"),
        ("combination:two_responses", {}, "a ****** b", "a ****** a"),
        ("combination:repeat_prompt", {"prompt_to_repeat": "Do it"}, "do it. Yes", "yes do it"),
        ("startend:end_checker", {"end_phrase": "The end."}, 'x "the end."', "the end. x"),
        ("startend:quotation", {}, ' "a" ', '"a'),
        ("change_case:capital_word_frequency", {"capital_relation": "at least", "capital_frequency": 2}, "A BC d", "A b"),
        ("change_case:english_capital", {}, "THIS IS AN ORDINARY ENGLISH SENTENCE.", "This is one."),
        ("change_case:english_lowercase", {}, "this is an ordinary english sentence.", "das ist ein ganz gewöhnlicher satz, auf deutsch."),
    ],
)
def test_each_ifeval_kind(kind: str, kwargs: dict, right: str, wrong: str) -> None:
    one = Instruction(id=kind, kwargs=kwargs)
    assert one.followed(right) is True
    assert one.followed(wrong) is False
    assert one.followed(" \n") is False


def test_loose_forgives_introductions_and_asterisks() -> None:
    problem = Problem("q", "", "instruction", {"instructions": [{"id": "startend:quotation"}]})
    loose = Problem("q", "", "instruction", {"instructions": [{"id": "startend:quotation"}], "loose": True})
    verifier = get_verifier("instruction")
    said = 'Here it is:\n*"hello"*'
    assert verifier.verify(problem, said).outcome == "fail" and verifier.verify(loose, said).outcome == "pass"
    assert len(variants("a\nb\nc")) == 8 and variants("a\nb\nc")[2] == "b\nc"


def test_all_must_be_followed_and_the_share_is_a_reward_only_where_asked_for() -> None:
    two = {"instructions": [{"id": "punctuation:no_comma"}, {"id": "startend:quotation"}]}
    verifier = get_verifier("instruction")
    assert verifier.verify(Problem("q", "", "instruction", two), "no comma").reward == 0.0
    half = verifier.verify(Problem("q", "", "instruction", {**two, "reward": "share"}), "no comma")
    assert (half.outcome, half.reward) == ("fail", 0.5) and "startend:quotation" in half.reason


def test_a_language_that_cannot_be_detected_is_unknown() -> None:
    """The official check passes it."""
    spec = {"instructions": [{"id": "language:response_language", "kwargs": {"language": "hi"}}]}
    assert get_verifier("instruction").verify(Problem("q", "", "instruction", spec), "12345 !!").outcome == "unknown"


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValidationError, match=r"kwargs.relation: input should be 'less than' or 'at least'"):
        Instruction(id="length_constraints:number_words", kwargs={"num_words": 3, "relation": "exactly"})
    with pytest.raises(ValidationError, match="part-of-speech"):
        Instruction(id="words:start_verb")
    assert len(KINDS) == 25 + 57


def test_words_and_sentences() -> None:
    assert sentences('He paid 3.50 to Mr. Smith at A.I. Inc. "Fine." Then... nothing!') == [
        'He paid 3.50 to Mr. Smith at A.I. Inc. "Fine".',
        "Then.",
        "nothing!",
    ]
    assert count_words("it's 3.5") == 4
    assert tokens("don't (stop).") == ["do", "n't", "(", "stop", ")", "."]
