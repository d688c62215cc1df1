"""The tokenizer takes any text and gives it back; digits stand alone; the chat template and the compact prompt are one text."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.render import Renderer
from generators.worlds.arithmetic import ArithmeticWorld
from pipelines.policy_card import PROMPTS
from pipelines.tokenizer import END, PAD, save_tokenizer, train_tokenizer

WORLD = ArithmeticWorld()
TEXTS = [
    f"Q: {p.prompt}\nA:{WORLD.demonstration(p)}"
    for f in WORLD.families()
    for i in range(40)
    for p in [WORLD.make(f, 1 + i % 5, i, seed=0, split="train")]
]
TOKENIZER = train_tokenizer(TEXTS, 512, 256)


@given(st.text())
@settings(max_examples=500, deadline=None)
def test_any_text_comes_back(text: str) -> None:
    ids = TOKENIZER(text)["input_ids"]
    assert TOKENIZER.decode(ids) == text
    assert all(0 <= i < len(TOKENIZER) for i in ids)


@given(st.text(st.characters(exclude_categories=("Cs",))), st.text("0123456789", min_size=1))
@settings(deadline=None)
def test_every_digit_is_a_token(text: str, digits: str) -> None:
    tokens = TOKENIZER.convert_ids_to_tokens(TOKENIZER(text + digits)["input_ids"])
    assert tokens[-len(digits) :] == list(digits)


def test_no_token_holds_a_digit_beside_something_else() -> None:
    assert sorted(token for token in TOKENIZER.get_vocab() if any(c in "0123456789" for c in token)) == list("0123456789")


def test_a_world_text_costs_few_tokens() -> None:
    chain = TOKENIZER.tokenize(" 12*3=36, 36+4=40 #### 40")
    assert chain == ["Ġ", *"12*3=36", ",Ġ", *"36+4=40", "Ġ####Ġ", *"40"]


def test_chat_template_is_the_compact_prompt() -> None:
    renderer = Renderer([PROMPTS], "compact")
    for prompt in ("Tom has 3 pens. How many?", " blanks \n kept\t", "{{ braces }} {% raw %}", "ünïcödé <b>&amp;</b>"):
        compact = renderer.render("solve", prompt=prompt)
        chat = TOKENIZER.apply_chat_template([{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False)
        assert chat == compact
        ids = TOKENIZER.apply_chat_template([{"role": "user", "content": prompt}], add_generation_prompt=True, return_dict=False)
        assert ids == TOKENIZER(compact)["input_ids"]


def test_a_problem_and_its_prompt_render_alike() -> None:
    renderer = Renderer([PROMPTS], "compact")
    problem = WORLD.make("totals", 1, 0, seed=0, split="train")
    assert renderer.render("solve", problem=problem) == renderer.render("solve", prompt=problem.prompt) == f"Q: {problem.prompt}\nA:"


def test_chat_with_system_and_answers() -> None:
    text = TOKENIZER.apply_chat_template(
        [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "1+1?"},
            {"role": "assistant", "content": " 1+1=2 #### 2"},
            {"role": "user", "content": "2+2?"},
        ],
        add_generation_prompt=True,
        tokenize=False,
    )
    assert text == f"Be short.\nQ: 1+1?\nA: 1+1=2 #### 2{END}\nQ: 2+2?\nA:"


def test_training_is_deterministic_and_survives_saving(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    again = train_tokenizer(TEXTS, 512, 256)
    assert again.get_vocab() == TOKENIZER.get_vocab() and len(TOKENIZER) <= 512
    save_tokenizer(TOKENIZER, tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert loaded(TEXTS[3])["input_ids"] == TOKENIZER(TEXTS[3])["input_ids"]
    assert (loaded.eos_token, loaded.pad_token, loaded.bos_token) == (END, PAD, None)
    assert loaded.chat_template == TOKENIZER.chat_template and loaded.model_max_length == 256


@pytest.mark.parametrize("special", [PAD, END])
def test_specials_are_one_token(special: str) -> None:
    assert len(TOKENIZER(special)["input_ids"]) == 1
