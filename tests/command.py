"""`synth …` as a user's words, inside this process: what a process of its own would say, without a second of imports each time."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from flows.cli.main import main


def synth(*args: object, cwd: Path | None = None) -> subprocess.CompletedProcess:
    """Exit status and what was printed, as `subprocess.run(…, capture_output=True, text=True)` gives them."""
    words, out, err = list(map(str, args)), _stream(), _stream()
    before = os.getcwd()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            if cwd is not None:
                os.chdir(cwd)
            code = main(words)
        except SystemExit as stopped:  # argparse
            code = stopped.code if isinstance(stopped.code, int) else int(stopped.code is not None)
        finally:
            os.chdir(before)
    return subprocess.CompletedProcess(words, code, _text(out), _text(err))


def synth_process(*args: object, **options: object) -> subprocess.CompletedProcess:
    """The same in a process of its own, on this checkout's code."""
    command = [sys.executable, "-m", "flows.cli.main", *map(str, args)]
    return subprocess.run(command, **({"capture_output": True, "text": True, "cwd": Path(__file__).parents[1], "timeout": 500} | options))


def _stream() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8")  # with a buffer, for what prints bytes


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    return stream.buffer.getvalue().decode()  # type: ignore[attr-defined]
