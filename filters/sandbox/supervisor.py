"""One zygote as its owner sees it: a process started once, fed with jobs over a socket, killed with everything in it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filters.sandbox import frames, seccomp
from filters.sandbox.jobs import Job, Result

HERE = Path(__file__).resolve().parent
START_SECONDS = 20.0
UIDS = 4096


@dataclass(frozen=True)
class Layers:
    """Which walls stand around a zygote's jobs. `filters.sandbox.levels` decides; nothing here falls back by itself."""

    namespaces: bool = False
    bubblewrap: bool = False  # namespaces made by bwrap
    landlock: bool = False
    seccomp: bool = False
    drop: bool = False  # jobs run under a uid of their own: needs root
    address_space: int = 1536 << 20
    stack: int = 512 << 20
    tmp: int = 64 << 20


class ZygoteLost(Exception):
    """The zygote ended or broke its protocol."""


class Zygote:
    """Start-up is asynchronous: `ready` turns true with the first message. Requests are answered in order. `core`: where it and its jobs stay."""

    def __init__(self, layers: Layers, index: int = 0, core: int | None = None) -> None:
        ours, theirs = socket.socketpair()
        self.layers, self.socket = layers, ours
        self.ready, self.hello = False, {}  # type: bool, dict[str, Any]
        self.waiting: deque[Any] = deque()
        self._inbox, self._outbox = bytearray(), bytearray()
        try:
            self.process = subprocess.Popen(
                _command(layers, theirs.fileno(), index, core),
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env={"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
                cwd="/",
                start_new_session=True,
            )
        finally:
            theirs.close()
        self.socket.setblocking(False)

    def send(self, job: Job, token: Any) -> None:
        limits = job.limits
        self._outbox += frames.request(
            job.kind, job.request(), expected=job.expected, limit=limits.test, total=limits.total, output=limits.output, stdin=job.stdin
        )
        self.waiting.append(token)
        self.flush()

    @property
    def pending(self) -> bool:
        return bool(self._outbox)

    def flush(self) -> None:
        try:
            while self._outbox:
                del self._outbox[: self.socket.send(self._outbox)]
        except BlockingIOError:
            pass
        except OSError as error:
            raise ZygoteLost(str(error)) from None

    def receive(self) -> Iterator[tuple[Any, Result]]:
        """Answers that have arrived, each with its request's token. Raises `ZygoteLost` at the end of the stream."""
        ended = False
        try:
            while data := self.socket.recv(1 << 20):
                self._inbox += data
            ended = True
        except BlockingIOError:
            pass
        except OSError:
            ended = True
        while (frame := frames.unframed(self._inbox)) is not None:
            if not self.ready:
                self.ready, self.hello = True, json.loads(frame)
                continue
            try:
                status, by, cpu, wall, records, times, stdout = frames.read_answer(frame)
            except (ValueError, struct.error) as error:
                raise ZygoteLost(str(error)) from None
            yield self.waiting.popleft(), Result(status, records, stdout, times, cpu, wall, by)  # type: ignore[arg-type]
        if ended:
            raise ZygoteLost(self.complaint())

    def complaint(self) -> str:
        """What the zygote said before it died, for the error message."""
        if self.process.poll() is None:
            self.kill()
        text = self.process.stderr.read() if self.process.stderr and not self.process.stderr.closed else b""
        return (text.decode(errors="replace").strip().splitlines() or ["ended without a word"])[-1][:300]

    def kill(self) -> None:
        """Returns when nothing of it is left: pid 1 of a namespace takes the rest along, a job dies with its zygote.

        The socket's end comes only after the last process that held it has gone.
        """
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.socket.setblocking(True)
        self.socket.settimeout(5.0)
        try:
            while self.socket.recv(1 << 20):
                pass
        except OSError:
            pass

    def close(self) -> None:
        if self.process.poll() is None and not self.waiting:
            self.socket.shutdown(socket.SHUT_WR)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(2.0)
        self.kill()
        self.socket.close()
        if self.process.stderr:
            self.process.stderr.close()


def interpreter() -> tuple[str, list[str]]:
    """The base interpreter (no virtual environment) and the folders that it needs to see."""
    paths = sysconfig.get_paths()
    python = os.path.realpath(sys.executable)
    prefixes = dict.fromkeys([sys.base_prefix, sys.base_exec_prefix, paths["stdlib"], paths["platstdlib"]])
    return python, [p for p in prefixes if p != "/"]


def _command(layers: Layers, control: int, index: int, core: int | None) -> list[str]:
    python, prefixes = interpreter()
    inside = layers.namespaces
    code = "/synth-sandbox" if inside else str(HERE)
    zygote = {
        "mark": f"synth-sandbox-{os.getpid()}-{index}",  # in its command line and its jobs': `ps` shows whose they are
        "control": control,
        "seccomp": [f.hex() for f in (seccomp.zygote_filter(), seccomp.job_filter(files=layers.landlock or inside))] if layers.seccomp else [],
        "landlock": layers.landlock,
        "readable": [*prefixes, code, "/usr/lib", "/usr/local/lib", "/lib", "/lib64", "/dev/urandom", "/dev/zero"],
        "writable": ["/dev/null", *(["/box"] if inside else [])],
        "box": "/box" if inside else "",
        "namespaces": inside,
        "drop": layers.drop,
        "first_uid": first_uid() + UIDS * (index % 256),
        "uids": UIDS,
        "capable": os.geteuid() == 0 or inside,
        "threads": 64 if layers.drop or inside else 0,
        "address_space": layers.address_space,
        "file_size": layers.tmp,
    }
    plan = {
        "namespaces": inside and not layers.bubblewrap,
        "control": control,
        "core": core,
        "prefixes": prefixes,
        "code": str(HERE) if not layers.bubblewrap else code,
        "python": python,
        "stack": layers.stack,
        "tmp": layers.tmp,
        "zygote": zygote,
    }
    start = [python, "-P", "-s", "-S", "-B", f"{plan['code']}/launch.py", json.dumps(plan)]
    return [*_bubblewrap(prefixes, layers.tmp), *start] if layers.bubblewrap else start


def first_uid() -> int:
    """Uids that nobody has: far above those that systems give out, or the top of what this user namespace maps."""
    try:
        spans = [[int(v) for v in line.split()] for line in Path("/proc/self/uid_map").read_text().splitlines()]
    except OSError:
        return 0x70000000
    high = max((inside + count for inside, _, count in spans), default=1 << 32)
    return 0x70000000 if high > 0x70000000 + UIDS * 256 else max(1, high - UIDS * 256) if high > UIDS * 257 else max(1, high // 2)


def _bubblewrap(prefixes: list[str], tmp: int) -> list[str]:
    shown = [p for p in dict.fromkeys(("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", *prefixes)) if os.path.exists(p)]
    binds = [part for path in shown for part in ("--ro-bind", path, path)]
    return [
        shutil.which("bwrap") or "bwrap",
        *("--unshare-all", "--unshare-user", "--die-with-parent", "--as-pid-1", "--cap-drop", "ALL", "--uid", "65534", "--gid", "65534"),
        *binds,
        *("--ro-bind", str(HERE), "/synth-sandbox", "--dev", "/dev", "--size", str(tmp), "--tmpfs", "/box", "--symlink", "/box", "/tmp"),
        *("--remount-ro", "/", "--chdir", "/box", "--"),
    ]
