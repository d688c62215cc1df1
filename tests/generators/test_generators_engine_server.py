"""Supervision of a server process, with a real one: ready, watched, restarted, stopped, and gone when we are gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from data.errors import SynthError
from generators.engines.server import Server, ServerPlan, child_environment, last_lines

TINY = Path(__file__).with_name("tiny_server.py")
ROOT = Path(__file__).parents[2]
Make = Callable[..., Server]


def plan_of(folder: Path, mode: str = "", **changes: Any) -> ServerPlan:
    settings = {"key_variable": "TINY_KEY", "startup_seconds": 20.0, "backoff_seconds": 0.05, "grace_seconds": 2.0, "hung_seconds": 0.0}
    return ServerPlan("tiny", lambda port: [sys.executable, str(TINY), str(port), mode], folder / "logs" / "tiny.log", **(settings | changes))


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Server] = []

    def build(mode: str = "", on_ready: Callable[[Server], None] | None = None, **changes: Any) -> Server:
        made.append(Server(plan_of(tmp_path, mode, **changes), on_ready))
        return made[-1]

    yield build
    for server in made:
        server.stop()


def about(server: Server, path: str = "/about") -> dict[str, Any]:
    request = urllib.request.Request(server.url + path, headers={"Authorization": f"Bearer {server.key}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def gone(pids: list[int], seconds: float = 5.0) -> bool:
    """Whether all of them ended; a zombie is dead."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not [p for p in pids if psutil.pid_exists(p) and psutil.Process(p).status() != psutil.STATUS_ZOMBIE]:
            return True
        time.sleep(0.05)
    return False


def family_of(server: Server, size: int) -> list[int]:
    """Pids below the guard, once they are `size`; a child that left its parent's session is one of them."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        found = [p.pid for p in psutil.Process(server.pid).children(recursive=True)]
        if len(found) >= size:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{found} are not {size} processes")


def test_a_server_answers_and_stops_with_everything_it_started(make: Make) -> None:
    server = make("family")
    server.start()
    assert about(server)["pid"] != os.getpid()
    pids = [server.pid, *family_of(server, 3)]
    server.stop()
    assert gone(pids, 1.0)
    assert not server.alive()


def test_the_key_travels_in_the_environment_only(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"LD_PRELOAD": "", "PYTHONPATH": "/nowhere", "OPENAI_API_KEY": "secret", "HF_TOKEN": "secret", "KEPT": "1"}.items():
        monkeypatch.setenv(name, value)
    server = make(environment={"ADDED": "2"})
    server.start()
    said = about(server)
    assert said["environment"]["TINY_KEY"] == server.key
    assert not {"LD_PRELOAD", "PYTHONPATH", "OPENAI_API_KEY", "HF_TOKEN"} & said["environment"].keys()
    assert (said["environment"]["KEPT"], said["environment"]["ADDED"]) == ("1", "2")
    shown = [" ".join(p.cmdline()) for p in (psutil.Process(server.pid), psutil.Process(said["pid"]))]
    assert not [line for line in shown if server.key in line]
    assert server.key not in server.plan.log.read_text()
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(server.url + "/about", timeout=5)
    assert "ADDED" not in os.environ  # nothing of it leaks into our other children
    assert "LD_PRELOAD" not in child_environment({})


def test_a_server_that_dies_at_once_shows_the_end_of_its_log(make: Make) -> None:
    with pytest.raises(SynthError, match=r"(?s)tiny did not start.*tiny.log.*the model is too large for this GPU"):
        make("die").start()


def test_a_server_that_is_never_ready_is_ended_at_the_deadline(make: Make) -> None:
    server = make("slow", startup_seconds=1.0)
    with pytest.raises(SynthError, match=r"was not ready after 1 s.*nothing"):
        server.start()
    assert not server.alive()


def test_a_dead_server_is_started_again_and_told_what_it_must_know(make: Make) -> None:
    ready: list[int] = []
    server = make("", lambda s: ready.append(about(s)["pid"]))
    server.start()
    first, port = ready[0], server.port
    os.kill(first, signal.SIGKILL)
    assert server.revive(1)
    assert ready[-1] == about(server)["pid"] != first
    assert (server.starts, server.port, len(ready)) == (2, port, 2)
    assert server.revive(1), "who saw the first one is told of the second without another start"
    assert not server.revive(2), "a server that lives is left alone"
    assert len(ready) == 2


def test_deaths_are_counted_and_waited_for(make: Make) -> None:
    server = make("crash", restarts=2, backoff_seconds=0.2)
    server.start()
    waits = []
    for n in (1, 2):
        with pytest.raises((OSError, urllib.error.URLError)):
            about(server)
        began = time.monotonic()
        assert server.revive(n)
        waits.append(time.monotonic() - began)
    assert waits[0] >= 0.2 and waits[1] >= 0.4
    with pytest.raises((OSError, urllib.error.URLError)):
        about(server)
    with pytest.raises(SynthError, match="died 3 times and is not started again"):
        server.revive(3)


def test_a_hung_server_is_killed(make: Make) -> None:
    server = make("hang", hung_seconds=1.0)
    server.start()
    about(server, "/hang")
    assert gone([server.pid], 15.0)
    assert "no answer for 1 s: killed" in server.plan.log.read_text()
    assert server.ensure() == 2


def test_a_server_that_ignores_sigterm_is_killed_after_the_grace(make: Make) -> None:
    server = make("stubborn", grace_seconds=0.5)
    server.start()
    pids = [server.pid, about(server)["pid"]]
    server.stop()
    assert gone(pids, 1.0)


def test_a_port_that_somebody_took_is_not_waited_for(make: Make) -> None:
    import socket

    server = make()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", server.port))
        taken.listen()
        server.start()
        assert server.port != taken.getsockname()[1]


PARENT = """
import sys, time
sys.path[:0] = [{root!r}, {here!r}]
from pathlib import Path
from test_generators_engine_server import Server, plan_of, about, family_of
server = Server(plan_of(Path({folder!r}), "family"))
server.start()
print(*[server.pid, *family_of(server, 3)], flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_when_we_are_killed(tmp_path: Path, how: signal.Signals) -> None:
    """Even a grandchild in a session of its own, and even by kill -9, which no handler of ours sees."""
    code = PARENT.format(root=str(ROOT), here=str(TINY.parent), folder=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(p) for p in parent.stdout.readline().split()]
        assert len(pids) == 4 and all(psutil.pid_exists(p) for p in pids)
        parent.send_signal(how)
        parent.wait()
    assert gone(pids)


def test_the_server_dies_with_its_guard(make: Make) -> None:
    server = make()
    server.start()
    pid = about(server)["pid"]
    os.kill(server.pid, signal.SIGKILL)
    assert gone([pid])
    assert server.ensure() == 2


def test_the_last_lines_are_those_of_the_last_start(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("--- x, start 1\nold\n--- x, start 2\n\nnew 1\nnew 2\n")
    assert last_lines(log, 8) == ["new 1", "new 2"]
    assert last_lines(log, 1) == ["new 2"]
    assert last_lines(tmp_path / "none", 3) == []
