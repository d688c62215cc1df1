"""The sympy child: asked only when needed, killed when late, replaced after a death, capped in memory, never left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from filters.verifiers import symbolic
from filters.verifiers.expressions import Node
from filters.verifiers.grammar import read
from filters.verifiers.math import judge
from filters.verifiers.symbolic import SymbolicWorker
from filters.verifiers.symbolic_worker import MEMORY, answer

ROOT = Path(__file__).parents[2]


def tree(text: str) -> Node:
    node = read(text)
    assert isinstance(node, Node), node
    return node


@pytest.mark.parametrize(
    ("reference", "response", "outcome"),
    [
        ("xy=1", "y=\\frac{1}{x}", "pass"),
        ("xy=1", "y=\\frac{2}{x}", "fail"),
        ("y=\\frac{x+1}{x-1}", "xy-y=x+1", "pass"),
        ("y=\\frac{x+1}{x-1}", "xy-y=x-1", "fail"),
        ("\\frac1x+\\frac1y+\\frac1z=1", "xy+yz+zx=xyz", "pass"),
        ("\\sum_{k=1}^{\\infty}\\frac{1}{k^2}", "\\frac{\\pi^2}{6}", "pass"),
        ("\\sum_{k=1}^{\\infty}\\frac{1}{k^2}", "\\frac{\\pi^2}{8}", "fail"),
        ("\\frac{\\pi^2}{6}", "\\sum_{k=1}^{\\infty}\\frac{1}{k^2}", "unknown"),
    ],
)
def test_curves_and_series(reference: str, response: str, outcome: str) -> None:
    assert judge(reference, f"\\boxed{{{response}}}")[0] == outcome


def test_plain_comparisons_start_no_child() -> None:
    code = (
        "from filters.verifiers import symbolic; from filters.verifiers.math import judge\n"
        "assert judge('\\\\frac{\\\\sqrt3}{3}', '\\\\boxed{\\\\frac{1}{\\\\sqrt3}}')[0] == 'pass'\n"
        "assert judge('2x+3y=6', '\\\\boxed{4x+6y=12}')[0] == 'pass' and judge('2x+3y=6', '\\\\boxed{2x+3y=7}')[0] == 'fail'\n"
        "import sys; assert symbolic._worker.started == 0 and 'sympy' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0


def test_a_late_child_is_killed_and_the_next_question_gets_a_new_one() -> None:
    worker = SymbolicWorker()
    try:
        assert worker.ask("curve", tree("xy-1"), tree("y-\\frac{1}{x}")) is True
        first = worker.child
        assert first is not None
        os.kill(first.pid, signal.SIGSTOP)
        worker.wall = 0.2
        start = time.monotonic()
        assert worker.ask("curve", tree("xy-1"), tree("y-\\frac{2}{x}")) == "sympy took too long"
        assert time.monotonic() - start < 5.0
        assert not psutil.pid_exists(first.pid)
        worker.wall = 30.0
        assert worker.ask("curve", tree("xy-1"), tree("y-\\frac{2}{x}")) is False
        assert worker.started == 2
        assert worker.child is not None
        os.kill(worker.child.pid, signal.SIGKILL)
        worker.child.wait()
        assert worker.ask("curve", tree("xy-1"), tree("y-\\frac{1}{x}")) is True
    finally:
        worker.kill()


def test_a_question_that_burns_cpu_is_cut_off_by_cpu_time() -> None:
    """One C function that holds the interpreter: no count of calls, no thread and no signal would stop it."""
    worker = SymbolicWorker(deadline=0.3, wall=60.0)
    try:
        assert worker.ask("curve", tree("(((10^{64})^{64})^{64})^{64}x"), tree("\\frac{1}{y}")) == "sympy took too long"
        assert worker.child is None
    finally:
        worker.kill()


def test_work_is_counted_and_memory_capped() -> None:
    worker = SymbolicWorker(deadline=20.0, wall=60.0)
    try:
        hard = tree("\\frac{(a+b+c+d)^{24}}{x}"), tree("\\frac{(a+b+c)^{24}+1}{y}")
        told = [worker.ask("curve", *hard) for _ in range(2)]
        assert told[0] == told[1]  # counted in steps: the same answer again
        assert isinstance(told[0], str)
        assert worker.child is not None
        child = psutil.Process(worker.child.pid)
        assert child.rlimit(psutil.RLIMIT_AS) == (MEMORY, MEMORY)
        assert child.memory_info().rss < 300 * 2**20
    finally:
        worker.kill()


def test_no_child_outlives_its_parent() -> None:
    code = (
        "from filters.verifiers import symbolic; from filters.verifiers.math import judge; import os, signal, sys\n"
        "judge('xy=1', '\\\\boxed{y=\\\\frac{1}{x}}'); print(symbolic._worker.child.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL) if sys.argv[1] == 'die' else None"
    )
    for way in ("die", "leave"):
        done = subprocess.run([sys.executable, "-c", code, way], cwd=ROOT, capture_output=True, text=True, timeout=60)
        pid = int(done.stdout)
        until = time.monotonic() + 10
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE and time.monotonic() < until:
            time.sleep(0.05)
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_the_child_builds_only_what_is_on_its_list() -> None:
    for left in (
        ["fn", "__import__", ["sym", "os"]],
        ["call", "system"],
        ["fn", "lambdify", ["num", "1/1"]],
        ["pow", ["num", "10/1"], ["num", "100000000/1"]],
        [],
    ):
        reply = answer({"id": 1, "ask": "curve", "left": left, "right": ["num", "1/1"]})
        assert reply["told"] is None
    assert symbolic.same_curve(tree("x^2+y-1"), tree("x^2+y-2")) is False
