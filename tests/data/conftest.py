"""Fixtures of the data room: one catalog after the other, and children that can be killed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from data.lake import Lake

# A busy machine must not fail a property that holds.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")

ROOT = Path(__file__).parents[2]
POSTGRES = os.environ.get("SYNTH_TEST_POSTGRES", "")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.skipif(not POSTGRES, reason="SYNTH_TEST_POSTGRES names no database"))])
def catalog(request: pytest.FixtureRequest) -> str | None:
    """The `catalog` argument of `Lake.open`: None (SQLite in the run folder), then a PostgreSQL where there is one."""
    return POSTGRES if request.param == "postgres" else None


@pytest.fixture(scope="session")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder whose lake has its tables and no rows; copying it is faster than making another."""
    run = tmp_path_factory.mktemp("blank") / "run"
    Lake.open(run, create=True).close()
    return run


@pytest.fixture
def run(tmp_path: Path, catalog: str | None, blank: Path) -> Path:
    """The folder of a new run with this catalog."""
    if catalog is None:
        shutil.copytree(blank, tmp_path / "run")
    else:
        Lake.open(tmp_path / "run", catalog=catalog, create=True).close()
    return tmp_path / "run"


@pytest.fixture
def lake(run: Path, catalog: str | None) -> Iterator[Lake]:
    """That run's lake, open for writing."""
    with Lake.open(run, catalog=catalog, write=True) as lake:
        yield lake


@pytest.fixture
def child() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `python -c code args…` with pipes, from the repository's root; killed when the test ends."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *args: str) -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, "-c", code, *args], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
