from __future__ import annotations

from pathlib import Path

import pytest

from data.errors import UserError
from data.render import Renderer, render


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    chat = "Solve.\n{% for s in steps %}\n- {{ s }}\n{% endfor %}\n{{ question }}\n"
    for dialect, text in (("compact", "Q: {{ question }}\nA:"), ("instruct", chat)):
        (tmp_path / dialect).mkdir()
        (tmp_path / dialect / "solve.j2").write_text(text)
    (tmp_path / "compact" / "broken.j2").write_text("line one\n{% if %}")
    (tmp_path / "compact" / "nosy.j2").write_text("{{ ''.__class__.__mro__ }}")
    (tmp_path / "compact" / "dice.j2").write_text("{{ [1, 2, 3] | random }}")
    (tmp_path / "compact" / "nested.j2").write_text("{% include 'gone.j2' %}")
    return tmp_path


def test_each_dialect_has_its_own_text_and_nothing_is_escaped(folder: Path) -> None:
    assert render([folder], "compact", "solve", question="1 < 2 && 'x' \"y\" {{ z }}") == "Q: 1 < 2 && 'x' \"y\" {{ z }}\nA:"
    assert render([folder], "instruct", "solve", question="?", steps=["a", "b"]) == "Solve.\n- a\n- b\n?"


def test_the_first_folder_that_has_it_wins(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    mine = tmp_path_factory.mktemp("mine")
    (mine / "compact").mkdir()
    (mine / "compact" / "solve.j2").write_text("mine {{ question }}")
    assert render([mine, folder], "compact", "solve", question="?") == "mine ?"
    assert Renderer([mine, folder], "compact").names() == ["broken", "dice", "nested", "nosy", "solve"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("solve", r"template 'solve' \(compact\): 'question' is undefined; variables given: other"),
        ("missing", r"no template 'missing' in dialect 'compact': looked in .*compact; there are broken, dice"),
        ("nested", r"no template 'gone' in dialect 'compact'"),
        ("broken", r"template 'broken' \(compact\), line 2"),
        ("nosy", r"template 'nosy' \(compact\)"),
        ("dice", r"template 'dice' \(compact\)"),
    ],
)
def test_what_is_wrong_is_named(folder: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        render([folder], "compact", name, other=1)


def test_an_unknown_dialect_is_named(folder: Path) -> None:
    with pytest.raises(UserError, match="'chat' is none of compact, instruct"):
        Renderer([folder], "chat")


def test_a_template_cannot_change_what_it_is_given(folder: Path) -> None:
    (folder / "compact" / "greedy.j2").write_text("{{ steps.append(1) }}")
    steps = ["a"]
    with pytest.raises(UserError, match="greedy"):
        render([folder], "compact", "greedy", steps=steps)
    assert steps == ["a"]
