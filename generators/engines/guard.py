"""Stands between us and a server process: when we die, however we die, the server and everything it started dies too.

    python -I -S guard.py PARENT_PID GRACE_SECONDS COMMAND…

A script of its own that imports nothing of ours. It watches the pipe on its standard input (closed by our end, even by kill -9) and its parent's
pid, passes SIGTERM on, gives the command GRACE_SECONDS to end, then kills every descendant: it is their subreaper, so that a grandchild whose
parent died becomes its child, wherever its process group is. The command dies with the guard (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
POLL = 0.5


def prctl(option: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):  # another system than Linux: the pipe and the process group remain
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def descendants(root: int) -> list[int]:
    """Living pids below `root`, children before grandchildren."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                with open(f"/proc/{name}/stat", "rb") as stream:
                    # The name in parentheses may hold anything; the parent is the second field after it.
                    fields = stream.read().rpartition(b")")[2].split()
                if fields[0] != b"Z":
                    children.setdefault(int(fields[1]), []).append(int(name))
    found, level = [], [root]
    while level:
        level = [pid for parent in level for pid in children.get(parent, [])]
        found.extend(level)
    return found


def end(child: subprocess.Popen[bytes], grace: float) -> None:
    if child.poll() is None:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(grace)
    deadline = time.monotonic() + 10
    while (left := descendants(os.getpid())) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
        child.poll()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def main(parent: int, grace: float, command: list[str]) -> int:
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    me, told = os.getpid(), []
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, lambda s, _: told.append(s))
    signal.signal(signal.SIGCHLD, lambda s, _: None)  # only so that it wakes us
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def die_with_guard() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != me:
            os._exit(1)

    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=die_with_guard)
    while child.poll() is None and not told and os.getppid() == parent:
        readable, _, _ = select.select([0, woken], [], [], POLL)
        if 0 in readable and not os.read(0, 1):
            break
        if woken in readable:
            os.read(woken, 64)
    end(child, grace)
    code = child.returncode if child.returncode is not None else 1
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
