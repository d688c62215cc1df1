"""Programs that try to pass without being right, or to reach out of the sandbox. Run as a script it judges them all and prints one JSON report.

Each defines `f`, which is wrong (f(n) should be n + 1), and appends to ESCAPED whenever something worked that must not work.
SECRET, OUTSIDE and SUPERVISOR are given: a readable file and a writable folder outside, and the process to reach.
Needs the standard library only, so that an ordinary user's system interpreter can run it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

HEAD = """
import os, sys
ESCAPED = []
def attempt(name, action, *args):
    try:
        got = action(*args)
    except BaseException as error:
        return error
    ESCAPED.append([name, str(got)[:60]])
def raw(number, *args):
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    got = libc.syscall(number, *args)
    if got < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return got
"""
WRONG = "\ndef f(n):\n    return -1\n"


def read_attacks(name: str) -> dict[str, str]:
    """name -> program, from a file of programs that each follow a line `=== name`."""
    text = (Path(__file__).parent / "attacks" / f"{name}.txt").read_text(encoding="utf-8")
    return dict(part.split("\n", 1) for part in text.split("=== ")[1:])


VERDICT = read_attacks("verdict")  # the judge is what is attacked
ESCAPE = read_attacks("escape")  # the walls; each stands between HEAD and WRONG
ENDLESS = read_attacks("endless")  # time and output
STDIN = read_attacks("stdin")  # reads n, should print n + 1

CALLS = [{"call": "f(2)", "expected": 3}, {"call": "f(10)", "expected": 11}]
PAIRS = [{"script": "assert f(2) == 3\nassert f(10) == 11"}]
SCRIPT = [
    {"script": "import math\nfor n in range(2, 12):\n    assert f(n) == n + 1\n    assert math.isclose(f(n), n + 1)\n    assert not f(n) != n + 1"}
]


def programs(secret: str, outside: str, supervisor: int) -> dict[str, str]:
    given = f"SECRET, OUTSIDE, SUPERVISOR = {secret!r}, {outside!r}, {supervisor}\n"
    return {
        **{name: given + code for name, code in {**VERDICT, **ENDLESS}.items()},
        **{name: given + HEAD + code + WRONG for name, code in ESCAPE.items()},
    }


def marked(mark: str) -> list[int]:
    """Processes that carry this sandbox's mark in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def listing() -> dict[str, list[str]]:
    return {folder: sorted(os.listdir(folder)) for folder in ("/dev/shm", "/dev/mqueue", tempfile.gettempdir()) if os.path.isdir(folder)}


def assault(level: str) -> dict[str, object]:
    """Every attack in every form it fits, at one level; what passed, what escaped, what was left behind."""
    from filters.sandbox import levels, wire
    from filters.sandbox.checks import read_checks
    from filters.sandbox.jobs import Job, Limits
    from filters.sandbox.judging import judge, plan
    from filters.sandbox.pool import Sandbox

    os.environ["SYNTH_CANARY"] = "a secret of the environment"
    limits = Limits(test=0.08, total=0.4, output=1 << 20)
    surveyed = levels.best(level)
    began, passed, escaped, unfinished, judged = time.monotonic(), [], [], [], 0
    with levels._bait() as (secret, outside):
        before = listing()
        code = programs(str(secret), str(outside), os.getpid())
        cases = [(name, program, form) for name, program in code.items() for form in (CALLS, SCRIPT)]
        cases += [(name, code[name], PAIRS) for name in VERDICT]
        cases += [(name, program, [{"input": "2\n", "expected": "3\n"}]) for name, program in STDIN.items()]
        planned = []
        for name, program, tests in cases:
            checks = [c for group in read_checks(tests, entry="f") for c in group]
            planned += [(name, checks, item) for item in plan(program, checks, entry="f", limits=limits)]
        with Sandbox(surveyed.layers, surveyed.level, workers=2) as sandbox:
            marks = f"synth-sandbox-{os.getpid()}-"
            outcomes: dict[str, list[str]] = {}
            for (name, checks, item), result in zip(planned, sandbox.stream([item[0] for _, _, item in planned])):
                cells = judge(checks, item, result)
                outcomes.setdefault(f"{name} ({item[0].kind})", []).extend(c.outcome for c in cells)
            looks = [Job("calls", code[name], calls=("ESCAPED",), limits=Limits(0.3, 0.6, 1 << 20)) for name in ESCAPE]
            for name, result in zip(ESCAPE, sandbox.run(looks)):
                if len(result.records) == 2 and json.loads(result.records[1])[0] == "v":
                    found = wire.decode(json.loads(result.records[1])[1])
                    escaped += [f"{name}: {e}" for e in found]
                else:
                    unfinished.append(name)
            right = sandbox.run([Job("calls", "def f(n):\n    return n + 1", calls=("f(2)",))])[0]
            running = marked(marks)
            expected_running = len(sandbox.zygotes(2)) * (5 if surveyed.layers.namespaces else 4)  # zygote, keeper, two ready, who waits outside
        judged = len(outcomes)
        passed = [name for name, cells in outcomes.items() if all(c == "pass" for c in cells)]
        survivors = marked(marks)
        left = [str(p) for p in outside.iterdir()]
        after = listing()
    new = {k: sorted(n for n in set(after[k]) - set(before[k]) if "attack" in n) for k in after}
    own = os.listdir("/proc/self/fd")
    sockets = [os.readlink(f"/proc/self/fd/{fd}") for fd in own if os.path.islink(f"/proc/self/fd/{fd}")]
    return {
        "level": surveyed.level,
        "walls": surveyed.name,
        "uid": os.getuid(),
        "attacks": len(VERDICT) + len(ESCAPE) + len(ENDLESS) + len(STDIN),
        "judged": judged,
        "passed": passed,
        "escaped": escaped,
        "unfinished": unfinished,
        "extra_processes": len(running) - expected_running,
        "survivors": survivors,
        "left_outside": left,
        "new_files": {k: v for k, v in new.items() if v},
        "sockets": [s for s in sockets if s.startswith("socket:")],
        "still_right": [r.decode() for r in right.records],
        "seconds": round(time.monotonic() - began, 1),
    }


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    print(json.dumps(assault(sys.argv[1] if len(sys.argv) > 1 else "")))
