"""159 programs that try to pass without being right or to reach out: none may, as root and as an ordinary user."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from filters.sandbox import levels, wire
from filters.sandbox.checks import read_checks
from filters.sandbox.jobs import Job, Limits
from filters.sandbox.judging import judge, plan
from filters.sandbox.pool import Sandbox
from filters.sandbox.supervisor import Layers, interpreter

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(Path(__file__).parent))
from sandbox_attacks import ENDLESS, ESCAPE, HEAD, STDIN, VERDICT, WRONG, marked  # noqa: E402

pytestmark = pytest.mark.skipif(levels.best().level == "L0", reason="this host has no sandbox at all")
SCRIPT = str(Path(__file__).parent / "sandbox_attacks.py")
NOBODY = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]


def ordinary() -> list[str]:
    """A command prefix that runs Python as `nobody`, or [] where there is no such user to be or no interpreter that he may run."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        return []
    for python in (interpreter()[0], "/usr/bin/python3"):
        may = f"os.access({python!r}, os.X_OK) and os.access({SCRIPT!r}, os.R_OK)"  # setpriv itself could still start it as root
        probe = f"import os, sys; sys.exit(sys.version_info < (3, 11) or not ({may}))"
        if subprocess.run([*NOBODY, python, "-c", probe], capture_output=True, check=False, cwd="/").returncode == 0:
            return [*NOBODY, python, "-B"]
    return []


def assault(command: list[str], level: str = "", path: str = "") -> dict[str, object]:
    environment = dict(os.environ, PATH=f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"])
    done = subprocess.run([*command, SCRIPT, level], capture_output=True, text=True, timeout=400, check=False, cwd="/", env=environment)
    assert done.returncode == 0, done.stderr[-1500:]
    return json.loads(done.stdout)


def assert_contained(report: dict[str, object]) -> None:
    assert report["attacks"] == len(VERDICT) + len(ESCAPE) + len(ENDLESS) + len(STDIN) >= 60
    assert report["judged"] == 2 * (len(VERDICT) + len(ESCAPE) + len(ENDLESS)) + len(STDIN)
    assert report["passed"] == [] and report["escaped"] == []
    assert len(report["unfinished"]) < 6  # type: ignore[arg-type]  # attacks that end their own process tell nothing
    assert report["extra_processes"] <= 0 and report["survivors"] == []  # type: ignore[operator]
    assert report["left_outside"] == [] and report["new_files"] == {} and report["sockets"] == []
    assert report["still_right"] == ['["loaded"]', '["v",3]']  # the sandbox still judges after all that


def test_every_attack_is_contained_at_the_strictest_level() -> None:
    report = assault([sys.executable, "-B"])
    assert report["uid"] == os.geteuid()
    assert_contained(report)


def test_every_attack_is_contained_for_an_ordinary_user() -> None:
    if not (command := ordinary()):
        pytest.skip("needs root, setpriv and an interpreter that nobody may run")
    report = assault(command)
    assert report["uid"] == 65534
    assert_contained(report)


@pytest.mark.slow
@pytest.mark.parametrize("level", ["L1", "L2"])
@pytest.mark.parametrize("user", ["root", "nobody"])
def test_every_attack_is_contained_at_lower_levels(level: str, user: str) -> None:
    command = ordinary() if user == "nobody" else [sys.executable, "-B"]
    if not command or levels.best(level).level != level:
        pytest.skip(f"no {level} or no such user here")
    report = assault(command, level)
    assert report["level"] == level
    assert_contained(report)


@pytest.mark.slow
def test_every_attack_is_contained_by_bubblewrap() -> None:
    if shutil.which("bwrap") is None or not (command := ordinary()):
        pytest.skip("needs bubblewrap, root and setpriv")
    report = assault(command)
    assert "bubblewrap" in str(report["walls"])
    assert_contained(report)


def test_the_suite_sees_an_escape_where_there_are_no_walls(tmp_path: Path) -> None:
    """The harmless ones among the attacks, with nothing around them: a suite that never reports anything proves nothing."""
    secret = tmp_path / "secret"
    secret.write_text("s")
    given = f"SECRET, OUTSIDE, SUPERVISOR = {str(secret)!r}, {str(tmp_path)!r}, {os.getpid()}\n"
    names = ["read the secret", "write outside", "tcp", "unix", "subprocess", "memfd", "own memory file", "descriptors", "inherited descriptors"]
    with Sandbox(Layers(), "none", workers=1) as sandbox:
        results = sandbox.run(Job("calls", given + HEAD + ESCAPE[name] + WRONG, calls=("ESCAPED",)) for name in names)
    found = {name: wire.decode(json.loads(r.records[1])[1]) for name, r in zip(names, results)}
    assert {name for name in names if not found[name]} == {"inherited descriptors"}  # those are closed everywhere


def test_beside_a_program_a_script_can_be_fooled_and_the_plan_says_so() -> None:
    """Why scripts are judged from another process wherever they can be."""
    code, script = VERDICT["equal to everything"], "x = f(2)\nassert x == 3"
    with Sandbox(levels.best().layers, workers=1) as sandbox:
        outcomes = {}
        for beside in (True, False):
            checks = read_checks([{"script": script, "beside": beside}])[0]
            (planned,) = plan(code, checks)
            outcomes[planned[0].kind] = judge(checks, planned, sandbox.run([planned[0]])[0])[0].outcome
    assert outcomes == {"beside": "pass", "judge": "fail"}


def test_nothing_survives_a_killed_supervisor() -> None:
    program = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from filters.sandbox import levels\nfrom filters.sandbox.jobs import Job, Limits\n"
        "sandbox = levels.open_sandbox(workers=2)\n"
        "print('ready', flush=True)\n"
        "sandbox.run([Job('calls', 'def f():\\n    while True: pass', calls=('f()',), limits=Limits(60, 60))] * 4)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(ROOT)], stdout=subprocess.PIPE, cwd="/")
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    mark = f"synth-sandbox-{process.pid}-"
    deadline = time.monotonic() + 20
    while len(marked(mark)) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(marked(mark)) >= 4  # zygotes and running jobs
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    while marked(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert marked(mark) == []


def test_one_job_cannot_see_what_another_left() -> None:
    leave = Job("calls", "import os\nfor n in ('note', '.hidden'):\n    try: open(n, 'w').write('3')\n    except OSError: pass", calls=("1",))
    look = Job("calls", "import os", calls=("sorted(os.listdir('.')) if os.getcwd() != '/' else []",), limits=Limits(2, 2))
    with Sandbox(levels.best().layers, workers=1) as sandbox:
        results = sandbox.run([leave, look])
    assert json.loads(results[1].records[1]) == ["v", ["l"]]
