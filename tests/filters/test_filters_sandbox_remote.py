"""Remote execution against a small endpoint on loopback that speaks SandboxFusion's protocol and really runs what it is sent."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from data.errors import UserError
from data.records import Problem
from filters.sandbox import remote
from filters.sandbox.jobs import Job
from filters.sandbox.remote import RemoteSandbox
from filters.verifiers.code import CodeVerifier


class Endpoint(BaseHTTPRequestHandler):
    """POST /run_code, as bytedance.github.io/SandboxFusion describes it; the first `refuse` requests get an error."""

    seen: list[dict[str, Any]] = []
    refuse = 0

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Endpoint.seen.append(request)
        answer: dict[str, Any] = {"status": "SandboxError", "message": "busy", "run_result": None}
        if Endpoint.refuse:
            Endpoint.refuse -= 1
        else:
            answer = {"message": "", "compile_result": None, "files": {}, **run(request)}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def run(request: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in request.get("files", {}).items():
            (Path(folder) / name).write_bytes(base64.b64decode(content))
        main = Path(folder) / "main.py"
        main.write_text(request["code"], encoding="utf-8")
        try:
            done = subprocess.run(
                [sys.executable, "-s", str(main)],
                input=request["stdin"],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=request["run_timeout"],
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {"status": "Failed", "run_result": {"status": "TimeLimitExceeded", "execution_time": request["run_timeout"], "return_code": None}}
    state = "Finished" if done.returncode == 0 else "Error"
    result = {"status": state, "execution_time": 0.1, "return_code": done.returncode, "stdout": done.stdout, "stderr": done.stderr}
    return {"status": "Success" if done.returncode == 0 else "Failed", "run_result": result}


@pytest.fixture
def endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Endpoint.seen, Endpoint.refuse = [], 0
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def verdicts(url: str, *cases: tuple[str, dict[str, Any]], **spec: Any) -> list[tuple[str, str]]:
    verifier = CodeVerifier(lambda: RemoteSandbox(url, workers=4))
    found = verifier.verify_batch([(Problem("p", "", "code", {"tests": [test], **spec}), code) for code, test in cases])
    assert {v.isolation for v in found} == {"remote"}
    return [(v.outcome, v.reason) for v in found]


def test_all_kinds_of_tests_run_remotely_and_are_judged_here(endpoint: str) -> None:
    right, wrong = "def f(n):\n    print('noise')\n    return n + 1", "class A:\n    def __eq__(s, o): return True\ndef f(n):\n    return A()"
    tests: list[dict[str, Any]] = [{"call": "f(2)", "expected": 30 // 10}, {"script": "for i in range(3):\n    assert f(i) == i + 1"}]
    outcomes = verdicts(endpoint, *[(code, test) for code in (right, wrong) for test in tests])
    assert [o for o, _ in outcomes] == ["pass", "pass", "fail", "fail"]
    programs = [
        ("print(int(input()) + 1)", {"input": "2\n", "expected": "3\n"}),
        ("print(4)", {"input": "2\n", "expected": "3\n"}),
        ("1 / 0", {"input": "", "expected": ""}),
    ]
    assert [o for o, _ in verdicts(endpoint, *programs)] == ["pass", "fail", "fail"]
    beside = ("class N:\n    def __init__(s, v): s.v = v", {"script": "n = N(3)\nassert n.v == 3"})
    assert verdicts(endpoint, beside)[0][0] == "pass"


def test_expected_values_never_leave_this_host(endpoint: str) -> None:
    assert verdicts(endpoint, ("def f():\n    return 1", {"call": "f()", "expected": 987654321}))[0][0] == "fail"
    assert len(Endpoint.seen) == 1 and "987654321" not in json.dumps(Endpoint.seen)


def test_cheats_and_hangs_fail_remotely(endpoint: str) -> None:
    call = {"call": "f(2)", "expected": 3}
    cheats = ("import os\nos._exit(0)", "print('[\"v\", 3]')\ndef f(n):\n    return 0", "import sys\nsys.exit(0)")
    assert [o for o, _ in verdicts(endpoint, *[(code, call) for code in cheats])] == ["fail"] * 3
    hung = verdicts(endpoint, ("while True: pass", {"input": "", "expected": ""}), time_limit=0.05)
    assert hung[0][0] == "fail" and "timeout" in hung[0][1]


def test_a_busy_endpoint_is_asked_again_and_a_dead_one_is_unknown(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "BACKOFF", 0.01)
    Endpoint.refuse = 2
    assert verdicts(endpoint, ("def f(n):\n    return n", {"call": "f(2)", "expected": 2}))[0][0] == "pass"
    Endpoint.refuse = 10**6
    assert verdicts(endpoint, ("def f(n):\n    return n", {"call": "f(2)", "expected": 2}))[0][0] == "unknown"
    assert verdicts("http://127.0.0.1:9", ("def f(n):\n    return n", {"call": "f(2)", "expected": 2}))[0][0] == "unknown"
    with pytest.raises(UserError, match="http://host:8080"):
        RemoteSandbox("host:8080")


def test_results_keep_the_order_of_the_jobs(endpoint: str) -> None:
    results = RemoteSandbox(endpoint, workers=4).run(Job("calls", f"def f():\n    return {i}", calls=("f()",)) for i in range(12))
    assert [json.loads(r.records[1])[1] for r in results] == list(range(12))


def test_the_endpoint_is_chosen_by_its_variable_and_never_by_default(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTH_SANDBOX_URL", endpoint)
    assert (
        CodeVerifier().verify(Problem("p", "", "code", {"tests": [{"call": "f()", "expected": 1}]}), "def f():\n    return 1").isolation == "remote"
    )
    monkeypatch.delenv("SYNTH_SANDBOX_URL")
    assert not isinstance(remote.open_runner(), RemoteSandbox)
