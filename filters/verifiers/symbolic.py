"""The last resort of the math verifier: one child process with sympy, started when it is first needed and killed when it is late.

The parent keeps the deadline (a thread or SIGALRM cannot stop a C function that holds the interpreter). The child is a fresh interpreter,
no fork of a process that may hold torch or threads; it is asked only about trees that our own grammar built.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import subprocess
import sys
import threading
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

from filters.verifiers.expressions import Node, symbols, walk

DEADLINE = 1.5  # seconds of the child's CPU time for one question
WALL = 8.0  # seconds of waiting for it, on however busy a machine
START = 20.0  # seconds in which the child must have imported sympy
WORKER = Path(__file__).with_name("symbolic_worker.py")


class SymbolicWorker:
    """A supervised child; every method is safe to call from several threads, and after a fork each process has its own child."""

    def __init__(self, deadline: float = DEADLINE, wall: float = WALL) -> None:
        self.deadline, self.wall = deadline, wall
        self.child: subprocess.Popen[bytes] | None = None
        self.owner, self.asked, self.started = 0, 0, 0
        self.lock = threading.Lock()
        self.buffer = b""

    def ask(self, kind: str, left: Node, right: Node) -> bool | str:
        """True, False, or why it cannot be told. A child that is late, dies or babbles is killed; the next question gets a new one."""
        with self.lock:
            self.asked += 1
            try:
                child = self._running()
                request = {"id": self.asked, "ask": kind, "left": _plain(left), "right": _plain(right)}
                assert child.stdin is not None
                child.stdin.write(json.dumps(request).encode() + b"\n")
                child.stdin.flush()
                reply = self._read(child, self.wall, self.deadline)
                if reply.get("id") == self.asked:
                    return bool(reply["told"]) if reply.get("told") is not None else str(reply.get("why", "sympy cannot tell"))
            except (OSError, ValueError, EOFError):
                pass
            self.kill()
            return "sympy took too long"

    def _running(self) -> subprocess.Popen[bytes]:
        if self.owner != os.getpid():  # a fork inherited the parent's child: that one is not ours to talk to
            self.child, self.owner, self.buffer = None, os.getpid(), b""
        if self.child is None or self.child.poll() is not None:
            environment = {"PYTHONHASHSEED": "0", "PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8"}
            self.child = subprocess.Popen(
                [sys.executable, "-P", "-s", str(WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
            )
            self.buffer, self.started = b"", self.started + 1
            atexit.unregister(self.kill)
            atexit.register(self.kill)
            self._read(self.child, START)
        return self.child

    def _read(self, child: subprocess.Popen[bytes], seconds: float, work: float = START) -> dict[str, Any]:
        """One line of the child's, as JSON. Raises OSError where none comes in `seconds`, or in `work` seconds of the child's CPU time:
        a busy machine must not turn an answer into `unknown`."""
        assert child.stdout is not None
        until, limit = time.monotonic() + seconds, _cpu_seconds(child.pid) + work
        while b"\n" not in self.buffer:
            if not select.select([child.stdout], [], [], 0.1)[0]:
                if time.monotonic() > until or _cpu_seconds(child.pid) > limit:
                    raise TimeoutError
                continue
            chunk = os.read(child.stdout.fileno(), 65_536)
            if not chunk or len(self.buffer) > 1_000_000:
                raise EOFError
            self.buffer += chunk
        line, _, self.buffer = self.buffer.partition(b"\n")
        reply = json.loads(line)
        if not isinstance(reply, dict):
            raise ValueError("no object")
        return reply

    def kill(self) -> None:
        """Ends the child, if there is one of this process's, and waits for it: no orphan, no zombie."""
        child, self.child = self.child, None
        if child is not None and self.owner == os.getpid():
            child.kill()
            for stream in (child.stdin, child.stdout):
                if stream is not None:
                    stream.close()
            child.wait()


def _cpu_seconds(pid: int) -> float:
    """CPU time of a process so far; wall-clock time where the system has no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return time.monotonic()


_worker = SymbolicWorker()
MAX_NODES = 120
_HARD = frozenset(("div", "root", "fn", "pow"))


def _plain(node: Node) -> list[Any]:
    if node.op == "num":
        return ["num", f"{node.args[0].numerator}/{node.args[0].denominator}"]
    return [node.op, *(_plain(a) if isinstance(a, Node) else a for a in node.args)]


@lru_cache(maxsize=16_384)
def same_curve(left: Node, right: Node) -> bool | str:
    """Do left = 0 and right = 0 describe the same curve, though they are not proportional? Asked only where a quotient, root or
    function of the variables could hide it: two polynomials that are not proportional are two curves (repeated factors aside)."""
    nodes = [*walk(left), *walk(right)]
    if len(nodes) > MAX_NODES:
        return "too large an equation"
    if not any(n.op in ("div", "root", "fn", "pow") and symbols(n) and (n.op != "pow" or n.args[1].op != "num") and not _by_number(n) for n in nodes):
        return False
    return _worker.ask("curve", left, right)


def _by_number(node: Node) -> bool:
    """A quotient by a constant."""
    return node.op == "div" and not symbols(node.args[1])


@lru_cache(maxsize=16_384)
def same_series(left: Node, right: Node) -> bool | str:
    """Two constants, at least one of them with an infinite sum or product."""
    if len([*walk(left), *walk(right)]) > MAX_NODES:
        return "too large a sum"
    return _worker.ask("value", left, right)
