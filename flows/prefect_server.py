"""A Prefect server of our own for the life of one process, where no PREFECT_API_URL is set.

Prefect's ephemeral mode loses task history and orphans its server; this one sits in a session of its own (Ctrl-C reaches
us first) and dies with its parent (PR_SET_PDEATHSIG, Linux). All settings go in before Prefect is imported.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data.errors import SynthError

SETTINGS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_CLIENT_MAX_RETRIES": "2",
    "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "500",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "0.5",
}
START_SECONDS = 240


@contextmanager
def prefect_api(home: Path) -> Iterator[str]:
    """The API's URL: PREFECT_API_URL where set, else a server started here with its data in `home`."""
    if "prefect" in sys.modules:
        raise RuntimeError("prefect was imported before its settings were made; import it only inside this block")
    given = os.environ.get("PREFECT_API_URL")
    for key, value in SETTINGS.items():
        os.environ.setdefault(key, value)
    if given:
        yield given
        return
    home.mkdir(parents=True, exist_ok=True)
    os.environ["PREFECT_HOME"] = str(home.resolve())
    server, url = _start(home)
    os.environ["PREFECT_API_URL"] = url
    try:
        _wait(server, url, home)
        yield url
        time.sleep(1.0)  # the recorder writes task runs behind the flow; let it finish
    finally:
        os.environ.pop("PREFECT_API_URL", None)
        server.terminate()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _start(home: Path) -> tuple[subprocess.Popen[bytes], str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--log-level", "error", "--lifespan", "on"]
    environment = {**os.environ, "PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1"}
    with (home / "server.log").open("ab") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, preexec_fn=_own_session)
    return server, f"http://127.0.0.1:{port}/api"


def _own_session() -> None:
    os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _wait(server: subprocess.Popen[bytes], url: str, home: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (OSError, urllib.error.URLError):
            pass
        time.sleep(0.1)
    raise SynthError(f"the Prefect server did not start; its log is {home / 'server.log'}. `synth run` works without it")


def close_dead_flow_runs(name: str) -> int:
    """Mark this run's flow runs that still say Running as Crashed; the caller holds the run's lock, so they are dead."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName, FlowRunFilterState, FlowRunFilterStateType
    from prefect.client.schemas.objects import StateType
    from prefect.states import Crashed

    alive = FlowRunFilter(
        name=FlowRunFilterName(any_=[name]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING])),
    )
    with get_client(sync_client=True) as client:
        dead = client.read_flow_runs(flow_run_filter=alive)
        for flow_run in dead:
            client.set_flow_run_state(flow_run.id, Crashed(message="its process died; closed on resume"), force=True)
    return len(dead)
