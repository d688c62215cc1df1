"""A server process that we start, watch and restart: on loopback, with a key made for it, gone when we are gone."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data.errors import SynthError

GUARD = Path(__file__).with_name("guard.py")
_OURS = ("LD_PRELOAD", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")  # of our own process, wrong in another environment
_SECRET = ("_API_KEY", "_TOKEN", "_SECRET", "_PASSWORD")


def free_port() -> int:
    """A port on loopback that nothing uses now. Somebody may take it before the server does: then the start is tried again with another."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def child_environment(added: Mapping[str, str]) -> dict[str, str]:
    """Our environment without what belongs to this process (its preloads, its paths) and without anybody's keys, and with `added`."""
    kept = {k: v for k, v in os.environ.items() if k not in _OURS and not k.upper().endswith(_SECRET)}
    return kept | dict(added)


@dataclass(frozen=True)
class ServerPlan:
    """How the server is started. `command(port)` is its argument list; the key travels in the environment variable `key_variable` only."""

    name: str
    command: Callable[[int], Sequence[str]]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    key_variable: str = "API_KEY"
    health: str = "/health"
    startup_seconds: float = 600.0
    restarts: int = 3
    """Deaths that are answered by a new start; counted anew after `calm_seconds` without one."""
    calm_seconds: float = 1800.0
    backoff_seconds: float = 1.0
    """Waited before the first restart, doubled for each further one."""
    grace_seconds: float = 15.0
    """Between SIGTERM and SIGKILL when it is stopped."""
    hung_seconds: float = 120.0
    """A server that does not answer its health check for so long is killed (and so restarted); 0 = never."""


class Server:
    """`start` it, ask `url` with `key`, call `ensure` when a request could not be delivered, `stop` it. Safe for several threads.

    `on_ready` runs after every start, before `ensure` returns to anyone: weights that the dead one held are pushed there.
    """

    def __init__(self, plan: ServerPlan, on_ready: Callable[[Server], None] | None = None) -> None:
        self.plan, self.on_ready = plan, on_ready
        self.key = secrets.token_urlsafe(24)
        self.port = free_port()
        self.starts = 0
        """Times it became ready; who remembers the number sees whether it was restarted."""
        self._deaths: list[float] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._watch: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Of the guard, which is also the process group's."""
        return self._process.pid if self._process is not None else 0

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Returns when it answers. Raises SynthError, with the log's last lines, when it dies first or takes too long."""
        with self._lock:
            if self.alive():
                return
            self._stopped.clear()
            self._launch()
            if self._watch is None and self.plan.hung_seconds:
                self._watch = threading.Thread(target=self._look, name=f"watch {self.plan.name}", daemon=True)
                self._watch.start()

    def ensure(self) -> int:
        """Starts it again if it is dead, waiting longer before each time; returns `starts`. Raises SynthError when it has died too often."""
        with self._lock:
            while not self.alive():
                if self._stopped.is_set():
                    raise SynthError(f"{self.plan.name} was stopped")
                self._count_death()
                try:
                    self._launch()
                except SynthError:
                    if len(self._deaths) >= self.plan.restarts:
                        raise
            return self.starts

    def revive(self, seen: int) -> bool:
        """For who could not deliver a request that it sent when `starts` was `seen`: True once another server than that one is ready.

        False where the server lives: the connection broke, no more. Raises SynthError when it has died too often.
        """
        with self._lock:
            for _ in range(20):
                if self.starts != seen and self.alive():
                    return True
                if not self.alive():
                    self.ensure()
                    return True
                if self.healthy(1.0):
                    return False
                time.sleep(0.1)  # a dying server takes a moment
            return False

    def _count_death(self) -> None:
        now = time.monotonic()
        if self._process is not None:
            self._end()
        self._deaths = [t for t in self._deaths if now - t < self.plan.calm_seconds]
        if len(self._deaths) >= self.plan.restarts:
            raise SynthError(f"{self.plan.name} has died {len(self._deaths) + 1} times and is not started again.{self._said()}")
        wait = self.plan.backoff_seconds * 2 ** len(self._deaths)
        self._deaths.append(now)
        self._stopped.wait(wait)

    def stop(self) -> None:
        """Ends the whole process tree."""
        self._stopped.set()
        with self._lock:
            self._end()
        if self._watch is not None and self._watch is not threading.current_thread():
            self._watch.join(5)
            self._watch = None

    def kill(self) -> None:
        """SIGKILL to everything at once, as a crash would; the next `ensure` starts it again."""
        with self._lock:
            if self._process is not None:
                self._kill_group(self._process)

    # ---- inside

    def _launch(self) -> None:
        plan = self.plan
        if not self.port or not _is_free(self.port):  # whoever talks to it need not learn a new address after a restart
            self.port = free_port()
        plan.log.parent.mkdir(parents=True, exist_ok=True)
        with plan.log.open("ab") as log:
            log.write(f"--- {plan.name}, start {self.starts + 1}, port {self.port}\n".encode())
            log.flush()
            guarded = [sys.executable, "-I", "-S", str(GUARD), str(os.getpid()), str(plan.grace_seconds), *plan.command(self.port)]
            self._process = subprocess.Popen(
                guarded,
                stdin=subprocess.PIPE,  # never written: its end says that we are gone
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # an interrupt from the terminal is for us, we stop it in our own time
                env=child_environment({**plan.environment, plan.key_variable: self.key}),
            )
        try:
            self._await_ready()
            self.starts += 1
            if self.on_ready is not None:
                self.on_ready(self)
        except BaseException:
            self._end()
            raise

    def _await_ready(self) -> None:
        deadline = time.monotonic() + self.plan.startup_seconds
        while not self.healthy(5.0):
            if not self.alive():
                raise SynthError(f"{self.plan.name} did not start.{self._said()}")
            if time.monotonic() > deadline:
                raise SynthError(f"{self.plan.name} was not ready after {self.plan.startup_seconds:g} s.{self._said()}")
            if self._stopped.wait(0.1):
                raise SynthError(f"{self.plan.name} was stopped")

    def healthy(self, timeout: float) -> bool:
        """Whether it answers its health check with success."""
        request = urllib.request.Request(self.url + self.plan.health, headers={"Authorization": f"Bearer {self.key}"})
        try:
            with _DIRECT.open(request, timeout=timeout) as answer:
                return 200 <= int(answer.status) < 300
        except (OSError, ValueError, urllib.error.URLError):
            return False

    def _look(self) -> None:
        """Kills a server that lives and does not answer. A dead one is found by the requests that fail, and restarted by `ensure`."""
        since: float | None = None
        every = min(5.0, self.plan.hung_seconds / 4)
        while not self._stopped.wait(every):
            if not self._lock.acquire(blocking=False):
                since = None  # somebody is starting or stopping it
                continue
            self._lock.release()
            if not self.alive() or self.healthy(every * 2):
                since = None
                continue
            since = since or time.monotonic()
            if time.monotonic() - since > self.plan.hung_seconds:
                with contextlib.suppress(OSError), self.plan.log.open("ab") as log:
                    log.write(f"--- no answer for {self.plan.hung_seconds:g} s: killed\n".encode())
                self.kill()
                since = None

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError):
            process.stdin.close()  # type: ignore[union-attr]
        try:
            process.wait(self.plan.grace_seconds + 15)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._kill_group(process)

    def _kill_group(self, process: subprocess.Popen[bytes]) -> None:
        """What the guard has left, if it was itself killed."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def _said(self) -> str:
        lines = last_lines(self.plan.log, 8)
        return f" The end of {self.plan.log}:\n" + "\n".join(f"  {line}" for line in lines) if lines else f" It wrote nothing into {self.plan.log}."


_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback is never asked through a proxy


def last_lines(path: Path, n: int) -> list[str]:
    try:
        with path.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - 16384))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return []
    lines = [line.rstrip()[:400] for line in text.splitlines() if line.strip()]
    start = max((i for i, line in enumerate(lines) if line.startswith("--- ")), default=-1)  # of this start, not of the one before
    return lines[start + 1 :][-n:]
